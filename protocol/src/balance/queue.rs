//! Queues the requests that wait for a connection: each kind in the order of arrival, and with its share.
//!
//! The kinds take turns by deficit round robin (Shreedhar and Varghese, 1995): in its turn a kind is given credit by its
//! weight, and large requests cost more. So a flood of one kind holds up the others by its share and no more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
    /// Its number among those that came. The numbers come round again, long after the request has ended.
    pub(super) arrival: u32,
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
            arrival: 0,
            came: None,
            turned_away: None,
        }
    }

    /// What its turn takes of its kind's credit.
    fn cost(&self) -> usize {
        1 + self.len / COST_LEN
    }

    fn came_before(&self, other: &Self) -> bool {
        self.arrival.wrapping_sub(other.arrival) > u32::MAX / 2
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
    /// Jobs, for their deadlines.
    #[cfg(test)]
    looked_at: std::cell::Cell<usize>,
}

#[derive(Debug)]
struct Lane<R> {
    jobs: VecDeque<Job<R>>,
    credit: usize,
    /// No deadline in it is later.
    latest: Option<Instant>,
    /// Of those that stand behind one with a later deadline, none has an earlier one. The others are in front when their time comes.
    behind: Option<Instant>,
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        let lane = |_| Lane {
            jobs: VecDeque::new(),
            credit: 0,
            latest: None,
            behind: None,
        };
        Self {
            lanes: std::array::from_fn(lane),
            len: 0,
            turn: 0,
            earliest: None,
            #[cfg(test)]
            looked_at: std::cell::Cell::new(0),
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

    /// How many of each kind wait.
    pub(super) fn lens(&self) -> [u32; KINDS] {
        let mut lens = [0; KINDS];
        for (len, lane) in lens.iter_mut().zip(&self.lanes) {
            *len = u32::try_from(lane.jobs.len()).unwrap_or(u32::MAX);
        }
        lens
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push_back(&mut self, job: Job<R>) {
        self.watch(job.deadline);
        self.len += 1;
        self.lanes[job.kind as usize].push_back(job);
    }

    /// It has been taken out, and stands again where it stood among those of its kind. It has had its turn.
    pub(super) fn put_back(&mut self, job: Job<R>) {
        self.watch(job.deadline);
        self.len += 1;
        let lane = &mut self.lanes[job.kind as usize];
        lane.credit += job.cost();
        lane.put_back(job);
    }

    /// Of the kind whose turn it is, the one that has waited longest.
    #[inline]
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
                    return lane.pop_front();
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
        let job = lane.pop_front()?;
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

    /// Takes out those whose deadline has passed, in the order of arrival of each kind; one that stands behind a later deadline perhaps
    /// [`SCAN_PAUSE`] later.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Job<R>> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        for lane in &mut self.lanes {
            while let Some(late) = lane.jobs.pop_front_if(|job| job.deadline <= now) {
                expired.push(late);
            }
            if lane.behind.is_some_and(|behind| behind <= now) {
                #[cfg(test)]
                self.looked_at.set(self.looked_at.get() + lane.jobs.len());
                lane.scan(now, &mut expired);
            }
            lane.forget_if_empty();
        }
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + expired.len());
        self.len -= expired.len();
        let next = |lane: &Lane<R>| [lane.jobs.front().map(|job| job.deadline), lane.behind];
        self.earliest = self.lanes.iter().flat_map(next).flatten().min();
        expired
    }

    /// Takes out those for which `is_given_up` says so.
    pub(super) fn withdraw(&mut self, is_given_up: impl Fn(&R) -> bool) -> Vec<R> {
        let mut given_up = Vec::new();
        for lane in &mut self.lanes {
            // Nothing is moved where nothing goes.
            if !lane.jobs.iter().any(|job| is_given_up(&job.request)) {
                continue;
            }
            let (out, left): (VecDeque<_>, _) = lane.jobs.drain(..).partition(|job| is_given_up(&job.request));
            lane.jobs = left;
            lane.forget_if_empty();
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

impl<R> Lane<R> {
    fn push_back(&mut self, job: Job<R>) {
        match self.latest {
            Some(latest) if job.deadline < latest => self.watch_behind(job.deadline),
            _ => self.latest = Some(job.deadline),
        }
        self.jobs.push_back(job);
    }

    fn put_back(&mut self, job: Job<R>) {
        // Mostly none has come before it.
        let index = self.jobs.partition_point(|other| other.came_before(&job));
        if index > 0 && self.latest > Some(job.deadline) {
            self.watch_behind(job.deadline);
        }
        if let Some(next) = self.jobs.get(index).map(|next| next.deadline)
            && next < job.deadline
        {
            self.watch_behind(next);
        }
        self.latest = self.latest.max(Some(job.deadline));
        self.jobs.insert(index, job);
    }

    fn pop_front(&mut self) -> Option<Job<R>> {
        let job = self.jobs.pop_front();
        self.forget_if_empty();
        job
    }

    /// Looks for late ones behind others.
    fn scan(&mut self, now: Instant, expired: &mut Vec<Job<R>>) {
        let mut latest = None;
        self.behind = None;
        for job in std::mem::take(&mut self.jobs) {
            if job.deadline <= now {
                expired.push(job);
                continue;
            }
            if latest.is_some_and(|latest| job.deadline < latest) {
                self.watch_behind(job.deadline.max(now + SCAN_PAUSE));
            }
            latest = latest.max(Some(job.deadline));
            self.jobs.push_back(job);
        }
        self.latest = latest;
    }

    fn watch_behind(&mut self, deadline: Instant) {
        if self.behind.is_none_or(|behind| deadline < behind) {
            self.behind = Some(deadline);
        }
    }

    fn forget_if_empty(&mut self) {
        if self.jobs.is_empty() {
            (self.latest, self.behind) = (None, None);
        }
    }
}

/// All of a kind are looked at no more often than that.
pub(super) const SCAN_PAUSE: Duration = Duration::from_millis(50);
/// So many kinds there are.
pub const KINDS: usize = 5;
/// The credit of each kind in its turn, in the order of [`Kind`]: clients wait for their Calls' answers, nobody for a SEND's.
pub(crate) const WEIGHTS: [usize; KINDS] = [8, 4, 2, 1, 1];
/// Content of so many bytes costs as much as another request.
const COST_LEN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u32 = 10_000;

    /// Puts as many into a queue, each with its deadline, and takes out each when its deadline passes. Returns at how many jobs it has looked
    /// for that.
    fn expire_one_by_one(deadline: impl Fn(u32) -> Duration) -> usize {
        let start = Instant::now();
        let mut queue = Queue::default();
        for number in 0..COUNT {
            queue.push_back(Job::new(number, Kind::Send, start + deadline(number), 0));
        }
        let (mut expired, mut now) = (0, start);
        while let Some(next) = queue.next_deadline() {
            now = next.max(now);
            let late = queue.take_expired(now);
            assert!(late.iter().all(|job| job.deadline <= now));
            let patience = |job: &Job<u32>| now - job.deadline <= SCAN_PAUSE;
            assert!(late.iter().all(patience), "later than it may be");
            expired += late.len();
        }
        assert_eq!(expired, COUNT as usize);
        assert!(queue.is_empty());
        queue.looked_at.get()
    }

    #[test]
    fn what_is_put_back_stands_where_it_stood_also_when_the_numbers_come_round() {
        for first in [0, u32::MAX - 3] {
            let start = Instant::now();
            let mut queue = Queue::default();
            for number in 0..8_u32 {
                // Every other one has little time.
                let deadline = start + Duration::from_secs(if number % 2 == 0 { 60 } else { 1 + u64::from(number) });
                let job = Job::new(number, Kind::Call, deadline, 0);
                let arrival = first.wrapping_add(number);
                queue.push_back(Job { arrival, ..job });
            }
            let mut out: Vec<_> = (0..6).map(|_| queue.pop().expect("it waits")).collect();
            for index in [3, 0, 1, 0, 1, 0] {
                queue.put_back(out.remove(index));
            }
            assert_eq!(queue.len(), 8);
            for number in [1, 3, 5, 7] {
                let now = start + Duration::from_secs(1 + u64::from(number)) + SCAN_PAUSE;
                assert!(queue.next_deadline().is_some_and(|next| next <= now));
                let late: Vec<_> = queue.take_expired(now).iter().map(|job| job.request).collect();
                assert_eq!(late, [number], "no deadline is forgotten");
            }
            let left: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|job| job.request).collect();
            assert_eq!(left, [0, 2, 4, 6], "{first}");
        }
    }

    #[test]
    fn what_expires_one_by_one_is_found_without_a_look_at_all_others() {
        let in_order = |number: u32| Duration::from_millis(number.into());
        assert!(expire_one_by_one(in_order) <= 4 * COUNT as usize);
    }

    #[test]
    fn nor_where_deadlines_are_not_in_the_order_of_arrival() {
        // Of handshakes: the time that their requests took to come is not the same.
        let jittered = |number: u32| Duration::from_millis(u64::from(number) + u64::from(number % 7) * 10);
        let looked_at = expire_one_by_one(jittered);
        // Once in a while all that are left are looked at, however many have expired.
        let scans = u128::from(COUNT) / SCAN_PAUSE.as_millis() + 4;
        assert!(
            looked_at as u128 <= scans * u128::from(COUNT) + 4 * u128::from(COUNT),
            "{looked_at}"
        );
    }
}
