//! Finds clients of other nodes through NATS, and sees to it that a client is connected to one node alone.
//!
//! NATS' interest graph is the directory: each client is a subscription of the node that has it, so nothing is stored, and a node
//! that dies is forgotten with its connection. A [`Member`] decides for one node; whoever drives it owns the connection to NATS and
//! the shards. What arrives may be lost, doubled, late or in another order, and NATS may be away:
//! - A push that was answered 202 has exactly one outcome, whichever node accepted it (but where that node dies).
//! - Of the connections of a ClientId the newest stays. Which one that is, is the same everywhere.
//! - A question is carried out once at most, and not when nobody waits for the answer any more.
//! - Whoever asks is answered: by the node that has the client, or with a [`Failure`] that says how much is known.

mod announcements;
mod asked;
mod check;
mod claim;
mod clients;
mod clock;
mod member;
mod message;
mod nodes;
mod outcomes;
mod seen;
mod served;
#[cfg(test)]
mod simulation;
mod subject;
#[cfg(test)]
mod tests;

pub use self::asked::Asker;
pub use self::check::{Bounds, check, check_told};
pub use self::claim::Claim;
pub use self::member::{Failure, Limits, Member, Now, Output, Own};
pub use self::message::{Message, Verdict};
pub use self::nodes::{Node, NodeId};
pub use self::subject::{Subject, is_name};
