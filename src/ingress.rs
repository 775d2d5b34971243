//! Serves the backend's way in: pushes, deferred answers, and questions about clients, over strict HTTP/1.1.

mod answer;
mod connection;
mod home;
mod list;
mod moving;
mod nodes;
mod outcome_waits;
mod places;
mod push;
mod queries;
mod request;
mod server;
mod turns;

pub use home::Home;
pub use queries::NotAsked;
pub use server::serve;

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use shards::mesh::Mesh;

use self::outcome_waits::{OutcomeWaits, PushWait};
use self::places::Places;
use self::queries::Queries;
use self::turns::Turns;
use crate::env::Env;
use crate::env::reloadable::Reloadable;
use crate::shard::mail::{ClientReply, ClientRequest, Mail, PushOutcome};
use crate::token::Token;
use protocol::cluster::Failure;
use protocol::ocpp::{ClientId, PushRefusal};
use protocol::question::{About, Question, Told};

/// A shard's ingress.
pub struct Ingress {
    env: Rc<Env>,
    home: Weak<dyn Home>,
    /// The token that requests must carry; `None`: everybody may push.
    token: Reloadable<Option<Token>>,
    places: Rc<Places>,
    turns: Turns,
    /// Connections that are told that there is no place, and not yet gone.
    shed_count: Cell<usize>,
    queries: Queries,
    outcome_waits: OutcomeWaits,
    /// Pages of clients that are put together for the other process of a takeover.
    pages_count: Cell<usize>,
}

impl Ingress {
    /// One without connections. `home` must outlive it; what concerns clients of other shards goes through `mesh`.
    pub fn new(env: &Rc<Env>, home: Weak<dyn Home>, mesh: &Rc<Mesh<Mail>>, token: Option<Token>) -> Rc<Self> {
        Rc::new(Self {
            env: env.clone(),
            home: home.clone(),
            token: Reloadable::new(token),
            places: Rc::default(),
            turns: Turns::default(),
            shed_count: Cell::new(0),
            queries: Queries::new(env, mesh),
            outcome_waits: OutcomeWaits::new(env, home),
            pages_count: Cell::new(0),
        })
    }

    /// Connections of the backend.
    pub fn connections_count(&self) -> usize {
        self.places.count()
    }

    /// Requests that wait for a push's outcome.
    pub fn waits_count(&self) -> usize {
        self.outcome_waits.len()
    }

    /// The pass is over. True when there was something to do that had waited for it.
    pub fn end_pass(&self) -> bool {
        self.turns.end_pass()
    }

    /// Who may push from now on.
    pub fn set_token(&self, token: Option<Token>) {
        self.token.set(token);
    }

    /// Another shard's reply to a question of this one's.
    pub fn handle_reply(&self, token: u64, reply: Option<ClientReply>) {
        self.queries.handle_reply(token, reply);
    }

    /// A push's outcome has come for a request of this shard.
    pub fn handle_outcome(&self, outcome: PushOutcome) {
        self.outcome_waits.handle_outcome(outcome);
    }

    /// The same, from another node. It may come again.
    pub fn handle_outcome_of_node(&self, outcome: PushOutcome) {
        self.outcome_waits.handle_outcome_of_node(outcome);
    }

    /// The other process of a takeover is gone: what it was asked has no answer.
    pub fn forget_elsewhere(&self) {
        self.queries.forget_elsewhere();
    }

    /// Asks about a client, wherever it is: on this node, or else on any other one of the cluster.
    ///
    /// # Errors
    /// Nobody could be asked, or nothing was heard.
    pub async fn ask_about(&self, client: ClientId, about: About) -> Result<Told, NotAsked> {
        match self.ask_here(Question { client, about }).await? {
            Ok(told) => Ok(told),
            Err(question) if self.home().is_in_cluster() => self.ask_cluster(question).await,
            Err(question) => Ok(self.nowhere(matches!(question.about, About::Push(_)))),
        }
    }

