//! Where things run: pinned cores, their sockets and timers, and the messages between them.
//!
//! [`node::start`] makes one thread per core. Each runs a glommio executor whose main future is the
//! [`reactor`]: one edge-triggered epoll, one entry per [`socket::Socket`], one timing [`wheel`]. A shard owns
//! what it has; another shard gets a message ([`mesh`]) or a socket ([`handover`]), never a reference.
//!
//! Nothing here knows what the bytes mean.

pub mod cpu;
pub mod fd_table;
pub mod handover;
pub mod listener;
pub mod mesh;
pub mod node;
pub mod reactor;
pub mod socket;
pub mod task;
pub mod timer;
mod uring;
pub mod wheel;

pub use node::Shard;
pub use reactor::Reactor;
pub use socket::Socket;
pub use task::{spawn, yield_now};
pub use timer::Timer;
