//! Decides how many requests a backend gets at once, and which shard may send them; without I/O.
//!
//! A *place* is the right to have a request at a backend. How many there are is found out by [`Limit`], from how long answers
//! take. One shard is the backend's [`Keeper`] and lends them to all shards, its own among them; each keeps its part in a
//! [`Borrower`], and sends without asking while that lasts. They talk in [`Claim`]s and [`Grant`]s.

mod borrower;
mod keeper;
mod limit;
mod messages;
mod phase;
mod share;

pub use self::borrower::Borrower;
pub use self::keeper::{Keeper, Usage};
pub use self::limit::{Concurrency, Limit, Load};
pub use self::messages::{Claim, Grant};
pub use self::phase::Seen;

#[cfg(test)]
mod simulation;
