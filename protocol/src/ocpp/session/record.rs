//! Writes a session down for another process, and reads it back.
//!
//! Only a quiet session moves: what is at the backend, and what an ingress request waits for, stays with the process that has it.
//! Keys name what is under way in one process, so they are not written: what has one gets a new one.

mod call;
mod push;

use std::rc::Rc;
use std::time::Instant;

use self::push::{read_push, write_push};
use super::answered_ids::AnsweredIds;
use super::call_list::{Call, CallState};
use super::credits::Credits;
use super::keepalive::Keepalive;
use super::limits::Limits;
use super::pace::Pace;
use super::push_list::PushState;
use super::traffic::Traffic;
use super::{Phase, Session};
use crate::ocpp::ids::{Action, MessageId};
use crate::ocpp::output::PushKey;
use crate::ocpp::outputs::Outputs;
use crate::ocpp::subprotocol::Subprotocol;
use crate::record::{Field, Fields, RecordError, Writer};

impl Session {
    /// Whether another process may go on with it: nothing of it is at the backend, nobody waits for one of its pushes, and it is
    /// not on its way to its end.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.phase == Phase::Open
            && self.requests_count() == 0
            && self.credits.earlier_calls() == 0
            && !self.pushes.has_waiter()
    }

    /// It is to move to another process as soon as it is quiet; or it is not any more. So that it becomes quiet, Calls that wait for
    /// another one are not begun until then: they move, too.
    pub fn handle_move(&mut self, now: Instant, is_wanted: bool, out: &mut Outputs) {
        let holds_calls = is_wanted && self.phase == Phase::Open;
        if self.phase >= Phase::Closing || self.holds_calls == holds_calls {
            return;
        }
        let read_before = self.wants_read();
        self.holds_calls = holds_calls;
        if !read_before {
            // It could not be heard until now.
            self.keepalive.heard(now);
        }
        self.go_on_with_calls(now, out);
    }

    /// Writes it down. It has to be quiet, and every frame that it has sent has left.
    pub fn write_record(&self, now: Instant, record: &mut Writer<'_>) {
        debug_assert!(self.is_quiet(), "the rest of it would be lost");
        record.number(field::SUBPROTOCOL, subprotocol_number(self.subprotocol));
        record.flag(field::HAS_SPOKEN, self.has_spoken);
        record.number(field::BAD_FRAMES, self.bad_frames.into());
        // What could not be heard here is not silent there.
        let is_deaf = self.holds_calls && !self.wants_read();
        self.keepalive.write_record(now, is_deaf, record);
        if let Some(pace) = &self.pace {
            record.fields(field::PACE, |record| pace.write_record(now, record));
        }
        if self.traffic != Traffic::default() {
            record.fields(field::TRAFFIC, |record| self.traffic.write_record(record));
        }
        self.credits.write_record(record);
        for call in self.calls.iter() {
            record.fields(field::CALLS, |record| call.write_record(now, record));
        }
        for (state, push) in self.pushes.iter() {
            record.fields(field::PUSHES, |record| write_push(*state, push, now, record));
        }
        if let Some(answered_ids) = &self.answered_ids {
            answered_ids.write_record(record);
        }
    }

    /// Another process has it now: nothing comes out of it any more, and nothing of it has an outcome here.
    pub fn handle_handed_over(&mut self) {
        self.phase = Phase::Ended;
        self.calls.clear();
        self.pushes.clear();
        self.answered_ids = None;
        self.pace = None;
    }

    /// Reads what [`write_record`](Self::write_record) wrote. What may begin here at once does so with [`Session::resume`].
    ///
    /// # Errors
    /// It is no record of a session.
    pub fn from_record(mut fields: Fields<'_>, limits: Rc<Limits>, now: Instant) -> Result<Self, RecordError> {
        let mut session = Self::new(Subprotocol::None, limits, 0, now);
        let mut answered_ids = AnsweredIds::default();
        while let Some(field) = fields.next()? {
            match field.number {
                field::SUBPROTOCOL => session.subprotocol = subprotocol(&field)?,
                field::HAS_SPOKEN => session.has_spoken = field.flag()?,
                field::BAD_FRAMES => session.bad_frames = field.number()?,
                field::HEARD | field::PING_AFTER | field::PINGED => {
                    session.keepalive.read_field(&field, &session.limits, now)?;
                }
                field::PACE => session.pace = Some(Box::new(Pace::from_record(field.fields(), now)?)),
                field::TRAFFIC => session.traffic = Traffic::from_record(field.fields())?,
                field::POSTS | field::POSTS_LEN => session.credits.read_field(&field)?,
                field::CALLS => session.restore_call(&field, now)?,
                field::PUSHES => session.restore_push(&field, now)?,
                field::RESULTS | field::ANSWERED => answered_ids.read_field(&field)?,
                _ => {}
            }
        }
        if session.limits.call_interval().is_none() {
            // Nothing would ever release it.
            session.pace = None;
        }
        session.answered_ids = (!answered_ids.is_empty()).then(|| Box::new(answered_ids));
        Ok(session)
    }

    /// It goes on here, where there may be more room than where it was.
    pub fn resume(&mut self, now: Instant, out: &mut Outputs) {
        self.send_calls(now, out);
        self.send_pushes(out);
    }

    fn restore_call(&mut self, field: &Field<'_>, now: Instant) -> Result<(), RecordError> {
        let key = self.call_key();
        let call = Call::from_record(key, field, now)?;
        if call.state != CallState::Queued && self.calls.queued() > 0 {
            return Err(field.wrong());
        }
        self.calls.push(call);
        Ok(())
    }

    fn restore_push(&mut self, field: &Field<'_>, now: Instant) -> Result<(), RecordError> {
        let key = PushKey(self.key_next);
        self.key_next += 1;
        let (state, push) = read_push(key, field, now)?;
        let is_sent = !matches!(state, PushState::Queued | PushState::Held(_));
        if is_sent && self.pushes.queued() > 0 || self.pushes.contains(push.message_id.as_str()) {
            return Err(field.wrong());
        }
        self.pushes.restore(state, push);
        Ok(())
    }
}

