//! Writes down a push that has not been sent, with whoever waits for it.

use super::{read_action, read_message_id};
use crate::ocpp::{Push, Text, Waiter};
use crate::record::{Field, RecordError, Writer};
use crate::trace_context::TraceParent;

pub(super) fn write_push(push: &Push, record: &mut Writer<'_>) {
    record.bytes(MESSAGE_ID, push.message_id.as_str().as_bytes());
    record.bytes(ACTION, push.action.as_str().as_bytes());
    record.bytes(PAYLOAD, push.payload.as_bytes());
    if let Some(trace) = &push.trace {
        record.bytes(TRACE, trace.as_str().as_bytes());
    }
    if let Some(waiter) = push.waiter {
        record.fields(WAITER, |record| write_waiter(waiter, record));
    }
}

pub(super) fn read_push(field: &Field<'_>) -> Result<Push, RecordError> {
    let (mut message_id, mut action, mut payload) = (None, None, Text::default());
    let (mut waiter, mut trace) = (None, None);
    let mut fields = field.fields();
    while let Some(part) = fields.next()? {
        match part.number {
            MESSAGE_ID => message_id = Some(read_message_id(&part)?),
            ACTION => action = Some(read_action(&part)?),
            PAYLOAD => payload = part.text()?.into(),
            TRACE => trace = Some(TraceParent::parse(part.bytes()).ok_or_else(|| part.wrong())?.into()),
            WAITER => waiter = Some(read_waiter(&part)?),
            _ => {}
        }
    }
    let (message_id, action) = message_id.zip(action).ok_or_else(|| field.wrong())?;
    if payload.is_empty() {
        return Err(field.wrong());
    }
    Ok(Push {
        action,
        message_id,
        payload,
        waiter,
        trace,
    })
}

pub(super) fn write_waiter(waiter: Waiter, record: &mut Writer<'_>) {
    record.number(1, waiter.process.into());
    record.number(2, waiter.shard.into());
    record.number(3, waiter.token);
    if waiter.node != 0 {
        record.number(4, waiter.node);
    }
    if waiter.is_moved {
        record.flag(5, true);
    }
}

pub(super) fn read_waiter(field: &Field<'_>) -> Result<Waiter, RecordError> {
    let mut waiter = Waiter::default();
    let mut fields = field.fields();
    while let Some(part) = fields.next()? {
        match part.number {
            1 => waiter.process = part.number()?,
            2 => waiter.shard = part.number()?,
            3 => waiter.token = part.number()?,
            4 => waiter.node = part.number()?,
            5 => waiter.is_moved = part.flag()?,
            _ => {}
        }
    }
    Ok(waiter)
}

const MESSAGE_ID: u32 = 1;
const ACTION: u32 = 2;
const PAYLOAD: u32 = 3;
const TRACE: u32 = 4;
const WAITER: u32 = 5;
