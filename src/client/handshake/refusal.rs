//! Says why a request does not become a client: with which status, and to whoever looks for it.

use std::net::SocketAddr;

use super::reason::Reason;
use crate::client::clients::BoundReached;
use crate::client::trace;
use crate::env::Env;
use protocol::mapping::Admission;
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
        let (came, _) = came.split_at(came.floor_char_boundary(DETAIL_LEN_MAX));
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

    /// No answer: the connection is gone.
    pub(super) fn lost() -> Self {
        Self::lost_for(Reason::Lost)
    }

    /// No answer, for that reason.
    pub(super) fn lost_for(reason: Reason) -> Self {
        Self::new(reason, NO_STATUS)
    }

    /// Counts it, tells the log once in five minutes, and shows it to whoever traces that client.
    pub(super) fn tell(&self, env: &Env, address: SocketAddr) {
        (self.reason.counter())(&env.counters).add();
        let status = Some(self.status).filter(|status| *status != NO_STATUS);
        env.note_refused(self.client.as_ref(), address, status, self.reason.text());
        if let Some(client) = self.client.as_ref().filter(|client| env.watch.is_traced(client)) {
            trace::show_refusal(client, address, self.status, self.reason.text(), &self.detail);
        }
        if self.reason.is_to_be_told(env.uptime()) {
            tracing::warn!(
                reason = ?self.reason,
                status,
                %address,
                client = self.client.as_ref().map(ClientId::as_str),
                detail = self.detail,
                "an opening handshake is refused: {}; more of this reason are counted and not told for five minutes",
                self.reason.text(),
            );
        }
    }
}

/// Of what gets no answer.
const NO_STATUS: u16 = 0;
/// For those who should not come back at once.
const RETRY_AFTER: &str = "5";
const DETAIL_LEN_MAX: usize = 200;
