//! Bounds the connections to the admin listener so that there is always a place for one more: who has been there longest without
//! a question makes room, and what needs a shard's answer never has all places. So neither silent connections nor slow answers
//! can lock a health check out.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections that are open.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    open: Arc<Mutex<Open>>,
    max: usize,
}

#[derive(Debug, Default)]
struct Open {
    /// The oldest first.
    connections: Vec<Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    stream: TcpStream,
    is_answered: bool,
}

/// One connection's place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Connections,
    number: u64,
}

/// Answers that may take their time.
#[derive(Clone, Debug)]
pub(super) struct SlowAnswers {
    count: Arc<AtomicUsize>,
    max: usize,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(super) struct SlowAnswer(Arc<AtomicUsize>);

impl SlowAnswers {
    /// None yet, and never more than `max` at once.
    pub(super) fn new(max: usize) -> Self {
        Self {
            count: Arc::default(),
            max,
        }
    }

    /// Begins one. `None`: there are as many as may be.
    pub(super) fn begin(&self) -> Option<SlowAnswer> {
        let begun = SlowAnswer(self.count.clone());
        (self.count.fetch_add(1, Ordering::Relaxed) < self.max).then_some(begun)
    }
}

impl Drop for SlowAnswer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    /// None yet, and never more than `max`.
    pub(super) fn new(max: usize) -> Self {
        Self {
            open: Arc::default(),
            max,
        }
    }

    /// A place for `stream`. `None`: all others are being answered.
    pub(super) fn enter(&self, stream: &TcpStream) -> Option<Place> {
        let stream = stream.try_clone().ok()?;
        let mut open = self.lock();
        if open.connections.len() >= self.max {
            let idle = open.connections.iter().position(|connection| !connection.is_answered)?;
            let oldest = open.connections.remove(idle);
            // Its thread reads the end, and goes.
            let _ = oldest.stream.shutdown(Shutdown::Both);
        }
        // A thread is known by its number, and one that has ended a moment ago may still be there.
        while open
            .connections
            .iter()
            .any(|other| other.number % NAMES == open.next % NAMES)
        {
            open.next += 1;
        }
        let number = open.next;
        open.next += 1;
        open.connections.push(Connection {
            number,
            stream,
            is_answered: false,
        });
        drop(open);
        Some(Place {
            connections: self.clone(),
            number,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// No two that are there at once have the same.
    pub(super) fn thread_name(&self) -> String {
        format!("admin-{}", self.number % NAMES)
    }

    /// Answers a request; meanwhile the connection does not have to make room.
    pub(super) fn while_answering<T>(&self, answer: impl FnOnce() -> T) -> T {
        self.set_answered(true);
        let answer = answer();
        self.set_answered(false);
        answer
    }

    fn set_answered(&self, is_answered: bool) {
        let mut open = self.connections.lock();
        // It may have had to make room just before.
        let own = open.connections.iter_mut().find(|other| other.number == self.number);
        if let Some(own) = own {
            own.is_answered = is_answered;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.connections.retain(|connection| connection.number != self.number);
    }
}

/// Many more than there are connections, and short enough for a name of 15 bytes.
const NAMES: u64 = 1000;
