//! Holds the OCPP-J conversation of one client, as pure functions and one state machine.
//!
//! Bytes, times and random numbers come in as arguments; frames, requests and deadlines go out as values. Nothing here
//! knows a socket, a clock, a thread or a task, so that a seeded simulation can drive it through every interleaving.
//!
//! - [`ids`]: [`ClientId`], [`Action`], [`MessageId`], checked once.
//! - [`json`]: bounded, strict validation; slices of the input, never re-serialised values.
//! - [`frame`]: one text message → [`Frame`], and the frames that ws2api builds; [`call_text`]: a Call and its parts.
//! - [`subprotocol`]: negotiation, and what differs between the OCPP versions.
//! - [`session`]: order, what is in flight, deadlines, exactly one outcome.

pub mod call_text;
pub mod frame;
pub mod ids;
pub mod json;
pub mod output;
mod outputs;
pub mod session;
pub mod subprotocol;

pub use call_text::CallText;
pub use frame::{Frame, FrameError};
pub(crate) use ids::RESERVED;
pub use ids::{Action, CLIENT_ID_LEN_MAX, ClientId, IdError, MessageId};
pub use json::JsonError;
pub use output::{Accepted, CallKey, DeferredRefusal, Event, FailReason, Outcome, Output, Pending, PostContent};
pub use output::{Push, PushKey, PushRefusal, Text, WaitOver, Waiter};
pub use outputs::Outputs;
pub use session::{Limits, Session, Traffic};
pub use subprotocol::{Negotiated, Subprotocol};

#[cfg(test)]
mod simulation;
