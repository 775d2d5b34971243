//! Keeps the ingress requests that wait for a push's outcome (`Prefer: wait`).
//!
//! Exactly one outcome: it goes to the request while that waits. A request that was answered 504 has had its outcome;
//! what comes later is dropped. If the request has gone unanswered, the outcome is posted like any other; so is one
//! whose answer could not be written any more.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shards::{Socket, Timer};

use super::home::Home;
use crate::env::Env;
use crate::shard::mail::PushOutcome;
use protocol::ocpp::{ClientId, MessageId, Waiter};

/// A shard's waiting requests. An entry lives until its push's outcome comes, which it always does.
pub struct OutcomeWaits {
    env: Rc<Env>,
    home: Weak<dyn Home>,
    open: RefCell<HashMap<u64, Wait, foldhash::fast::RandomState>>,
    /// Those whose request has gone and whose push is another node's: until when its outcome may come.
    gone_elsewhere: RefCell<VecDeque<(Instant, u64)>>,
}

enum Wait {
    Waiting {
        outcome: Option<Box<PushOutcome>>,
        waker: Option<Waker>,
        /// The push is another node's.
        is_elsewhere: bool,
    },
    /// The request was answered 504, and nobody waits any more.
    Answered,
    /// The backend hung up.
    Gone,
}

/// What a wait came to.
#[derive(Debug)]
pub enum Waited {
    /// The push's outcome came in time.
    Outcome(Box<PushOutcome>),
    /// Not within the time that the request wanted to wait.
    TimedOut,
    /// Nobody is there to be told.
    Gone,
}

/// What an answer at the ingress owes to a push.
#[derive(Debug, Default)]
pub(super) enum Settle {
    #[default]
    Nothing,
    /// It is this push's outcome: posted if the answer cannot be written.
    Outcome(Box<PushOutcome>),
    /// It is the 504 of a push that was sent: the outcome that comes is dropped, or posted if the answer cannot be
    /// written.
    Wait(Box<PushWait>),
}

/// The wait for a push.
#[derive(Clone, Debug)]
pub(super) struct PushWait {
    pub(super) client: ClientId,
    pub(super) message_id: MessageId,
    pub(super) waiter: Waiter,
}

impl OutcomeWaits {
    /// None yet. What nobody waits for any more goes `home`.
    pub fn new(env: &Rc<Env>, home: Weak<dyn Home>) -> Self {
        Self {
            env: env.clone(),
            home,
            open: RefCell::default(),
            gone_elsewhere: RefCell::default(),
        }
    }

    /// Begins a wait, before the push is passed on.
    pub fn begin(&self, token: u64) {
        self.forget_late();
        self.open.borrow_mut().insert(
            token,
            Wait::Waiting {
                outcome: None,
                waker: None,
                is_elsewhere: false,
            },
        );
    }

    /// The push is another node's, whose outcome may come twice, or never if that node dies.
    pub fn set_elsewhere(&self, token: u64) {
        if let Some(Wait::Waiting { is_elsewhere, .. }) = self.open.borrow_mut().get_mut(&token) {
            *is_elsewhere = true;
        }
    }

    /// The outcome, if it has come at the last moment.
    pub fn take(&self, token: u64) -> Option<Box<PushOutcome>> {
        let mut open = self.open.borrow_mut();
        let Some(Wait::Waiting { outcome, .. }) = open.get_mut(&token) else {
            return None;
        };
        let outcome = outcome.take()?;
        open.remove(&token);
        Some(outcome)
    }

    /// The request was told that its time is over: what is still to come is dropped. False: it came while the answer was written.
    fn finish(&self, token: u64) -> bool {
        let mut open = self.open.borrow_mut();
        let (has_come, is_elsewhere) = match open.get(&token) {
            Some(Wait::Waiting {
                outcome, is_elsewhere, ..
            }) => (outcome.is_some(), *is_elsewhere),
            _ => (false, false),
        };
        // An outcome of another node for which nobody waits is dropped anyway.
        if has_come || is_elsewhere {
            open.remove(&token);
        } else {
            open.insert(token, Wait::Answered);
        }
        !has_come
    }

