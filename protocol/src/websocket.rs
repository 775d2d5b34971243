//! WebSocket's rules, without its I/O (RFC 6455).

mod handshake;

pub use handshake::{Upgrade, UpgradeRefusal, accept_key, check_upgrade};
