//! Decides WebSocket without its I/O (RFC 6455): the rules of the opening handshake, and the frames of both directions.

mod decoder;
pub mod deflate;
mod encode;
mod error;
mod handshake;
mod mask;
mod message;

pub use decoder::{Decoder, DecoderLimits, text};
pub use encode::{CONTROL_LEN_MAX, HEADER_LEN_MAX, Header, close, ping, pong};
pub use error::WebSocketError;
pub use handshake::{Tolerance, Upgrade, UpgradeRefusal, accept_key, check_upgrade};
pub use message::{CloseFrame, Incoming, is_close_code_allowed};
