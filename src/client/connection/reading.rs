//! Reads what the client sends: bytes into the shard's one buffer, frames out of them, each to the session.

use std::task::Poll;

use shards::turn;

use super::{Connection, Phase, State};
use crate::client::conversation::{Conversation, Message};
use crate::client::end::{CLOSE_WITHOUT_CODE, End};
use crate::client::frame::Frame;
use crate::client::trace;
use crate::client::websocket::{Unread, WebSocket};
use crate::observe::counters::Ended;
use crate::wire::count_broken;
use protocol::ocpp::{FailReason, Outputs};
use protocol::websocket::{CloseFrame, Incoming, WebSocketError, text};

impl<C: Conversation> Connection<C> {
    /// Reads until there is nothing now, nothing is to be read, or it is others' turn.
    pub(super) fn read(&self, state: &mut State<C>, out: &mut Outputs) {
        let mut buffer = self.clients.take_receive_buffer();
        while self.wants_bytes(state) {
            if !self.read_some(state, &mut buffer, out) {
                break;
            }
        }
        self.clients.return_receive_buffer(buffer);
        self.watch_end(state);
    }

    fn wants_bytes(&self, state: &mut State<C>) -> bool {
        match state.phase {
            Phase::Over | Phase::Ending => return false,
            Phase::Open => {
                state.paused = !state.wants_read();
                if state.paused {
                    return false;
                }
            }
            Phase::Closing | Phase::Lingering => {}
        }
        // It is woken for what is left over.
        state
            .stream
            .as_ref()
            .is_none_or(|stream| turn::may_finish(stream.waker()))
    }

    /// Takes what was left over before, or else what the socket has. False: there is nothing now.
    fn read_some(&self, state: &mut State<C>, buffer: &mut [u8], out: &mut Outputs) -> bool {
        let Some(stream) = &mut state.stream else { return false };
        if let Some(mut unread) = stream.take_unread() {
            unread.with(|rest| self.take_frames(state, rest, out));
            if let Some(stream) = &mut state.stream {
                stream.keep_unread(unread);
            }
            return true;
        }
        let room = if state.phase == Phase::Open {
            let now = self.env().reactor.now();
            let waker = stream.waker();
            self.env()
                .buffers
                .poll_room(waker, &mut state.room_round, now, stream.held_len())
        } else {
            usize::MAX
        };
        if room == 0 {
            return false;
        }
        let len = match stream.poll_receive(buffer, room.min(self.env().core.read_buffer)) {
            Poll::Pending => return false,
            Poll::Ready(received) => received.unwrap_or_else(|error| count_broken(self.env(), &error)),
        };
        if len == 0 {
            self.end_lost(state);
            return false;
        }
        if state.phase == Phase::Lingering {
            return true;
        }
        // Also a message in part is a sign of life.
        state.session.handle_heard(self.env().reactor.now());
        let (mut rest, _) = buffer.split_at_mut(len);
        self.take_frames(state, &mut rest, out);
        if self.env().buffers.is_tight() {
            // What comes next in this turn depends on it.
            self.count_held(state);
        }
        if !rest.is_empty()
            && let Some(stream) = &mut state.stream
        {
            stream.keep_unread(Unread::new(rest));
        }
        true
    }

    /// The end is looked for also while nothing is read: of a client that has gone no Call is begun.
    fn watch_end(&self, state: &mut State<C>) {
        if state.phase == Phase::Open
            && let Some(stream) = &state.stream
            && stream.poll_gone().is_ready()
        {
            self.end_lost(state);
        }
    }

    /// Takes frames from the front of `bytes`, until they are used up or the next one is not to be taken now.
    fn take_frames(&self, state: &mut State<C>, bytes: &mut &mut [u8], out: &mut Outputs) {
        while !bytes.is_empty() && self.wants_bytes(state) {
            let State {
                phase: Phase::Open | Phase::Closing,
                stream: Some(stream),
                ..
            } = state
            else {
                break;
            };
            match stream.decode(bytes, self.env().core.message_max) {
                Ok(None) => {}
                Ok(Some(incoming)) => self.handle_incoming(state, incoming, out),
                Err(error) => self.fail(state, error),
            }
            self.act(state, out);
        }
        if !matches!(state.phase, Phase::Open | Phase::Closing) {
            // Nothing that follows has a meaning.
            *bytes = &mut [];
        }
    }

