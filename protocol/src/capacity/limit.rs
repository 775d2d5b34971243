//! Finds out how many requests to have at one backend at once, from how long its answers take.
//!
//! A backend with N workers answers no more for having more than N requests, it only answers later. So while more wait
//! here than may be sent, one number of requests after the other is tried, each for a *phase*: some answers are let pass
//! until those that were sent under another number are over, the next ones are measured. Of these the faster half is
//! looked at (what slow requests take says nothing of a queue), and their rate. By Little's law, rate × (latency − latency
//! without a queue) is how many requests wait inside the backend; a few are wanted, so that no worker is ever idle.
//!
//! What the latency is without a queue is not known beforehand, and changes. So a smaller number is kept only if answers
//! come faster for it; where they do not, the backend itself is slow, and has the same number as before. From time to
//! time a smaller one is tried for no other reason. In the beginning the number doubles until a queue is seen.
//!
//! Answers that say "too much" (429, 503, `No-Workers`) bring it down at once, unless fewer requests get as many of them.

mod search;
mod start;

use std::time::{Duration, Instant};

use super::phase::{Measured, Phase, Seen, faster_half};

/// How many requests may be at one backend at once, whichever shard they come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Concurrency {
    /// As many as keep it busy.
    Auto,
    /// So many.
    Fixed(usize),
}

/// How much of the limit is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Load {
    /// Nobody waits: the limit does not matter now.
    Slack,
    /// It has come down, and more are still under way.
    Settling,
    /// As many as may be are under way, and more wait.
    Full,
}

/// The number of requests for one backend, which adapts.
#[derive(Debug)]
pub struct Limit {
    max: usize,
    /// In force.
    limit: usize,
    is_fixed: bool,
    floor: Option<Floor>,
    step: Step,
    phase: Phase,
    /// More requests than it has workers were never seen to be there.
    is_new: bool,
    /// Phases in a row that found no queue.
    growths: u32,
    /// How long measuring took in the last one.
    phase_len: Duration,
    /// The backend has answered nothing since then, though more wait; after so long the limit grows for that.
    silent_since: Option<(Instant, Duration)>,
    /// What the limit was before it grew in such a silence.
    before_silence: Option<usize>,
    /// How long a request takes on average, its waiting inside the backend included.
    turnaround: Duration,
    /// Answers a second but those, as a rule.
    good_rate: f64,
    /// So large a part of its answers says "too much", whatever the limit is.
    refused_anyway: f64,
    /// With so many it has said that it is too much, and when.
    ceiling: Option<(usize, Instant)>,
}

/// The latency without a queue, in seconds.
#[derive(Clone, Copy, Debug)]
struct Floor {
    latency: f64,
    /// When that was seen to be so.
    seen: Instant,
    /// Fewer requests were tried, and got no faster answers.
    is_proven: bool,
}

/// What the phase under way is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The beginning: more for every answer.
    Start,
    /// It is as it should be, as far as is known.
    Hold,
    /// It is less than before, to see whether answers come faster for it.
    Less {
        /// With what it is compared.
        from: Measured,
        /// One step before, if this is not the first.
        above: Option<Measured>,
    },
    /// It is less than before because answers said "too much".
    Cut { from: usize },
}

impl Limit {
    /// Never exceeds `max`. One that adapts begins with a place for each of `shards`, and with four at least.
    #[must_use]
    pub fn new(concurrency: Concurrency, shards: usize, max: usize) -> Self {
        let max = max.max(1);
        let (start, is_fixed) = match concurrency {
            Concurrency::Auto => (START_MIN.max(shards), false),
            Concurrency::Fixed(number) => (number, true),
        };
        Self {
            max,
            limit: start.clamp(1, max),
            is_fixed,
            floor: None,
            step: Step::Start,
            phase: Phase::default(),
            is_new: true,
            growths: 0,
            phase_len: Duration::ZERO,
            silent_since: None,
            before_silence: None,
            turnaround: Duration::ZERO,
            good_rate: 0.0,
            refused_anyway: 0.0,
            ceiling: None,
        }
    }

    /// The number in force.
    #[must_use]
    pub fn get(&self) -> usize {
        self.limit
    }

    /// It is not known yet how many are too many.
    #[must_use]
    pub(super) fn is_new(&self) -> bool {
        self.step == Step::Start && !self.is_fixed
    }

    /// How long answers take without a queue, as far as is known.
    #[must_use]
    pub fn floor(&self) -> Option<Duration> {
        self.floor.map(|floor| Duration::from_secs_f64(floor.latency))
    }

    /// Takes note of answers. Only while as many requests as may be are at the backend they say something about the limit.
    pub fn handle_seen(&mut self, now: Instant, seen: &Seen, load: Load, in_use: usize) {
        if self.is_fixed {
            return;
        }
        self.phase.count(now, seen);
        if self.is_too_much() && !matches!(self.step, Step::Cut { .. }) {
            self.cut(now, in_use);
            return;
        }
        if (load == Load::Slack || seen.answered > 0)
            && let Some((since, _)) = self.silent_since.take()
        {
            self.turnaround = self.turnaround.max(now.saturating_duration_since(since));
        }
        match load {
            // The beginning may have gone too far for anybody to wait.
            Load::Slack if self.step == Step::Start && 2 * in_use > self.limit => {}
            Load::Slack => {
                self.give_up(in_use);
                return;
            }
            Load::Settling => return,
            Load::Full if seen.answered == 0 => {
                self.handle_silence(now);
                return;
            }
            Load::Full => {}
        }
        let is_start = self.step == Step::Start;
        if !self.phase.measure(now, seen, is_start) {
            return;
        }
        if is_start {
            self.start(now, (load == Load::Slack).then_some(in_use));
        } else if self.phase.latencies.len() >= (SAMPLES_PER_PLACE * self.limit).clamp(SAMPLES_MIN, SAMPLES_MAX) {
            self.end_phase(now);
        }
    }