impl Keepalive {
    fn write_record(&self, now: Instant, is_deaf: bool, record: &mut Writer<'_>) {
        if !is_deaf {
            record.duration(field::HEARD, self.silent_for(now));
        }
        record.number(field::PING_AFTER, self.ping_after_ms.into());
        record.flag(field::PINGED, self.pinged && !is_deaf);
    }

    fn read_field(&mut self, field: &Field<'_>, limits: &Limits, now: Instant) -> Result<(), RecordError> {
        match field.number {
            field::HEARD => self.heard_at = field.time_before(now)?,
            field::PING_AFTER => {
                // Where clients are pinged sooner now, so is this one.
                let longest = Self::new(0, limits, now).ping_after_ms;
                self.ping_after_ms = field.number::<u32>()?.min(longest);
            }
            _ => self.pinged = field.flag()?,
        }
        Ok(())
    }
}

impl Pace {
    fn write_record(&self, now: Instant, record: &mut Writer<'_>) {
        record.duration(1, self.paid_until.saturating_duration_since(now));
        record.flag(2, self.is_held);
    }

    fn from_record(mut fields: Fields<'_>, now: Instant) -> Result<Self, RecordError> {
        let mut pace = Self::new(now);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => pace.paid_until = field.time_after(now)?,
                2 => pace.is_held = field.flag()?,
                _ => {}
            }
        }
        Ok(pace)
    }
}

impl Traffic {
    fn write_record(&self, record: &mut Writer<'_>) {
        record.number(1, self.bytes_in);
        record.number(2, self.bytes_out);
        record.number(3, self.frames_in.into());
        record.number(4, self.frames_out.into());
        record.number(5, self.calls.into());
        record.number(6, self.pushes.into());
        record.number(7, self.bad_frames.into());
    }

    fn from_record(mut fields: Fields<'_>) -> Result<Self, RecordError> {
        let mut traffic = Self::default();
        while let Some(field) = fields.next()? {
            match field.number {
                1 => traffic.bytes_in = field.number::<u64>()?.min(BYTES_MAX),
                2 => traffic.bytes_out = field.number::<u64>()?.min(BYTES_MAX),
                3 => traffic.frames_in = field.number()?,
                4 => traffic.frames_out = field.number()?,
                5 => traffic.calls = field.number()?,
                6 => traffic.pushes = field.number()?,
                7 => traffic.bad_frames = field.number()?,
                _ => {}
            }
        }
        Ok(traffic)
    }
}

