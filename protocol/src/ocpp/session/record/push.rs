//! Writes down a push that has no outcome yet.

use std::time::Instant;

use super::message_id;
use crate::ocpp::output::{Push, PushKey, Text};
use crate::ocpp::session::push_list::PushState;
use crate::record::{Field, RecordError, Writer};
use crate::trace_context::TraceParent;

pub(super) fn write_push(state: PushState, push: &Push, now: Instant, record: &mut Writer<'_>) {
    record.bytes(MESSAGE_ID, push.message_id.as_str().as_bytes());
    record.bytes(ACTION, push.action.as_str().as_bytes());
    match state {
        PushState::Queued => {}
        PushState::Held(_) => record.number(STATE, HELD),
        // Its frame has left, and no time was set for it.
        PushState::Sent(_) => record.number(STATE, SENT),
        PushState::Written(..) => record.number(STATE, WRITTEN),
    }
    if let PushState::Held(deadline) | PushState::Written(_, deadline) = state {
        record.duration(LEFT, deadline.saturating_duration_since(now));
    }
    if !push.payload.is_empty() {
        record.bytes(PAYLOAD, push.payload.as_bytes());
    }
    if let Some(trace) = &push.trace {
        record.bytes(TRACE, trace.as_str().as_bytes());
    }
}

pub(super) fn read_push(key: PushKey, field: &Field<'_>, now: Instant) -> Result<(PushState, Push), RecordError> {
    let (mut id, mut action, mut payload) = (None, None, Text::default());
    let (mut state, mut deadline, mut trace) = (0_u64, now, None);
    let mut fields = field.fields();
    while let Some(part) = fields.next()? {
        match part.number {
            MESSAGE_ID => id = Some(message_id(&part)?),
            ACTION => action = Some(super::action(&part)?),
            STATE => state = part.number()?,
            LEFT => deadline = part.time_after(now)?,
            PAYLOAD => payload = part.text()?.into(),
            TRACE => trace = Some(TraceParent::parse(part.bytes()).ok_or_else(|| part.wrong())?.into()),
            _ => {}
        }
    }
    let (message_id, action) = id.zip(action).ok_or_else(|| field.wrong())?;
    let state = match state {
        0 => PushState::Queued,
        HELD => PushState::Held(deadline),
        SENT => PushState::Sent(key),
        WRITTEN => PushState::Written(key, deadline),
        _ => return Err(field.wrong()),
    };
    // What waits has a JSON value to be sent, and what was sent has none any more.
    let waits = matches!(state, PushState::Queued | PushState::Held(_));
    if waits == payload.is_empty() {
        return Err(field.wrong());
    }
    let push = Push {
        action,
        message_id,
        payload,
        waiter: None,
        trace,
    };
    Ok((state, push))
}

const MESSAGE_ID: u32 = 1;
const ACTION: u32 = 2;
const STATE: u32 = 3;
const LEFT: u32 = 4;
const PAYLOAD: u32 = 5;
const TRACE: u32 = 6;

/// What `STATE` says where it does not wait for others alone.
const HELD: u64 = 1;
const SENT: u64 = 2;
const WRITTEN: u64 = 3;
