//! `ws2api tap`: the clients' frames as they come, laid out for a terminal, or line by line as they are.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::failure::Failure;
use super::http::{Ask, Stream};
use super::interrupt;
use super::json_text;
use super::screen::{Paint, Screen};
use super::session::Session;
use protocol::ocpp::json;
use protocol::tap::Kind;

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    let mut target = String::from("/tap");
    for name in ["client", "action", "direction"] {
        if let Some(value) = session.args.flag(name) {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.extend([name, "="]);
            target.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
    }
    let admin = session.admin()?.with_timeout(None);
    let interrupt = Interrupt::watch()?;
    let mut stream = admin.open(Ask::get(&target), usize::MAX)?;
    if matches!(stream.status, 401 | 403) {
        // It says the same to whoever asks for anything.
        let answer = admin.ask(Ask::get(&target))?;
        return Err(Failure::Refused(answer.why()));
    }
    if stream.status != 200 {
        let words = stream.rest()?;
        return Err(match stream.status {
            400 => Failure::Usage(words),
            _ => Failure::Refused(words),
        });
    }
    interrupt.ends(stream.socket()?);
    let result = show(session, &mut stream);
    // What was asked for has been done, however much there would have been.
    if interrupt.has_come() { Ok(()) } else { result }
}

fn show(session: &mut Session<'_>, stream: &mut Stream) -> Result<(), Failure> {
    let is_laid_out = session.screen.is_terminal() && !session.screen.is_json();
    let mut bytes = Vec::new();
    while stream.read(&mut bytes)? {
        let Some(end) = memchr::memrchr(b'\n', &bytes) else {
            continue;
        };
        for line in bytes[..end].split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            if is_laid_out {
                lay_out(&mut session.screen, &line)?;
            } else {
                session.screen.line(&line)?;
            }
        }
        session.screen.flush()?;
        bytes.drain(..=end);
    }
    Err(Failure::Nobody("the process has ended, and the tap with it".to_owned()))
}

/// A line for people: when, who, which way, what; and the payload, over several lines if it is long.
fn lay_out(screen: &mut Screen, line: &str) -> Result<(), Failure> {
    let Ok(object) = serde_json::from_str::<Value>(line) else {
        return Ok(screen.line(&super::screen::shown(line))?);
    };
    if let Some(lost) = object["lost"].as_u64() {
        let words = format!("{lost} lines are missing here: they came faster than they are shown");
        return Ok(screen.cells(&[(Paint::Bad, words)])?);
    }
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let kind = Kind::parse(text("type"));
    let (arrow, paint) = match (text("direction"), kind) {
        ("in", _) => ("\u{2192}", Paint::Good),
        ("out", _) => ("\u{2190}", Paint::Name),
        (_, Some(Kind::Connect)) => ("+", Paint::Strong),
        (_, Some(Kind::Refused)) => ("\u{d7}", Paint::Bad),
        _ => ("-", Paint::Strong),
    };
    let paint = if kind == Some(Kind::CallError) {
        Paint::Bad
    } else {
        paint
    };
    let mut cells = vec![
        (Paint::Soft, time(text("at")).to_owned()),
        (Paint::Strong, format!("{:CLIENT_WIDTH$}", text("clientId"))),
        (paint, format!("{arrow} {:TYPE_WIDTH$}", text("type"))),
        (Paint::Plain, format!("{:ACTION_WIDTH$}", text("action"))),
        (Paint::Soft, text("messageId").to_owned()),
    ];
    match kind {
        Some(Kind::Connect) => cells.push((Paint::Plain, format!("{} {}", text("address"), text("subprotocol")))),
        Some(Kind::Disconnect | Kind::Close) => {
            cells.push((Paint::Plain, format!("{} {}", object["code"], text("reason"))));
        }
        Some(Kind::Refused) => {
            let words = format!("{} {} {}", text("address"), object["status"], text("reason"));
            cells.push((Paint::Plain, words));
        }
        _ => cells.push((Paint::Soft, format!("{} B", object["size"]))),
    }
    for (name, paint) in [("text", Paint::Warn), ("omitted", Paint::Soft)] {
        if !text(name).is_empty() {
            cells.push((paint, text(name).to_owned()));
        }
    }
    let payload = raw_message(line).and_then(|message| payload(message, kind));
    let is_short = payload.is_some_and(|payload| payload.len() <= PAYLOAD_SHORT);
    screen.line(&cells_text(screen, &cells, payload.filter(|_| is_short)))?;
    if let Some(payload) = payload.filter(|_| !is_short) {
        let pretty = json_text::pretty(screen, payload);
        for row in pretty.lines() {
            screen.line(&format!("{INDENT}{row}"))?;
        }
    }
    Ok(())
}