impl Credits {
    fn write_record(self, record: &mut Writer<'_>) {
        record.number(field::POSTS, self.posts.into());
        record.number(field::POSTS_LEN, self.posts_len.into());
    }

    fn read_field(&mut self, field: &Field<'_>) -> Result<(), RecordError> {
        match field.number {
            field::POSTS => self.posts = field.number()?,
            _ => self.posts_len = field.number()?,
        }
        Ok(())
    }
}

impl AnsweredIds {
    fn write_record(&self, record: &mut Writer<'_>) {
        for (message_id, action) in &self.results {
            record.fields(field::RESULTS, |record| {
                record.bytes(1, message_id.as_str().as_bytes());
                record.bytes(2, action.as_str().as_bytes());
            });
        }
        for message_id in &self.deferred {
            record.bytes(field::ANSWERED, message_id.as_str().as_bytes());
        }
    }

    fn read_field(&mut self, field: &Field<'_>) -> Result<(), RecordError> {
        if field.number == field::ANSWERED {
            self.remember_deferred(message_id(field)?);
            return Ok(());
        }
        let (mut id, mut action) = (None, None);
        let mut fields = field.fields();
        while let Some(part) = fields.next()? {
            match part.number {
                1 => id = Some(message_id(&part)?),
                2 => action = Some(self::action(&part)?),
                _ => {}
            }
        }
        let (id, action) = id.zip(action).ok_or_else(|| field.wrong())?;
        self.remember_result(id, action);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.results.is_empty() && self.deferred.is_empty()
    }
}

fn message_id(field: &Field<'_>) -> Result<MessageId, RecordError> {
    MessageId::parse(field.text()?).map_err(|_| field.wrong())
}

fn action(field: &Field<'_>) -> Result<Action, RecordError> {
    Action::parse(field.text()?).map_err(|_| field.wrong())
}

fn subprotocol_number(subprotocol: Subprotocol) -> u64 {
    match subprotocol {
        Subprotocol::None => 0,
        Subprotocol::Ocpp16 => 1,
        Subprotocol::Ocpp201 => 2,
        Subprotocol::Ocpp21 => 3,
        Subprotocol::Other(index) => OTHER + u64::from(index),
    }
}

fn subprotocol(field: &Field<'_>) -> Result<Subprotocol, RecordError> {
    Ok(match field.number::<u64>()? {
        0 => Subprotocol::None,
        1 => Subprotocol::Ocpp16,
        2 => Subprotocol::Ocpp201,
        3 => Subprotocol::Ocpp21,
        other => {
            let index = other.checked_sub(OTHER).and_then(|index| u8::try_from(index).ok());
            Subprotocol::Other(index.ok_or_else(|| field.wrong())?)
        }
    })
}

/// A session's fields.
mod field {
    use crate::record::LIST;

    pub(super) const SUBPROTOCOL: u32 = 1;
    pub(super) const HAS_SPOKEN: u32 = 2;
    pub(super) const BAD_FRAMES: u32 = 3;
    pub(super) const HEARD: u32 = 4;
    pub(super) const PING_AFTER: u32 = 5;
    pub(super) const PINGED: u32 = 6;
    pub(super) const PACE: u32 = 7;
    pub(super) const TRAFFIC: u32 = 8;
    pub(super) const POSTS: u32 = 9;
    pub(super) const POSTS_LEN: u32 = 10;
    pub(super) const CALLS: u32 = LIST;
    pub(super) const PUSHES: u32 = LIST + 1;
    pub(super) const RESULTS: u32 = LIST + 2;
    pub(super) const ANSWERED: u32 = LIST + 3;
}

/// Subprotocols of the configuration are written as their index and this.
const OTHER: u64 = 16;
/// Counts of bytes are added to; no connection comes so far.
const BYTES_MAX: u64 = u64::MAX / 2;
