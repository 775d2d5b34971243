//! Tells what happens on a socket as an edge-triggered epoll does: once for all that has happened since it was told last, later
//! than it happened, and with all that holds by then.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::network::Pipe;
use crate::readiness::{BROKEN, CLOSED, READABLE, Readiness, WRITABLE};

/// What has happened and was not told yet, in order. One per shard.
pub(super) type Events = Rc<RefCell<VecDeque<Rc<Watch>>>>;

/// A socket's place in it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) readiness: Readiness,
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
    events: Events,
    is_queued: Cell<bool>,
    /// It was taken out: nothing is told any more.
    is_gone: Cell<bool>,
}

impl Watch {
    /// Of a socket with these pipes; what holds already is told, too.
    pub(super) fn new(events: &Events, incoming: &Rc<Pipe>, outgoing: &Rc<Pipe>) -> Rc<Self> {
        let watch = Rc::new(Self {
            readiness: Readiness::new(),
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            events: events.clone(),
            is_queued: Cell::new(false),
            is_gone: Cell::new(false),
        });
        incoming.set_reader(Some(&watch));
        outgoing.set_writer(Some(&watch));
        watch.notify();
        watch
    }

    /// Something has happened.
    pub(super) fn notify(self: &Rc<Self>) {
        if !self.is_queued.replace(true) {
            self.events.borrow_mut().push_back(self.clone());
        }
    }

    /// It is told, and `spurious` besides. False: there is nobody to be told.
    pub(super) fn tell(&self, spurious: u8) -> bool {
        self.is_queued.set(false);
        if self.is_gone.get() {
            return false;
        }
        self.readiness.handle_event(self.seen() | spurious);
        true
    }

    /// What epoll would say now.
    fn seen(&self) -> u8 {
        let is_ended = self.incoming.is_ended();
        let pairs = [
            (is_ended || self.incoming.has_arrived(), READABLE),
            (self.outgoing.has_room(), WRITABLE),
            (is_ended, CLOSED),
            // Both sides have said all, or one has broken it.
            (
                self.incoming.is_reset() || is_ended && self.outgoing.is_finished(),
                BROKEN,
            ),
        ];
        let bits = pairs.into_iter().filter(|(holds, _)| *holds);
        bits.fold(0, |all, (_, bit)| all | bit)
    }

    /// Takes it out.
    pub(super) fn leave(&self) {
        self.is_gone.set(true);
        self.incoming.set_reader(None);
        self.outgoing.set_writer(None);
    }
}
