//! Connects very many WebSocket clients on one machine to a plain HTTP backend.
//!
//! This library is the program's own: `src/main.rs` and the tests use it. None of it is an interface for others, and
//! any of it changes without notice. What users rely on is the wire (docs/contract.md), the configuration, the command
//! line and the metrics.

pub mod backend;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod demo;
pub mod env;
pub mod ingress;
pub mod observe;
pub mod server;
pub mod shard;
pub mod stream;
pub mod token;
