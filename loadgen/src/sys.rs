//! Wraps what safe wrappers do not offer: a private file-descriptor table, one socket option, and children that do not
//! outlive us.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

/// Gives the calling thread a file-descriptor table of its own: no lock shared with other cores, no stall when another
/// thread's table grows, and RLIMIT_NOFILE counts for this thread alone.
///
/// Call it first thing on a new thread, before the thread opens anything, and before others open anything that they
/// want to close: descriptors that exist now are copied.
///
/// # Errors
/// What `unshare(2)` says; an ordinary user may do this.
pub fn unshare_descriptors() -> io::Result<()> {
    // SAFETY: the contract of `unshare_unsafe` is that no thread uses a descriptor that exists only in another one's
    // table. The threads of this package open their own sockets after this call and never pass a descriptor on; those
    // that they inherit (standard streams, eventfds made before) are copies that stay valid in both tables.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }?;
    Ok(())
}

/// Lets a socket be bound to an address without reserving a port yet: the port is chosen at `connect`, when the
/// destination is known, so that ports are unique per pair of addresses and not per source address.
///
/// # Errors
/// What `setsockopt(2)` says.
pub fn set_bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed for the call, and the pointer and length describe one live c_int.
    let status = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has the kernel kill the child when the calling thread ends, however it ends: what a killed run leaves behind would
/// disturb every later measurement.
pub fn end_with_us(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
}
