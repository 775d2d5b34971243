//! Passes what a signal handler has found to an ordinary thread, without a lock and without an allocation: a fixed number of slots, each with
//! one owner at a time.
//!
//! A handler may interrupt another one on another thread, and the reader too; it may never wait. Who finds its slot taken gives up.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Box<[Slot<T>]>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Slot<T> {
    state: AtomicU8,
    content: UnsafeCell<T>,
}

// SAFETY: the content is touched only by whoever has moved `state` to WRITING (a handler) or to READING (the reader), and each gives it on
// with a release that the next one acquires.
unsafe impl<T: Send> Sync for Slot<T> {}

impl<T> Slots<T> {
    /// So many free ones.
    pub(super) fn new(count: usize, empty: impl Fn() -> T) -> Self {
        let slot = |_| Slot {
            state: AtomicU8::new(FREE),
            content: UnsafeCell::new(empty()),
        };
        Self {
            slots: (0..count).map(slot).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Has `write` fill the next slot; false when that is not free.
    pub(super) fn fill(&self, write: impl FnOnce(&mut T)) -> bool {
        let slot = &self.slots[self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        if !slot.move_on(FREE, WRITING) {
            return false;
        }
        // SAFETY: the slot is ours until it is FULL.
        write(unsafe { &mut *slot.content.get() });
        slot.state.store(FULL, Ordering::Release);
        true
    }

    /// Gives the content of each full slot to `take`, and frees it.
    pub(super) fn drain(&self, mut take: impl FnMut(&T)) {
        for slot in self.slots.iter().filter(|slot| slot.move_on(FULL, READING)) {
            // SAFETY: the slot is ours until it is FREE; the handler that filled it has published it.
            take(unsafe { &*slot.content.get() });
            slot.state.store(FREE, Ordering::Release);
        }
    }
}

impl<T> Slot<T> {
    fn move_on(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

const FREE: u8 = 0;
const WRITING: u8 = 1;
const FULL: u8 = 2;
const READING: u8 = 3;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Under Miri this is also a search for races: `scripts/miri`.
    #[test]
    fn what_is_filled_is_read_whole_and_once_whoever_fills_and_reads_meanwhile() {
        const WRITERS: u64 = 3;
        const EACH: u64 = if cfg!(miri) { 40 } else { 100_000 };
        let slots = Slots::new(4, || [0_u64; 8]);
        let end = AtomicBool::new(false);
        let read = |count: &mut u64| {
            slots.drain(|content| {
                assert!(content.iter().all(|word| *word == content[0]), "{content:?}");
                *count += 1;
            });
        };
        std::thread::scope(|scope| {
            let fill = |writer| {
                let slots = &slots;
                move || {
                    (0..EACH)
                        .filter(|number| slots.fill(|content| content.fill(writer * EACH + number)))
                        .count() as u64
                }
            };
            let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(fill(writer))).collect();
            let reader = scope.spawn(|| {
                let mut count = 0;
                while !end.load(Ordering::Relaxed) {
                    read(&mut count);
                    std::thread::yield_now();
                }
                count
            });
            let filled: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
            end.store(true, Ordering::Relaxed);
            let mut count = reader.join().unwrap();
            read(&mut count);
            assert_eq!(count, filled);
            assert!(filled >= 4);
        });
    }
}