    fn handle_incoming(&self, state: &mut State<C>, incoming: Incoming<'_>, out: &mut Outputs) {
        if let (Phase::Closing, Incoming::Close(_)) = (state.phase, &incoming) {
            state.phase = Phase::Ending;
        }
        if state.phase != Phase::Open {
            return;
        }
        if let Incoming::Deflated { is_text, bytes } = incoming {
            return self.handle_deflated(state, is_text, &bytes, out);
        }
        self.env().counters.count_received(&incoming);
        if self.env().watch.is_on() {
            trace::show_incoming(self.env(), &self.identity, &incoming);
        }
        match incoming {
            Incoming::Text(text) => self.handle_message(state, Message::Text(text), out),
            Incoming::Binary(bytes) | Incoming::Deflated { bytes, .. } => {
                self.handle_message(state, Message::Binary(bytes), out);
            }
            Incoming::Ping(payload) => {
                turn::spend(PING_COST);
                self.send_pong(state, Frame::pong(&payload));
            }
            Incoming::Pong(_) => {}
            Incoming::Close(close) => self.handle_close(state, close.as_ref()),
        }
    }

    /// A compressed message: the plain one takes its place, borrowed from the shard's inflater.
    fn handle_deflated(&self, state: &mut State<C>, is_text: bool, message: &[u8], out: &mut Outputs) {
        let Some(deflate) = state.stream.as_mut().and_then(WebSocket::deflate) else {
            unreachable!("the decoder refuses what was not agreed on");
        };
        let counters = &self.env().counters;
        let mut inflater = self.clients.compression.inflater.borrow_mut();
        let inflated = inflater
            .inflate(deflate, message, self.env().core.message_max)
            .and_then(|plain| {
                counters.deflate_messages_in.add();
                counters.deflate_bytes_in.add_many(message.len() as u64);
                counters.deflate_bytes_in_plain.add_many(plain.len() as u64);
                turn::spend(plain.len());
                Ok(if is_text {
                    Incoming::Text(text(plain)?)
                } else {
                    Incoming::Binary(plain)
                })
            });
        match inflated {
            Ok(incoming) => self.handle_incoming(state, incoming, out),
            Err(error) => self.fail(state, error),
        }
    }

    fn handle_message(&self, state: &mut State<C>, message: Message<'_>, out: &mut Outputs) {
        turn::spend(MESSAGE_COST);
        let now = self.env().reactor.now();
        if let Some(back) = state.session.handle_message(now, message, out) {
            let frame = match back {
                Message::Text(text) => Frame::text(text.into_owned(), None),
                Message::Binary(bytes) => Frame::binary(bytes.into_owned()),
            };
            self.send(state, frame, out);
        }
    }

    /// The client closes: it gets its own code back (RFC 6455, 5.5.1).
    #[cold]
    fn handle_close(&self, state: &mut State<C>, close: Option<&CloseFrame<'_>>) {
        let close = close.map(|close| (close.code, &*close.reason));
        let (code, reason) = close.unwrap_or((CLOSE_WITHOUT_CODE, ""));
        let end = End {
            code,
            reason,
            pushes: FailReason::Disconnected,
            replaced_by: None,
            ended: Ended::Left,
        };
        self.finish(state, &end);
        if state.phase == Phase::Open {
            state.enter(Phase::Ending, self.env().reactor.now());
            self.send(state, Frame::close(close), &mut Outputs::default());
        }
    }

    /// The client has broken the protocol.
    #[cold]
    fn fail(&self, state: &mut State<C>, error: WebSocketError) {
        self.close_now(
            state,
            error.close_code(),
            error.close_reason(),
            FailReason::Disconnected,
        );
        if state.phase != Phase::Over {
            state.enter(Phase::Lingering, self.env().reactor.now());
            self.finish_lingering_send(state);
        }
    }
}

/// What a message costs beside its bytes, in the cost of received ones: what the session makes of it, and a request to the
/// backend or an answer.
const MESSAGE_COST: usize = 2048;
/// A ping's pong.
const PING_COST: usize = 1024;