    /// All requests are held for long. Those that wait may be what they wait for, and may find a worker: some more are let go.
    fn handle_silence(&mut self, now: Instant) {
        let patience = match self.turnaround {
            Duration::ZERO => SILENCE_NEW,
            known => SILENCE_MIN.max(3 * known),
        };
        let (since, patience) = *self.silent_since.get_or_insert((now, patience));
        let silent = now.saturating_duration_since(since);
        if silent < patience || self.limit == self.max {
            return;
        }
        // The longer it lasts, the more rarely.
        self.silent_since = Some((since, silent + silent / 4));
        let before = match self.step {
            Step::Less { from, .. } => from.limit,
            _ => self.limit,
        };
        self.before_silence.get_or_insert(before);
        let more = self.below_ceiling(before, before + before.div_ceil(4));
        if self.step == Step::Start {
            self.limit = more;
        } else {
            self.begin(more, Step::Hold);
        }
    }

    fn end_phase(&mut self, now: Instant) {
        let began = self.phase.began.expect("it has begun to measure");
        self.phase_len = now.saturating_duration_since(began);
        let seconds = self.phase_len.as_secs_f64().max(1e-6);
        let measured = Measured {
            limit: self.limit,
            latency: faster_half(&mut self.phase.latencies),
            rate: self.phase.answered as f64 / seconds,
        };
        self.turnaround = Duration::from_secs_f64(self.limit as f64 / measured.rate);
        match self.step {
            Step::Start => unreachable!("the beginning has no phases"),
            Step::Hold => self.judge(now, measured),
            Step::Less { from, above } => self.compare(now, from, above, measured),
            Step::Cut { from } => {
                let after = self.phase.turned_away(now);
                if after.part > REFUSED_PART && after.good_rate < 0.85 * self.good_rate {
                    // It is not for their number.
                    self.refused_anyway = (1.5 * after.part).min(1.0);
                    self.ceiling = None;
                    self.begin(from, Step::Hold);
                } else if self.is_too_much() {
                    self.cut(now, self.limit);
                } else {
                    self.begin(self.limit, Step::Hold);
                }
            }
        }
    }

    /// `more` than `now`, as far as that may be.
    fn below_ceiling(&self, now: usize, more: usize) -> usize {
        let max = self.ceiling.map_or(self.max, |(ceiling, _)| (ceiling - 1).max(now));
        more.min(max).min(self.max)
    }

    /// Fewer are never meant to last.
    fn rest_min(&self) -> usize {
        let below = self.ceiling.map_or(REST_MIN, |(ceiling, _)| ceiling - 1);
        below.clamp(1, REST_MIN)
    }

    fn is_too_much(&self) -> bool {
        self.phase.is_refused_beyond(self.refused_anyway + REFUSED_PART)
    }

    fn cut(&mut self, now: Instant, in_use: usize) {
        if self.good_rate == 0.0 {
            self.good_rate = self.phase.turned_away(now).good_rate;
        }
        let from = match self.step {
            Step::Less { from, .. } => from.limit,
            Step::Cut { from } => from,
            _ => self.limit,
        };
        self.ceiling = Some((self.limit, now));
        self.growths = 0;
        let used = self.limit.min(in_use.max(1));
        self.begin((used * 3 / 4).max(1), Step::Cut { from });
    }

    /// It does not matter now what the limit is.
    fn give_up(&mut self, in_use: usize) {
        match self.step {
            Step::Start => self.phase = Phase::default(),
            Step::Less { from, .. } => self.begin(from.limit, Step::Hold),
            Step::Hold | Step::Cut { .. } => {
                let phase = std::mem::take(&mut self.phase);
                self.begin(self.limit, self.step);
                self.phase.keep_counts(&phase);
            }
        }
        self.growths = 0;
        if let Some(before) = self.before_silence
            && in_use < self.limit
        {
            // What was added in a silence goes again.
            self.limit = in_use.max(before).min(self.limit);
            self.before_silence = (self.limit > before).then_some(before);
        }
    }

    fn begin(&mut self, limit: usize, step: Step) {
        // Those that are under way.
        let before = self.limit.min(limit);
        self.limit = limit;
        self.step = step;
        self.phase = Phase::new(before + before / 4);
    }
}

/// Queueing for less than this is nobody's concern.
const ALLOWED_S: f64 = 0.005;
/// While one answer travels, the next request is worked on.
const REST_MIN: usize = 2;
const START_MIN: usize = 4;
const SAMPLES_PER_PLACE: usize = 3;
const SAMPLES_MIN: usize = 12;
const SAMPLES_MAX: usize = 96;
/// After so long without an answer, and three times as long as one takes as a rule, more requests are sent.
const SILENCE_MIN: Duration = Duration::from_millis(20);
/// The same as long as it is not known how long one takes.
const SILENCE_NEW: Duration = Duration::from_millis(50);
const CEILING_FOR: Duration = Duration::from_secs(30);
const REFUSED_PART: f64 = 0.02;
