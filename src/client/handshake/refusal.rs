//! Answers a request that does not become a client.

use std::time::Instant;

use shards::Socket;

use crate::client::clients::BoundReached;
use crate::env::Env;
use crate::observe::counters::Member;
use crate::stream::{LAST_WORD_TIMEOUT, linger, send_all};
use protocol::http;
use protocol::mapping::Admission;
use protocol::websocket::UpgradeRefusal;

/// Why a request does not become a client.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) count: Member,
}

impl Refusal {
    pub(super) fn new(status: u16, count: Member) -> Self {
        Self {
            status,
            headers: Vec::new(),
            count,
        }
    }

    pub(super) fn shed(count: Member) -> Self {
        let retry = ("Retry-After", RETRY_AFTER.to_owned());
        Self {
            status: 503,
            headers: vec![retry],
            count,
        }
    }

    pub(super) fn from_upgrade(refusal: UpgradeRefusal, bad: Self) -> Self {
        let headers = refusal.headers().iter();
        Self {
            headers: headers.map(|(name, value)| (*name, (*value).to_owned())).collect(),
            ..bad
        }
    }

    pub(super) fn from_bound(bound: BoundReached) -> Self {
        Self::shed(match bound {
            BoundReached::Draining => |counters| &counters.handshakes_draining,
            BoundReached::ClientsMax => |counters| &counters.handshakes_full,
            BoundReached::UpgradesPerSecondMax => |counters| &counters.handshakes_rate,
        })
    }

    pub(super) fn from_admission(admission: Admission) -> Option<Self> {
        match admission {
            Admission::Admitted => None,
            Admission::Denied { status, headers } => Some(Self {
                status,
                headers,
                count: |counters| &counters.handshakes_denied,
            }),
            Admission::Unanswered { status: 503 } => Some(Self::shed(|counters| &counters.handshakes_overloaded)),
            Admission::Unanswered { status: 504 } => {
                Some(Self::new(504, |counters| &counters.handshakes_backend_timeout))
            }
            Admission::Unanswered { status } => Some(Self::new(status, |counters| &counters.handshakes_backend_failed)),
        }
    }
}

/// Answers, and closes so that the answer is not lost to a reset.
pub(super) async fn refuse(env: &Env, socket: Socket, refusal: &Refusal, deadline: Instant) {
    (refusal.count)(&env.counters).add();
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    let headers: Vec<(&str, &str)> = refusal.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    http::write_response(&mut answer, refusal.status, &headers, b"", false);
    let deadline = deadline.max(env.reactor.now() + LAST_WORD_TIMEOUT);
    if send_all(env, &socket, &answer, deadline).await.is_ok() {
        linger(env, &socket).await;
    }
}

/// For those who should not come back at once.
const RETRY_AFTER: &str = "5";
const ANSWER_LEN: usize = 256;
