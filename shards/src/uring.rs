//! Finds out whether the kernel lets this process use io_uring. The executor would panic where it does not.
#![allow(unsafe_code)]

use std::io;

use rustix::io_uring::{io_uring_params, io_uring_setup};

/// Makes the smallest ring there is and gives it back.
///
/// # Errors
/// The kernel's error: EPERM when it is forbidden (sysctl or seccomp), ENOSYS where there is none, ENOMEM when too
/// little memory may be locked.
pub(crate) fn probe() -> io::Result<()> {
    let mut params = io_uring_params::default();
    // SAFETY: the parameters are all zero, so the kernel takes no pointers from them; the descriptor is closed at once.
    let ring = unsafe { io_uring_setup(1, &mut params) }?;
    drop(ring);
    Ok(())
}
