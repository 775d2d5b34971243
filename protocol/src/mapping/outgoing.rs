//! Writes the requests to the backend: the path, the headers and the body of each kind (docs/openapi-backend.yaml).

use arrayvec::ArrayVec;

use super::bodies;
use super::identity::{Identity, hexadecimal};
use crate::http::{HeaderLines, PathPart, RequestTemplate};
use crate::ocpp::{Action, CallText, MessageId, Outcome, PostContent};
use crate::trace_context::{TRACEPARENT, TraceParent};

/// Appends `POST /connect`. `lines` are the identity's, and what of the client's request goes along.
pub fn write_connect(template: &RequestTemplate, identity: &Identity, lines: &HeaderLines, out: &mut Vec<u8>) {
    let body = identity.client.json();
    template.write(out, &[PathPart::known("/connect")], lines, &[], body.as_bytes());
}

/// Appends `POST /call/<Action>/<ClientId>/<MessageId>` with the Call's payload, and `traceparent` where it has one.
pub fn write_call(
    template: &RequestTemplate,
    identity: &Identity,
    call: &CallText,
    trace: Option<&TraceParent>,
    out: &mut Vec<u8>,
) {
    let trace = trace.map(|trace| [(TRACEPARENT, trace.as_str())]);
    let extra: &[(&str, &str)] = trace.as_ref().map_or(&[], |trace| trace);
    call.with_segments(|action, message_id| {
        let slash = PathPart::known("/");
        let path = [
            PathPart::known("/call/"),
            action,
            slash,
            identity.encoded_client(),
            slash,
            message_id,
        ];
        template.write(out, &path, identity.lines(), extra, call.payload().as_bytes());
    });
}

/// The body of a post.
#[must_use]
pub fn post_body(content: &PostContent) -> &[u8] {
    match content {
        PostContent::Outcome(outcome) => bodies::outcome(outcome),
        PostContent::Send(body) | PostContent::ResultError(body) => body,
    }
}

/// Appends `POST /<segment>/<Action>/<ClientId>/<MessageId>` with an `Idempotency-Key`, `X-Origin: ws2api` where it does not
/// come from the client, and the push's `traceparent` where that had one.
pub fn write_post(
    template: &RequestTemplate,
    identity: &Identity,
    (action, message_id): (&Action, &MessageId),
    (content, trace): (&PostContent, Option<&TraceParent>),
    key: PostKey,
    out: &mut Vec<u8>,
) {
    let body = post_body(content);
    let (segment, is_made_here) = match content {
        PostContent::Outcome(Outcome::Result(_)) => ("/result/", false),
        PostContent::Outcome(outcome) => ("/error/", matches!(outcome, Outcome::Failed { .. })),
        PostContent::Send(_) => ("/send/", false),
        PostContent::ResultError(_) => ("/resulterror/", false),
    };
    let (action, message_id) = (action.encoded(), message_id.encoded());
    let slash = PathPart::known("/");
    let path = [
        PathPart::known(segment),
        PathPart::known(&action),
        slash,
        identity.encoded_client(),
        slash,
        PathPart::known(&message_id),
    ];
    let key = key.text(identity);
    let mut extra = ArrayVec::<_, 3>::new();
    extra.push(("Idempotency-Key", &*key));
    if is_made_here {
        extra.push(("X-Origin", "ws2api"));
    }
    extra.extend(trace.map(|trace| (TRACEPARENT, trace.as_str())));
    template.write(out, &path, identity.lines(), &extra, body);
}

/// Appends `POST /disconnect` with a body of [`bodies::disconnect`] and an `Idempotency-Key`.
pub fn write_disconnect(template: &RequestTemplate, identity: &Identity, body: &[u8], key: PostKey, out: &mut Vec<u8>) {
    let key = key.text(identity);
    template.write(
        out,
        &[PathPart::known("/disconnect")],
        identity.lines(),
        &[("Idempotency-Key", &*key)],
        body,
    );
}

/// Tells one post of a process from all others, the same for every try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PostKey {
    /// The shard that posts: it may be another one than the connection's.
    pub shard: usize,
    /// Counts the shard's posts.
    pub number: u64,
}

impl PostKey {
    /// The value of `Idempotency-Key`: the connection's id, the posting shard and its count.
    fn text(self, identity: &Identity) -> String {
        let mut key = String::with_capacity(KEY_LEN);
        key.push_str(identity.connection.as_str());
        key.push('-');
        key.extend(hexadecimal(self.shard as u64, 1));
        key.push('.');
        key.extend(hexadecimal(self.number, 1));
        key
    }
}

/// Room for an `Idempotency-Key`, so that it is allocated once.
const KEY_LEN: usize = 48;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mapping::ConnectionId;
    use crate::ocpp::{ClientId, FailReason};

    fn written(content: PostContent, trace: Option<&TraceParent>) -> String {
        let template = RequestTemplate::new("backend", "/ocpp", &[("X-Node", "n1")]);
        let client = ClientId::parse("CP 1").unwrap();
        let identity = Identity::new(client, ConnectionId::new(1, 2, 3), Some("ocpp1.6"), "10.0.0.1");
        let action = Action::parse("Reset").unwrap();
        let message_id = MessageId::parse("m:1").unwrap();
        let key = PostKey { shard: 10, number: 17 };
        let mut out = Vec::new();
        write_post(
            &template,
            &identity,
            (&action, &message_id),
            (&content, trace),
            key,
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_post_has_its_path_its_body_and_its_origin() {
        let made = Outcome::Failed {
            reason: FailReason::Timeout,
            sent: true,
        };
        for (content, segment, body, is_made_here) in [
            (
                PostContent::Outcome(Outcome::Result(Bytes::from_static(b"{ }"))),
                "result",
                "{ }",
                false,
            ),
            (
                PostContent::Outcome(Outcome::Error {
                    body: Bytes::from_static(b"{\"code\":\"X\"}"),
                }),
                "error",
                "{\"code\":\"X\"}",
                false,
            ),
            (
                PostContent::Outcome(made),
                "error",
                bodies::failed(FailReason::Timeout, true),
                true,
            ),
            (PostContent::Send(Bytes::from_static(b"[1]")), "send", "[1]", false),
            (
                PostContent::ResultError(Bytes::from_static(b"{}")),
                "resulterror",
                "{}",
                false,
            ),
        ] {
            let trace = TraceParent::begin(1, 2);
            let traced = written(content.clone(), Some(&trace));
            let line = format!("traceparent: {}\r\n", trace.as_str());
            assert!(traced.contains(&line), "{traced}");
            let request = written(content, None);
            assert_eq!(traced.replace(&line, ""), request, "nothing else is another one");
            let start = format!("POST /ocpp/{segment}/Reset/CP%201/m%3A1 HTTP/1.1\r\n");
            assert!(request.starts_with(&start), "{request}");
            assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
            assert!(
                request.contains("Idempotency-Key: 00000001002000000003-a.11\r\n"),
                "{request}"
            );
            assert_eq!(request.contains("X-Origin: ws2api\r\n"), is_made_here, "{request}");
        }
    }
}
