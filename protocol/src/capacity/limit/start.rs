//! Finds the limit's order of magnitude: it doubles until a queue is seen.

use std::time::Instant;

use super::{ALLOWED_S, Floor, Limit, Phase, Step, faster_half};

impl Limit {
    /// Twice as many after as many answers, as long as they do not take twice as long. `used`: so many are enough as it is.
    pub(super) fn start(&mut self, now: Instant, used: Option<usize>) {
        if self.phase.latencies.len() < START_SAMPLES {
            return;
        }
        self.turnaround = self.turnaround.max(self.phase.mean());
        let latency = faster_half(&mut self.phase.latencies);
        let more = self.phase.answered.min(self.limit);
        self.phase = Phase::default();
        let floor = self.floor.get_or_insert(Floor {
            latency,
            seen: now,
            is_proven: false,
        });
        if latency > 2.0 * floor.latency + ALLOWED_S {
            self.growths += 1;
            if self.growths > 1 {
                self.growths = 0;
                // With fewer than there are, some wait here, and it can be seen how many are too many.
                let limit = used.map_or(self.limit, |used| used * 3 / 4);
                self.begin(limit.max(self.rest_min()).min(self.max), Step::Hold);
            }
            return;
        }
        self.growths = 0;
        floor.latency = floor.latency.min((floor.latency + latency) / 2.0);
        if used.is_none() {
            self.limit = (self.limit + more).min(self.max);
        }
        if self.limit == self.max {
            self.begin(self.limit, Step::Hold);
        }
    }
}

const START_SAMPLES: usize = 8;