    /// Asks about a client of this node: its home shard, and the other process of a takeover while there is one. The question comes
    /// back if neither has the client.
    ///
    /// Who is on its way between the two is waited for. Only when both say one after the other that they don't have it is it nowhere:
    /// clients go one way.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub async fn ask_here(&self, question: Question) -> Result<Result<Told, Box<Question>>, NotAsked> {
        let home = self.env.home_of(&question.client);
        let until = self.env.reactor.now() + ON_WAY_TIMEOUT;
        let mut question = question;
        let (mut is_nowhere_else, mut has_failed) = (false, false);
        loop {
            let reply = self.ask(home, ClientRequest::About(question)).await?;
            let is_on_way = match reply {
                ClientReply::Told(told) => return Ok(Ok(told)),
                ClientReply::Nowhere(question) => return Ok(Err(question)),
                ClientReply::Elsewhere {
                    question: asked,
                    is_on_way,
                } => {
                    question = *asked;
                    is_on_way
                }
                _ => return Err(NotAsked::Overloaded),
            };
            let is_on_way = is_on_way
                || !is_nowhere_else
                    && match self.ask_elsewhere(question.to_bytes()).await {
                        Ok(Told::NotConnected) => false,
                        Ok(Told::OnItsWay) => true,
                        Ok(told) => {
                            self.env.counters.forwarded_answered.add();
                            return Ok(Ok(told));
                        }
                        Err(error) if has_failed || self.home().has_other_process() => return Err(error),
                        // It has just ended, and what it had is here; what it had taken it has told before.
                        Err(_) => {
                            has_failed = true;
                            true
                        }
                    };
            if !is_on_way && is_nowhere_else {
                self.env.counters.forwarded_nowhere.add();
                return Ok(Err(Box::new(question)));
            }
            is_nowhere_else = !is_on_way;
            if is_on_way {
                if self.env.reactor.now() >= until {
                    self.env.counters.forwarded_failed.add();
                    return Err(NotAsked::Elsewhere);
                }
                shards::timer::sleep(&self.env.reactor, ON_WAY_PAUSE).await;
            }
        }
    }

    /// A number that no request of this shard had before.
    pub fn next_token(&self) -> u64 {
        self.queries.next_token()
    }

    /// Asks the node of the cluster that has the client.
    async fn ask_cluster(&self, question: Box<Question>) -> Result<Told, NotAsked> {
        let counters = &self.env.counters;
        let is_push = matches!(question.about, About::Push(_));
        let waiter = match &question.about {
            About::Push(push) => push.waiter,
            _ => None,
        };
        match self.queries.ask_cluster(&*self.home(), question).await {
            Ok(told) => {
                counters.cluster_answered.add();
                if let (Told::Pushed { .. }, Some(waiter)) = (&told, waiter) {
                    self.outcome_waits.set_elsewhere(waiter.token);
                }
                Ok(told)
            }
            Err(Failure::Nobody) => {
                counters.cluster_nobody.add();
                Ok(self.nowhere(is_push))
            }
            Err(failure) => {
                let counter = match failure {
                    Failure::Away => &counters.cluster_away,
                    Failure::Full => &counters.cluster_full,
                    Failure::TooLong => &counters.cluster_too_long,
                    Failure::NotCarriedOut => &counters.cluster_not_carried_out,
                    Failure::Unanswered | Failure::Nobody => &counters.cluster_unanswered,
                };
                counter.add();
                Err(NotAsked::Cluster(failure))
            }
        }
    }

    /// Nobody has that client.
    fn nowhere(&self, is_push: bool) -> Told {
        if !is_push {
            return Told::NotConnected;
        }
        // While it drains, also for a client that has left already: it is asked for again, and is elsewhere by then.
        let refusal = self.env.is_draining().then_some(PushRefusal::Ending);
        self.env.counters.count_refused_push(refusal);
        refusal.map_or(Told::NotConnected, Told::PushRefused)
    }

    /// Asks the other process of a takeover: a [`Question`] or a [`PageQuestion`](protocol::question::PageQuestion), as bytes.
    ///
    /// # Errors
    /// See [`NotAsked`].
    pub async fn ask_elsewhere(&self, question: Vec<u8>) -> Result<Told, NotAsked> {
        let reply = self.queries.ask_elsewhere(&*self.home(), question).await;
        if reply.is_err() {
            self.env.counters.forwarded_failed.add();
        }
        match reply? {
            ClientReply::Told(told) => Ok(told),
            _ => Err(NotAsked::Elsewhere),
        }
    }

    /// The request that waited for a push has been told that its time is over. If the push is another process's, its outcome need
    /// not come any more.
    async fn forget_wait(self: Rc<Self>, wait: Box<PushWait>) {
        let PushWait {
            client,
            message_id,
            waiter,
        } = *wait;
        let question = Question {
            client,
            about: About::ForgetWait { message_id, waiter },
        };
        // It was the last that is said of it, or never comes.
        if matches!(self.ask_elsewhere(question.to_bytes()).await, Ok(Told::WaitEnded)) {
            self.outcome_waits.cancel(waiter.token);
        }
    }

    fn home(&self) -> Rc<dyn Home> {
        self.home.upgrade().expect("the shard outlives its ingress")
    }

    /// Asks shard `home`, which may be this one.
    async fn ask(&self, home: usize, request: ClientRequest) -> Result<ClientReply, NotAsked> {
        if home == self.env.index {
            return Ok(self.home().answer(request));
        }
        self.queries.ask(home, request).await
    }
}

/// A client is between two processes for some milliseconds.
const ON_WAY_TIMEOUT: Duration = Duration::from_secs(5);
const ON_WAY_PAUSE: Duration = Duration::from_millis(5);
