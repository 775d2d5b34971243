//! Serves the backend's way in: pushes, deferred answers, and questions about clients, over strict HTTP/1.1.

mod answer;
mod connection;
mod home;
mod outcome_waits;
mod places;
mod push;
mod queries;
mod request;
mod server;
mod turns;

pub use home::Home;
pub use server::serve;

use std::cell::Cell;
use std::rc::{Rc, Weak};

use shards::mesh::Mesh;

use self::outcome_waits::OutcomeWaits;
use self::places::Places;
use self::queries::{Overloaded, Queries};
use self::turns::Turns;
use crate::env::Env;
use crate::env::reloadable::Reloadable;
use crate::shard::mail::{ClientReply, ClientRequest, Mail, PushOutcome};
use crate::token::Token;

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

    /// Asks shard `home`, which may be this one.
    async fn ask(&self, home: usize, request: ClientRequest) -> Result<ClientReply, Overloaded> {
        if home == self.env.index {
            let home = self.home.upgrade().expect("the shard outlives its ingress");
            return Ok(home.answer(request));
        }
        self.queries.ask(home, request).await
    }
}
