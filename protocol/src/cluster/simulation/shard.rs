//! Plays a node's shard: clients with pushes, and requests that wait.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::cluster::NodeId;
use crate::mapping::ConnectionId;
use crate::ocpp::ClientId;

#[derive(Default)]
pub(super) struct Shard {
    pub(super) connections: BTreeMap<ClientId, Connection>,
    /// By token.
    pub(super) waits: BTreeMap<u64, Wait>,
    /// What it has asked other nodes, by token: for whose sake.
    pub(super) asked: BTreeMap<u64, Asked>,
}

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) since: Duration,
    pub(super) in_flight: Option<(Push, Duration)>,
    pub(super) queued: VecDeque<Push>,
    pub(super) heard: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Push {
    pub(super) number: u64,
    pub(super) waiter: Option<Waiter>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    Here(u64),
    There { node: NodeId, token: u64, is_theirs: bool },
}

pub(super) enum Wait {
    /// A request of the backend.
    Request { push: u64, until: Duration, has_gone: bool },
    /// A push that has moved: what becomes of it is told from here.
    Moved {
        push: Push,
        until: Duration,
        client: ClientId,
    },
}

/// A question that is open.
pub(super) struct Asked {
    pub(super) client: ClientId,
    /// The push, and the token of whoever waits.
    pub(super) push: Option<(u64, Option<u64>)>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) number: u64,
    /// The push, if it is one, who waits for it, and whether that node tells the backend.
    pub(super) push: Option<(u64, Option<(u64, bool)>)>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, now: Duration) -> Self {
        Self {
            id,
            since: now,
            in_flight: None,
            queued: VecDeque::new(),
            heard: now,
        }
    }

    /// False: it is full.
    pub(super) fn push(&mut self, push: Push, now: Duration) -> bool {
        let numbers = self.in_flight.iter().map(|(push, _)| push).chain(&self.queued);
        if numbers.into_iter().any(|other| other.number == push.number) || self.queued.len() >= QUEUED_MAX {
            return false;
        }
        self.queued.push_back(push);
        self.send(now);
        true
    }

    /// The next push leaves, if there is none in flight.
    pub(super) fn send(&mut self, now: Duration) {
        if self.in_flight.is_none() {
            self.in_flight = self.queued.pop_front().map(|push| (push, now));
        }
    }
}

impl Question {
    pub(super) fn text(&self) -> Vec<u8> {
        let Self { number, push } = self;
        match push {
            None => format!("{number}"),
            Some((push, None)) => format!("{number} {push}"),
            Some((push, Some((token, is_theirs)))) => format!("{number} {push} {token} {}", u8::from(*is_theirs)),
        }
        .into()
    }

    pub(super) fn read(text: &[u8]) -> Self {
        let text = str::from_utf8(text).expect("its own");
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>().expect("its own"));
        let number = numbers.next().expect("its own");
        let push = numbers.next();
        let waiter = numbers.next().zip(numbers.next().map(|is_theirs| is_theirs == 1));
        Self {
            number,
            push: push.map(|push| (push, waiter)),
        }
    }
}

const QUEUED_MAX: usize = 3;
