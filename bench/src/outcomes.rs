//! Checks which pushes had an outcome at the backend: exactly one each, or which rule was broken.
//!
//! Bounded: one bit per push number up to [`NUMBERS_MAX`], in pages that appear when used. Threads share it; the sums
//! do not depend on the order of arrival.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What has been seen so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Push numbers with at least one outcome.
    pub distinct: u64,
    /// Outcomes beyond the first of their push.
    pub duplicates: u64,
    /// Outcomes whose id is not a push number of ours.
    pub unknown: u64,
    /// Sum of [`digest`] over the distinct numbers, wrapping: equal sums and counts mean equal sets.
    pub sum: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Outcomes {
    pages: Vec<OnceLock<Box<[AtomicU64]>>>,
    distinct: AtomicU64,
    duplicates: AtomicU64,
    unknown: AtomicU64,
    sum: AtomicU64,
}

impl Default for Outcomes {
    fn default() -> Self {
        let pages = (0..NUMBERS_MAX / NUMBERS_PER_PAGE).map(|_| OnceLock::new()).collect();
        Self {
            pages,
            distinct: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl Outcomes {
    /// Takes the outcome of push `number` (`None`: its id could not be read).
    pub fn handle_outcome(&self, number: Option<u64>) {
        let Some(number) = number.filter(|number| *number < NUMBERS_MAX) else {
            self.unknown.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let page = self.pages[(number / NUMBERS_PER_PAGE) as usize]
            .get_or_init(|| (0..NUMBERS_PER_PAGE / 64).map(|_| AtomicU64::new(0)).collect());
        let bit = 1 << (number % 64);
        let word = &page[(number % NUMBERS_PER_PAGE / 64) as usize];
        if word.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
        } else {
            self.distinct.fetch_add(1, Ordering::Relaxed);
            self.sum.fetch_add(digest(number), Ordering::Relaxed);
        }
    }

    /// What has been seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Seen {
            distinct: read(&self.distinct),
            duplicates: read(&self.duplicates),
            unknown: read(&self.unknown),
            sum: read(&self.sum),
        }
    }

    /// Forgets everything; between runs only.
    pub fn reset(&self) {
        for word in self.pages.iter().filter_map(OnceLock::get).flat_map(|page| page.iter()) {
            word.store(0, Ordering::Relaxed);
        }
        for cell in [&self.distinct, &self.duplicates, &self.unknown, &self.sum] {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

/// A push number, well mixed (splitmix64's finaliser), so that different sets have different sums.
#[must_use]
pub fn digest(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Push numbers from here on are not remembered but counted as unknown.
pub const NUMBERS_MAX: u64 = 1 << 27;
const NUMBERS_PER_PAGE: u64 = 1 << 16;
const _: () = assert!(NUMBERS_MAX.is_multiple_of(NUMBERS_PER_PAGE));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_does_not_depend_on_the_order() {
        let (forth, back) = (Outcomes::default(), Outcomes::default());
        for number in 0..1000 {
            forth.handle_outcome(Some(number));
            back.handle_outcome(Some(999 - number));
        }
        assert_eq!(forth.seen(), back.seen());
        assert_eq!(forth.seen().distinct, 1000);
    }

    #[test]
    fn a_second_outcome_is_a_duplicate_and_changes_no_sum() {
        let outcomes = Outcomes::default();
        outcomes.handle_outcome(Some(NUMBERS_MAX - 1));
        let once = outcomes.seen();
        outcomes.handle_outcome(Some(NUMBERS_MAX - 1));
        assert_eq!(outcomes.seen(), Seen { duplicates: 1, ..once });
    }

    #[test]
    fn an_id_beyond_the_bound_is_unknown() {
        let outcomes = Outcomes::default();
        outcomes.handle_outcome(Some(NUMBERS_MAX));
        outcomes.handle_outcome(None);
        assert_eq!(
            outcomes.seen(),
            Seen {
                unknown: 2,
                ..Seen::default()
            }
        );
        outcomes.reset();
        assert_eq!(outcomes.seen(), Seen::default());
    }
}
