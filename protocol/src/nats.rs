//! Speaks the client protocol of NATS (core, 2.2 or newer), without its I/O.
//!
//! What a server says goes into a [`Decoder`] in pieces of any size and comes out as [`Operation`]s; what is said to it is written by the
//! functions here. No byte of a server makes it panic, and it holds one line and one payload at most. A server has said its [`Info`] before anything else,
//! and waits for [`Connect`].

mod connect;
mod credentials;
mod decoder;
mod info;
mod key;
mod writer;

pub use self::connect::{Connect, Login};
pub use self::credentials::{Credentials, CredentialsError};
pub use self::decoder::{Decoder, Fault, Message, Operation};
pub use self::info::Info;
pub use self::key::{Key, KeyError};
pub use self::writer::{PING, PONG, is_subject, publish, subscribe, unsubscribe};
