//! Writes what a client says. Subjects are what [`is_subject`] says of them; whoever calls has seen to it.

use std::io::Write as _;

/// Asks whether the server is there.
pub const PING: &[u8] = b"PING\r\n";
/// Says that the client is.
pub const PONG: &[u8] = b"PONG\r\n";

/// Whether something can be published or subscribed to there: tokens between dots, none of them empty, without white space.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    let is_fine = |byte: u8| byte > b' ' && byte != 0x7f;
    text.len() <= SUBJECT_LEN_MAX && text.bytes().all(is_fine) && text.split('.').all(|token| !token.is_empty())
}

/// Appends a subscription, to be known by `sid` until it ends. Of all in a queue one gets each message.
pub fn subscribe(out: &mut Vec<u8>, subject: &str, queue: Option<&str>, sid: u64) {
    debug_assert!(is_subject(subject) && queue.is_none_or(is_subject));
    let queue = queue.unwrap_or_default();
    let space = if queue.is_empty() { "" } else { " " };
    write(out, format_args!("SUB {subject} {queue}{space}{sid}\r\n"));
}

/// Appends a subscription's end.
pub fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    write(out, format_args!("UNSUB {sid}\r\n"));
}

/// Appends something that is published.
pub fn publish(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, payload: &[u8]) {
    debug_assert!(is_subject(subject) && reply.is_none_or(is_subject));
    let reply = reply.unwrap_or_default();
    let space = if reply.is_empty() { "" } else { " " };
    write(out, format_args!("PUB {subject} {reply}{space}{}\r\n", payload.len()));
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn write(out: &mut Vec<u8>, line: std::fmt::Arguments<'_>) {
    out.write_fmt(line).expect("there is room in memory");
}

/// With everything else on the line it is shorter than servers allow.
const SUBJECT_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_has_the_protocols_form() {
        let mut out = Vec::new();
        subscribe(&mut out, "a.b", None, 1);
        subscribe(&mut out, "a.*", Some("node"), u64::MAX);
        unsubscribe(&mut out, 7);
        publish(&mut out, "a.b", None, b"");
        publish(&mut out, "a.b", Some("c"), b"x\r\ny");
        let expected =
            "SUB a.b 1\r\nSUB a.* node 18446744073709551615\r\nUNSUB 7\r\nPUB a.b 0\r\n\r\nPUB a.b c 4\r\nx\r\ny\r\n";
        assert_eq!(str::from_utf8(&out).unwrap(), expected);
    }

    #[test]
    fn a_subject_cannot_be_another_line() {
        for subject in ["a", "ws2api.client.Q1AgMQ", "a.*", "a.>", "ü", &"x".repeat(1024)] {
            assert!(is_subject(subject), "{subject}");
        }
        for subject in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\r\nPUB x 0",
            "a\t",
            "a\0",
            "a\x7f",
            &"x".repeat(1025),
        ] {
            assert!(!is_subject(subject), "{subject:?}");
        }
    }
}
