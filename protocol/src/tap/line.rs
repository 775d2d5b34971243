//! Makes the line that an operator reads of a [`Record`]: one JSON object.
//!
//! A message that is JSON on one line is in it as it was, byte for byte, under `message`; another text as a string, under `text`. What
//! is not shown says why, under `omitted`.

use super::{Kind, Mask, Record};
use crate::ocpp::json;

/// What stands in a line beside its record.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// When it was, as RFC 3339 has it.
    pub at: &'p str,
    /// The shard that told it.
    pub shard: usize,
}

/// Appends the line, its line break included. `scratch` is overwritten.
pub fn write(record: &Record<'_>, place: Place<'_>, mask: &Mask, scratch: &mut String, line: &mut String) {
    let Some(kind) = record.kind else { return };
    line.push_str("{\"at\":");
    json::write_string(line, place.at);
    member(line, "shard");
    number(line, place.shard as u64);
    texts(line, "clientId", record.client);
    texts(line, "connectionId", record.connection);
    if let Some(direction) = record.direction {
        texts(line, "direction", direction.name());
    }
    texts(line, "type", kind.name());
    texts(line, "messageId", record.message_id);
    texts(line, "action", record.action);
    match kind {
        Kind::Connect => {
            texts(line, "address", record.address);
            texts(line, "subprotocol", record.subprotocol);
        }
        Kind::Disconnect => {
            member(line, "code");
            number(line, record.code.into());
            texts(line, "reason", record.reason);
        }
        Kind::Refused => {
            texts(line, "address", record.address);
            member(line, "status");
            number(line, record.code.into());
            texts(line, "reason", record.reason);
        }
        _ => {
            member(line, "size");
            number(line, record.size);
            if kind == Kind::Close && record.code > 0 {
                member(line, "code");
                number(line, record.code.into());
                texts(line, "reason", record.reason);
            }
            if kind.is_text() {
                message(line, record.text, mask, scratch);
            }
        }
    }
    line.push_str("}\n");
}

/// Appends the line that says how many are missing here.
pub fn write_lost(count: u64, line: &mut String) {
    line.push_str("{\"lost\":");
    number(line, count);
    line.push_str("}\n");
}

fn message(line: &mut String, text: Option<&str>, mask: &Mask, scratch: &mut String) {
    let Some(text) = text else {
        return texts(line, "omitted", "too long");
    };
    scratch.clear();
    if mask.write(text, scratch).is_err() {
        return texts(line, "omitted", "not JSON, so tap_mask can't be kept");
    }
    let has_break = memchr::memchr2(b'\n', b'\r', scratch.as_bytes()).is_some();
    if !has_break && json::check_text(scratch, json::DEPTH_MAX).is_ok() {
        member(line, "message");
        line.push_str(scratch);
    } else {
        member(line, "text");
        json::write_string(line, scratch);
    }
}

fn texts(line: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        member(line, name);
        json::write_string(line, value);
    }
}

fn member(line: &mut String, name: &str) {
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":");
}

fn number(line: &mut String, number: u64) {
    line.push_str(itoa::Buffer::new().format(number));
}
