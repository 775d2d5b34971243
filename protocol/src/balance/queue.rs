//! Queues the requests that wait for a connection, in the order of arrival, each with a deadline.

use std::collections::VecDeque;
use std::time::Instant;

/// What a request is about. Those of one kind have as long a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A connected client's Call.
    Call,
    /// What became of a push.
    Outcome,
    /// The question whether a client may come in.
    Connect,
    /// What a client sends without being asked, and does not wait for.
    Send,
    /// The notice that a client has gone.
    Disconnect,
}

/// A request, and what choosing a connection for it depends on.
#[derive(Debug, Eq, PartialEq)]
pub struct Job<R> {
    /// The request, as the caller gave it.
    pub request: R,
    /// What it is about.
    pub kind: Kind,
    /// When its answer must be there.
    pub deadline: Instant,
    /// Of its content, in bytes.
    pub len: usize,
    /// A connect for it has failed once.
    pub(super) is_retried: bool,
}

impl<R> Job<R> {
    /// A request that has not been tried yet.
    #[must_use]
    pub fn new(request: R, kind: Kind, deadline: Instant, len: usize) -> Self {
        Self {
            request,
            kind,
            deadline,
            len,
            is_retried: false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Queue<R> {
    jobs: VecDeque<Job<R>>,
    /// No deadline is earlier.
    earliest: Option<Instant>,
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        Self {
            jobs: VecDeque::new(),
            earliest: None,
        }
    }
}

impl<R> Queue<R> {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn push_back(&mut self, job: Job<R>) {
        self.watch(job.deadline);
        self.jobs.push_back(job);
    }

    /// It comes before all others.
    pub(super) fn push_front(&mut self, job: Job<R>) {
        self.watch(job.deadline);
        self.jobs.push_front(job);
    }

    /// The one that has waited longest.
    pub(super) fn pop_front(&mut self) -> Option<Job<R>> {
        self.jobs.pop_front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Job<R>> {
        self.jobs.front_mut()
    }

    /// A time before which no deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Takes out those whose deadline has passed, in order.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Job<R>> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let (expired, left) = self.jobs.drain(..).partition(|job| job.deadline <= now);
        self.jobs = left;
        self.earliest = self.jobs.iter().map(|job| job.deadline).min();
        VecDeque::into(expired)
    }

    /// Takes out those for which `is_given_up` says so, in order.
    pub(super) fn withdraw(&mut self, is_given_up: impl Fn(&R) -> bool) -> Vec<R> {
        let (given_up, left) = self.jobs.drain(..).partition(|job| is_given_up(&job.request));
        self.jobs = left;
        VecDeque::into_iter(given_up).map(|job| job.request).collect()
    }

    fn watch(&mut self, deadline: Instant) {
        if self.earliest.is_none_or(|earliest| deadline < earliest) {
            self.earliest = Some(deadline);
        }
    }
}
