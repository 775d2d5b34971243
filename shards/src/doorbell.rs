//! Tells one receiver which of its rings have something, and its senders whether it may sleep.
//!
//! A sender pushes, marks its ring, fences, and looks at the flag. The receiver raises the flag, fences, and looks at the
//! marks. Whatever the order, one of them sees the other: either the receiver finds the mark and stays awake, or the sender
//! finds the flag and wakes it. shards/tests/doorbell.rs tries every order with loom, which brings other atomics.

use super::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// What senders to one receiver share with it. Each part has cache lines of its own: their neighbours belong to other cores.
#[derive(Debug)]
pub(crate) struct Doorbell {
    marks: Box<[Marks]>,
    may_sleep: Flag,
}

/// A bit for each of so many incoming rings, in the order of the rings.
#[derive(Debug)]
#[repr(align(128))]
struct Marks([AtomicU64; MARKS]);

#[derive(Debug)]
#[repr(align(128))]
struct Flag(AtomicBool);

impl Doorbell {
    /// For a receiver with so many incoming rings.
    pub(crate) fn new(rings_count: usize) -> Self {
        let marks = || Marks(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            marks: (0..rings_count.div_ceil(WORD * MARKS)).map(|_| marks()).collect(),
            may_sleep: Flag(AtomicBool::new(false)),
        }
    }

    /// After something was put into that ring. True when the receiver has to be woken; only one sender is told so.
    pub(crate) fn ring(&self, ring: usize) -> bool {
        self.word(ring / WORD).fetch_or(1 << (ring % WORD), Ordering::Release);
        fence(Ordering::SeqCst);
        let flag = &self.may_sleep.0;
        flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Relaxed)
    }

    /// The receiver takes over what senders have marked into `marked`, a bit for each ring; false when no ring is marked.
    pub(crate) fn take(&self, marked: &mut [u64]) -> bool {
        let mut any = 0;
        for (index, word) in marked.iter_mut().enumerate() {
            let marks = self.word(index);
            // The common case is none, and a load leaves the line with whoever has it.
            if marks.load(Ordering::Relaxed) != 0 {
                *word |= marks.swap(0, Ordering::Acquire);
            }
            any |= *word;
        }
        any != 0
    }

    /// The receiver may sleep from now on, or is awake. If it may, it looks at [`is_silent`](Self::is_silent) before it does.
    #[cfg(not(simulation))]
    pub(crate) fn announce_sleep(&self, asleep: bool) {
        self.may_sleep.0.store(asleep, Ordering::Relaxed);
        if asleep {
            fence(Ordering::SeqCst);
        }
    }

    /// Whether no ring is marked.
    #[cfg(not(simulation))]
    pub(crate) fn is_silent(&self) -> bool {
        let mut words = self.marks.iter().flat_map(|marks| &marks.0);
        words.all(|word| word.load(Ordering::Relaxed) == 0)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.marks[index / MARKS].0[index % MARKS]
    }
}

/// Rings that one word has bits for.
pub(crate) const WORD: usize = u64::BITS as usize;
/// Words on one line.
const MARKS: usize = 16;
