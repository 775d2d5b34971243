//! Connects very many WebSocket clients on one machine to a plain HTTP backend.
//!
//! This library is the program's own: `src/main.rs` and the tests use it. None of it is an interface for others, and
//! any of it changes without notice. What users rely on is the wire (docs/contract.md), the configuration, the command
//! line and the metrics.

// Bytes of the network and of configurations never cause a panic: what could is refused by the compiler, or says why it does not.
// Where such bytes are taken apart, that holds for places in them, too.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

pub mod authorities;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]
pub mod backend;
pub mod cli;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]
pub mod client;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]
pub mod cluster;
pub mod commands;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]
pub mod config;
pub mod demo;
pub mod env;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]
pub mod ingress;
pub mod observe;
pub mod server;
pub mod shard;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]
pub mod stream;
pub mod token;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]
pub mod wire;
