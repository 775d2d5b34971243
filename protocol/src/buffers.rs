//! Accounts for the bytes that one shard holds for others, and says who must wait and who must go when they are too many.
//!
//! Whoever holds bytes says so each time that changes: [`Buffers::change`] for a client, [`Buffers::add`] and [`Buffers::remove`]
//! for what no single client can be closed for. Backpressure comes first: from three quarters of the bound on nobody may begin to
//! hold much ([`Buffers::may_read`]), so that those who have begun can finish. Near the bound, or if somebody has waited for
//! [`GRACE`] and nothing became free, the largest holders go ([`Buffers::next_to_go`]) until the rest is below.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The bytes that one shard holds for others. `K` names a client.
#[derive(Debug)]
pub struct Buffers<K> {
    max: usize,
    held: usize,
    /// Those who hold [`MUCH`] or more, by whole multiples of it.
    large: BTreeSet<(usize, K)>,
    /// When somebody had to wait first, since it became tight.
    waiting_since: Option<Instant>,
    /// What the next sweep takes, since it became tight.
    sweep_from: usize,
    /// Sweeps took all that they could: none before then.
    swept_until: Option<Instant>,
}

/// Who must go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Go<K> {
    /// This client, who holds the most.
    One(K),
    /// Nobody holds much, but too many hold something: whoever holds at least so many bytes, until [`Buffers::is_tight`] is false.
    From(usize),
}

impl<K: Copy + Ord> Buffers<K> {
    /// Nobody holds anything. `max` is `buffers_max`, in bytes.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self {
            max,
            held: 0,
            large: BTreeSet::new(),
            waiting_since: None,
            sweep_from: MUCH,
            swept_until: None,
        }
    }

    /// Bytes held by all.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// The bound, in bytes.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Another bound from now on, in bytes.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        self.note_relief();
    }

    /// A client that held `before` bytes holds `after`.
    pub fn change(&mut self, client: K, before: usize, after: usize) {
        self.held = self.held.saturating_sub(before).saturating_add(after);
        let (before, after) = (before / MUCH, after / MUCH);
        if before != after {
            if before > 0 {
                self.large.remove(&(before, client));
            }
            if after > 0 {
                self.large.insert((after, client));
            }
        }
        self.note_relief();
    }

    /// `len` bytes more are held for whom nobody can be closed.
    pub fn add(&mut self, len: usize) {
        self.held = self.held.saturating_add(len);
    }

    /// `len` bytes of them are free.
    pub fn remove(&mut self, len: usize) {
        self.held = self.held.saturating_sub(len);
        self.note_relief();
    }

    /// From here on nobody begins to hold much.
    #[must_use]
    pub const fn is_tight(&self) -> bool {
        self.held >= self.tight_from()
    }

    /// How many bytes may be read of somebody who holds `held`. Who holds [`MUCH`] has begun and goes on, unless somebody must go
    /// first; when it is tight nobody else comes to hold as much. With 0 it is remembered that somebody waits.
    pub fn may_read(&mut self, now: Instant, held: usize) -> usize {
        let room = match held {
            _ if self.is_full() => 0,
            _ if !self.is_tight() => return usize::MAX,
            MUCH.. => return usize::MAX,
            _ => MUCH - 1 - held,
        };
        if room == 0 {
            self.waiting_since.get_or_insert(now);
        }
        room
    }

    /// Somebody must go: what is held grows in pieces, and the last sixteenth is for the next one.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.held > self.max / 16 * 15
    }

    /// Who must go now. [`Buffers::change`] says that they have gone; then others may have to.
    pub fn next_to_go(&mut self, now: Instant) -> Option<Go<K>> {
        let waited = self.waiting_since.is_some_and(|since| now >= since + GRACE);
        let must_go = self.is_full() || waited && self.is_tight();
        if !must_go {
            return None;
        }
        if let Some((_, client)) = self.large.last() {
            return Some(Go::One(*client));
        }
        if self.swept_until.is_some_and(|until| now < until) {
            return None;
        }
        // A sweep looks at every client: each takes those who hold half as much as the last one's.
        self.sweep_from /= 2;
        if self.sweep_from == 0 {
            // The rest is held for nobody who could go.
            (self.sweep_from, self.swept_until) = (MUCH, Some(now + GRACE));
            return None;
        }
        Some(Go::From(self.sweep_from))
    }

    /// When [`Buffers::next_to_go`] is to be asked again, though nothing changes: after what it said at `now`, always later.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let waited = self.waiting_since.map(|since| since + GRACE);
        waited
            .into_iter()
            .chain(self.swept_until)
            .filter(|deadline| *deadline > now)
            .min()
    }

    const fn tight_from(&self) -> usize {
        self.max / 4 * 3
    }

    fn note_relief(&mut self) {
        if !self.is_tight() {
            self.waiting_since = None;
            self.sweep_from = MUCH;
            self.swept_until = None;
        }
    }
}

