//! Runs code on pinned cores, with their sockets and timers, and carries the messages between them.
//!
//! [`node::start`] makes one thread per core. Each runs its tasks in the loop of the [`reactor`] (or in glommio's
//! executor, whose main future that loop is then): one edge-triggered epoll, one entry per [`socket::Socket`], one
//! timing [`wheel`]. A shard owns what it has; another shard gets a message ([`mesh`]) or a socket ([`handover`]),
//! never a reference.
//!
//! Nothing here knows what the bytes mean.

// Nor does one of them cause a panic.
#![cfg_attr(not(any(test, simulation)), deny(clippy::unwrap_used, clippy::panic))]

pub mod byte_ring;
mod doorbell;
pub mod fd_table;
pub mod mesh;
pub mod parcel;
pub mod pass;
mod readiness;
pub mod settings;
pub mod shard;
pub mod start_error;
pub mod timer;
pub mod timers;
pub mod turn;
pub mod wheel;

#[cfg(not(simulation))]
mod cpu;
#[cfg(not(simulation))]
pub mod handover;
#[cfg(not(simulation))]
pub mod listener;
#[cfg(not(simulation))]
pub mod node;
#[cfg(not(simulation))]
mod private_table;
#[cfg(not(simulation))]
pub mod reactor;
#[cfg(not(simulation))]
pub mod socket;
#[cfg(not(simulation))]
pub mod task;
#[cfg(not(simulation))]
mod uring;

#[cfg(simulation)]
pub mod simulation;
#[cfg(simulation)]
pub use simulation::{handover, listener, node, reactor, socket, task};

/// As `doorbell` takes them: its test puts others in their place.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

pub use reactor::Reactor;
pub use settings::{Executor, Settings, Tables};
pub use shard::Shard;
pub use socket::Socket;
pub use start_error::StartError;
pub use task::{spawn, yield_now};
pub use timer::Timer;
