//! Makes a connection: bytes in, bytes out, and at the end [`Records`].
//!
//! rustls does it. It is given one record after the other, so that it never sees one that is behind the handshake: those are
//! opened by what it leaves.
//!
//! The traffic secrets of TLS 1.3, of which later keys are made, come from rustls' `KeyLog`, by a copy of the
//! configuration that only this handshake has; so nothing of rustls has to be kept for key updates.
//!
//! [`Records`]: super::Records

mod client;
mod error;
mod established;
mod progress;
mod secrets;
mod server;

pub use self::client::{ClientHandshake, Tickets};
pub use self::error::HandshakeError;
pub use self::established::{Established, Facts};
pub use self::progress::HANDSHAKE_LEN_MAX;
pub use self::server::ServerHandshake;
