//! Divides a backend's places among shards that want more than there are.

use crate::balance::{KINDS, WEIGHTS};

/// What one shard wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Demand {
    /// Requests at the backend.
    pub(super) in_use: usize,
    /// Requests that wait, by kind.
    pub(super) waiting: [u32; KINDS],
}

impl Demand {
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.iter().map(|count| *count as usize).sum()
    }

    pub(super) fn total(&self) -> usize {
        self.in_use + self.waiting_count()
    }
}

/// Divides `limit` places among `demands`, in parts of a place; nobody gets more than it wants, unless all do.
///
/// The kinds of requests have their shares first, as in each shard's own queue; within a kind every request that waits counts
/// the same, wherever it waits, so that all wait equally long. A quarter is divided equally among the shards, so that
/// those with few are not held up by those with many.
pub(super) fn divide(limit: usize, demands: &[Demand]) -> Vec<f64> {
    let wanted: usize = demands.iter().map(Demand::total).sum();
    if wanted <= limit {
        let spare = (limit - wanted) as f64 / demands.len() as f64;
        return demands.iter().map(|demand| demand.total() as f64 + spare).collect();
    }
    let weights = weights(demands);
    let mut shares = vec![0.0; demands.len()];
    let mut open: Vec<usize> = (0..demands.len()).filter(|shard| weights[*shard] > 0.0).collect();
    let mut left = limit as f64;
    // Those that want less than their part get what they want; what they leave is divided again.
    loop {
        let sum: f64 = open.iter().map(|shard| weights[*shard]).sum();
        let part = |shard: usize| left * weights[shard] / sum;
        let (content, others): (Vec<usize>, Vec<usize>) = open
            .iter()
            .partition(|shard| demands[**shard].total() as f64 <= part(**shard));
        if content.is_empty() {
            for shard in others {
                shares[shard] = part(shard);
            }
            return shares;
        }
        for shard in content {
            shares[shard] = demands[shard].total() as f64;
            left -= shares[shard];
        }
        open = others;
    }
}

fn weights(demands: &[Demand]) -> Vec<f64> {
    let active = demands.iter().filter(|demand| demand.total() > 0).count();
    let mut waiting = [0_u64; KINDS];
    for demand in demands {
        for (sum, count) in waiting.iter_mut().zip(demand.waiting) {
            *sum += u64::from(count);
        }
    }
    let all: usize = (0..KINDS)
        .filter(|kind| waiting[*kind] > 0)
        .map(|kind| WEIGHTS[kind])
        .sum();
    let weight = |demand: &Demand| {
        if demand.total() == 0 {
            return 0.0;
        }
        let kinds = (0..KINDS).filter(|kind| waiting[*kind] > 0);
        let part = |kind: usize| WEIGHTS[kind] as f64 * f64::from(demand.waiting[kind]) / waiting[kind] as f64;
        let by_waiting: f64 = kinds.map(part).sum::<f64>() / all.max(1) as f64;
        EQUALLY / active as f64 + (1.0 - EQUALLY) * by_waiting
    };
    demands.iter().map(weight).collect()
}

/// This part of the places is divided by shards and not by requests.
const EQUALLY: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(in_use: usize, waiting: u32) -> Demand {
        Demand {
            in_use,
            waiting: [waiting, 0, 0, 0, 0],
        }
    }

    fn divided(limit: usize, demands: &[Demand]) -> Vec<f64> {
        let shares = divide(limit, demands);
        let sum: f64 = shares.iter().sum();
        assert!((sum - limit as f64).abs() < 1e-6, "{shares:?} are not {limit}");
        shares
            .into_iter()
            .map(|share| (share * 100.0).round() / 100.0)
            .collect()
    }

    #[test]
    fn what_is_spare_is_divided_equally() {
        assert_eq!(divided(8, &[calls(0, 0), calls(0, 0)]), [4.0, 4.0]);
        assert_eq!(divided(8, &[calls(2, 1), calls(1, 0)]), [5.0, 3.0]);
        assert_eq!(divided(3, &[calls(0, 0); 4]), [0.75; 4]);
    }

    #[test]
    fn those_that_want_more_than_there_is_share_it_by_what_waits() {
        assert_eq!(divided(8, &[calls(0, 20), calls(0, 20)]), [4.0, 4.0]);
        assert_eq!(divided(8, &[calls(0, 90), calls(0, 30)]), [5.5, 2.5]);
        assert_eq!(divided(1, &[calls(1, 9); 8]), [0.13; 8]);
    }

    #[test]
    fn nobody_gets_more_than_it_wants() {
        assert_eq!(divided(8, &[calls(1, 0), calls(0, 0), calls(0, 90)]), [1.0, 0.0, 7.0]);
        assert_eq!(divided(8, &[calls(8, 0), calls(0, 90)]), [1.0, 7.0]);
    }

    #[test]
    fn a_flood_of_one_kind_takes_the_places_of_no_other() {
        let flood = Demand {
            in_use: 0,
            waiting: [0, 0, 0, 10_000, 0],
        };
        let shares = divided(16, &[flood, calls(0, 50)]);
        assert!(shares[1] > 12.0, "{shares:?}");
    }
}
