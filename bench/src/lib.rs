//! Measures latency from outside: the harness speaks only the wire, and imports nothing of what it measures.
//!
//! Three programs: `hold120k` (the load, the checks and the report), `stub_backend` (the HTTP server behind the
//! proxy) and `floor` (the least that any relay of this shape can do, to compare with).

pub mod clients;
pub mod counters;
pub mod environment;
pub mod flags;
pub mod floor;
pub mod hostile;
pub mod http;
pub mod launch;
mod monitor;
pub mod options;
pub mod outcomes;
pub mod page;
pub mod percentiles;
pub mod plot;
pub mod pushes;
pub mod report;
pub mod rpc;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod stats;
pub mod succession;
pub mod table;
pub mod tls;
pub mod upgrades;

pub use loadgen::{amounts, net, poller, sys, websocket};
