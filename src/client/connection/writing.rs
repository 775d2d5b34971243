//! Writes frames to the client: at once, at the end of the pass, or behind those that the socket did not take.

use std::task::Poll;
use std::time::Instant;

use async_tungstenite::tungstenite::Message;

use super::{Connection, Phase, State};
use crate::client::conversation::Conversation;
use crate::client::trace;
use crate::client::websocket::{self, DEFERRED_HEADER_LEN, DEFERRED_LEN_MAX, Written};
use crate::client::write_queue::WriteQueue;
use protocol::ocpp::{Output, PushKey};

impl<C: Conversation> Connection<C> {
    /// Writes a message, or queues it behind those that wait.
    pub(super) fn send(&self, state: &mut State<C>, message: Message, push: Option<PushKey>, more: &mut Vec<Output>) {
        let now = self.env().reactor.now();
        if self.traced.get() {
            trace::show(&self.identity, "out", &message);
        }
        if let Some(queue) = &mut state.queue {
            let len = message.len();
            queue.push(message, push, now);
            if queue.len() > self.env().core.send_queue_bytes && queue.len() > len {
                self.end_slow(state);
            }
            return;
        }
        let len = message.len();
        if push.is_none() && message.is_text() && self.may_defer(state, len) {
            return self.defer(state, message);
        }
        match state.try_write(message) {
            Written::Whole => {
                if let Some(key) = push {
                    state.session.handle_push_written(now, key, more);
                }
            }
            Written::Partly => state.queue = Some(Box::new(WriteQueue::new(push, len, now))),
            Written::Failed => self.end_broken(state),
        }
    }

    /// Whether a frame with a payload of `len` bytes can wait for the end of this pass.
    fn may_defer(&self, state: &State<C>, len: usize) -> bool {
        let len = len + DEFERRED_HEADER_LEN;
        self.env().reactor.is_crowded()
            && state.deferred_len + len <= DEFERRED_LEN_MAX
            && self.clients.deferred_writes.has_room(len)
    }

    /// Hands over a frame that leaves at the end of this pass, or before it with one that can't wait.
    fn defer(&self, state: &mut State<C>, message: Message) {
        let len = message.len() + DEFERRED_HEADER_LEN;
        let stream = state.stream.as_mut();
        if stream.is_none_or(|stream| websocket::enqueue(stream, message).is_err()) {
            return self.end_broken(state);
        }
        if state.deferred_len == 0 {
            let connection = self.me.upgrade().expect("a connection that acts is held by somebody");
            self.clients.deferred_writes.add(connection);
        }
        state.deferred_len += len;
        self.clients.deferred_writes.count(len);
    }

    /// The end of the pass: what was deferred leaves.
    pub(in crate::client) fn write_deferred(&self) {
        let mut state = self.state.borrow_mut();
        let len = std::mem::take(&mut state.deferred_len);
        let State {
            stream: Some(stream),
            queue: None,
            ..
        } = &mut *state
        else {
            // It is over, or the frames leave before those that wait.
            return;
        };
        match websocket::flush(stream) {
            Poll::Ready(Ok(())) => return state.shrink(),
            Poll::Ready(Err(_)) => self.end_broken(&mut state),
            Poll::Pending => {
                let now = self.env().reactor.now();
                state.queue = Some(Box::new(WriteQueue::new(None, len, now)));
            }
        }
        self.settle(&mut state);
    }

    /// Goes on with what the socket did not take before.
    pub(super) fn flush(&self, state: &mut State<C>, out: &mut Vec<Output>) {
        let now = self.env().reactor.now();
        while state.phase != Phase::Over {
            let State {
                queue: Some(queue),
                stream: Some(stream),
                session,
                ..
            } = state
            else {
                break;
            };
            match websocket::flush(stream) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return self.end_lost(state),
            }
            if let Some(key) = queue.writing.take() {
                session.handle_push_written(now, key, out);
            }
            match queue.next() {
                Some((message, _)) => {
                    if websocket::enqueue(stream, message).is_err() {
                        return self.end_lost(state);
                    }
                }
                None => state.queue = None,
            }
        }
        self.act(state, out);
        if matches!(state.phase, Phase::Lingering(_)) {
            self.finish_lingering_send(state);
        }
    }
}

impl<C: Conversation> State<C> {
    fn try_write(&mut self, message: Message) -> Written {
        match &mut self.stream {
            Some(stream) => websocket::write(stream, message),
            None => Written::Failed,
        }
    }

    /// A pong that the socket does not take waits like any other frame: a client may ping for ever and never read.
    pub(super) fn watch_pong(&mut self, now: Instant) {
        if !std::mem::take(&mut self.owes_pong) || self.phase != Phase::Open || self.queue.is_some() {
            return;
        }
        if let Some(stream) = &mut self.stream
            && websocket::flush(stream).is_pending()
        {
            // There is never more than one: it does not count among the bytes that wait.
            self.queue = Some(Box::new(WriteQueue::new(None, 0, now)));
        }
    }
}
