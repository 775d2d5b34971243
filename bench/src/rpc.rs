//! Builds the harness's own messages from numbers, so that each answer can be checked without remembering anything.
//!
//! A Call of client 27, round 5 is `[2,"m1b.5","Heartbeat",{"k":"m1b.5xxxx"}]`: its payload names it, so an answer
//! with another client's payload is seen. A push's payload names the client it is for and when it was due.

use std::io::Write;

use memchr::memmem;
use serde_json::value::RawValue;

/// The Action of the clients' Calls.
pub const CALL_ACTION: &str = "Heartbeat";
/// The Action of the pushes.
pub const PUSH_ACTION: &str = "Ping";

/// What a client's Calls look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Bytes of a payload; a shorter one than its id needs is as long as that takes.
    pub payload_len: usize,
}

impl Shape {
    /// Appends the Call.
    pub fn write_call(self, out: &mut Vec<u8>, client: u32, round: u32) {
        let _ = write!(out, "[2,\"m{client:x}.{round:x}\",\"{CALL_ACTION}\",");
        self.write_payload(out, client, round);
        out.push(b']');
    }

    /// Appends the only right CallResult.
    pub fn write_call_result(self, out: &mut Vec<u8>, client: u32, round: u32) {
        let _ = write!(out, "[3,\"m{client:x}.{round:x}\",");
        self.write_payload(out, client, round);
        out.push(b']');
    }

    /// Appends the payload.
    pub fn write_payload(self, out: &mut Vec<u8>, client: u32, round: u32) {
        let start = out.len();
        let _ = write!(out, "{{\"k\":\"m{client:x}.{round:x}");
        let padded = start + self.payload_len.saturating_sub(2);
        if out.len() < padded {
            out.resize(padded, b'x');
        }
        out.extend_from_slice(b"\"}");
    }
}

/// Appends the ClientId.
pub fn write_client_id(out: &mut Vec<u8>, client: u32) {
    let _ = write!(out, "c{client}");
}

/// Appends the JSON payload of push `number` to `client`.
pub fn write_push_payload(out: &mut Vec<u8>, client: u32, number: u64, due_ns: u64) {
    let _ = write!(out, "{{\"to\":\"c{client}\",\"push\":{number},\"due\":{due_ns}}}");
}

/// A text message, split; the payload is what follows the id (and the Action of a Call), byte for byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'a> {
    /// `[2, id, action, payload]`
    Call {
        /// MessageId, without quotes.
        id: &'a str,
        /// Action, without quotes.
        action: &'a str,
        /// The payload's bytes.
        payload: &'a [u8],
    },
    /// `[3, id, payload]`
    Result {
        /// MessageId, without quotes.
        id: &'a str,
        /// The payload's bytes.
        payload: &'a [u8],
    },
    /// `[4, id, code, description, details]`
    Error {
        /// MessageId, without quotes.
        id: &'a str,
    },
}

/// Splits a text message; `None` when it is none of ours. Ids with escapes are not ours.
#[must_use]
pub fn split(text: &[u8]) -> Option<Message<'_>> {
    let parts: Vec<&RawValue> = serde_json::from_slice(text).ok()?;
    let string = |index: usize| -> Option<&str> {
        let inner = parts.get(index)?.get().strip_prefix('"')?.strip_suffix('"')?;
        (!inner.contains('\\')).then_some(inner)
    };
    let id = string(1)?;
    match (parts[0].get(), parts.len()) {
        ("2", 4) => Some(Message::Call {
            id,
            action: string(2)?,
            payload: parts[3].get().as_bytes(),
        }),
        ("3", 3) => Some(Message::Result {
            id,
            payload: parts[2].get().as_bytes(),
        }),
        ("4", 5) => Some(Message::Error { id }),
        _ => None,
    }
}

/// The client and round that a Call's id names.
#[must_use]
pub fn parse_call_id(id: &str) -> Option<(u32, u32)> {
    let (client, round) = id.strip_prefix('m')?.split_once('.')?;
    Some((
        u32::from_str_radix(client, 16).ok()?,
        u32::from_str_radix(round, 16).ok()?,
    ))
}

