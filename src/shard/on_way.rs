//! Counts the clients that a shard has sent to another process, and says what goes with each.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

/// What a shard knows of clients that it has sent to another process.
#[derive(Debug, Default)]
pub struct OnWay {
    count: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl OnWay {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// One more.
    pub fn add(&self) {
        self.count.set(self.count.get() + 1);
    }

    /// The one task that waits is woken when anything changes.
    pub fn wait(&self, context: &Context<'_>) {
        self.waker.replace(Some(context.waker().clone()));
    }

    /// So many have arrived, or are here again.
    pub fn handle_settled(&self, count: usize) {
        self.count.set(self.count.get().saturating_sub(count));
        self.wake();
    }

    /// Something that the task waits for may have changed.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What goes with a client's socket: the shard that it comes from, and its record.
#[must_use]
pub fn moved(shard: usize, record: &[u8]) -> Vec<u8> {
    [&(shard as u16).to_be_bytes(), record].concat()
}

/// Reads what [`moved`] has written.
#[must_use]
pub fn read_moved(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (shard, record) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*shard).into(), record))
}
