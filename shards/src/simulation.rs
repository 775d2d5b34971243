//! Runs shards without a kernel: the same names as the real modules, with the clock, the sockets and the dice of a
//! test.
//!
//! Built with `--cfg simulation` (.cargo/simulation.toml) the crate has these modules in the place of the real ones, so
//! that all that is built on shards runs unchanged, and the same seed gives the same run. Messages between shards,
//! timers and the wheel are the real ones. [`Simulation`](node::Simulation) is where it runs; [`network`] is what goes
//! wrong.

pub mod handover;
pub mod listener;
pub mod network;
pub mod node;
pub mod random;
pub mod reactor;
pub mod socket;
pub mod task;
mod watch;