/// A client that holds less than this, in bytes, is never made to wait, and goes last: ordinary messages are far smaller.
pub const MUCH: usize = 8 * 1024;
/// How long those who have begun may hold up those who wait.
pub const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const MAX: usize = 100 * MUCH;

    #[test]
    fn who_holds_little_goes_last_and_only_as_many_as_must() {
        let mut buffers = Buffers::new(MAX);
        let now = Instant::now();
        for client in 0..1_000 {
            buffers.change(client, 0, MUCH / 4);
        }
        buffers.change(1_000, 0, MUCH);
        assert!(buffers.held() > MAX);
        assert_eq!(buffers.next_to_go(now), Some(Go::One(1_000)));
        buffers.change(1_000, MUCH, 0);
        assert_eq!(buffers.next_to_go(now), Some(Go::From(MUCH / 2)));
        assert_eq!(buffers.next_to_go(now), Some(Go::From(MUCH / 4)));
        let gone = (0..1_000).take_while(|client| {
            let goes = buffers.is_tight();
            buffers.change(*client, if goes { MUCH / 4 } else { 0 }, 0);
            goes
        });
        assert_eq!(gone.count(), 1_000 - 4 * 75 + 1);
        assert_eq!(buffers.next_to_go(now), None);
    }

    #[test]
    fn when_it_is_tight_nobody_begins_and_who_has_begun_goes_on() {
        let mut buffers = Buffers::new(MAX);
        let now = Instant::now();
        buffers.change(1, 0, MAX / 4 * 3 - 1);
        assert_eq!(buffers.may_read(now, 0), usize::MAX);
        buffers.add(1);
        let room = [0, 100, MUCH - 1, MUCH].map(|held| buffers.may_read(now, held));
        assert_eq!(room, [MUCH - 1, MUCH - 101, 0, usize::MAX]);
        assert_eq!(buffers.next_deadline(now), Some(now + GRACE));
        buffers.remove(1);
        assert_eq!(buffers.may_read(now, MUCH - 1), usize::MAX);
        assert_eq!(buffers.next_deadline(now), None, "nobody waits any more");
    }

    #[test]
    fn above_the_bound_the_largest_go_until_the_rest_is_below() {
        let mut buffers = Buffers::new(MAX);
        let now = Instant::now();
        let lens = [10 * MUCH, 50 * MUCH, 40 * MUCH, 2 * MUCH];
        for (client, len) in lens.iter().enumerate() {
            buffers.change(client, 0, *len);
        }
        assert_eq!(buffers.next_to_go(now), Some(Go::One(1)));
        buffers.change(1, lens[1], 0);
        assert_eq!((buffers.next_to_go(now), buffers.held()), (None, 52 * MUCH));
    }

    #[test]
    fn if_nothing_becomes_free_within_the_grace_the_largest_goes_for_those_who_wait() {
        let mut buffers = Buffers::new(MAX);
        let now = Instant::now();
        buffers.change(1, 0, 80 * MUCH);
        assert_eq!(buffers.next_to_go(now + 9 * GRACE), None, "nobody waits");
        assert_eq!(buffers.may_read(now, MUCH - 1), 0);
        assert_eq!(buffers.next_deadline(now), Some(now + GRACE));
        assert_eq!(buffers.next_to_go(now + GRACE / 2), None);
        assert_eq!(buffers.next_to_go(now + GRACE), Some(Go::One(1)));
        buffers.change(1, 80 * MUCH, 0);
        assert_eq!(
            (buffers.next_to_go(now + GRACE), buffers.next_deadline(now + GRACE)),
            (None, None)
        );
    }

    #[test]
    fn what_nobody_can_be_closed_for_is_swept_for_once_in_a_grace() {
        let mut buffers = Buffers::<u32>::new(MAX);
        let now = Instant::now();
        buffers.add(MAX);
        for now in [now, now + GRACE] {
            let sweeps = std::iter::from_fn(|| buffers.next_to_go(now)).count();
            assert_eq!(sweeps as u32, MUCH.ilog2());
            assert_eq!(buffers.next_to_go(now), None);
            assert_eq!(buffers.next_deadline(now), Some(now + GRACE));
        }
        buffers.remove(MAX);
        assert_eq!(buffers.next_deadline(now), None);
    }

    /// Clients that do what they are told, and some that only take: what is held stays below the bound plus one step.
    #[test]
    fn the_sum_is_right_and_the_bound_holds_whatever_clients_do() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let mut buffers = Buffers::new(MAX);
            let mut held = [0_usize; 300];
            let mut now = Instant::now();
            for _ in 0..2_000 {
                now += Duration::from_millis(random.below(20) as u64);
                let client = random.below(held.len());
                let before = held[client];
                let after = match random.below(4) {
                    0 => 0,
                    1 => before / 2,
                    _ => before + random.below(STEP).min(buffers.may_read(now, before)),
                };
                held[client] = after;
                buffers.change(client, before, after);
                while let Some(go) = buffers.next_to_go(now) {
                    let least = match go {
                        Go::One(client) => held[client],
                        Go::From(least) => least,
                    };
                    assert!(matches!(go, Go::From(_)) || least / MUCH == held.iter().max().unwrap() / MUCH);
                    for (client, len) in held.iter_mut().enumerate().filter(|(_, len)| **len >= least) {
                        if buffers.is_tight() {
                            buffers.change(client, std::mem::take(len), 0);
                        }
                    }
                }
                assert_eq!(buffers.held(), held.iter().sum::<usize>());
                assert!(buffers.held() <= MAX);
                assert_eq!(buffers.large.len(), held.iter().filter(|len| **len >= MUCH).count());
            }
        }
    }

    /// A sixteenth of the bound.
    const STEP: usize = 6 * MUCH;
}
