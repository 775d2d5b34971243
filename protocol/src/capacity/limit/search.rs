//! Looks for the limit that leaves a small queue, by what one phase has shown and the one before.

use std::time::{Duration, Instant};

use super::{ALLOWED_S, CEILING_FOR, Floor, Limit, Measured, REST_MIN, Step};

impl Limit {
    /// More, or less, or the same again.
    pub(super) fn judge(&mut self, now: Instant, measured: Measured) {
        let before_silence = self.before_silence.take();
        let turned_away = self.phase.turned_away(now);
        self.refused_anyway = self.refused_anyway.min(2.0 * turned_away.part);
        self.good_rate = turned_away.good_rate;
        self.ceiling
            .take_if(|(_, when)| now.saturating_duration_since(*when) > CEILING_FOR);
        let rest_min = self.rest_min();
        let floor = self.floor.get_or_insert(Floor {
            latency: measured.latency,
            seen: now,
            is_proven: false,
        });
        if measured.latency <= floor.latency {
            floor.latency = measured.latency;
        }
        if measured.limit <= rest_min {
            // Fewer are not tried.
            floor.seen = now;
        }
        let queue = measured.rate * (measured.latency - floor.latency);
        let wanted = wanted_queue(measured.limit, measured.rate);
        let is_stale = now.saturating_duration_since(floor.seen) > PROVEN_FOR.max(PROVEN_PHASES * self.phase_len);
        if queue <= wanted / 2.0 && !is_stale {
            if self.growths > 0 {
                // More requests got answers as fast.
                floor.is_proven = true;
                floor.seen = now;
            }
            self.grow();
        } else if is_stale || !floor.is_proven {
            self.try_less(measured, (measured.limit * 3 / 4).max(rest_min));
        } else if queue > 1.5 * wanted + 0.5 {
            let excess = (queue - wanted).round() as usize;
            let least = before_silence.unwrap_or(usize::MAX).min(measured.limit * 3 / 4);
            let less = measured.limit.saturating_sub(excess).max(least).max(rest_min);
            self.try_less(measured, less);
        } else {
            self.growths = 0;
            self.begin(self.limit, Step::Hold);
        }
    }

    /// Is so much less enough?
    fn try_less(&mut self, from: Measured, limit: usize) {
        self.growths = 0;
        if limit < from.limit {
            self.begin(limit, Step::Less { from, above: None });
        } else {
            self.begin(from.limit, Step::Hold);
        }
    }

    fn grow(&mut self) {
        self.growths += 1;
        let add = match self.growths {
            1 => self.limit / 4,
            2 => self.limit / 2,
            _ => self.limit,
        };
        let more = self.below_ceiling(self.limit, self.limit + add.max(1));
        self.begin(more, Step::Hold);
    }

    /// There were fewer requests: what that has shown.
    pub(super) fn compare(&mut self, now: Instant, from: Measured, above: Option<Measured>, measured: Measured) {
        let expected = (from.limit - measured.limit) as f64 / from.rate;
        let part = (from.latency - measured.latency) / expected;
        let floor = self.floor.as_mut().expect("there was a phase before");
        let left = from.rate * (measured.latency - floor.latency);
        if floor.is_proven && left <= left_allowed(measured) && measured.latency > floor.latency / 2.0 {
            // It is still what it was.
            floor.seen = now;
            floor.latency = floor.latency.min((floor.latency + measured.latency) / 2.0);
            let latency = floor.latency;
            self.rest(from, above, measured.limit, latency);
            return;
        }
        if part >= ALL_WAITED && measured.limit > REST_MIN {
            // Is there more that waits? What is far too few would keep workers idle.
            if measured.latency < floor.latency || !floor.is_proven {
                floor.latency = measured.latency;
                floor.is_proven = false;
            }
            let less = (measured.limit * 3 / 4).max(REST_MIN);
            let above = Some(from);
            self.begin(less, Step::Less { from: measured, above });
            return;
        }
        *floor = Floor {
            latency: measured.latency,
            seen: now,
            is_proven: true,
        };
        self.rest(from, above, measured.limit, measured.latency);
    }

    /// As many as leave the wanted queue, by what was seen with `from`, or with `above` if there was none. With `least` there
    /// was none at all.
    fn rest(&mut self, from: Measured, above: Option<Measured>, least: usize, floor: f64) {
        let queue = |of: Measured| (of.rate * (of.latency - floor)).max(0.0);
        let wanted = |of: Measured| wanted_queue(of.limit, of.rate);
        let of = above.filter(|_| queue(from) < wanted(from) / 2.0).unwrap_or(from);
        let limit = if queue(of) > 1.5 * wanted(of) + 0.5 {
            (of.limit as f64 - queue(of) + wanted(of)).round() as usize
        } else {
            of.limit
        };
        let limit = limit.clamp(least.min(of.limit), of.limit).max(self.rest_min());
        // The beginning took chance for a queue; that happens once.
        let is_mistaken = std::mem::take(&mut self.is_new) && queue(of) <= wanted(of) / 2.0;
        let step = if is_mistaken { Step::Start } else { Step::Hold };
        self.begin(limit.min(self.max), step);
    }
}

fn left_allowed(measured: Measured) -> f64 {
    (0.1 * measured.limit as f64).max(1.0)
}

/// How many requests are to wait inside the backend.
fn wanted_queue(limit: usize, rate: f64) -> f64 {
    (WANTED_PART * limit as f64).max(WANTED_MIN).max(rate * ALLOWED_S)
}

const WANTED_PART: f64 = 0.25;
const WANTED_MIN: f64 = 2.0;
/// If so large a part of the requests that were taken away had waited, so may others; if less had, no request waits any more.
const ALL_WAITED: f64 = 0.85;
/// So long what is known of the latency without a queue is relied on.
const PROVEN_FOR: Duration = Duration::from_secs(10);
/// And no shorter than so many phases take.
const PROVEN_PHASES: u32 = 8;
