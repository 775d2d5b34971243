//! Answers a request that does not become a client, and says why: to the client, and to whoever looks for it.

use std::net::SocketAddr;
use std::time::Instant;

use shards::Socket;

use super::reason::Reason;
use crate::client::clients::BoundReached;
use crate::client::trace;
use crate::env::Env;
use crate::stream::{LAST_WORD_TIMEOUT, linger, send_all};
use protocol::http;
use protocol::mapping::{Admission, bodies};
use protocol::ocpp::ClientId;

/// Why a request does not become a client.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Whose request, as far as it could be told.
    pub(super) client: Option<ClientId>,
    /// What came, and what would have been accepted. For the log alone.
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, status: u16) -> Self {
        Self {
            reason,
            status,
            headers: Vec::new(),
            client: None,
            detail: String::new(),
        }
    }

    pub(super) fn of(mut self, client: &ClientId) -> Self {
        self.client = Some(client.clone());
        self
    }

    /// `came` is the client's: of a long one the beginning is enough.
    pub(super) fn with_detail(mut self, came: &str, accepted: &str) -> Self {
        let came = &came[..came.floor_char_boundary(DETAIL_LEN_MAX)];
        self.detail = format!("came: {}; accepted: {accepted}", came.escape_default());
        self
    }

    pub(super) fn shed(reason: Reason) -> Self {
        let retry = ("Retry-After", RETRY_AFTER.to_owned());
        Self {
            headers: vec![retry],
            ..Self::new(reason, 503)
        }
    }

    pub(super) fn from_bound(bound: BoundReached) -> Self {
        Self::shed(match bound {
            BoundReached::Draining => Reason::Draining,
            BoundReached::ClientsMax => Reason::ClientsMax,
            BoundReached::UpgradesPerSecondMax => Reason::UpgradesPerSecondMax,
        })
    }

    pub(super) fn from_admission(admission: Admission) -> Option<Self> {
        match admission {
            Admission::Admitted => None,
            Admission::Denied { status, headers } => Some(Self {
                headers,
                ..Self::new(Reason::Denied, status)
            }),
            Admission::Unanswered { status: 503 } => Some(Self::shed(Reason::BackendOverloaded)),
            Admission::Unanswered { status: 504 } => Some(Self::new(Reason::BackendTimeout, 504)),
            Admission::Unanswered { status } => Some(Self::new(Reason::BackendFailed, status)),
        }
    }

    /// Counts it, tells the log once in five minutes, and shows it to whoever traces that client.
    pub(super) fn tell(&self, env: &Env, address: SocketAddr, is_traced: bool) {
        (self.reason.counter())(&env.counters).add();
        if is_traced && let Some(client) = &self.client {
            trace::show_refusal(client, address, self.status, self.reason.text(), &self.detail);
        }
        if self.reason.is_to_be_told(env.uptime()) {
            tracing::warn!(
                reason = ?self.reason,
                status = self.status,
                %address,
                client = self.client.as_ref().map(ClientId::as_str),
                detail = self.detail,
                "an opening handshake is refused: {}; more of this reason are counted and not told for five minutes",
                self.reason.text(),
            );
        }
    }
}

/// Answers, and closes so that the answer is not lost to a reset.
pub(super) async fn refuse(env: &Env, socket: Socket, refusal: &Refusal, deadline: Instant) {
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    let headers: Vec<(&str, &str)> = refusal.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    let body = bodies::refusal(refusal.reason.text());
    http::write_response(&mut answer, refusal.status, &headers, body.as_bytes(), false);
    let deadline = deadline.max(env.reactor.now() + LAST_WORD_TIMEOUT);
    if send_all(env, &socket, &answer, deadline).await.is_ok() {
        linger(env, &socket).await;
    }
}

/// For those who should not come back at once.
const RETRY_AFTER: &str = "5";
const ANSWER_LEN: usize = 320;
const DETAIL_LEN_MAX: usize = 200;
