//! Gives a connection what it does with its messages: a client's [`Session`], or for a judge of the WebSocket side
//! something that needs no backend (examples/echo.rs).

use std::rc::Rc;
use std::time::Instant;

use async_tungstenite::tungstenite::Message;

use protocol::mapping::Answer;
use protocol::ocpp::{CallKey, FailReason, Limits, Output, Pending, Push, PushKey, Session, Subprotocol};

/// One client's conversation, as [`Session`] has it.
pub trait Conversation: Sized + 'static {
    /// The opening handshake is done. `spread` is a random number.
    fn new(subprotocol: Subprotocol, limits: Rc<Limits>, spread: u32, now: Instant) -> Self;

    /// A text or binary message. Gives back one that is sent as it is.
    fn handle_message(&mut self, now: Instant, message: Message, out: &mut Vec<Output>) -> Option<Message>;

    /// Another sign of life.
    fn handle_heard(&mut self, _now: Instant) {}

    /// The backend's answer to a Call.
    fn handle_answer(&mut self, _now: Instant, _key: CallKey, _answer: Answer<'_>, _out: &mut Vec<Output>) {}

    /// How many answers to its Calls are still to come.
    fn requests_count(&self) -> usize {
        0
    }

    /// The backend still works on so many Calls of the client's earlier connections.
    fn handle_earlier_calls(&mut self, _now: Instant, _count: usize, _out: &mut Vec<Output>) {}

    /// Pushes that the connection before it had not sent.
    fn adopt(&mut self, _now: Instant, _pushes: Vec<Push>, _out: &mut Vec<Output>) {}

    /// A push's frame has left.
    fn handle_push_written(&mut self, _now: Instant, _key: PushKey, _out: &mut Vec<Output>) {}

    /// What the client said, so many bytes, has been delivered to the backend or given up.
    fn handle_post_over(&mut self, _now: Instant, _len: usize) {}

    /// [`next_deadline`](Self::next_deadline) has passed.
    fn handle_deadline(&mut self, _now: Instant, _out: &mut Vec<Output>) {}

    /// The process drains.
    fn handle_shutdown(&mut self, _now: Instant, _out: &mut Vec<Output>) {}

    /// The connection is over. Gives back the pushes that were not sent.
    fn handle_end(&mut self, _now: Instant, _reason: FailReason, _out: &mut Vec<Output>) -> Vec<Push> {
        Vec::new()
    }

    /// When something happens by itself.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// False while the socket is not to be read.
    fn wants_read(&self) -> bool {
        true
    }

    /// What is under way.
    fn pending(&self) -> Pending {
        Pending::default()
    }
}

impl Conversation for Session {
    fn new(subprotocol: Subprotocol, limits: Rc<Limits>, spread: u32, now: Instant) -> Self {
        Self::new(subprotocol, limits, spread, now)
    }

    fn handle_message(&mut self, now: Instant, message: Message, out: &mut Vec<Output>) -> Option<Message> {
        match message {
            Message::Text(text) => self.handle_text(now, &text, out),
            _ => self.handle_binary(out),
        }
        None
    }

    fn handle_heard(&mut self, now: Instant) {
        self.handle_heard(now);
    }

    fn handle_answer(&mut self, now: Instant, key: CallKey, answer: Answer<'_>, out: &mut Vec<Output>) {
        self.handle_answer(now, key, answer, out);
    }

    fn requests_count(&self) -> usize {
        self.requests_count()
    }

    fn handle_earlier_calls(&mut self, now: Instant, count: usize, out: &mut Vec<Output>) {
        self.handle_earlier_calls(now, count, out);
    }

    fn adopt(&mut self, now: Instant, pushes: Vec<Push>, out: &mut Vec<Output>) {
        self.adopt(now, pushes, out);
    }

    fn handle_push_written(&mut self, now: Instant, key: PushKey, out: &mut Vec<Output>) {
        self.handle_push_written(now, key, out);
    }

    fn handle_post_over(&mut self, now: Instant, len: usize) {
        self.handle_post_over(now, len);
    }

    fn handle_deadline(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.handle_deadline(now, out);
    }

    fn handle_shutdown(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.handle_shutdown(now, out);
    }

    fn handle_end(&mut self, now: Instant, reason: FailReason, out: &mut Vec<Output>) -> Vec<Push> {
        self.handle_end(now, reason, out)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline()
    }

    fn wants_read(&self) -> bool {
        self.wants_read()
    }

    fn pending(&self) -> Pending {
        self.pending()
    }
}
