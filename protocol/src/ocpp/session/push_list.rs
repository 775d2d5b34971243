//! Lists the pushes of one client that have no outcome yet, in order: first those whose frame was sent, then those that
//! wait.
//!
//! One list, given back when it is empty. It is as short as `pushes_in_flight` and `pushes_queued` say.

use std::time::Instant;

use crate::ocpp::output::{Push, PushKey, Text, Waiter};

/// How far a push has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PushState {
    /// The push waits for those before it.
    Queued,
    /// Adopted: waits until then for the client's first message.
    Held(Instant),
    /// Its frame was handed to the socket.
    Sent(PushKey),
    /// Its frame has left; it ends at that time.
    Written(PushKey, Instant),
}

impl PushState {
    /// Its frame was not handed to the socket yet.
    fn waits(self) -> bool {
        matches!(self, Self::Queued | Self::Held(_))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    list: Vec<(PushState, Push)>,
}

impl Pushes {
    pub(super) fn in_flight(&self) -> usize {
        self.list.iter().take_while(|(state, _)| !state.waits()).count()
    }

    pub(super) fn queued(&self) -> usize {
        self.list.len() - self.in_flight()
    }

    /// Bytes of the payloads that wait.
    pub(super) fn queued_len(&self) -> usize {
        let queued = self.list.iter().filter(|(state, _)| state.waits());
        queued.map(|(_, push)| push.payload.len()).sum()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.list.iter().any(|(_, push)| push.message_id.as_str() == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(PushState, Push)> {
        self.list.iter()
    }

    /// Whether a request waits for one of them.
    pub(super) fn has_waiter(&self) -> bool {
        self.list.iter().any(|(_, push)| push.waiter.is_some())
    }

    /// The one of that id that `waiter` waits for, and whether it was sent.
    pub(super) fn find_waiter(&self, id: &str, waiter: Waiter) -> Option<(usize, bool)> {
        let mut pushes = self.list.iter().enumerate();
        let (index, (state, _)) =
            pushes.find(|(_, (_, push))| push.waiter == Some(waiter) && push.message_id.as_str() == id)?;
        Some((index, !state.waits()))
    }

    /// The sent one of that id: what an answer answers.
    pub(super) fn find_sent(&self, id: &str) -> Option<usize> {
        self.list
            .iter()
            .position(|(state, push)| !state.waits() && push.message_id.as_str() == id)
    }

    pub(super) fn find_expired(&self, now: Instant) -> Option<usize> {
        self.list
            .iter()
            .position(|(state, _)| matches!(state, PushState::Written(_, deadline) if *deadline <= now))
    }

    /// When a written one ends.
    pub(super) fn deadline(&self, index: usize) -> Option<Instant> {
        match self.list.get(index)? {
            (PushState::Written(_, deadline), _) => Some(*deadline),
            _ => None,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadline = |state: &PushState| match state {
            PushState::Written(_, deadline) | PushState::Held(deadline) => Some(*deadline),
            PushState::Queued | PushState::Sent(_) => None,
        };
        self.list.iter().filter_map(|(state, _)| deadline(state)).min()
    }

    /// Adds a push behind all others.
    pub(super) fn push(&mut self, push: Push) {
        self.insert(self.list.len(), push);
    }

    /// Adds one that was written down, behind all others.
    pub(super) fn restore(&mut self, state: PushState, push: Push) {
        self.push(push);
        if let Some((last, _)) = self.list.last_mut() {
            *last = state;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Among those that wait, behind `queued_before` of them.
    pub(super) fn insert_queued(&mut self, queued_before: usize, push: Push) {
        self.insert(self.in_flight() + queued_before, push);
    }

    /// The first that wait, `count` of them, do so until `deadline` for the client's first message.
    pub(super) fn hold(&mut self, count: usize, deadline: Instant) {
        let first = self.in_flight();
        for (state, _) in self.list.iter_mut().skip(first).take(count) {
            *state = PushState::Held(deadline);
        }
    }

    /// Those held whose time is over, or all of them, wait for others only. True: there were some.
    pub(super) fn release(&mut self, now: Option<Instant>) -> bool {
        let mut any = false;
        for (state, _) in &mut self.list {
            if matches!(state, PushState::Held(deadline) if now.is_none_or(|now| *deadline <= now)) {
                *state = PushState::Queued;
                any = true;
            }
        }
        any
    }

    /// Whether the next one is held.
    pub(super) fn is_held(&self) -> bool {
        self.list.iter().any(|(state, _)| matches!(state, PushState::Held(_)))
    }

    fn insert(&mut self, index: usize, push: Push) {
        if self.list.is_empty() {
            self.list.reserve_exact(1);
        }
        self.list.insert(index, (PushState::Queued, push));
    }

    /// Marks the first that waits as sent. The payload is the caller's: it goes with the frame, and is kept no longer.
    pub(super) fn send_next(&mut self, key: PushKey) -> Option<(&Push, Text)> {
        let (state, push) = self.list.iter_mut().find(|(state, _)| state.waits())?;
        if matches!(state, PushState::Held(_)) {
            return None;
        }
        *state = PushState::Sent(key);
        let payload = std::mem::take(&mut push.payload);
        Some((push, payload))
    }

    /// The frame has left; the push ends at `deadline`, `None`: never. Nothing happens if it has been answered already.
    pub(super) fn written(&mut self, key: PushKey, deadline: Option<Instant>) {
        let sent = self.list.iter_mut().find(|(state, _)| *state == PushState::Sent(key));
        if let (Some((state, _)), Some(deadline)) = (sent, deadline) {
            *state = PushState::Written(key, deadline);
        }
    }

    pub(super) fn remove(&mut self, index: usize) -> Push {
        let (state, push) = self.list.remove(index);
        if let PushState::Held(deadline) = state {
            // Those behind it wait as long as it would have: nothing else would send them.
            self.hold(1, deadline);
        }
        if self.list.is_empty() {
            self.list = Vec::new();
        }
        push
    }

    /// All that wait, in order.
    pub(super) fn take_queued(&mut self) -> Vec<Push> {
        let queued = self
            .list
            .split_off(self.in_flight())
            .into_iter()
            .map(|(_, push)| push)
            .collect();
        if self.list.is_empty() {
            self.list = Vec::new();
        }
        queued
    }

    /// All that were sent, in order. None may wait.
    pub(super) fn take_sent(&mut self) -> impl Iterator<Item = Push> + use<> {
        debug_assert_eq!(self.queued(), 0, "those that wait are taken first");
        std::mem::take(&mut self.list).into_iter().map(|(_, push)| push)
    }
}
