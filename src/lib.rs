//! ws2api: very many WebSocket clients on one machine, served by a plain HTTP backend.

pub mod cli;
pub mod config;
pub mod http;
pub mod protocol;
