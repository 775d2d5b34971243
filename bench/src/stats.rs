//! Reads what the backend stub has counted: `GET /stats` as JSON.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::outcomes::{Outcomes, Seen};

/// The answer of `GET /stats`, summed over the threads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// `POST /connect`.
    pub connects: u64,
    /// `POST /disconnect`.
    pub disconnects: u64,
    /// `POST /call/…`.
    pub calls: u64,
    /// `POST /result/…`.
    pub results: u64,
    /// `POST /error/…`.
    pub errors: u64,
    /// Those of `errors` that carried `X-Origin: ws2api`: the proxy's own verdict, not the client's.
    pub errors_by_proxy: u64,
    /// `POST /send/…`: what a client said without waiting for an answer.
    #[serde(default)]
    pub sends: u64,
    /// Requests with another path or method.
    pub strangers: u64,
    /// Connections closed because of what was not HTTP.
    pub malformed: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Outcomes of pushes, over `results` and `errors`.
    pub outcomes: Seen,
}

/// One thread's counters: it alone writes them, anybody reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// See [`Stats`].
    pub connects: AtomicU64,
    /// See [`Stats`].
    pub disconnects: AtomicU64,
    /// See [`Stats`].
    pub calls: AtomicU64,
    /// See [`Stats`].
    pub results: AtomicU64,
    /// See [`Stats`].
    pub errors: AtomicU64,
    /// See [`Stats`].
    pub errors_by_proxy: AtomicU64,
    /// See [`Stats`].
    pub sends: AtomicU64,
    /// See [`Stats`].
    pub strangers: AtomicU64,
    /// See [`Stats`].
    pub malformed: AtomicU64,
    /// See [`Stats`].
    pub accepted: AtomicU64,
}

impl Counters {
    fn fields(&self) -> [&AtomicU64; 10] {
        [
            &self.connects,
            &self.disconnects,
            &self.calls,
            &self.results,
            &self.errors,
            &self.errors_by_proxy,
            &self.sends,
            &self.strangers,
            &self.malformed,
            &self.accepted,
        ]
    }
}

/// The sum of all threads' counters.
#[must_use]
pub fn sum(counters: &[Counters], outcomes: &Outcomes) -> Stats {
    let mut sums = [0; 10];
    for thread in counters {
        for (sum, cell) in sums.iter_mut().zip(thread.fields()) {
            *sum += cell.load(Ordering::Relaxed);
        }
    }
    let [
        connects,
        disconnects,
        calls,
        results,
        errors,
        errors_by_proxy,
        sends,
        strangers,
        malformed,
        accepted,
    ] = sums;
    let outcomes = outcomes.seen();
    Stats {
        connects,
        disconnects,
        calls,
        results,
        errors,
        errors_by_proxy,
        sends,
        strangers,
        malformed,
        accepted,
        outcomes,
    }
}

/// Back to nothing; between runs only.
pub fn reset(counters: &[Counters], outcomes: &Outcomes) {
    for cell in counters.iter().flat_map(Counters::fields) {
        cell.store(0, Ordering::Relaxed);
    }
    outcomes.reset();
}

/// Adds to a counter that only the calling thread writes: a plain load and store.
pub fn add(cell: &AtomicU64, value: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}
