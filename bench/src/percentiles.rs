//! Reads off a histogram what reports say of it.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "percentiles are their names")]
pub struct Percentiles {
    pub count: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
}

impl Percentiles {
    /// Reads the percentiles off a histogram.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::histogram;

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut samples = histogram();
        for micros in 1..=1_000 {
            samples.saturating_record(micros);
        }
        let percentiles = Percentiles::of(&samples);
        assert_eq!(
            (percentiles.count, percentiles.p50, percentiles.p99, percentiles.max),
            (1_000, 500, 990, 1_000)
        );
        assert_eq!(Percentiles::of(&histogram()), Percentiles::default());
    }
}
