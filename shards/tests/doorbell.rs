//! Tries every order in which a sender and a receiver of the mesh can meet: no wake-up is lost (loom).

use std::sync::Arc;

use loom::sync::atomic::AtomicUsize;
use loom::thread;

mod atomic {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

#[path = "../src/doorbell.rs"]
mod doorbell;

use atomic::Ordering;
use doorbell::Doorbell;

/// One receiver of `SENDERS` senders; a ring is a count, as the mesh's rings have one.
struct Meeting {
    doorbell: Doorbell,
    rings: [AtomicUsize; SENDERS],
    wakes_count: AtomicUsize,
}

const SENDERS: usize = 2;

impl Meeting {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            doorbell: Doorbell::new(SENDERS),
            rings: std::array::from_fn(|_| AtomicUsize::new(0)),
            wakes_count: AtomicUsize::new(0),
        })
    }

    fn send(&self, ring: usize) {
        self.rings[ring].fetch_add(1, Ordering::Release);
        if self.doorbell.ring(ring) {
            self.wakes_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One pass: takes what is marked. It counts what it finds in the marked rings.
    fn receive(&self) -> usize {
        let mut marked = [0];
        if !self.doorbell.take(&mut marked) {
            return 0;
        }
        let marked_rings = (0..SENDERS).filter(|ring| marked[0] & (1 << ring) != 0);
        marked_rings
            .map(|ring| self.rings[ring].swap(0, Ordering::Acquire))
            .sum()
    }

    /// Whether the receiver goes to sleep, as the reactor does.
    fn falls_asleep(&self) -> bool {
        self.doorbell.announce_sleep(true);
        let is_silent = self.doorbell.is_silent();
        if !is_silent {
            self.doorbell.announce_sleep(false);
        }
        is_silent
    }
}

#[test]
fn whoever_sleeps_has_received_all_or_is_woken() {
    let mut orders = loom::model::Builder::new();
    // Whatever is lost with more interruptions of a thread than these is lost with fewer, too; all of them take minutes.
    orders.preemption_bound = Some(3);
    orders.check(|| {
        let meeting = Meeting::new();
        let senders: Vec<_> = (0..SENDERS)
            .map(|ring| {
                let meeting = meeting.clone();
                thread::spawn(move || meeting.send(ring))
            })
            .collect();
        let mut received = meeting.receive();
        let sleeps = meeting.falls_asleep();
        for sender in senders {
            sender.join().unwrap();
        }
        let wakes_count = meeting.wakes_count.load(Ordering::Relaxed);
        if sleeps && received < SENDERS {
            assert_eq!(wakes_count, 1, "something came while it slept: one sender wakes it");
        } else {
            assert!(wakes_count <= 1);
        }
        received += meeting.receive();
        assert_eq!(received, SENDERS, "each message is marked");
    });
}
