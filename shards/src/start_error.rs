//! Names what kept a node from starting, and what to do about it.

use std::io;

use rustix::io::Errno;

/// Why the node did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The thread could not be pinned.
    #[error("CPU {cpu} can't be used by this process (offline, or outside its cpuset)")]
    Pin {
        /// As the kernel counts.
        cpu: usize,
    },
    /// io_uring is missing or forbidden.
    #[error(
        "io_uring can't be used: {reason}. Kernel 5.8 or newer is needed, with `sysctl kernel.io_uring_disabled=0`, \
         a seccomp profile that allows io_uring_setup (containers), and enough locked memory (`ulimit -l`); \
         `executor = \"plain\"` needs none of it"
    )]
    IoUring {
        /// The executor's own message.
        reason: String,
    },
    /// Too little memory may be locked for the rings.
    #[error(
        "too little memory may be locked for io_uring: {reason}. Each shard needs 512 KiB: raise `ulimit -l` \
         (LimitMEMLOCK= in the systemd unit, --ulimit memlock=-1 in a container), or set `executor = \"plain\"`"
    )]
    LockedMemory {
        /// The kernel's or the executor's message.
        reason: String,
    },
    /// No descriptor table of one's own.
    #[error(
        "a descriptor table per shard can't be had: {reason}. unshare(CLONE_FILES) needs no privilege, but a seccomp \
         profile may forbid it (containers), and /proc must be mounted; `executor = \"plain\"` does without"
    )]
    Table {
        /// The kernel's own message.
        reason: String,
    },
    /// No thread, or no descriptor.
    #[error("a shard could not be set up: {error}{hint}", error = .0, hint = hint(.0))]
    System(#[from] io::Error),
    /// A shard has ended, and nobody had told it to.
    #[error("shard {shard} has ended: {reason}")]
    Ended {
        /// Which.
        shard: usize,
        /// Its failure.
        reason: String,
    },
    /// Another shard failed to start.
    #[error("another shard did not start")]
    Aborted,
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => ". Raise `ulimit -n` (LimitNOFILE= in the systemd unit)",
        Some(Errno::NFILE) => ". Raise `sysctl fs.file-max`",
        Some(Errno::AGAIN) => ". Raise `ulimit -u` or TasksMax= in the systemd unit",
        _ => "",
    }
}