fn cells_text(screen: &Screen, cells: &[(Paint, String)], payload: Option<&str>) -> String {
    let cells = cells.iter().filter(|(_, text)| !text.is_empty());
    let mut text: Vec<String> = cells.map(|(paint, text)| screen.paint(*paint, text)).collect();
    text.extend(payload.map(|payload| screen.paint(Paint::Plain, payload)));
    text.join(" ").trim_end().to_owned()
}

/// The message in a line, as it was: it is the last member, and its name in quotes can stand in no string before it.
pub(super) fn raw_message(line: &str) -> Option<&str> {
    const NAME: &str = ",\"message\":";
    let at = line.find(NAME)?;
    line[at + NAME.len()..].strip_suffix('}')
}

/// What a frame carries behind its names: all of it where it is no frame.
fn payload(message: &str, kind: Option<Kind>) -> Option<&str> {
    let elements = json::split_array(message, json::DEPTH_MAX);
    let elements = elements.as_slice();
    match kind {
        Some(Kind::Call | Kind::Send) => elements.get(3).copied(),
        Some(Kind::CallResult) => elements.get(2).copied(),
        Some(Kind::CallError | Kind::CallResultError) => {
            // From the code to the end.
            let first = elements.get(2)?;
            let start = first.as_ptr() as usize - message.as_ptr() as usize;
            message.get(start..).map(|rest| rest.trim_end().trim_end_matches(']'))
        }
        _ => Some(message),
    }
}

/// The time of day.
fn time(at: &str) -> &str {
    at.get(11..23).unwrap_or(at)
}

/// Ends the stream when somebody presses Ctrl-C: the last line is whole.
#[derive(Clone, Default)]
struct Interrupt {
    has_come: Arc<AtomicBool>,
    socket: Arc<Mutex<Option<TcpStream>>>,
}

impl Interrupt {
    fn watch() -> Result<Self, Failure> {
        let interrupt = Self::default();
        let watching = interrupt.clone();
        interrupt::watch(move || {
            let socket = watching.socket.lock().unwrap_or_else(PoisonError::into_inner);
            match &*socket {
                Some(socket) if !watching.has_come.swap(true, Ordering::Relaxed) => {
                    let _ = socket.shutdown(Shutdown::Both);
                    true
                }
                _ => false,
            }
        })?;
        Ok(interrupt)
    }

    /// What is read.
    fn ends(&self, socket: TcpStream) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }
}

const CLIENT_WIDTH: usize = 12;
const TYPE_WIDTH: usize = 15;
const ACTION_WIDTH: usize = 22;
/// A payload of so many bytes stands in the line.
const PAYLOAD_SHORT: usize = 60;
const INDENT: &str = "             ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_cut_out_of_its_message_as_it_was() {
        for (kind, message, expected) in [
            (Kind::Call, r#"[2,"1","A",{"a":1.0}]"#, Some(r#"{"a":1.0}"#)),
            (Kind::CallResult, r#"[3,"1",{} ]"#, Some("{}")),
            (
                Kind::CallError,
                r#"[4,"1","Code","words",{}]"#,
                Some(r#""Code","words",{}"#),
            ),
            (Kind::CallError, r#"[4,"1"]"#, None),
            (Kind::Other, r#"{"a":1}"#, Some(r#"{"a":1}"#)),
        ] {
            assert_eq!(payload(message, Some(kind)), expected, "{message}");
        }
        let line = r#"{"clientId":",\"message\":","size":1,"message":[2,"message",",\"message\":{}"]}"#;
        assert_eq!(raw_message(line), Some(r#"[2,"message",",\"message\":{}"]"#));
        assert_eq!(raw_message(r#"{"lost":1}"#), None);
    }
}
