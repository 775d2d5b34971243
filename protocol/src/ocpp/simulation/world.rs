//! Holds the world of one run: connections, requests at the backend, the clock, the dice.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::hand_over::LeftOut;
use super::ledger::{Effect, Ledger, Stage, ensure};
use crate::ocpp::session::Fault;
use crate::ocpp::{CallKey, FailReason, Limits, Outputs, PushKey, Session, Subprotocol};
use crate::random::Random;

/// One connection: the session and what surrounds it.
pub(super) struct Connection {
    pub(super) number: usize,
    /// Its client: who comes after it is in this place.
    pub(super) who: usize,
    pub(super) session: Session,
    pub(super) ledger: Ledger,
    /// Frames of pushes that have not left yet.
    pub(super) socket: VecDeque<(PushKey, String)>,
    /// Ids of pushes that the client has seen, old ones too.
    pub(super) seen: Vec<String>,
}

/// What the backend has to answer.
pub(super) struct Request {
    pub(super) connection: usize,
    pub(super) key: CallKey,
    pub(super) deadline: Instant,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) now: Instant,
    pub(super) limits: Rc<Limits>,
    pub(super) fault: Option<Fault>,
    pub(super) left_out: Option<LeftOut>,
    pub(super) clients: Vec<Connection>,
    /// Over, but the backend still works for them.
    pub(super) ended: Vec<Connection>,
    pub(super) requests: Vec<Request>,
    /// What clients have told the backend: whose connection, and how long it is.
    pub(super) posts: Vec<(usize, usize)>,
    pub(super) out: Outputs,
    /// Numbers everything that has to be unique.
    pub(super) count: usize,
    pub(super) accepted: usize,
    pub(super) outcomes: usize,
    /// How often each thing happened.
    pub(super) happened: BTreeMap<&'static str, usize>,
}

