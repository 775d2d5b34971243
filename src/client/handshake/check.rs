//! Checks an upgrade request as far as that needs no state.

use super::parcel::Peer;
use super::reason::Reason;
use super::refusal::Refusal;
use crate::config::{ClientIdPlace, Tolerated};
use crate::env::Env;
use protocol::http::{RequestHead, parse_request};
use protocol::mapping::client_path::client_segment;
use protocol::mapping::forwarded::{self, PassingError};
use protocol::ocpp::subprotocol::negotiate;
use protocol::ocpp::{ClientId, Negotiated, Subprotocol};
use protocol::proxy_protocol;
use protocol::websocket::{Tolerance, check_upgrade};

/// A request that is good as far as it can be told without the backend.
pub(super) struct Checked<'h> {
    pub(super) client: ClientId,
    pub(super) key: &'h [u8],
    /// Its rules, its name, and how the client spells it. `None`: offered, but none in common; the handshake is
    /// finished and the connection closed at once.
    pub(super) subprotocol: Option<(Subprotocol, Option<(&'h str, &'h str)>)>,
    pub(super) head: RequestHead<'h>,
    /// The headers that `/connect` carries.
    pub(super) passing: Vec<(&'h str, &'h str)>,
}

/// All that can be said of a request without state: the answer is the same on every shard.
pub(super) fn check<'h>(env: &'h Env, head: &'h [u8], peer: &Peer) -> Result<Checked<'h>, Refusal> {
    let node = &env.node;
    let request = match parse_request(head, env.core.head_max) {
        Ok(Some(request)) => request,
        Ok(None) => return Err(Refusal::new(Reason::Head, 400)),
        Err(error) => {
            if proxy_protocol::begins(head) {
                env.counters.proxy_unexpected.add();
            }
            let refusal = Refusal::new(Reason::Head, error.status());
            return Err(refusal.with_detail(&error.to_string(), "HTTP/1.1"));
        }
    };
    let tolerance = Tolerance {
        no_connection_header: node.tolerate.contains(&Tolerated::NoConnectionHeader),
        any_key: node.tolerate.contains(&Tolerated::AnyKey),
    };
    let upgrade = check_upgrade(&request, tolerance).map_err(|refusal| {
        let headers = refusal.headers().iter();
        let headers = headers.map(|(name, value)| (*name, (*value).to_owned())).collect();
        Refusal {
            headers,
            ..Refusal::new(refusal.into(), refusal.status())
                .with_detail(request.target, "an opening handshake of RFC 6455, 4.2.1")
        }
    })?;
    if request.len != head.len() {
        // Nothing may come before the 101 (RFC 6455, 4.1): who passes it on is who gets smuggled to (CVE-2026-2833).
        return Err(Refusal::new(Reason::EarlyBytes, 400));
    }
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let is_last = node.client_id == ClientIdPlace::LastSegment;
    let bad_id = || {
        let accepted = format!("{} and a ClientId", node.path_prefix.join(" or "));
        Refusal::new(Reason::ClientId, 404).with_detail(path, &accepted)
    };
    let segment = client_segment(path, &node.path_prefix, is_last).ok_or_else(bad_id)?;
    let client = ClientId::from_percent_encoded(segment).map_err(|_| bad_id())?;
    let is_allowed = |origin: &[u8]| node.origins.iter().any(|allowed| allowed.as_bytes() == origin);
    if !node.origins.is_empty() && !request.headers("origin").all(is_allowed) {
        let came = request
            .header("origin")
            .map(String::from_utf8_lossy)
            .unwrap_or_default();
        let refusal = Refusal::new(Reason::Origin, 403).of(&client);
        return Err(refusal.with_detail(&came, &node.origins.join(" ")));
    }
    if node.basic_user_is_client_id && !forwarded::basic_user_fits(&request, &client) {
        let challenge = (
            "WWW-Authenticate",
            "Basic realm=\"ws2api\", charset=\"UTF-8\"".to_owned(),
        );
        return Err(Refusal {
            headers: vec![challenge],
            ..Refusal::new(Reason::User, 401).of(&client)
        });
    }
    let tls = peer.tls.as_ref().filter(|_| node.tls_cn_is_client_id);
    if let Some(tls) = tls.filter(|tls| !tls.cn_fits(&client)) {
        let refusal = Refusal::new(Reason::Certificate, 403).of(&client);
        return Err(refusal.with_detail(&tls.encoded_common_name().unwrap_or_default(), &client.encoded()));
    }
    let trusted_headers = if peer.is_trusted {
        &node.trusted_headers[..]
    } else {
        &[]
    };
    let mut passing =
        forwarded::passing_headers(&request, &node.forward_headers, trusted_headers).map_err(|error| {
            let reason = match error {
                PassingError::Repeated => Reason::HeaderRepeated,
                PassingError::TooMany => Reason::HeadersTooMany,
            };
            Refusal::new(reason, error.status()).of(&client)
        })?;
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
            let refusal = Refusal::new(Reason::Subprotocol, 400).of(&client);
            return Err(refusal.with_detail("none", &node.subprotocols.join(" ")));
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
