//! Sends the answers of one pass of the reactor together at its end: the side where the clients are is woken once for
//! many, not for each. The frames wait here, those of all connections in one buffer.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

/// The frames that were deferred to the end of the pass.
pub struct DeferredWrites<C>(RefCell<List<C>>);

struct List<C> {
    /// In order; one connection may be there more than once.
    entries: Vec<(Rc<C>, Range<usize>)>,
    bytes: Vec<u8>,
}

impl<C> Default for DeferredWrites<C> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<C> DeferredWrites<C> {
    /// Whether frames of `len` bytes may be deferred; else they have to leave at once.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.0.borrow().bytes.len() + len <= LEN_MAX
    }

    /// Adds the frame that `write` writes, for `connection`.
    pub(super) fn add(&self, connection: Rc<C>, write: impl FnOnce(&mut Vec<u8>)) {
        let List { entries, bytes } = &mut *self.0.borrow_mut();
        let start = bytes.len();
        write(bytes);
        match entries.last_mut() {
            Some((last, range)) if Rc::ptr_eq(last, &connection) => range.end = bytes.len(),
            _ => entries.push((connection, start..bytes.len())),
        }
    }

    /// Takes out the frames of one connection, which have to leave before the end of the pass.
    pub(super) fn take_out(&self, connection: &C) -> Vec<u8> {
        let List { entries, bytes } = &mut *self.0.borrow_mut();
        let mut taken = Vec::new();
        entries.retain(|(other, range)| {
            let is_other = !std::ptr::eq(&raw const **other, connection);
            if !is_other {
                taken.extend_from_slice(bytes.get(range.clone()).expect("they were written there"));
            }
            is_other
        });
        taken
    }

    /// Sends all, each connection's with `write`. Called at the end of every pass.
    pub fn send(&self, write: impl Fn(&C, &[u8])) {
        if self.is_empty() {
            return;
        }
        // What is deferred meanwhile leaves with the next pass.
        let mut list = std::mem::take(&mut *self.0.borrow_mut());
        for (connection, range) in list.entries.drain(..) {
            write(&connection, list.bytes.get(range).expect("they were written there"));
        }
        list.bytes.clear();
        let mut next = self.0.borrow_mut();
        if next.entries.is_empty() && list.entries.capacity() <= CAPACITY_KEPT {
            *next = list;
        }
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().entries.is_empty()
    }
}

impl<C> Default for List<C> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

const LEN_MAX: usize = 256 * 1024;
const CAPACITY_KEPT: usize = 4096;