/// The number that a push's id names (`p17`).
#[must_use]
pub fn parse_push_id(id: &str) -> Option<u64> {
    id.strip_prefix('p')?.parse().ok()
}

/// The ClientId, push number and due time that a push's payload names.
#[must_use]
pub fn parse_push_payload(payload: &[u8]) -> Option<(&str, u64, u64)> {
    #[derive(serde::Deserialize)]
    struct Payload<'a> {
        to: &'a str,
        push: u64,
        due: u64,
    }
    let payload: Payload<'_> = serde_json::from_slice(payload).ok()?;
    Some((payload.to, payload.push, payload.due))
}

/// Splits the front of a compact `[3,"id",…]` without validating the rest: what a relay that only frames looks at.
#[must_use]
pub fn compact_result(text: &[u8]) -> Option<(&str, &[u8])> {
    let rest = text.strip_prefix(b"[3,\"")?;
    let end = memchr::memchr(b'"', rest)?;
    let payload = rest[end..].strip_prefix(b"\",")?.strip_suffix(b"]")?;
    Some((str::from_utf8(&rest[..end]).ok()?, payload))
}

/// Splits a compact `[2,"id","Action",payload]` likewise: the id and the payload.
#[must_use]
pub fn compact_call(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = text.strip_prefix(b"[2,\"")?;
    let end = memchr::memchr(b'"', rest)?;
    let action = rest[end..].strip_prefix(b"\",\"")?;
    let action_end = memmem::find(action, b"\",")?;
    Some((&rest[..end], action[action_end + 2..].strip_suffix(b"]")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_has_the_length_asked_for() {
        let lengths = [16, 64, 1000];
        for len in lengths {
            let mut out = Vec::new();
            Shape { payload_len: len }.write_payload(&mut out, 27, 5);
            assert_eq!(out.len(), len);
            assert!(serde_json::from_slice::<serde_json::Value>(&out).unwrap().is_object());
        }
    }

    #[test]
    fn a_payload_too_short_for_its_id_is_still_json() {
        let mut out = Vec::new();
        Shape { payload_len: 0 }.write_payload(&mut out, u32::MAX, u32::MAX);
        assert_eq!(out, b"{\"k\":\"mffffffff.ffffffff\"}");
    }

    #[test]
    fn a_call_splits_into_what_it_was_built_of() {
        let mut out = Vec::new();
        Shape { payload_len: 64 }.write_call(&mut out, 27, 5);
        let Some(Message::Call { id, action, payload }) = split(&out) else {
            panic!("no Call")
        };
        assert_eq!((parse_call_id(id), action), (Some((27, 5)), CALL_ACTION));
        assert_eq!(compact_call(&out), Some((id.as_bytes(), payload)));
        assert_eq!(payload.len(), 64);
    }

    #[test]
    fn white_space_between_elements_is_free() {
        let message = split(b" [ 3 , \"m1.2\" , {\"k\": 1} ] ");
        assert_eq!(
            message,
            Some(Message::Result {
                id: "m1.2",
                payload: b"{\"k\": 1}"
            })
        );
    }

    #[test]
    fn what_is_no_message_is_none() {
        let texts = [
            "",
            "[]",
            "[3]",
            "[3,\"a\"]",
            "[3,1,{}]",
            "[3,\"a\",{}",
            "[5,\"a\",{}]",
            "{}",
            "[2,\"a\",3,{}]",
        ];
        for text in texts {
            assert_eq!(split(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_push_payload_comes_back() {
        let mut out = Vec::new();
        write_push_payload(&mut out, 9, 17, 123);
        assert_eq!(parse_push_payload(&out), Some(("c9", 17, 123)));
        assert_eq!(parse_push_id("p17"), Some(17));
        assert_eq!(parse_push_id("x17"), None);
    }
}
