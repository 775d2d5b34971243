//! File-descriptor tables: one per shard, so that no table is shared between cores and the limit counts per shard.
//!
//! The only file of this package with `unsafe` in it: giving up a table's sharing, and closing the inherited copies in the new one.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Raises the soft limit of open files to the hard one and returns it (descriptors per table).
#[must_use]
pub fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// The descriptors that are open in the calling thread's table.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn open_descriptors() -> io::Result<HashSet<RawFd>> {
    let mut open = HashSet::new();
    for entry in std::fs::read_dir("/proc/thread-self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            open.insert(fd);
        }
    }
    // The directory itself was open while it was read; its number is free again.
    open.retain(|fd| is_open(*fd));
    Ok(open)
}

/// Gives the calling thread a table of its own and closes every inherited descriptor that is not in `keep`.
/// Without this a socket that another shard closes stays open through our copy of it.
///
/// Rings and eventfds are kept, whoever's they are: which of them belong to this thread's executor can't be told (their
/// numbers may have been another's a moment before), and a copy of one holds nothing open that anybody waits for.
///
/// # Errors
/// When the kernel refuses `unshare(CLONE_FILES)`, or `/proc` is not mounted.
pub(crate) fn make_private(keep: &HashSet<RawFd>) -> io::Result<()> {
    // SAFETY: every descriptor number that this thread uses from here on is kept and thus open, under the same
    // number, in the new table; owners of the others live on threads that keep the old table.
    unsafe { unshare_unsafe(UnshareFlags::FILES)? };
    for fd in open_descriptors()? {
        if !keep.contains(&fd) && !is_of_an_executor(fd) {
            // SAFETY: the number is a copy in this thread's table; nothing on this thread owns it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Ok(())
}

fn is_of_an_executor(fd: RawFd) -> bool {
    let target = std::fs::read_link(format!("/proc/thread-self/fd/{fd}")).unwrap_or_default();
    ["anon_inode:[io_uring]", "anon_inode:[eventfd]", "anon_inode:[timerfd]"]
        .iter()
        .any(|kind| target.as_os_str() == *kind)
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD only asks about the number, and the borrow ends before this function does.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_getfd(borrowed).is_ok()
}
