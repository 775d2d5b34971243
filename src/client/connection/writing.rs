//! Writes frames to the client: at once, at the end of the pass, or behind those that the socket did not take.

use std::task::Poll;

use shards::turn;

use super::{Connection, Phase, State};
use crate::client::conversation::Conversation;
use crate::client::frame::Frame;
use crate::client::trace;
use crate::client::websocket::WebSocket;
use crate::client::write_queue::{Left, WriteQueue};
use protocol::ocpp::Outputs;

impl<C: Conversation> Connection<C> {
    /// Writes a frame, or queues it behind those that wait.
    pub(super) fn send(&self, state: &mut State<C>, mut frame: Frame, more: &mut Outputs) {
        if self.env().watch.is_on() {
            trace::show_outgoing(self.env(), &self.identity, &frame);
        }
        // In the order in which they leave, whatever they wait for.
        if let Some(deflate) = state.stream.as_mut().and_then(WebSocket::deflate)
            && frame.message().len() >= self.env().core.deflate_min.max(1)
        {
            self.clients
                .compression
                .deflate(deflate, &mut frame, &self.env().counters);
        }
        if let Some(queue) = &mut state.queue {
            queue.push(frame);
            if queue.is_longer_than(self.env().core.send_queue_bytes) {
                self.end_slow(state);
            }
            return;
        }
        if frame.may_wait() && self.may_defer(state, frame.len()) {
            return self.defer(state, frame, more);
        }
        if state.deferred_len > 0 {
            state.deferred_len = 0;
            let deferred = self.clients.deferred_writes.take_out(self);
            self.write(state, Frame::whole(deferred), more);
            if state.phase == Phase::Over {
                return;
            }
        }
        match &mut state.queue {
            Some(queue) => queue.push(frame),
            None => self.write(state, frame, more),
        }
    }

    /// Answers a ping. Of those that wait only the latest is sent: a client may ping for ever and never read.
    pub(super) fn send_pong(&self, state: &mut State<C>, pong: Frame) {
        match &mut state.queue {
            Some(queue) => queue.push_pong(pong),
            None => self.send(state, pong, &mut Outputs::default()),
        }
    }

    /// Writes a frame before which nothing waits.
    pub(super) fn write(&self, state: &mut State<C>, mut frame: Frame, more: &mut Outputs) {
        let Some(stream) = &mut state.stream else {
            return self.end_broken(state);
        };
        let written = stream.poll_write(&mut frame, &mut self.clients.send_buffer.borrow_mut());
        let now = self.env().reactor.now();
        match written {
            Poll::Ready(Ok(())) => self.handle_written(state, frame, more),
            Poll::Pending => state.queue = Some(Box::new(WriteQueue::new(frame, now))),
            Poll::Ready(Err(_)) => self.end_broken(state),
        }
    }

    /// A frame has left.
    fn handle_written(&self, state: &mut State<C>, frame: Frame, more: &mut Outputs) {
        if let Some(key) = frame.push {
            state.session.handle_push_written(self.env().reactor.now(), key, more);
        }
        more.recycle(frame.into_body());
    }

    /// Whether a frame of `len` bytes can wait for the end of this pass: where many clients are served, or much of one, it is
    /// not the only one.
    fn may_defer(&self, state: &State<C>, len: usize) -> bool {
        (self.env().reactor.is_crowded() || turn::is_long())
            && usize::from(state.deferred_len) + len <= DEFERRED_LEN_MAX.into()
            && self.clients.deferred_writes.has_room(len)
    }

    /// Hands over a frame that leaves at the end of this pass, or before it with one that can't wait.
    fn defer(&self, state: &mut State<C>, frame: Frame, more: &mut Outputs) {
        let connection = self.me.upgrade().expect("a connection that acts is held by somebody");
        self.clients.deferred_writes.add(connection, |bytes| frame.write(bytes));
        // It is at most DEFERRED_LEN_MAX.
        state.deferred_len += frame.len() as u16;
        more.recycle(frame.into_body());
    }

    /// The end of the pass: what was deferred leaves.
    pub(in crate::client) fn write_deferred(&self, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        let State {
            stream: Some(stream),
            queue: None,
            deferred_len,
            ..
        } = &mut *state
        else {
            // It is over.
            return;
        };
        *deferred_len = 0;
        match stream.write_bytes(bytes, &mut self.clients.send_buffer.borrow_mut()) {
            Ok(None) if state.phase == Phase::Open => return,
            Ok(None) => {}
            Ok(Some(rest)) => {
                let now = self.env().reactor.now();
                state.queue = Some(Box::new(WriteQueue::new(rest, now)));
            }
            Err(_) => self.end_broken(&mut state),
        }
        if state.phase == Phase::Lingering {
            self.finish_lingering_send(&mut state);
        }
        self.settle(&mut state);
    }

    /// Goes on with what the socket did not take before.
    pub(super) fn flush(&self, state: &mut State<C>, out: &mut Outputs) {
        let now = self.env().reactor.now();
        while state.phase != Phase::Over {
            let State {
                queue: Some(queue),
                stream: Some(stream),
                ..
            } = state
            else {
                break;
            };
            let written = stream.poll_write_queue(queue, &mut self.clients.send_buffer.borrow_mut(), now);
            match written {
                Poll::Pending => break,
                Poll::Ready(Ok((frame, left))) => {
                    if left == Left::Nothing {
                        state.queue = None;
                    }
                    self.handle_written(state, frame, out);
                }
                Poll::Ready(Err(_)) => return self.end_lost(state),
            }
        }
        self.act(state, out);
        if state.phase == Phase::Lingering {
            self.finish_lingering_send(state);
        }
    }
}

/// How many bytes of a connection's frames may be deferred.
const DEFERRED_LEN_MAX: u16 = 4096;
