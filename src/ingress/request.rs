//! Judges a request by its head, before its body is read: who asks, and what for.

use std::time::Duration;

use super::Ingress;
use super::answer::Answer;
use protocol::http::{CrossSite, Framing, RequestHead, Site, bearer_token};
use protocol::mapping::routes::{Route, RouteError, route};
use protocol::trace_context::{TRACEPARENT, TraceParent};

/// What a request's head says, kept while its body is read.
pub(super) struct Request {
    /// What it asks for, or the answer to somebody who may not.
    pub(super) route: Result<Route, Answer>,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    /// `Prefer: wait`
    pub(super) wait: Option<Duration>,
    /// `traceparent` of a push.
    pub(super) trace: Option<Box<TraceParent>>,
    /// HEAD: the answer is its head alone.
    pub(super) is_head: bool,
}

impl Request {
    pub(super) fn from_head(ingress: &Ingress, head: &RequestHead<'_>) -> Self {
        let route = check(ingress, head);
        let is_push = matches!(route, Ok(Route::Push { .. }));
        Self {
            trace: is_push.then(|| trace(head)).flatten(),
            route,
            framing: head.framing,
            keep_alive: head.may_have_a_successor(),
            expect_continue: head.expect_continue,
            wait: wait(head),
            is_head: head.method == "HEAD",
        }
    }
}

fn check(ingress: &Ingress, head: &RequestHead<'_>) -> Result<Route, Answer> {
    let site = Site {
        hosts: &ingress.env.node.ingress_hosts,
        any_host: ingress.token.is_some(),
        has_pages: false,
    };
    site.check(head).map_err(|refusal| match refusal {
        CrossSite::Origin | CrossSite::FetchSite => Answer::error(403, "no page in a browser may ask here"),
        CrossSite::Host(host) => Answer::error(
            403,
            &format!(
                "{host} may be the name of a stranger's page in a browser: if it is ours, add it to ingress_hosts, or \
                 set ingress_token_file"
            ),
        ),
    })?;
    if let Some(token) = &*ingress.token
        && !head
            .only("authorization")
            .and_then(bearer_token)
            .is_some_and(|secret| token.is(secret))
    {
        let challenge = ("WWW-Authenticate", "Bearer realm=\"ws2api\"".to_owned());
        return Err(Answer {
            headers: vec![challenge],
            ..Answer::error(401, "missing or wrong token")
        });
    }
    let route = route(head).map_err(|error| {
        let mut answer = Answer::error(error.status(), &error.to_string());
        if let RouteError::Method { allow } = error {
            answer.headers.push(("Allow", allow.to_owned()));
        }
        answer
    })?;
    let has_body = matches!(route, Route::Push { .. } | Route::Answer { .. });
    if has_body && !head.header("content-type").is_none_or(is_json) {
        return Err(Answer::error(415, "the body is to be application/json"));
    }
    Ok(route)
}

/// `application/json` or another JSON type, with or without parameters.
fn is_json(value: &[u8]) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    let Some((application, subtype)) = essence.trim_ascii().split_at_checked(b"application/".len()) else {
        return false;
    };
    let (_, suffix) = subtype.split_at(subtype.len().saturating_sub(b"+json".len()));
    application.eq_ignore_ascii_case(b"application/")
        && (subtype.eq_ignore_ascii_case(b"json") || suffix.eq_ignore_ascii_case(b"+json"))
}

/// The trace that the request belongs to. Several, or one that is malformed, are none (W3C Trace Context, 4.3).
fn trace(head: &RequestHead<'_>) -> Option<Box<TraceParent>> {
    let value = head.only(TRACEPARENT)?;
    TraceParent::parse(value).map(Box::new)
}

/// `Prefer: wait=SECONDS` (RFC 7240, 4.3). Anything else in it is not for us; 0 is no wait.
fn wait(head: &RequestHead<'_>) -> Option<Duration> {
    head.elements("prefer")
        .find_map(|preference| {
            let preference = str::from_utf8(preference).ok()?;
            let (name, value) = preference.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("wait") {
                return None;
            }
            let seconds: u64 = value.split(';').next()?.trim().trim_matches('"').parse().ok()?;
            Some(Duration::from_secs(seconds.min(WAIT_MAX_SECONDS)))
        })
        .filter(|wait| !wait.is_zero())
}

const WAIT_MAX_SECONDS: u64 = 3600;
