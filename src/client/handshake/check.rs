//! Checks an upgrade request as far as that needs no state.

use super::refusal::Refusal;
use crate::config::{ClientIdPlace, Tolerated};
use crate::env::Env;
use protocol::http::{RequestHead, parse_request};
use protocol::mapping::client_path::client_segment;
use protocol::mapping::forwarded;
use protocol::ocpp::subprotocol::negotiate;
use protocol::ocpp::{ClientId, Negotiated, Subprotocol};
use protocol::proxy_protocol;
use protocol::websocket::{Tolerance, check_upgrade};

/// A request that is good as far as it can be told without the backend.
pub(super) struct Checked<'h> {
    pub(super) client: ClientId,
    pub(super) key: &'h [u8],
    /// Its rules, its name, and how the client spells it. `None`: offered, but none in common; the handshake is finished and the
    /// connection closed at once.
    pub(super) subprotocol: Option<(Subprotocol, Option<(&'h str, &'h str)>)>,
    pub(super) head: RequestHead<'h>,
    /// The headers that `/connect` carries.
    pub(super) passing: Vec<(&'h str, &'h str)>,
}

/// All that can be said of a request without state: the answer is the same on every shard.
pub(super) fn check<'h>(env: &'h Env, head: &'h [u8], is_trusted: bool) -> Result<Checked<'h>, Refusal> {
    let bad = |status| Refusal::new(status, |counters| &counters.handshakes_bad);
    let refused = Refusal::new;
    let bad_id = || refused(404, |counters| &counters.handshakes_client_id);
    let node = &env.node;
    let request = match parse_request(head, env.core.head_max) {
        Ok(Some(request)) => request,
        Ok(None) => return Err(bad(400)),
        Err(error) => {
            if proxy_protocol::begins(head) {
                env.counters.proxy_unexpected.add();
            }
            return Err(bad(error.status()));
        }
    };
    let tolerance = Tolerance {
        no_connection_header: node.tolerate.contains(&Tolerated::NoConnectionHeader),
        any_key: node.tolerate.contains(&Tolerated::AnyKey),
    };
    let upgrade =
        check_upgrade(&request, tolerance).map_err(|refusal| Refusal::from_upgrade(refusal, bad(refusal.status())))?;
    if request.len != head.len() {
        // Nothing may come before the 101 (RFC 6455, 4.1): who passes it on is who gets smuggled to (CVE-2026-2833).
        return Err(bad(400));
    }
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let is_last = node.client_id == ClientIdPlace::LastSegment;
    let segment = client_segment(path, &node.path_prefix, is_last).ok_or_else(bad_id)?;
    let client = ClientId::from_percent_encoded(segment).map_err(|_| bad_id())?;
    let is_allowed = |origin: &[u8]| node.origins.iter().any(|allowed| allowed.as_bytes() == origin);
    if !node.origins.is_empty() && !request.headers("origin").all(is_allowed) {
        return Err(refused(403, |counters| &counters.handshakes_origin));
    }
    if node.basic_user_is_client_id && !forwarded::basic_user_fits(&request, &client) {
        let challenge = (
            "WWW-Authenticate",
            "Basic realm=\"ws2api\", charset=\"UTF-8\"".to_owned(),
        );
        return Err(Refusal {
            headers: vec![challenge],
            ..refused(401, |counters| &counters.handshakes_user)
        });
    }
    let trusted_headers = if is_trusted { &node.trusted_headers[..] } else { &[] };
    let mut passing = forwarded::passing_headers(&request, &node.forward_headers, trusted_headers)
        .map_err(|error| bad(error.status()))?;
    if !query.is_empty() {
        passing.push((QUERY, query));
    }
    let offered = request
        .headers("sec-websocket-protocol")
        .filter_map(|value| str::from_utf8(value).ok());
    let negotiated = negotiate(offered, &node.subprotocols, node.subprotocol_required);
    let subprotocol = match negotiated {
        Negotiated::Chosen {
            subprotocol,
            name,
            spelling,
        } => Some((subprotocol, Some((name, spelling)))),
        Negotiated::NoneOffered => Some((Subprotocol::None, None)),
        Negotiated::Required => {
            return Err(refused(400, |counters| &counters.handshakes_subprotocol));
        }
        Negotiated::NoneInCommon => None,
    };
    Ok(Checked {
        client,
        key: upgrade.key,
        subprotocol,
        head: request,
        passing,
    })
}

/// The query of the request's target: browsers can put a token nowhere else.
const QUERY: &str = "X-Query";
