//! Names what the ingress asks of the shard behind it.

use crate::shard::mail::{ClientReply, ClientRequest, PushOutcome};

/// The shard behind an ingress: the home of some of the clients.
pub trait Home {
    /// Answers a question about one of its clients.
    fn answer(&self, request: ClientRequest) -> ClientReply;

    /// Posts the outcome of a push, since nobody waits for it any more.
    fn post_outcome(&self, outcome: PushOutcome);
}