pub(super) type Checked = Result<(), String>;

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let limits = Limits {
            calls_in_flight: 1 + random.below(2),
            calls_queued: 1 + random.below(4),
            calls_per_second_max: [0, 2, 4, 8, 16][random.below(5)],
            call_timeout: Duration::from_secs(25),
            pushes_in_flight: 1 + random.below(2),
            pushes_queued: random.below(4),
            posts_queued: 1 + random.below(6),
            // Some worlds have room for all that may wait, some do not.
            queued_len_max: 20 + random.below(150),
            push_timeout: Duration::from_secs(30),
            push_hold: Duration::from_millis(500),
            bad_frames_max: 5,
            number_ids: false,
            json_depth_max: 16,
            ping_after: Duration::from_secs(60),
            dead_after: Duration::from_secs(120),
        };
        let mut world = Self {
            random,
            now: Instant::now(),
            limits: Rc::new(limits),
            fault,
            left_out: None,
            clients: Vec::new(),
            ended: Vec::new(),
            requests: Vec::new(),
            posts: Vec::new(),
            out: Outputs::default(),
            count: 0,
            accepted: 0,
            outcomes: 0,
            happened: BTreeMap::new(),
        };
        for who in 0..CLIENTS {
            let connection = world.connect(who)?;
            world.clients.push(connection);
        }
        Ok(world)
    }

    pub(super) fn connect(&mut self, who: usize) -> Result<Connection, String> {
        let subprotocols = [
            Subprotocol::None,
            Subprotocol::Ocpp16,
            Subprotocol::Ocpp201,
            Subprotocol::Ocpp21,
            Subprotocol::Ocpp21,
        ];
        let subprotocol = subprotocols[self.random.below(subprotocols.len())];
        let mut session = Session::new(subprotocol, self.limits.clone(), self.random.next() as u32, self.now);
        session.fault = self.fault;
        let ledger = Ledger::new(&session, &self.limits, self.now)?;
        self.count += 1;
        Ok(Connection {
            number: self.count,
            who,
            session,
            ledger,
            socket: VecDeque::new(),
            seen: Vec::new(),
        })
    }

    pub(super) fn happen(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    pub(super) fn step(&mut self) -> Checked {
        let who = self.random.below(CLIENTS);
        if self.clients[who].ledger.stage == Stage::Closing && self.random.percent(30) {
            return self.end(who);
        }
        if self.random.percent(5) {
            self.hand_over(who)?;
        }
        if self.random.percent(3) {
            let is_wanted = self.random.percent(60);
            self.want_to_move(who, is_wanted)?;
        }
        if self.random.percent(1) {
            self.adopt_late(who)?;
        }
        match self.random.below(200) {
            0..50 => self.client_calls(who),
            50..75 => self.client_answers(who),
            75..82 => self.client_errs(who),
            82..86 => self.client_sends(who),
            86 => self.client_floods(who),
            87..94 => self.backend_takes_post(),
            94..120 => self.backend_answers(),
            120..130 => self.backend_answers_late(who),
            130..160 => self.backend_pushes(who),
            160..178 => self.socket_writes(who),
            178..190 => self.time_passes(),
            190..193 => self.client_is_heard(who),
            193..196 => self.wait_is_over(who),
            196 if self.random.percent(50) => self.leave(who),
            196 => self.shut_down(who),
            _ => self.end(who),
        }
    }

    /// Lets the session act and settles what comes out.
    pub(super) fn act(&mut self, who: usize, act: impl FnOnce(&mut Session, Instant, &mut Outputs)) -> Checked {
        let Connection {
            number,
            session,
            ledger,
            socket,
            ..
        } = &mut self.clients[who];
        act(session, self.now, &mut self.out);
        let outcomes = ledger.outcomes;
        let effects = ledger
            .settle(session, &mut self.out)
            .map_err(|error| format!("client {number}: {error}"))?;
        self.outcomes += ledger.outcomes - outcomes;
        for effect in effects {
            match effect {
                Effect::Called { key, id, deadline } => {
                    ensure!(
                        deadline == self.now + self.limits.call_timeout,
                        "{id}: another deadline"
                    );
                    self.requests.push(Request {
                        connection: *number,
                        key,
                        deadline,
                    });
                }
                Effect::Pushed { key, id } => socket.push_back((key, id)),
                Effect::Posted { len } => self.posts.push((*number, len)),
            }
        }
        Ok(())
    }

    /// Everybody finishes: the clients that stay get their answers, the pushes their outcomes.
    pub(super) fn finish(&mut self) -> Checked {
        for who in 0..CLIENTS {
            self.want_to_move(who, false)?;
        }
        for _ in 0..200 {
            while !self.requests.is_empty() {
                self.backend_answers_request(0, 1)?;
            }
            while !self.posts.is_empty() {
                self.backend_takes_post()?;
            }
            for who in 0..CLIENTS {
                while let Some((key, id)) = self.clients[who].socket.front().cloned() {
                    self.written(who, key, &id)?;
                }
                self.client_is_heard(who)?;
            }
            self.now += Duration::from_secs(10);
            for who in 0..CLIENTS {
                self.clients[who].ledger.expect_deadline(self.now);
                self.act(who, |session, now, out| session.handle_deadline(now, out))?;
            }
        }
        for who in 0..CLIENTS {
            let Ledger {
                stage, calls, pushes, ..
            } = &self.clients[who].ledger;
            if *stage < Stage::Closing {
                ensure!(calls.is_empty(), "Calls without an answer: {calls:?}");
                ensure!(pushes.is_empty(), "pushes without an outcome: {pushes:?}");
            }
            self.end_for(who, FailReason::Shutdown)?;
        }
        ensure!(self.ended.is_empty(), "sessions with requests left");
        ensure!(
            self.accepted == self.outcomes,
            "{} pushes accepted, {} outcomes",
            self.accepted,
            self.outcomes
        );
        Ok(())
    }
}

pub(super) const CLIENTS: usize = 4;
