//! Bounds how many clients may come per second.

use std::cell::Cell;
use std::time::Instant;

/// At most so many upgrades per second, in bursts of up to as many.
#[derive(Debug)]
pub struct UpgradeRate {
    per_second: Cell<f64>,
    tokens: Cell<f64>,
    filled: Cell<Instant>,
}

impl UpgradeRate {
    /// `per_second` tokens, all there at the start.
    pub fn new(per_second: usize, now: Instant) -> Self {
        let per_second = per_second as f64;
        Self {
            per_second: Cell::new(per_second),
            tokens: Cell::new(per_second),
            filled: Cell::new(now),
        }
    }

    /// From `now` on it is another rate.
    pub fn set(&self, per_second: usize, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled.replace(now));
        let tokens = self.tokens.get() + elapsed.as_secs_f64() * self.per_second.get();
        self.per_second.set(per_second as f64);
        self.tokens.set(tokens.min(per_second as f64));
    }

    /// Takes one upgrade's token; false when there is none.
    pub fn try_take(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled.replace(now));
        let per_second = self.per_second.get();
        let tokens = (self.tokens.get() + elapsed.as_secs_f64() * per_second).min(per_second.max(1.0));
        let admitted = tokens >= 1.0;
        self.tokens.set(if admitted { tokens - 1.0 } else { tokens });
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_admits_a_burst_and_then_as_many_as_time_brings() {
        let start = Instant::now();
        let rate = UpgradeRate::new(10, start);
        assert_eq!((0..20).filter(|_| rate.try_take(start)).count(), 10);
        let later = start + Duration::from_millis(350);
        assert_eq!((0..20).filter(|_| rate.try_take(later)).count(), 3);
        assert_eq!(
            (0..20)
                .filter(|_| rate.try_take(later + Duration::from_secs(60)))
                .count(),
            10
        );
    }
}
