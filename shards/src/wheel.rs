//! Keeps many deadlines in a hierarchical timing wheel: O(1) to set and to cancel, no allocation per timer once warm.
//!
//! Pure: time enters as a count of ticks. [`Wheel::insert`] gives a [`Key`]; [`Wheel::advance`] yields what has
//! come due; [`Wheel::next_tick`] says how long nothing will. Deadlines beyond the horizon (about 194 days at
//! 4 ms a tick) wait at the horizon and are looked at again there.
//!
//! Invariants: a key is live from `insert` until `remove` or until it is yielded; nothing is yielded early; what
//! is due at tick `t` is yielded by the first `advance(now)` with `now >= t`.

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;
const HORIZON: u64 = 1 << (SLOT_BITS * LEVELS as u32);
const NIL: u32 = u32::MAX;

/// A timer in the wheel. Valid until it is removed or yielded; the generation catches a stale one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key {
    index: u32,
    generation: u32,
}

/// Deadlines with a value of `T` each.
#[derive(Debug)]
pub struct Wheel<T> {
    now: u64,
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
    levels: [Level; LEVELS],
}

#[derive(Debug)]
struct Level {
    occupied: u64,
    heads: [u32; SLOTS],
}

#[derive(Debug)]
struct Entry<T> {
    tick: u64,
    next: u32,
    previous: u32,
    generation: u32,
    level: u8,
    slot: u8,
    value: Option<T>,
}

impl<T> Wheel<T> {
    /// An empty wheel that stands at tick `now`.
    #[must_use]
    pub fn new(now: u64) -> Self {
        let levels = std::array::from_fn(|_| Level {
            occupied: 0,
            heads: [NIL; SLOTS],
        });
        Self {
            now,
            entries: Vec::new(),
            free: NIL,
            len: 0,
            levels,
        }
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tick up to which everything was yielded.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Sets a timer for `tick`; one in the past comes due at the next [`advance`](Self::advance).
    pub fn insert(&mut self, tick: u64, value: T) -> Key {
        let index = self.allocate(tick, value);
        self.link(index);
        self.len += 1;
        Key {
            index,
            generation: self.entries[index as usize].generation,
        }
    }

    /// Cancels a timer; `None` when it has come due or was cancelled before.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(key.index);
        Some(self.release(key.index))
    }

