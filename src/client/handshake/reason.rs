//! Names each reason for which a request does not become a client: in the metrics, to the client, and in the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::observe::counters::{Counters, Member};
use protocol::websocket::UpgradeRefusal;

macro_rules! reasons {
    ($( $(#[$doc:meta])* $reason:ident, $counter:ident, $text:literal; )+) => {
        /// Why a request does not become a client.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(in crate::client) enum Reason {
            $( $(#[$doc])* $reason, )+
        }

        impl Reason {
            /// What is counted.
            pub(super) fn counter(self) -> Member {
                match self {
                    $( Self::$reason => |counters: &Counters| &counters.$counter, )+
                }
            }

            /// For the client and for the log.
            pub(super) fn text(self) -> &'static str {
                match self {
                    $( Self::$reason => $text, )+
                }
            }
        }

        /// When each reason was told last, in milliseconds of the shards' clock. The only thing that shards share here: it is
        /// written once in five minutes, and one line for the whole process is what an operator can read.
        static TOLD_AT_MS: [AtomicU64; [$( Reason::$reason ),+].len()] =
            [const { AtomicU64::new(0) }; [$( Reason::$reason ),+].len()];
    };
}

reasons! {
    Tls, handshakes_tls, "the TLS handshake fails";
    PlainHttp, handshakes_plain_http, "this port is for TLS: its URL begins with wss://";
    TlsRate, handshakes_tls_rate, "too many TLS handshakes begin at once: the connection was closed";
    Head, handshakes_head, "the request is not HTTP/1.1 as RFC 9112 has it, or its head is too long";
    Method, handshakes_method, "a WebSocket is opened with GET";
    HttpVersion, handshakes_http_version, "a WebSocket needs HTTP/1.1";
    Body, handshakes_body, "the request of an opening handshake has no body";
    NoUpgrade, handshakes_no_upgrade, "the header Upgrade: websocket is missing";
    NoConnection, handshakes_no_connection, "the header Connection: Upgrade is missing";
    Version, handshakes_version, "Sec-WebSocket-Version has to be 13";
    Key, handshakes_key, "Sec-WebSocket-Key has to be 16 bytes in base64";
    EarlyBytes, handshakes_early_bytes, "nothing may follow the request before it is answered";
    HeaderRepeated, handshakes_header_repeated, "a header that may stand there once is repeated";
    HeadersTooMany, handshakes_headers_too_many, "too many headers of those that the backend is told";
    ClientId, handshakes_client_id, "the path is not the configured prefix and one ClientId behind it";
    Origin, handshakes_origin, "this Origin is not allowed here";
    User, handshakes_user, "the user of HTTP Basic has to be the ClientId";
    Certificate, handshakes_certificate, "the CN of the certificate has to be the ClientId";
    Subprotocol, handshakes_subprotocol, "no subprotocol in common";
    Draining, handshakes_draining, "the server is about to end: come back";
    ClientsMax, handshakes_full, "the server holds as many clients as it may: come back later";
    UpgradesPerSecondMax, handshakes_rate, "too many clients connect at once: come back later";
    Superseded, handshakes_superseded, "a newer connection of this ClientId waits in its place";
    Handover, handshakes_handover, "the server is overloaded: come back later";
    Lost, handshakes_lost, "no descriptor was left for its connection, which was closed without an answer: raise LimitNOFILE";
    Denied, handshakes_denied, "the backend does not let this client in";
    BackendOverloaded, handshakes_overloaded, "too many requests wait for the backend: come back later";
    BackendTimeout, handshakes_backend_timeout, "the backend did not answer in time";
    BackendFailed, handshakes_backend_failed, "the backend is down, or its answer is none";
}

impl Reason {
    /// True once in five minutes, on whichever shard.
    pub(super) fn is_to_be_told(self, now: Duration) -> bool {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1);
        let told_at = TOLD_AT_MS.get(self as usize).expect("each reason has its place");
        let before = told_at.load(Ordering::Relaxed);
        let is_due = before == 0 || now_ms.saturating_sub(before) >= TOLD_EVERY_MS;
        is_due
            && told_at
                .compare_exchange(before, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl From<UpgradeRefusal> for Reason {
    fn from(refusal: UpgradeRefusal) -> Self {
        match refusal {
            UpgradeRefusal::Method => Self::Method,
            UpgradeRefusal::HttpVersion => Self::HttpVersion,
            UpgradeRefusal::Body => Self::Body,
            UpgradeRefusal::Upgrade => Self::NoUpgrade,
            UpgradeRefusal::Connection => Self::NoConnection,
            UpgradeRefusal::Version => Self::Version,
            UpgradeRefusal::Key => Self::Key,
        }
    }
}

const TOLD_EVERY_MS: u64 = 5 * 60 * 1000;
