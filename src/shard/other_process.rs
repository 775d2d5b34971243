//! Says for a shard what the other process of a takeover is to hear, and keeps it until that has been heard; makes mail of what that one
//! says.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::mail::{Asker, ClientReply, ClientRequest, Control, Mail, PushOutcome, Query, Reply};
use protocol::mapping::outgoing::PostKey;
use protocol::ocpp::{ClientId, PostContent, Waiter};
use protocol::question::{PageQuestion, Question, Told};
use protocol::record::{Notice, PostRecord, client_of};
use protocol::takeover::Message;

/// The way to the other process, which may not be there.
#[derive(Debug)]
pub struct OtherProcess {
    say: mpsc::Sender<Message>,
    shard: u16,
    /// Requests of the other process that have been told that their time is over: no longer than there are pushes.
    forgotten: RefCell<HashSet<Waiter>>,
    /// Posts on their way there, by their numbers.
    posts: RefCell<BTreeMap<u64, Vec<u8>>>,
    posts_sent: Cell<u64>,
}

impl OtherProcess {
    /// Shard `index`'s; a thread says what it wants to say.
    pub fn new(say: mpsc::Sender<Message>, index: usize) -> Self {
        Self {
            say,
            shard: index as u16,
            forgotten: RefCell::default(),
            posts: RefCell::default(),
            posts_sent: Cell::new(0),
        }
    }

    /// Has it said. What can't be comes back as [`Control::Unsaid`].
    pub fn say(&self, message: Message) {
        // Nobody listens where there are no other processes.
        let _ = self.say.send(message);
    }

    /// Asks. The reply, if there is one, has this token.
    pub fn ask(&self, token: u64, answer_by: Instant, question: Vec<u8>) {
        self.say(Message::Question {
            shard: self.shard,
            token,
            answer_by: nanoseconds(answer_by),
            question,
        });
    }

    /// Tells a shard there what it has asked; nothing, if it was too late.
    pub fn tell(&self, shard: u16, token: u64, told: Option<&Told>) {
        let told = told.map(Told::to_bytes).unwrap_or_default();
        self.say(Message::Told { shard, token, told });
    }

    /// The outcome of a push for a request there. One that has had its answer gets none.
    pub fn tell_outcome(&self, outcome: &PushOutcome) {
        if !self.forgotten.borrow_mut().remove(&outcome.waiter) {
            let post = post_of(outcome).record();
            let waiter = outcome.waiter;
            self.say(Message::Outcome { waiter, post });
        }
    }

    /// A request there has had its answer.
    pub fn forget(&self, waiter: Waiter) {
        self.forgotten.borrow_mut().insert(waiter);
    }

    /// Sends a post there. It is kept until it has arrived.
    pub fn send_post(&self, post: Vec<u8>) {
        let number = self.posts_sent.replace(self.posts_sent.get() + 1);
        self.posts.borrow_mut().insert(number, post.clone());
        self.say(Message::Post {
            shard: self.shard,
            number,
            post,
        });
    }

    /// That one has arrived, or comes back.
    pub fn remove_post(&self, number: u64) -> Option<Vec<u8>> {
        self.posts.borrow_mut().remove(&number)
    }

    /// All that have not arrived: the other process is gone.
    pub fn take_posts_back(&self) -> impl Iterator<Item = Vec<u8>> + use<> {
        self.posts.take().into_values()
    }

    /// Posts that are on their way there.
    pub fn posts_count(&self) -> usize {
        self.posts.borrow().len()
    }
}

/// What the other process says to a shard of this one, and which shard that is: of `shards_count`, with `home` for what is
/// about a client. `None`: it can't be read, or is not for a shard.
pub fn mail_of(message: Message, shards_count: usize, home: impl Fn(&ClientId) -> usize) -> Option<(usize, Mail)> {
    let (shard, mail) = match message {
        Message::Question {
            shard,
            token,
            answer_by,
            question,
        } => match Question::read(&question) {
            Ok(question) => {
                let home = home(&question.client);
                let query = Query {
                    from: Asker::OtherProcess(shard),
                    token,
                    answer_by: instant(answer_by),
                    request: ClientRequest::About(question),
                };
                (home, Mail::Query(Box::new(query)))
            }
            Err(_) => {
                let control = Control::Page {
                    shard,
                    token,
                    answer_by: instant(answer_by),
                    question: PageQuestion::read(&question).ok()?,
                };
                // It is about nobody's home: each shard there has one here that puts its pages together.
                (usize::from(shard) % shards_count, control.into())
            }
        },
        Message::Told { shard, token, told } => {
            let reply = Told::read(&told).ok().map(ClientReply::Told);
            (shard.into(), Mail::Reply(Box::new(Reply { token, reply })))
        }
        Message::Outcome { waiter, post } => {
            let outcome = outcome_of(waiter, PostRecord::read(&post).ok()?)?;
            (waiter.shard.into(), Mail::Outcome(Box::new(outcome)))
        }
        Message::Post { shard, number, post } => {
            let home = home(&client_of(&post).ok()?);
            (home, Control::Adopt { shard, number, post }.into())
        }
        Message::PostTaken { shard, number } => (shard.into(), Control::PostTaken(number).into()),
        _ => return None,
    };
    (shard < shards_count).then_some((shard, mail))
}

/// Which shard has wanted to say it.
#[must_use]
pub fn said_by(message: &Message) -> Option<usize> {
    match message {
        Message::Question { shard, .. } | Message::Post { shard, .. } => Some((*shard).into()),
        // Whichever: it has what it needs with it.
        Message::Outcome { .. } | Message::Told { .. } => Some(0),
        _ => None,
    }
}

/// Reads an outcome that could not be said.
pub fn unsaid_outcome(waiter: Waiter, post: &[u8]) -> Option<PushOutcome> {
    outcome_of(waiter, PostRecord::read(post).ok()?)
}

fn post_of(outcome: &PushOutcome) -> PostRecord {
    let (action, message_id) = outcome.call.clone();
    let content = PostContent::Outcome(outcome.outcome.clone());
    PostRecord {
        identity: outcome.identity.clone(),
        notice: Notice::Post(action, message_id, content, outcome.trace.clone()),
        // It has none until it is posted.
        key: PostKey { shard: 0, number: 0 },
        age: Duration::ZERO,
        due_in: Duration::ZERO,
        tries: 0,
        is_clients_own: false,
    }
}

fn outcome_of(waiter: Waiter, post: PostRecord) -> Option<PushOutcome> {
    let Notice::Post(action, message_id, PostContent::Outcome(outcome), trace) = post.notice else {
        return None;
    };
    Some(PushOutcome {
        waiter,
        identity: post.identity,
        call: (action, message_id),
        outcome,
        trace,
    })
}

/// By the clock of the machine, which both processes have.
fn nanoseconds(time: Instant) -> u64 {
    let now = clock_now();
    let left = time.saturating_duration_since(Instant::now());
    now.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}

fn instant(nanoseconds: u64) -> Instant {
    let now = Instant::now();
    let left = Duration::from_nanos(nanoseconds.saturating_sub(clock_now()));
    now.checked_add(left).unwrap_or(now)
}

fn clock_now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let [seconds, nanoseconds] = [now.tv_sec, now.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
