//! Answers a request at the ingress, and says what the answer settles once it is written.

use super::outcome_waits::Settle;
use protocol::mapping::bodies;

/// An answer to be written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) settle: Settle,
}

impl Answer {
    pub(super) fn json(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
            settle: Settle::Nothing,
        }
    }

    pub(super) fn error(status: u16, description: &str) -> Self {
        Self::json(status, bodies::refusal(description).into_bytes())
    }

    pub(super) fn with_retry_after(mut self, seconds: &str) -> Self {
        self.headers.push(("Retry-After", seconds.to_owned()));
        self
    }
}
