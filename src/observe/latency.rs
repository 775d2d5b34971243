//! Records how long things take: in an exact histogram per shard and kind, of which a scrape copies a part.
//!
//! [`Latency::record`] costs some nanoseconds and allocates nothing; the range is fixed. Values below 10 µs count as
//! 10 µs, those above two minutes as two minutes: nothing that we wait for may last longer than its deadline.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;

/// One kind of latency on one shard.
pub struct Latency {
    micros: RefCell<Histogram<u64>>,
    sum: Cell<Duration>,
}

/// A copy, folded into the buckets of [`BOUNDS_US`].
#[derive(Clone, Debug, Default)]
pub struct LatencyCopy {
    /// How many fell into each bucket, the last being those above the last bound.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// The sum of all measured times.
    pub sum: Duration,
    /// The exact quantiles of [`QUANTILES`] since the start, and the maximum.
    pub quantiles: [Duration; QUANTILES.len()],
}

/// Upper bounds of the buckets that Prometheus gets, in µs.
pub const BOUNDS_US: [u64; 20] = [
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    60_000_000,
    120_000_000,
];

/// What the status page shows beside the buckets; 1 is the maximum.
pub const QUANTILES: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

impl Default for Latency {
    fn default() -> Self {
        let bounds = Histogram::new_with_bounds(LOWEST_US, BOUNDS_US[BOUNDS_US.len() - 1], SIGNIFICANT_DIGITS);
        Self {
            micros: RefCell::new(bounds.expect("constant bounds")),
            sum: Cell::new(Duration::ZERO),
        }
    }
}

impl Latency {
    /// Records one measured time.
    pub fn record(&self, elapsed: Duration) {
        let (seconds, below) = (elapsed.as_secs(), u64::from(elapsed.subsec_micros()));
        let micros = seconds.saturating_mul(1_000_000).saturating_add(below);
        self.micros.borrow_mut().saturating_record(micros);
        self.sum.set(self.sum.get() + elapsed);
    }

    /// A copy for somebody else. One pass over the counts.
    pub fn copy(&self) -> LatencyCopy {
        let micros = self.micros.borrow();
        let mut copy = LatencyCopy {
            sum: self.sum.get(),
            ..LatencyCopy::default()
        };
        if micros.is_empty() {
            return copy;
        }
        let mut bucket = 0;
        let mut seen = 0;
        let mut quantile = 0;
        for step in micros.iter_recorded() {
            let value = step.value_iterated_to();
            // A step's value is the highest of those that it stands for: a bound belongs to the bucket below.
            let lowest = micros.lowest_equivalent(value);
            while bucket < BOUNDS_US.len() && lowest > BOUNDS_US[bucket] {
                bucket += 1;
            }
            copy.buckets[bucket] += step.count_since_last_iteration();
            seen += step.count_since_last_iteration();
            while quantile < QUANTILES.len() && seen as f64 >= QUANTILES[quantile] * micros.len() as f64 {
                copy.quantiles[quantile] = Duration::from_micros(value);
                quantile += 1;
            }
        }
        copy
    }
}

impl std::fmt::Debug for Latency {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Latency({})", self.micros.borrow().len())
    }
}

impl LatencyCopy {
    /// What came since `earlier`; of its quantiles only [`quantile`](Self::quantile) tells then.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (bucket, before) in since.buckets.iter_mut().zip(&earlier.buckets) {
            *bucket = bucket.saturating_sub(*before);
        }
        since.sum = self.sum.saturating_sub(earlier.sum);
        since
    }

    /// Adds what another shard measured.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.sum += other.sum;
    }

    /// A quantile as well as the buckets tell it, between their bounds in proportion. `None`: there is nothing.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let rank = (quantile * self.count() as f64).ceil().max(1.0);
        let mut seen = 0.0;
        for (index, count) in self.buckets.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && seen + count >= rank {
                let low = index.checked_sub(1).map_or(0, |index| BOUNDS_US[index]) as f64;
                let high = BOUNDS_US.get(index).map_or(low, |bound| *bound as f64);
                let micros = low + (high - low) * (rank - seen) / count;
                return Some(Duration::from_nanos((micros * 1000.0) as u64));
            }
            seen += count;
        }
        None
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

const LOWEST_US: u64 = 10;
const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_value_at_a_bound_belongs_to_it_and_one_above_to_the_next() {
        let latency = Latency::default();
        latency.record(Duration::from_micros(1000));
        latency.record(Duration::from_micros(1008));
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(3600));
        let copy = latency.copy();
        assert_eq!(copy.buckets[0], 1, "below the range: the lowest bucket");
        assert_eq!(copy.buckets[4], 1, "exactly 1 ms");
        assert_eq!(copy.buckets[5], 1, "above 1 ms by one step of the resolution");
        assert_eq!(copy.buckets[19], 1, "beyond the range: the last bound");
        assert_eq!((copy.count(), copy.buckets[20]), (4, 0));
        assert!(copy.sum > Duration::from_secs(3600));
    }

    #[test]
    fn quantiles_are_exact_to_three_digits() {
        let latency = Latency::default();
        for micros in 1..=100_000 {
            latency.record(Duration::from_micros(micros));
        }
        for (quantile, micros) in LatencyCopy::clone(&latency.copy())
            .quantiles
            .iter()
            .zip([50_000_f64, 99_000.0, 99_900.0, 100_000.0])
        {
            let error = (quantile.as_micros() as f64 / micros - 1.0).abs();
            assert!(error < 0.001, "{quantile:?} {micros}");
        }
    }

    #[test]
    fn a_quantile_of_what_came_since_lies_in_its_bucket() {
        let latency = Latency::default();
        latency.record(Duration::from_secs(5));
        let before = latency.copy();
        assert_eq!(before.since(&before).quantile(0.99), None);
        for _ in 0..100 {
            latency.record(Duration::from_millis(3));
        }
        let since = latency.copy().since(&before);
        assert_eq!(since.count(), 100);
        let median = since.quantile(0.5).unwrap();
        assert!(
            median > Duration::from_micros(2500) && median < Duration::from_millis(5),
            "{median:?}"
        );
        assert_eq!(since.quantile(1.0), Some(Duration::from_millis(5)), "the bucket's end");
    }

    /// Run by hand, in release: `cargo test --release --lib latency_costs -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures"]
    fn latency_costs() {
        let latency = Latency::default();
        let mut state = 1_u64;
        let start = Instant::now();
        for _ in 0..10_000_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            latency.record(Duration::from_micros(state % (1 << (state % 27))));
        }
        println!("record: {:.1} ns", start.elapsed().as_nanos() as f64 / 1e7);
        let start = Instant::now();
        let copy = (0..1000).map(|_| latency.copy()).last();
        println!(
            "copy: {:?} {:?}",
            start.elapsed() / 1000,
            copy.map(|copy| copy.quantiles)
        );
    }
}
