//! Writes the JSON of ws2api's own: outcomes, notices and answers. Payloads of others pass through as they came.

use std::fmt::Write as _;

use super::identity::{ConnectionId, Identity};
use crate::ocpp::{Accepted, FailReason, MessageId, Outcome, Pending, Traffic, json};

/// Body of `/result` or `/error`, or of the answer to the request that waited for the push.
#[must_use]
pub fn outcome(outcome: &Outcome) -> &[u8] {
    match outcome {
        Outcome::Result(payload) => payload,
        Outcome::Error { body } => body,
        Outcome::Failed { reason, sent } => failed(*reason, *sent).as_bytes(),
    }
}

/// An outcome made here: `{"code":…,"description":…,"details":{"sent":…}}`.
#[must_use]
pub fn failed(reason: FailReason, sent: bool) -> &'static str {
    macro_rules! body {
        ($code:literal, $description:literal) => {
            if sent {
                concat!(
                    r#"{"code":""#,
                    $code,
                    r#"","description":""#,
                    $description,
                    r#"","details":{"sent":true}}"#
                )
            } else {
                concat!(
                    r#"{"code":""#,
                    $code,
                    r#"","description":""#,
                    $description,
                    r#"","details":{"sent":false}}"#
                )
            }
        };
    }
    match reason {
        FailReason::Timeout => body!("Timeout", "the client did not answer in time"),
        FailReason::Disconnected => body!("Disconnected", "the client's connection ended"),
        FailReason::Replaced => body!("Replaced", "the client connected anew"),
        FailReason::Shutdown => body!("Shutdown", "the proxy is shutting down"),
        FailReason::BadAnswer => body!("BadAnswer", "the client's answer could not be read"),
    }
}

