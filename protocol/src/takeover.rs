//! Decides how a new process takes over from the one that has started it: who says what, what each waits for, and when
//! there is no way back.
//!
//! 1. The old one says [`Hello`](Message::Hello); the new one answers with its own, or why it can't.
//! 2. The old one passes its listeners on, a [`Message::Listener`] with each socket. Both have them from then on.
//! 3. The new one reads its configuration and starts its shards; none accepts anything. [`Message::Ready`], or
//!    [`Message::Failed`] with its words.
//! 4. The old one says with what it seals the tickets of TLS, if it does ([`Message::TicketKeys`]), and [`Message::Go`]. The new one
//!    accepts from here on, and says so: [`Message::Serving`].
//! 5. The old one hears that and accepts no more: the point of no return.
//! 6. Its clients move as they become quiet: [`Message::Client`] with each socket. The old one keeps it until the new one has said
//!    that it has the client ([`Message::Taken`]), and takes it back otherwise.
//! 7. Meanwhile each asks the other about clients that it does not have ([`Message::Question`], [`Message::Told`]), and tells it what
//!    became of pushes that a request there waits for ([`Message::Outcome`]). What the backend has not taken moves, too
//!    ([`Message::Post`]).
//!
//! Until step 5 the old one serves as if nothing had been asked, and whatever goes wrong leaves it so: it ends the new one and
//! knows why. If it is the old one that ends, the new one goes on by itself, since nobody else can.
//!
//! [`Old`] and [`New`] are the two sides. What they decide comes out as a list; sockets, processes and clocks are the
//! caller's.

mod message;
mod new;
mod old;
mod packets;
mod secret;
#[cfg(test)]
mod simulation;

pub use message::{Hello, Listener, ListenerName, Message, MessageError, TicketKeys};
pub use new::{New, NewOutput};
pub use old::{GO_TIMEOUT, Old, OldOutput};
pub use packets::{Assembly, MESSAGE_LEN_MAX, PACKET_LEN_MAX, RECORD_LEN_MAX, packets};
pub use secret::Secret;

/// The newest rules that this version knows.
pub const PROTOCOL: u16 = 1;
/// The oldest.
pub const PROTOCOL_OLDEST: u16 = 1;
