//! Gives a connection what it does with its messages: a client's [`Session`], or for a judge of the WebSocket side
//! something that needs no backend (examples/echo.rs).

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use protocol::mapping::Answer;
use protocol::ocpp::{CallKey, FailReason, Limits, Outputs, Pending, Push, PushKey, Session, Subprotocol, Traffic};
use protocol::record::{Fields, RecordError, Writer};

/// A client's message, or one for it. What is borrowed lies where it was received.
#[derive(Clone, Debug)]
pub enum Message<'m> {
    /// Text.
    Text(Cow<'m, str>),
    /// Anything else.
    Binary(Cow<'m, [u8]>),
}

/// One client's conversation, as [`Session`] has it.
pub trait Conversation: Sized + 'static {
    /// The opening handshake is done. `spread` is a random number.
    fn new(subprotocol: Subprotocol, limits: Rc<Limits>, spread: u32, now: Instant) -> Self;

    /// A message. Gives back one that is sent as it is.
    fn handle_message<'m>(&mut self, now: Instant, message: Message<'m>, out: &mut Outputs) -> Option<Message<'m>>;

    /// Another sign of life.
    fn handle_heard(&mut self, _now: Instant) {}

    /// The backend's answer to a Call.
    fn handle_answer(&mut self, _now: Instant, _key: CallKey, _answer: Answer<'_>, _out: &mut Outputs) {}

    /// How many answers to its Calls are still to come.
    fn requests_count(&self) -> usize {
        0
    }

    /// The backend still works on so many Calls of the client's earlier connections.
    fn handle_earlier_calls(&mut self, _now: Instant, _count: usize, _out: &mut Outputs) {}

    /// Pushes that the connection before it had not sent.
    fn adopt(&mut self, _now: Instant, _pushes: Vec<Push>, _out: &mut Outputs) {}

    /// A push's frame has left.
    fn handle_push_written(&mut self, _now: Instant, _key: PushKey, _out: &mut Outputs) {}

    /// What the client said, so many bytes, has been delivered to the backend or given up.
    fn handle_post_over(&mut self, _now: Instant, _len: usize) {}

    /// [`next_deadline`](Self::next_deadline) has passed.
    fn handle_deadline(&mut self, _now: Instant, _out: &mut Outputs) {}

    /// The process drains.
    fn handle_shutdown(&mut self, _now: Instant, _out: &mut Outputs) {}

    /// It is its turn to leave.
    fn handle_leave(&mut self, _now: Instant, _out: &mut Outputs) {}

    /// The connection is over. Gives back the pushes that were not sent.
    fn handle_end(&mut self, _now: Instant, _reason: FailReason, _out: &mut Outputs) -> Vec<Push> {
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

    /// What has gone to and fro.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// How long nothing was heard of the client.
    fn silent_for(&self, _now: Instant) -> Duration {
        Duration::ZERO
    }

    /// Bytes of the messages that it keeps.
    fn held_len(&self) -> usize {
        0
    }

    /// It is to move to another process, or not any more; see [`Session::handle_move`].
    fn handle_move(&mut self, _now: Instant, _is_wanted: bool, _out: &mut Outputs) {}

    /// Whether another process may go on with it; see [`Session::is_quiet`].
    fn is_quiet(&self) -> bool {
        false
    }

    /// What the client has said and is not delivered.
    fn posts_count(&self) -> usize {
        0
    }

    /// Writes it down for another process.
    fn write_record(&self, _now: Instant, _record: &mut Writer<'_>) {}

    /// Another process has it.
    fn handle_handed_over(&mut self) {}

    /// Reads what [`write_record`](Self::write_record) has written in another process.
    ///
    /// # Errors
    /// It is no such record.
    fn from_record(_fields: Fields<'_>, _limits: Rc<Limits>, _now: Instant) -> Result<Self, RecordError> {
        Err(RecordError::Form)
    }

    /// It goes on here.
    fn resume(&mut self, _now: Instant, _out: &mut Outputs) {}
}

impl Conversation for Session {
    fn new(subprotocol: Subprotocol, limits: Rc<Limits>, spread: u32, now: Instant) -> Self {
        Self::new(subprotocol, limits, spread, now)
    }

    fn handle_message<'m>(&mut self, now: Instant, message: Message<'m>, out: &mut Outputs) -> Option<Message<'m>> {
        match message {
            Message::Text(text) => self.handle_text(now, &text, out),
            Message::Binary(_) => self.handle_binary(out),
        }
        None
    }

    fn handle_heard(&mut self, now: Instant) {
        self.handle_heard(now);
    }

    fn handle_answer(&mut self, now: Instant, key: CallKey, answer: Answer<'_>, out: &mut Outputs) {
        self.handle_answer(now, key, answer, out);
    }

    fn requests_count(&self) -> usize {
        self.requests_count()
    }

    fn handle_earlier_calls(&mut self, now: Instant, count: usize, out: &mut Outputs) {
        self.handle_earlier_calls(now, count, out);
    }

    fn adopt(&mut self, now: Instant, pushes: Vec<Push>, out: &mut Outputs) {
        self.adopt(now, pushes, out);
    }

    fn handle_push_written(&mut self, now: Instant, key: PushKey, out: &mut Outputs) {
        self.handle_push_written(now, key, out);
    }

    fn handle_post_over(&mut self, now: Instant, len: usize) {
        self.handle_post_over(now, len);
    }

    fn handle_deadline(&mut self, now: Instant, out: &mut Outputs) {
        self.handle_deadline(now, out);
    }

    fn handle_shutdown(&mut self, now: Instant, out: &mut Outputs) {
        self.handle_shutdown(now, out);
    }

    fn handle_leave(&mut self, now: Instant, out: &mut Outputs) {
        self.handle_leave(now, out);
    }

    fn handle_end(&mut self, now: Instant, reason: FailReason, out: &mut Outputs) -> Vec<Push> {
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

    fn traffic(&self) -> Traffic {
        self.traffic()
    }

    fn silent_for(&self, now: Instant) -> Duration {
        self.silent_for(now)
    }

    fn held_len(&self) -> usize {
        self.held_len()
    }

    fn handle_move(&mut self, now: Instant, is_wanted: bool, out: &mut Outputs) {
        self.handle_move(now, is_wanted, out);
    }

    fn is_quiet(&self) -> bool {
        self.is_quiet()
    }

    fn posts_count(&self) -> usize {
        self.posts_count()
    }

    fn write_record(&self, now: Instant, record: &mut Writer<'_>) {
        self.write_record(now, record);
    }

    fn handle_handed_over(&mut self) {
        self.handle_handed_over();
    }

    fn from_record(fields: Fields<'_>, limits: Rc<Limits>, now: Instant) -> Result<Self, RecordError> {
        Self::from_record(fields, limits, now)
    }

    fn resume(&mut self, now: Instant, out: &mut Outputs) {
        self.resume(now, out);
    }
}
