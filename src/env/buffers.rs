//! Keeps the account of the bytes that the shard holds for others, and wakes who waits for room or has to make some.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use protocol::buffers::{self, Go, MUCH};

/// Somebody who holds bytes and can be made to let them go.
pub trait Holder {
    /// Lets go of all that it holds, and ends.
    fn make_room(&self);
}

/// The bytes that one shard holds for others: messages in part, queues, bodies, posts. Their bound is `buffers_max`.
pub struct Buffers {
    account: RefCell<buffers::Buffers<u64>>,
    /// Those who hold much, by their number.
    holders: RefCell<HashMap<u64, Weak<dyn Holder>>>,
    /// Who reads on when it is no longer tight.
    waiting: RefCell<Vec<Waker>>,
    /// Counts how often those were woken.
    rounds: Cell<u32>,
    was_full: Cell<bool>,
    /// Who makes room.
    keeper: RefCell<Option<Waker>>,
}

impl Buffers {
    /// Nobody holds anything. `max` in bytes.
    pub fn new(max: usize) -> Rc<Self> {
        Rc::new(Self {
            account: RefCell::new(buffers::Buffers::new(max)),
            holders: RefCell::default(),
            waiting: RefCell::default(),
            rounds: Cell::new(1),
            was_full: Cell::new(false),
            keeper: RefCell::default(),
        })
    }

    /// Bytes held by all.
    pub fn held(&self) -> usize {
        self.account.borrow().held()
    }

    /// Another bound from now on, in bytes.
    pub fn set_max(&self, max: usize) {
        self.account.borrow_mut().set_max(max);
        self.settle();
    }

    /// From here on nobody begins to hold much.
    pub fn is_tight(&self) -> bool {
        self.account.borrow().is_tight()
    }

    /// The holder of this `number` held `before` bytes and holds `after`.
    pub fn change(&self, number: u64, holder: impl FnOnce() -> Weak<dyn Holder>, before: usize, after: usize) {
        self.account.borrow_mut().change(number, before, after);
        if (before >= MUCH) != (after >= MUCH) {
            let mut holders = self.holders.borrow_mut();
            if after >= MUCH {
                holders.insert(number, holder());
            } else {
                holders.remove(&number);
            }
        }
        self.settle();
    }

    /// Holds `len` bytes for somebody who can't be made to let them go, until that is dropped.
    pub fn hold(self: &Rc<Self>, len: usize) -> Held {
        self.account.borrow_mut().add(len);
        self.settle();
        Held {
            buffers: self.clone(),
            len,
        }
    }

    /// How many bytes may be read of somebody who holds `held`. With 0 it is woken when there is room; `round` is what this has
    /// said to it before.
    pub fn poll_room(&self, waker: &Waker, round: &mut u32, now: Instant, held: usize) -> usize {
        let mut account = self.account.borrow_mut();
        let was_waiting = account.next_deadline(now);
        let room = account.may_read(now, held);
        if room == 0 && *round != self.rounds.get() {
            *round = self.rounds.get();
            self.waiting.borrow_mut().push(waker.clone());
        }
        if account.next_deadline(now) != was_waiting {
            drop(account);
            self.wake_keeper();
        }
        room
    }

    /// Ready when somebody must go. Until then `deadline` is when it is to be asked again.
    pub fn poll_next_to_go(
        &self,
        context: &Context<'_>,
        now: Instant,
        deadline: &mut Option<Instant>,
    ) -> Poll<Go<u64>> {
        let mut account = self.account.borrow_mut();
        if let Some(go) = account.next_to_go(now) {
            return Poll::Ready(go);
        }
        *deadline = account.next_deadline(now);
        *self.keeper.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// The holder of this number, if it holds much.
    pub fn holder(&self, number: u64) -> Option<Rc<dyn Holder>> {
        self.holders.borrow().get(&number)?.upgrade()
    }

    /// Wakes whom the change concerns.
    fn settle(&self) {
        let (is_tight, is_full) = {
            let account = self.account.borrow();
            #[cfg(simulation)]
            assert!(
                account.held() <= account.max(),
                "{} bytes are held for others",
                account.held()
            );
            (account.is_tight(), account.is_full())
        };
        if is_full {
            self.wake_keeper();
        }
        let was_full = self.was_full.replace(is_full);
        let has_room = !is_tight || was_full && !is_full;
        if has_room && !self.waiting.borrow().is_empty() {
            self.rounds.set(self.rounds.get().wrapping_add(1));
            for waker in self.waiting.take() {
                waker.wake();
            }
        }
    }

    fn wake_keeper(&self) {
        if let Some(waker) = self.keeper.take() {
            waker.wake();
        }
    }
}

/// Bytes that count as held until this is dropped.
pub struct Held {
    buffers: Rc<Buffers>,
    len: usize,
}

impl Held {
    /// So many are held now.
    pub fn set(&mut self, len: usize) {
        let mut account = self.buffers.account.borrow_mut();
        account.add(len.saturating_sub(self.len));
        account.remove(self.len.saturating_sub(len));
        drop(account);
        self.len = len;
        self.buffers.settle();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.buffers.account.borrow_mut().remove(self.len);
        self.buffers.settle();
    }
}
