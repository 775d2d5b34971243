//! Gives a shard's thread a table of file descriptors of its own, so that no table is shared between cores and the
//! limit counts per shard.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::fd_table::open_descriptors;

/// Whether a thread may have a table of its own: tried by one that ends with it.
///
/// # Errors
/// When the kernel refuses `unshare(CLONE_FILES)`, or `/proc` is not mounted.
pub(crate) fn probe() -> io::Result<()> {
    let probe = std::thread::Builder::new().name("probe".into()).spawn(|| {
        // SAFETY: this thread has no descriptor, and whatever it has a copy of goes with it.
        unsafe { unshare_unsafe(UnshareFlags::FILES)? };
        open_descriptors().map(drop)
    })?;
    probe
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that tried it panicked")))
}

/// Whether `count` more descriptors can be opened at this moment. The executor panics where some of its can't.
///
/// # Errors
/// The kernel's error: EMFILE or ENFILE.
pub(crate) fn room_for(count: usize) -> io::Result<()> {
    let opened: io::Result<Vec<OwnedFd>> = (0..count).map(|_| Ok(eventfd(0, EventfdFlags::CLOEXEC)?)).collect();
    opened.map(drop)
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
