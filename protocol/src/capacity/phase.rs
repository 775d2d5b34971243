//! Gathers what is seen of a backend's answers while one number of requests is tried.

use std::time::{Duration, Instant};

/// What was seen of a backend's answers since the last time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Answers.
    pub answered: u32,
    /// Those of them that say that it is too much.
    pub refused: u32,
    /// How long they took, in µs, in their order: of all, or of some.
    pub latencies: Vec<u32>,
}

/// A time in which one number of requests is tried.
#[derive(Debug, Default)]
pub(super) struct Phase {
    /// When the first answer of all was counted.
    opened: Option<Instant>,
    /// Answers to let pass before any is measured.
    skip: usize,
    /// When measuring began.
    pub(super) began: Option<Instant>,
    /// Answers since then, and how long they took: all, or some.
    pub(super) answered: usize,
    pub(super) latencies: Vec<u32>,
    /// All of the phase, the skipped ones among them.
    all: usize,
    refused: usize,
}

/// What a phase has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) limit: usize,
    /// Of the faster half, in seconds.
    pub(super) latency: f64,
    /// Answers a second.
    pub(super) rate: f64,
}

/// How much answers said "too much".
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TurnedAway {
    /// Of all answers.
    pub(super) part: f64,
    /// Of the other answers, a second.
    pub(super) good_rate: f64,
}

impl Seen {
    /// Adds what another shard has seen.
    pub(super) fn add(&mut self, other: Self) {
        self.answered = self.answered.saturating_add(other.answered);
        self.refused = self.refused.saturating_add(other.refused);
        let room = LATENCIES_MAX.saturating_sub(self.latencies.len());
        self.latencies.extend(other.latencies.into_iter().take(room));
    }
}

impl Phase {
    /// One that lets so many answers pass first.
    pub(super) fn new(skip: usize) -> Self {
        Self {
            skip,
            ..Self::default()
        }
    }

    /// Counts answers, whether they are measured or not.
    pub(super) fn count(&mut self, now: Instant, seen: &Seen) {
        self.opened.get_or_insert(now);
        self.all += seen.answered as usize;
        self.refused += seen.refused as usize;
    }

    /// Takes over what another phase has counted.
    pub(super) fn keep_counts(&mut self, other: &Self) {
        (self.opened, self.all, self.refused) = (other.opened, other.all, other.refused);
    }

    /// Measures answers, once those are over that are to be let pass: from the next ones on, or `at_once`. False: none were.
    pub(super) fn measure(&mut self, now: Instant, seen: &Seen, at_once: bool) -> bool {
        let answered = seen.answered as usize;
        let skipped = answered.min(self.skip);
        self.skip -= skipped;
        if self.skip > 0 {
            return false;
        }
        if self.began.is_none() {
            self.began = Some(now);
            if !at_once {
                return false;
            }
        }
        let skipped_part = (seen.latencies.len() * skipped).div_ceil(answered.max(1));
        let latencies = seen.latencies.get(skipped_part..).unwrap_or(&[]);
        let room = LATENCIES_MAX.saturating_sub(self.latencies.len());
        self.latencies.extend(latencies.iter().take(room));
        self.answered += answered - skipped;
        true
    }

    /// How long answers took on average.
    pub(super) fn mean(&self) -> Duration {
        let sum: u64 = self.latencies.iter().map(|latency| u64::from(*latency)).sum();
        Duration::from_micros(sum / self.latencies.len().max(1) as u64)
    }

    /// True when more than this part of the answers was turned away, and that is no chance.
    pub(super) fn is_refused_beyond(&self, part: f64) -> bool {
        let usual = part * self.all as f64;
        self.refused as f64 > REFUSED_AT_LEAST + usual + 2.0 * usual.sqrt()
    }

    /// How much of the phase so far was turned away.
    pub(super) fn turned_away(&self, now: Instant) -> TurnedAway {
        let opened = self.opened.unwrap_or(now);
        let seconds = now.saturating_duration_since(opened).as_secs_f64().max(0.01);
        TurnedAway {
            part: self.refused as f64 / self.all.max(1) as f64,
            good_rate: (self.all - self.refused) as f64 / seconds,
        }
    }
}

/// The mean of the faster half, in seconds.
pub(super) fn faster_half(latencies: &mut [u32]) -> f64 {
    let half = latencies.len().div_ceil(2);
    if half == 0 {
        return 0.0;
    }
    latencies.select_nth_unstable(half - 1);
    let sum: f64 = latencies[..half].iter().map(|latency| f64::from(*latency)).sum();
    sum / half as f64 * 1e-6
}

const LATENCIES_MAX: usize = 1024;
const REFUSED_AT_LEAST: f64 = 1.5;
