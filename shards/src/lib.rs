//! Where things run: pinned cores, their sockets and timers, and the messages between them.
//!
//! [`node::start`] makes one thread per core. Each runs a glommio executor whose main future is the
//! [`reactor`]: one edge-triggered epoll, one entry per [`socket::Socket`], one timing [`wheel`]. A shard owns
//! what it has; another shard gets a message ([`mesh`]) or a socket ([`handover`]), never a reference.
//!
//! Nothing here knows what the bytes mean.

// What only the real reactor and node use stays.
#![cfg_attr(feature = "simulation", allow(dead_code))]

pub mod cpu;
pub mod fd_table;
pub mod mesh;
pub mod timer;
pub mod wheel;

#[cfg(not(feature = "simulation"))]
pub mod handover;
#[cfg(not(feature = "simulation"))]
pub mod listener;
#[cfg(not(feature = "simulation"))]
pub mod node;
#[cfg(not(feature = "simulation"))]
pub mod reactor;
#[cfg(not(feature = "simulation"))]
pub mod socket;
#[cfg(not(feature = "simulation"))]
pub mod task;
#[cfg(not(feature = "simulation"))]
mod uring;

#[cfg(feature = "simulation")]
pub mod simulation;
#[cfg(feature = "simulation")]
pub use simulation::{handover, listener, node, reactor, socket, task};

pub use node::Shard;
pub use reactor::Reactor;
pub use socket::Socket;
pub use task::{spawn, yield_now};
pub use timer::Timer;
