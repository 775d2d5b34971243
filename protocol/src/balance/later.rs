//! Keeps the requests that the backend had no worker for: each is tried again after a pause that doubles.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::Job;

#[derive(Debug)]
pub(super) struct Later<R> {
    /// The earliest first.
    jobs: BinaryHeap<Reverse<Due<R>>>,
}

#[derive(Debug)]
struct Due<R> {
    at: Instant,
    job: Job<R>,
}

impl<R> Default for Later<R> {
    fn default() -> Self {
        Self {
            jobs: BinaryHeap::new(),
        }
    }
}

impl<R> Later<R> {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Keeps a request for its next try, if that is to be within `retry` of the first and before its deadline.
    ///
    /// # Errors
    /// It comes back when there is no more time.
    pub(super) fn keep(&mut self, now: Instant, mut job: Job<R>, retry: Duration) -> Result<(), Job<R>> {
        let (first, times) = job.turned_away.unwrap_or((now, 0));
        let at = now + PAUSE * 2_u32.pow(times.min(DOUBLINGS));
        if at >= job.deadline.min(first + retry) {
            return Err(job);
        }
        job.turned_away = Some((first, times + 1));
        self.jobs.push(Reverse(Due { at, job }));
        Ok(())
    }

    /// The next one whose pause is over.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Job<R>> {
        if self.next()? > now {
            return None;
        }
        self.jobs.pop().map(|Reverse(due)| due.job)
    }

    /// When a pause is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.jobs.peek().map(|Reverse(due)| due.at)
    }

    /// Takes out those for which `is_given_up` says so.
    pub(super) fn withdraw(&mut self, is_given_up: impl Fn(&R) -> bool) -> Vec<R> {
        let all = std::mem::take(&mut self.jobs).into_vec();
        let (given_up, left): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|Reverse(due)| is_given_up(&due.job.request));
        self.jobs = left.into();
        given_up.into_iter().map(|Reverse(due)| due.job.request).collect()
    }
}

impl<R> Ord for Due<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<R> PartialOrd for Due<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> PartialEq for Due<R> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<R> Eq for Due<R> {}

/// Before the second try; twice as long before each that follows.
const PAUSE: Duration = Duration::from_millis(50);
/// Up to 800 ms.
const DOUBLINGS: u32 = 4;
