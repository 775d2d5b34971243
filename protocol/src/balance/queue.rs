//! Queues the requests that wait for a connection: each kind in the order of arrival, and with its share.
//!
//! The kinds take turns by deficit round robin (Shreedhar and Varghese, 1995): in its turn a kind is given credit by its
//! weight, and large requests cost more. So a flood of one kind holds up the others by its share and no more.

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
    /// When it came, for as long as it waits for a backend that can be reached.
    pub(super) came: Option<Instant>,
    /// When the backend had no worker for it, and how often.
    pub(super) turned_away: Option<(Instant, u32)>,
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
            came: None,
            turned_away: None,
        }
    }

    /// What its turn takes of its kind's credit.
    fn cost(&self) -> usize {
        1 + self.len / COST_LEN
    }
}

#[derive(Debug)]
pub(super) struct Queue<R> {
    /// By kind.
    lanes: [Lane<R>; KINDS],
    /// In all lanes.
    len: usize,
    /// Whose turn it is.
    turn: usize,
    /// No deadline is earlier.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Lane<R> {
    jobs: VecDeque<Job<R>>,
    credit: usize,
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        let lane = |_| Lane {
            jobs: VecDeque::new(),
            credit: 0,
        };
        Self {
            lanes: std::array::from_fn(lane),
            len: 0,
            turn: 0,
            earliest: None,
        }
    }
}

impl<R> Queue<R> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn len_of(&self, kind: Kind) -> usize {
        self.lanes[kind as usize].jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push_back(&mut self, job: Job<R>) {
        self.watch(job.deadline);
        self.len += 1;
        self.lanes[job.kind as usize].jobs.push_back(job);
    }

    /// It comes before all others of its kind, and has had its turn.
    pub(super) fn push_front(&mut self, job: Job<R>) {
        self.watch(job.deadline);
        self.len += 1;
        let lane = &mut self.lanes[job.kind as usize];
        lane.credit += job.cost();
        lane.jobs.push_front(job);
    }

    /// Of the kind whose turn it is, the one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<Job<R>> {
        if self.len == 0 {
            return None;
        }
        loop {
            let lane = &mut self.lanes[self.turn];
            match lane.jobs.front() {
                Some(front) if front.cost() <= lane.credit => {
                    lane.credit -= front.cost();
                    self.len -= 1;
                    return lane.jobs.pop_front();
                }
                Some(_) => {}
                None => lane.credit = 0,
            }
            self.turn = (self.turn + 1) % KINDS;
            let lane = &mut self.lanes[self.turn];
            if !lane.jobs.is_empty() {
                lane.credit += WEIGHTS[self.turn];
            }
        }
    }

    /// Of this kind, the one that has waited longest, whoever's turn it is: its credit pays for it.
    pub(super) fn pop_of(&mut self, kind: Kind) -> Option<Job<R>> {
        let lane = &mut self.lanes[kind as usize];
        let job = lane.jobs.pop_front()?;
        lane.credit = lane.credit.saturating_sub(job.cost());
        self.len -= 1;
        Some(job)
    }

    /// Of each kind that waits, the one that has waited longest.
    pub(super) fn fronts(&self) -> impl Iterator<Item = &Job<R>> {
        self.lanes.iter().filter_map(|lane| lane.jobs.front())
    }

    /// A time before which no deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Takes out those whose deadline has passed, in the order of arrival of each kind.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Job<R>> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        for lane in &mut self.lanes {
            let is_late = |job: &mut Job<R>| job.deadline <= now;
            // Those of one kind have as long a time: the late ones are in front, as a rule.
            while let Some(late) = lane.jobs.pop_front_if(is_late) {
                expired.push(late);
            }
            if lane.jobs.iter().any(|job| job.deadline <= now) {
                let (late, left): (VecDeque<_>, _) = lane.jobs.drain(..).partition(|job| job.deadline <= now);
                lane.jobs = left;
                expired.extend(late);
            }
        }
        self.len -= expired.len();
        let deadlines = self.lanes.iter().flat_map(|lane| &lane.jobs).map(|job| job.deadline);
        self.earliest = deadlines.min();
        expired
    }

    /// Takes out those for which `is_given_up` says so.
    pub(super) fn withdraw(&mut self, is_given_up: impl Fn(&R) -> bool) -> Vec<R> {
        let mut given_up = Vec::new();
        for lane in &mut self.lanes {
            let (out, left): (VecDeque<_>, _) = lane.jobs.drain(..).partition(|job| is_given_up(&job.request));
            lane.jobs = left;
            given_up.extend(out.into_iter().map(|job| job.request));
        }
        self.len -= given_up.len();
        given_up
    }

    fn watch(&mut self, deadline: Instant) {
        if self.earliest.is_none_or(|earliest| deadline < earliest) {
            self.earliest = Some(deadline);
        }
    }
}

const KINDS: usize = 5;
/// The credit of each kind in its turn, in the order of [`Kind`]: clients wait for their Calls' answers, nobody for a SEND's.
const WEIGHTS: [usize; KINDS] = [8, 4, 2, 1, 1];
/// Content of so many bytes costs as much as another request.
const COST_LEN: usize = 16 * 1024;
