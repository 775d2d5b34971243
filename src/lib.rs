//! ws2api: very many WebSocket clients on one machine, served by a plain HTTP backend.

pub mod activation;
pub mod admin;
pub mod backend;
pub mod cli;
pub mod client;
pub mod config;
pub mod counters;
pub mod demo;
pub mod drain;
pub mod http;
pub mod ingress;
pub mod latency;
pub mod live;
pub mod log;
pub mod mail;
pub mod manual;
pub mod notify;
pub mod processor;
pub mod profile;
pub mod protocol;
pub mod proxy_protocol;
pub mod reload;
pub mod report;
pub mod server;
pub mod shard;