    /// The push was refused or withdrawn: there will be no outcome.
    pub fn cancel(&self, token: u64) {
        self.open.borrow_mut().remove(&token);
    }

    /// Requests that wait, and pushes whose request has stopped waiting.
    pub fn len(&self) -> usize {
        self.forget_late();
        self.open.borrow().len()
    }

    /// A push's outcome has come for a request of this shard.
    pub fn handle_outcome(&self, came: PushOutcome) {
        let mut open = self.open.borrow_mut();
        let token = came.waiter.token;
        match open.get_mut(&token) {
            Some(Wait::Waiting { outcome, waker, .. }) => {
                *outcome = Some(Box::new(came));
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            Some(Wait::Answered) => {
                open.remove(&token);
            }
            Some(Wait::Gone) | None => {
                open.remove(&token);
                drop(open);
                self.post_outcome(came);
            }
        }
    }

    /// The same, from another node: one for which nobody waits was told before.
    pub fn handle_outcome_of_node(&self, came: PushOutcome) {
        if self.open.borrow().contains_key(&came.waiter.token) {
            self.handle_outcome(came);
        }
    }

    /// Forgets the outcomes of other nodes that do not come any more.
    fn forget_late(&self) {
        let now = self.env.reactor.now();
        let mut late = self.gone_elsewhere.borrow_mut();
        while late.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, token)) = late.pop_front() {
                self.open.borrow_mut().remove(&token);
            }
        }
    }

    /// Waits for a push's outcome on behalf of the request on `socket`.
    pub async fn wait(&self, token: u64, socket: &Socket, until: Instant) -> Waited {
        let mut timer = Timer::new(&self.env.reactor);
        timer.set(Some(until));
        let waited = poll_fn(|context| {
            let mut open = self.open.borrow_mut();
            let Some(Wait::Waiting { outcome, waker, .. }) = open.get_mut(&token) else {
                unreachable!("a wait is open until its request stops");
            };
            // Before the outcome: both may have come in one turn, and nobody is there to read it.
            if socket.poll_closed(context).is_ready() {
                return Poll::Ready(Waited::Gone);
            }
            if let Some(outcome) = outcome.take() {
                return Poll::Ready(Waited::Outcome(outcome));
            }
            *waker = Some(context.waker().clone());
            timer.poll_expired(context).map(|()| Waited::TimedOut)
        })
        .await;
        match waited {
            Waited::Outcome(_) => self.cancel(token),
            Waited::TimedOut => {}
            Waited::Gone => self.abandon(token),
        }
        waited
    }

    /// The answer that an outcome became was written, or could not be. Gives back the wait whose outcome is still to come, and is
    /// dropped.
    pub(super) fn settle(&self, settle: Settle, written: bool) -> Option<Box<PushWait>> {
        match (settle, written) {
            (Settle::Nothing, _) | (Settle::Outcome(_), true) => {}
            (Settle::Outcome(outcome), false) => self.post_outcome(*outcome),
            (Settle::Wait(wait), true) => return self.finish(wait.waiter.token).then_some(wait),
            (Settle::Wait(wait), false) => self.abandon(wait.waiter.token),
        }
        None
    }

    /// Nobody is there to be told: the outcome is posted, now or when it comes.
    fn abandon(&self, token: u64) {
        match self.take(token) {
            Some(outcome) => self.post_outcome(*outcome),
            None => {
                let before = self.open.borrow_mut().insert(token, Wait::Gone);
                if matches!(before, Some(Wait::Waiting { is_elsewhere: true, .. })) {
                    let until = self.env.reactor.now() + ELSEWHERE_MAX;
                    self.gone_elsewhere.borrow_mut().push_back((until, token));
                }
            }
        }
    }

    fn post_outcome(&self, outcome: PushOutcome) {
        let home = self.home.upgrade().expect("the shard outlives its ingress");
        home.post_outcome(outcome);
    }
}

/// Longer than an outcome is held where it comes from.
const ELSEWHERE_MAX: Duration = Duration::from_secs(620);
