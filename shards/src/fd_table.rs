//! File-descriptor tables: one per shard, so that no table is shared between cores and the limit counts per shard.
//!
//! The only file of this package with `unsafe` in it: giving up a table's sharing, closing the inherited copies in the new
//! one, and owning those that are kept.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::FdFlags;
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

/// The descriptors that whoever started this process has left open for it: `count` of them from number 3 on
/// (sd_listen_fds(3)). They are not passed on to further programs.
///
/// # Errors
/// When one of them is not open, with its number; when they were taken before.
pub fn take_passed(count: usize) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let numbers = (FIRST_PASSED..).take(count);
    if let Some(closed) = numbers.clone().find(|fd| !is_open(*fd)) {
        return Err(io::Error::other(format!("descriptor {closed} is not open")));
    }
    // SAFETY: they were open before this process had opened anything, and nobody else takes them.
    let passed: Vec<OwnedFd> = numbers.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    for fd in &passed {
        rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    Ok(passed)
}

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
/// The kernel's word: EMFILE or ENFILE.
pub(crate) fn room_for(count: usize) -> io::Result<()> {
    let opened: io::Result<Vec<OwnedFd>> = (0..count).map(|_| Ok(eventfd(0, EventfdFlags::CLOEXEC)?)).collect();
    opened.map(drop)
}

/// Owns `fd` in the calling thread's private table. It is one of those that [`make_private`] has kept.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    assert!(is_open(fd), "what is kept is open");
    // SAFETY: the number is this table's own copy; whoever it was copied from owns the number in another table.
    unsafe { OwnedFd::from_raw_fd(fd) }
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

/// After standard input, output and error.
const FIRST_PASSED: RawFd = 3;
