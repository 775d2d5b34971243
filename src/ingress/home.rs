//! Names what the ingress asks of the shard behind it.

use std::time::Instant;

use crate::shard::mail::{ClientReply, ClientRequest, PushOutcome};
use protocol::question::Question;

/// The shard behind an ingress: the home of some of the clients.
pub trait Home {
    /// Answers a question about one of its clients.
    fn answer(&self, request: ClientRequest) -> ClientReply;

    /// Has the other process of a takeover asked. Its reply comes through [`Ingress::handle_reply`](super::Ingress::handle_reply) with
    /// this token. False: there is none.
    fn ask_other_process(&self, token: u64, answer_by: Instant, question: &Question) -> bool;

    /// Posts the outcome of a push, since nobody waits for it any more.
    fn post_outcome(&self, outcome: PushOutcome);
}
