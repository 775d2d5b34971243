//! `ws2api push ID ACTION [JSON] [--wait TIME]`: a Call to a client, as the backend would send it.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::clients::{client_id, not_connected, parsed, refused};
use super::failure::Failure;
use super::http::{Answer, Ask};
use super::json_text::pretty;
use super::screen::Paint;
use super::session::Session;
use protocol::ocpp::{Action, json};

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    let id = session.word(0);
    let client = client_id(id)?;
    let action = session.word(1);
    let action =
        Action::parse(action).map_err(|error| Failure::Usage(format!("\"{action}\" is no Action: {error}")))?;
    let payload = payload(session.word(2))?;
    let wait = session.args.flag("wait").map(seconds).transpose()?;
    let message_id = message_id();
    let target = format!("/call/{}/{}/{message_id}", action.encoded(), client.encoded());
    let prefer = wait.map(|wait| format!("wait={wait}"));
    let headers: Vec<(&str, &str)> = prefer.iter().map(|prefer| ("Prefer", prefer.as_str())).collect();
    let ingress = session.ingress()?;
    let ingress = match wait {
        Some(wait) => ingress.with_timeout(Some(Duration::from_secs(wait) + ANSWER_GRACE)),
        None => ingress,
    };
    let answer = ingress.ask(Ask {
        headers: &headers,
        body: Some(payload.as_bytes()),
        ..Ask::post(&target)
    })?;
    if session.screen.is_json() {
        return as_json(session, id, &message_id, &answer);
    }
    match answer.status {
        202 => {
            let accepted: Value = parsed(&answer)?;
            let is_sent = accepted["status"] == "sent";
            let words = if is_sent { "sent" } else { "queued behind others" };
            let connection = accepted["connectionId"].as_str().unwrap_or("–");
            session.screen.cells(&[
                (if is_sent { Paint::Good } else { Paint::Warn }, words.to_owned()),
                (
                    Paint::Soft,
                    format!("as {message_id} over connection {connection}; --wait 10s shows the answer"),
                ),
            ])?;
            Ok(())
        }
        200 => {
            let text = pretty(&session.screen, &answer.body);
            session.screen.line(&text)?;
            Ok(())
        }
        _ => Err(failure(id, &answer)),
    }
}

/// The answer in one line, whatever it is; the exit code says the same.
fn as_json(session: &mut Session<'_>, id: &str, message_id: &str, answer: &Answer) -> Result<(), Failure> {
    let outcome = match answer.status {
        202 => None,
        200 => Some(("answered", "payload")),
        422 => Some(("error", "error")),
        504 => Some(("timeout", "error")),
        502 => Some(("lost", "error")),
        _ => return Err(failure(id, answer)),
    };
    // What came in several lines is one all the same: nothing but white space has line ends in JSON.
    let body = answer.body.replace(['\n', '\r'], " ");
    let line = match outcome {
        None => body,
        Some((status, name)) => format!(
            r#"{{"status":"{status}","clientId":{},"messageId":{},"{name}":{}}}"#,
            json::string(id),
            json::string(message_id),
            body.trim()
        ),
    };
    session.screen.line(&line)?;
    session.screen.flush()?;
    if answer.status < 300 {
        Ok(())
    } else {
        Err(failure(id, answer))
    }
}

fn failure(id: &str, answer: &Answer) -> Failure {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let sent = if body["details"]["sent"] == true {
        "the frame was sent: a repeat may run twice"
    } else {
        "the frame was not sent"
    };
    match answer.status {
        404 => not_connected(id),
        422 => {
            let word = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            let details = match &body["details"] {
                Value::Object(details) if details.is_empty() => String::new(),
                Value::Null => String::new(),
                details => format!(" {details}"),
            };
            Failure::Refused(format!(
                "{id} answers with a CallError: {} {}{details}",
                word("code"),
                json::string(&word("description"))
            ))
        }
        504 => Failure::Refused(format!("{id} has not answered in time; {sent}")),
        502 => Failure::Refused(format!("{id} went before it answered; {sent}")),
        _ => refused(&format!("the push to {id} is refused"), answer),
    }
}

/// `{}`, JSON, a file's or standard input's.
fn payload(word: &str) -> Result<String, Failure> {
    let bytes = match word {
        "" => return Ok("{}".to_owned()),
        "-" => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().take(PAYLOAD_LEN_MAX).read_to_end(&mut bytes);
            read.map_err(|error| Failure::Usage(format!("standard input: {error}")))?;
            bytes
        }
        word => match word.strip_prefix('@') {
            Some(file) => std::fs::read(file).map_err(|error| Failure::Usage(format!("{file}: {error}")))?,
            None => word.as_bytes().to_vec(),
        },
    };
    match json::check_value(&bytes, JSON_DEPTH_MAX) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(Failure::Usage(format!(
            "the payload is no JSON: {error}; written as '{{\"type\":\"Soft\"}}', @FILE or - for standard input"
        ))),
    }
}

/// Whole seconds, as `Prefer` has them: `10s`, `2m`, or a number.
fn seconds(text: &str) -> Result<u64, Failure> {
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => humantime::parse_duration(text)
            .ok()
            .map(|time| time.as_millis().div_ceil(1000) as u64),
    };
    let allowed = || Failure::Usage(format!("--wait {text}: a time from 1s to 1h, such as 10s"));
    seconds
        .filter(|seconds| (1..=3600).contains(seconds))
        .ok_or_else(allowed)
}

/// Nobody else's: the hasher is seeded anew in each process.
fn message_id() -> String {
    format!("cli-{:016x}", RandomState::new().hash_one(SystemTime::now()))
}

/// The process answers so long after the wait at the latest.
const ANSWER_GRACE: Duration = Duration::from_secs(15);
/// The process says what it takes; this keeps a device from filling the memory.
const PAYLOAD_LEN_MAX: u64 = 64 * 1024 * 1024;
const JSON_DEPTH_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_whole_seconds_within_an_hour() {
        for (text, wait) in [
            ("10s", Some(10)),
            ("7", Some(7)),
            ("1500ms", Some(2)),
            ("1h", Some(3600)),
        ] {
            assert_eq!(seconds(text).ok(), wait, "{text}");
        }
        for text in ["0", "0s", "2h", "soon", "-1s", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_payload_is_json_or_nothing() {
        assert_eq!(payload("").unwrap(), "{}");
        assert_eq!(payload(r#"{"a":1.0}"#).unwrap(), r#"{"a":1.0}"#);
        assert!(payload("{type:Soft}").is_err() && payload("@/nonexistent").is_err());
    }

    #[test]
    fn message_ids_differ_and_fit_every_subprotocol() {
        let (one, other) = (message_id(), message_id());
        assert_ne!(one, other);
        assert!(one.len() <= 36);
    }
}