/// Body of `202 Accepted`: `{"status":"sent"|"queued","messageId","connectionId"}`.
#[must_use]
pub fn accepted(accepted: Accepted, message_id: &MessageId, connection: &ConnectionId) -> String {
    let status = match accepted {
        Accepted::Sent => "sent",
        Accepted::Queued => "queued",
    };
    let mut body = String::with_capacity(ACCEPTED_LEN + json::string_len(message_id.as_str()));
    body.push_str(r#"{"status":""#);
    body.push_str(status);
    body.push_str(r#"","messageId":"#);
    json::write_string(&mut body, message_id.as_str());
    body.push_str(r#","connectionId":""#);
    body.push_str(connection.as_str());
    body.push_str(r#""}"#);
    body
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub struct Disconnection<'a> {
    /// RFC 6455, 7.4.1: the client's code, ours, or 1005 and 1006 for none.
    pub code: u16,
    /// The close frame's reason, or why there was none.
    pub reason: &'a str,
    /// How long the client was connected.
    pub seconds: u64,
    /// The connection that took its place.
    pub replaced_by: Option<ConnectionId>,
    /// The node that has that one, if it is another one.
    pub replaced_by_node: Option<&'a str>,
}

/// Body of `/disconnect`: `{"clientId","connectionId","code","reason","seconds"}`, and `"replacedBy"` where there is
/// one, and `"replacedByNode"` where another node has that.
#[must_use]
pub fn disconnect(identity: &Identity, end: &Disconnection<'_>) -> String {
    let (mut code, mut seconds) = (itoa::Buffer::new(), itoa::Buffer::new());
    let mut body = [
        r#"{"clientId":"#,
        &identity.client.json(),
        r#","connectionId":""#,
        identity.connection.as_str(),
        r#"","code":"#,
        code.format(end.code),
        r#","reason":"#,
        &json::string(end.reason),
        r#","seconds":"#,
        seconds.format(end.seconds),
    ]
    .concat();
    if let Some(by) = &end.replaced_by {
        body.push_str(r#","replacedBy":""#);
        body.push_str(by.as_str());
        body.push('"');
    }
    if let Some(node) = end.replaced_by_node {
        body.push_str(r#","replacedByNode":"#);
        json::write_string(&mut body, node);
    }
    body.push('}');
    body
}

/// One client in the answer to `GET /clients` and `GET /clients/<ClientId>`. `since` is RFC 3339 text; nothing was heard of
/// the client for `silent_seconds`.
#[must_use]
pub fn client(
    identity: &Identity,
    since: &str,
    address: &str,
    pending: &Pending,
    traffic: &Traffic,
    silent_seconds: u64,
) -> String {
    let Pending {
        calls_in_flight,
        calls_deferred,
        calls_queued,
        pushes_in_flight,
        pushes_queued,
    } = pending;
    let Traffic {
        bytes_in,
        bytes_out,
        frames_in,
        frames_out,
        calls,
        pushes,
        bad_frames,
    } = traffic;
    let subprotocol = identity.subprotocol().map_or_else(|| "null".to_owned(), json::string);
    let mut body = String::with_capacity(CLIENT_LEN);
    let _ = write!(
        body,
        concat!(
            r#"{{"clientId":{},"connectionId":"{}","since":{},"address":{},"subprotocol":{},"pending":"#,
            r#"{{"callsInFlight":{},"callsDeferred":{},"callsQueued":{},"pushesInFlight":{},"pushesQueued":{}}},"#,
            r#""silentSeconds":{},"traffic":{{"framesIn":{},"bytesIn":{},"framesOut":{},"bytesOut":{},"calls":{},"#,
            r#""pushes":{},"badFrames":{}}}}}"#
        ),
        identity.client.json(),
        identity.connection,
        json::string(since),
        json::string(address),
        subprotocol,
        calls_in_flight,
        calls_deferred,
        calls_queued,
        pushes_in_flight,
        pushes_queued,
        silent_seconds,
        frames_in,
        bytes_in,
        frames_out,
        bytes_out,
        calls,
        pushes,
        bad_frames,
    );
    body
}

/// A page of clients, put together one by one.
#[derive(Clone, Debug, Default)]
pub struct Page {
    clients: String,
    len: usize,
}

impl Page {
    /// How many clients are on it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when no client is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds one, as [`client`] writes it.
    pub fn push(&mut self, client: &str) {
        if self.len > 0 {
            self.clients.push(',');
        }
        self.clients.push_str(client);
        self.len += 1;
    }

    /// The whole page; `next` is where the next one begins.
    #[must_use]
    pub fn finish(self, next: Option<&str>) -> String {
        let next = next.map_or_else(|| "null".to_owned(), json::string);
        [r#"{"clients":["#, &self.clients, r#"],"next":"#, &next, "}"].concat()
    }
}

/// Body of a refusal: `{"error":…}`.
#[must_use]
pub fn refusal(reason: &str) -> String {
    let mut body = String::with_capacity(reason.len() + r#"{"error":""}"#.len());
    body.push_str(r#"{"error":"#);
    json::write_string(&mut body, reason);
    body.push('}');
    body
}

/// Room for what a push is answered with, without the MessageId.
const ACCEPTED_LEN: usize = 80;
/// Room for most clients.
const CLIENT_LEN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocpp::ClientId;

    #[test]
    fn what_is_made_here_says_why_and_whether_it_was_sent() {
        for (reason, code) in [
            (FailReason::Timeout, "Timeout"),
            (FailReason::Disconnected, "Disconnected"),
            (FailReason::Replaced, "Replaced"),
            (FailReason::Shutdown, "Shutdown"),
            (FailReason::BadAnswer, "BadAnswer"),
        ] {
            for sent in [false, true] {
                let body: serde_json::Value = serde_json::from_str(failed(reason, sent)).expect("JSON");
                assert_eq!(body["code"], code);
                assert_eq!(body["details"]["sent"], sent);
                assert!(!body["description"].as_str().expect("a string").is_empty());
            }
        }
    }

    #[test]
    fn every_text_of_a_client_is_escaped() {
        let hostile = "a\"b";
        let client_id = ClientId::parse(hostile).unwrap();
        let identity = Identity::new(client_id, ConnectionId::new(1, 2, 3), None, "10.0.0.1");
        let end = Disconnection {
            code: 1000,
            reason: hostile,
            seconds: 7,
            replaced_by: Some(ConnectionId::new(1, 2, 4)),
            replaced_by_node: Some(hostile),
        };
        let notice: serde_json::Value = serde_json::from_str(&disconnect(&identity, &end)).expect("JSON");
        assert_eq!(notice["clientId"], hostile);
        assert_eq!(notice["reason"], hostile);
        assert_eq!(notice["replacedBy"], ConnectionId::new(1, 2, 4).as_str());
        assert_eq!(notice["replacedByNode"], hostile);
        let traffic = Traffic {
            bytes_in: u64::MAX,
            calls: 7,
            ..Traffic::default()
        };
        let shown = client(
            &identity,
            "2026-01-01T00:00:00Z",
            hostile,
            &Pending::default(),
            &traffic,
            5,
        );
        let mut listed = Page::default();
        listed.push(&shown);
        listed.push(&shown);
        assert_eq!(listed.len(), 2);
        let listed = listed.finish(Some("1.2"));
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!(listed["clients"][1]["address"], hostile);
        assert_eq!(listed["clients"][0]["traffic"]["bytesIn"], u64::MAX);
        assert_eq!(listed["clients"][0]["silentSeconds"], 5);
        assert_eq!(listed["next"], "1.2");
        let refused: serde_json::Value = serde_json::from_str(&refusal(hostile)).expect("JSON");
        assert_eq!(refused["error"], hostile);
    }
}
