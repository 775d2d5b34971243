//! Lists what a node is started with.

use std::os::fd::BorrowedFd;

/// How a node runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// A shard per element, on this CPU. A CPU may be named twice.
    pub cpus: &'a [usize],
    /// Messages that wait between two shards at the most.
    pub mesh_capacity: usize,
    /// Per shard, descriptors that were opened before; a shard that is not in it has none. Several shards may have the
    /// same one. Each gets a copy of its own, which is there when the node has started: the originals can be closed.
    pub inherited: &'a [Vec<BorrowedFd<'a>>],
    /// What runs the tasks of a shard.
    pub executor: Executor,
    /// Whether each shard has a descriptor table of its own.
    pub tables: Tables,
}

impl<'a> Settings<'a> {
    /// Those that need nothing of the system.
    #[must_use]
    pub fn modest(cpus: &'a [usize], mesh_capacity: usize) -> Self {
        Self {
            cpus,
            mesh_capacity,
            inherited: &[],
            executor: Executor::Plain,
            tables: Tables::Shared,
        }
    }
}

/// What runs the tasks of a shard. What is promised holds for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Executor {
    /// A queue that the reactor's own loop runs. It needs nothing of the system.
    Plain,
    /// glommio's. It needs io_uring, 512 KiB of locked memory for each shard, and a table of descriptors for each: it
    /// keeps its tasks, and with them their sockets, until the process or their table ends.
    Glommio,
}

/// Whose a table of file descriptors is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tables {
    /// Each shard has one of its own: no core waits for another's, and RLIMIT_NOFILE counts per shard. It needs
    /// `unshare(CLONE_FILES)` and `/proc`.
    Private,
    /// All shards have the process's: RLIMIT_NOFILE counts for all of them together.
    Shared,
}
