//! Plays a backend of so many workers: a request holds one for a while, and what is more waits in the order of arrival.

use std::collections::VecDeque;

use crate::random::Random;

/// How long requests hold a worker, on average 1.
#[derive(Clone, Copy, Debug)]
pub(super) enum Service {
    Constant,
    Exponential,
    /// One in ten takes a hundred times as long as the others.
    TwoKinds,
    /// Lognormal, sigma 1.5: the mean is three times the median.
    Heavy,
}

pub(super) const SERVICES: [Service; 4] = [
    Service::Constant,
    Service::Exponential,
    Service::TwoKinds,
    Service::Heavy,
];

impl Service {
    pub(super) fn draw(self, random: &mut Random) -> f64 {
        let uniform = |random: &mut Random| (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Exponential => -(1.0 - uniform(random)).ln(),
            Self::TwoKinds if random.percent(10) => 100.0 / 10.9,
            Self::TwoKinds => 1.0 / 10.9,
            Self::Heavy => {
                let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * uniform(random)).cos();
                (1.5 * normal - 1.5 * 1.5 / 2.0).exp()
            }
        }
    }
}

/// The workers and their queue. Times are in µs.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) count: usize,
    /// How long one request holds a worker, on average.
    pub(super) mean: f64,
    pub(super) service: Service,
    /// So many may wait for a worker; others are turned away.
    pub(super) queue_max: usize,
    /// Of a hundred requests so many are turned away, however few there are.
    pub(super) refused_percent: usize,
    pub(super) waiting: VecDeque<(usize, Work)>,
    /// Those being worked on.
    pub(super) working: usize,
}

/// What a request wants done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Work {
    /// A Call.
    Call,
    /// To be let in, which takes a millisecond whatever Calls take.
    Knock,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arrival {
    /// It ends then.
    Works {
        until: u64,
    },
    Waits,
    TurnedAway,
}

impl Workers {
    pub(super) fn new(count: usize, mean: f64, service: Service) -> Self {
        Self {
            count,
            mean,
            service,
            queue_max: usize::MAX,
            refused_percent: 0,
            waiting: VecDeque::new(),
            working: 0,
        }
    }

    pub(super) fn arrive(&mut self, now: u64, request: usize, work: Work, random: &mut Random) -> Arrival {
        if self.refused_percent > 0 && random.percent(self.refused_percent) {
            return Arrival::TurnedAway;
        }
        if self.working < self.count {
            return Arrival::Works {
                until: self.work(now, work, random),
            };
        }
        if self.waiting.len() >= self.queue_max {
            return Arrival::TurnedAway;
        }
        self.waiting.push_back((request, work));
        Arrival::Waits
    }

    /// A worker is done. Returns whom it works for next, and until when.
    pub(super) fn finish(&mut self, now: u64, random: &mut Random) -> Option<(usize, u64)> {
        self.working -= 1;
        if self.working >= self.count {
            return None;
        }
        let (next, work) = self.waiting.pop_front()?;
        Some((next, self.work(now, work, random)))
    }

    fn work(&mut self, now: u64, work: Work, random: &mut Random) -> u64 {
        self.working += 1;
        let takes = match work {
            Work::Call => (self.mean * self.service.draw(random)).max(1.0),
            Work::Knock => KNOCK,
        };
        now + takes as u64
    }
}

/// In µs.
const KNOCK: f64 = 1000.0;