    /// The value of a timer that is still set.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation == key.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// The earliest tick at which [`advance`](Self::advance) has something to do: never later than the earliest
    /// deadline, at times earlier (when a coarse slot is to be spread over finer ones).
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        (0..LEVELS).filter_map(|level| self.next_tick_of(level)).min()
    }

    /// Moves to tick `now` and hands everything that has come due to `due`.
    pub fn advance(&mut self, now: u64, mut due: impl FnMut(T)) {
        let is_due = self.levels[0].occupied & 1 << slot_at(self.now, 0) != 0;
        if now <= self.now && !is_due {
            // All up to now was yielded, and since then nothing was set that is due at once.
            return;
        }
        while let Some(tick) = self.next_tick() {
            if tick > now {
                break;
            }
            // Time stands at the slot while it is emptied, so what is spread lands in finer slots.
            self.now = self.now.max(tick);
            self.empty_due_slots(&mut due);
        }
        self.now = self.now.max(now);
    }

    fn empty_due_slots(&mut self, due: &mut impl FnMut(T)) {
        for level in (0..LEVELS).rev() {
            let slot = slot_at(self.now, level);
            let mut index = std::mem::replace(&mut self.levels[level].heads[slot], NIL);
            self.levels[level].occupied &= !(1 << slot);
            while index != NIL {
                let next = self.entries[index as usize].next;
                if self.entries[index as usize].tick <= self.now {
                    due(self.release(index));
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
    }

    fn next_tick_of(&self, level: usize) -> Option<u64> {
        let occupied = self.levels[level].occupied;
        if occupied == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let current = slot_at(self.now, level) as u32;
        let ahead = u64::from(occupied.rotate_right(current).trailing_zeros());
        let base = (self.now >> shift) + ahead;
        Some((base << shift).max(self.now))
    }

    fn allocate(&mut self, tick: u64, value: T) -> u32 {
        if self.free == NIL {
            let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 timers");
            assert!(index != NIL, "fewer than 2^32 - 1 timers");
            self.entries.push(Entry {
                tick,
                next: NIL,
                previous: NIL,
                generation: 0,
                level: 0,
                slot: 0,
                value: Some(value),
            });
            return index;
        }
        let index = self.free;
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        entry.tick = tick;
        entry.value = Some(value);
        index
    }

    fn release(&mut self, index: u32) -> T {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
        entry.value.take().expect("a linked timer has a value")
    }

    fn link(&mut self, index: u32) {
        // At the horizon itself the slot would be the current one: stop one coarse slot short of it.
        let reach = self.now + HORIZON - (HORIZON >> SLOT_BITS);
        let tick = self.entries[index as usize].tick.clamp(self.now, reach);
        let level = level_for(self.now, tick);
        let slot = slot_at(tick, level);
        let head = self.levels[level].heads[slot];
        let entry = &mut self.entries[index as usize];
        entry.level = level as u8;
        entry.slot = slot as u8;
        entry.previous = NIL;
        entry.next = head;
        if head != NIL {
            self.entries[head as usize].previous = index;
        }
        self.levels[level].heads[slot] = index;
        self.levels[level].occupied |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            next,
            previous,
            level,
            slot,
            ..
        } = self.entries[index as usize];
        if next != NIL {
            self.entries[next as usize].previous = previous;
        }
        if previous != NIL {
            self.entries[previous as usize].next = next;
            return;
        }
        let level = &mut self.levels[level as usize];
        level.heads[slot as usize] = next;
        if next == NIL {
            level.occupied &= !(1 << slot);
        }
    }
}

/// The finest level whose current turn still contains `tick`.
fn level_for(now: u64, tick: u64) -> usize {
    let differing = (now ^ tick) | (SLOTS as u64 - 1);
    let level = (63 - differing.leading_zeros()) / SLOT_BITS;
    (level as usize).min(LEVELS - 1)
}

fn slot_at(tick: u64, level: usize) -> usize {
    ((tick >> (SLOT_BITS * level as u32)) & (SLOTS as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn due_at(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut due = Vec::new();
        wheel.advance(now, |value| due.push(value));
        due.sort_unstable();
        due
    }

    #[test]
    fn nothing_is_yielded_early_nor_late() {
        for tick in [0, 1, 63, 64, 65, 4_095, 4_096, 4_097, 262_143, 262_144, 1 << 30] {
            let mut wheel = Wheel::new(0);
            wheel.insert(tick, tick);
            if tick > 0 {
                assert_eq!(due_at(&mut wheel, tick - 1), [] as [u64; 0], "tick {tick}");
                assert!(wheel.next_tick().unwrap() <= tick);
            }
            assert_eq!(due_at(&mut wheel, tick), [tick]);
            assert!(wheel.is_empty());
            assert_eq!(wheel.next_tick(), None);
        }
    }

    #[test]
    fn a_deadline_beyond_the_horizon_waits_its_time() {
        let far = HORIZON * 3 + 5;
        let mut wheel = Wheel::new(7);
        wheel.insert(far, far);
        assert_eq!(due_at(&mut wheel, far - 1), [] as [u64; 0]);
        assert_eq!(due_at(&mut wheel, far), [far]);
    }

    #[test]
    fn a_removed_timer_never_comes_due_and_its_key_stays_dead() {
        let mut wheel = Wheel::new(0);
        let key = wheel.insert(10, 1);
        assert_eq!(wheel.remove(key), Some(1));
        assert_eq!(wheel.remove(key), None);
        let again = wheel.insert(10, 2);
        assert_eq!(wheel.remove(key), None, "the slot is reused, the key is not");
        assert_eq!(due_at(&mut wheel, 10), [2]);
        assert_eq!(wheel.remove(again), None);
    }

    #[test]
    fn agrees_with_a_sorted_map_over_random_operations() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut wheel = Wheel::new(1_000);
        let mut model: BTreeMap<u64, (u64, Key)> = BTreeMap::new();
        let mut now = 1_000;
        for id in 0..200_000_u64 {
            match random(4) {
                0 | 1 => {
                    let spans = [4, 70, 5_000, 300_000, 20_000_000];
                    let span = spans[random(5) as usize];
                    let tick = (now + random(span)).saturating_sub(random(3));
                    model.insert(id, (tick, wheel.insert(tick, id)));
                }
                2 => {
                    let Some((&victim, &(_, key))) = model.iter().nth(random(8) as usize) else {
                        continue;
                    };
                    assert_eq!(wheel.remove(key), Some(victim));
                    model.remove(&victim);
                }
                _ => {
                    let steps = [1, 3, 64, 4_096, 100_000];
                    let step = steps[random(5) as usize];
                    now += random(step + 1);
                    let expected: Vec<u64> = model
                        .iter()
                        .filter(|(_, (tick, _))| *tick <= now)
                        .map(|(id, _)| *id)
                        .collect();
                    assert_eq!(due_at(&mut wheel, now), expected, "at {now}");
                    model.retain(|_, (tick, _)| *tick > now);
                }
            }
            assert_eq!(wheel.len(), model.len());
        }
    }
}
