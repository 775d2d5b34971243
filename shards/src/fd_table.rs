//! Tells what the calling thread's table of file descriptors has and may have, and takes over those that were passed
//! in.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
pub fn take_inherited(count: usize) -> io::Result<Vec<OwnedFd>> {
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

/// Owns `fd` in the calling thread's table: a copy that `make_private` has kept, or a socket that its owner let go of
/// on its way here.
#[cfg(not(simulation))]
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    assert!(is_open(fd), "what is kept, or on its way, is open");
    // SAFETY: the number is open in this table, and nobody else here owns it: a copy's original is owned in another
    // table, and whoever sent a socket has given its number up.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD only asks about the number, and the borrow ends before this function does.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_getfd(borrowed).is_ok()
}

/// After standard input, output and error.
const FIRST_PASSED: RawFd = 3;
