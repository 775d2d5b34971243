//! Names what the ingress asks of the shard behind it.

use std::time::Instant;

use shards::socket::Descriptor;

use crate::shard::mail::{ClientReply, ClientRequest, PushOutcome};
use protocol::cluster::Failure;
use protocol::question::Question;

/// The shard behind an ingress: the home of some of the clients.
pub trait Home {
    /// Answers a question about one of its clients.
    fn answer(&self, request: ClientRequest) -> ClientReply;

    /// Has the other process of a takeover asked this question, which is there as bytes. Its reply comes through
    /// [`Ingress::handle_reply`](super::Ingress::handle_reply) with this token. False: there is none.
    fn ask_other_process(&self, token: u64, answer_by: Instant, question: Vec<u8>) -> bool;

    /// Whether there is another process that can be asked.
    fn has_other_process(&self) -> bool;

    /// True while clients may be in another process, or are on their way from or to one.
    fn is_in_takeover(&self) -> bool;

    /// Whether connections of the backend can go to another process, which has taken over.
    fn can_hand_over(&self) -> bool;

    /// Gives it one, and what is to be known of it.
    fn hand_over(&self, socket: Descriptor, about: Vec<u8>);

    /// Whether there are other nodes that can be asked.
    fn is_in_cluster(&self) -> bool;

    /// Has the node asked that has this client. Its reply comes as that of another process does.
    ///
    /// # Errors
    /// It is known already that there will be none.
    fn ask_cluster(&self, token: u64, question: Box<Question>) -> Result<(), Failure>;

    /// Asks which nodes there are. The reply comes likewise.
    fn ask_which_nodes(&self, token: u64);

    /// How this node is called.
    fn node_name(&self) -> String;

    /// Posts the outcome of a push, since nobody waits for it any more.
    fn post_outcome(&self, outcome: PushOutcome);
}
