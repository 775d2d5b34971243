//! Takes a thread's stack at SIGPROF, wherever it is, and hands it to an ordinary thread.
//!
//! Not the `pprof` crate's own sampler: to see whether an address is readable it writes to one pipe of the whole
//! process, and what does not fit in its table goes to a temporary file, both by descriptor number from within the
//! handler. Each shard has a descriptor table of its own, where these numbers are clients' sockets. Here nothing has a
//! descriptor: memory is read with `process_vm_readv`, and samples wait in slots that were allocated before.
//!
//! The handler takes no lock, allocates nothing, and keeps `errno`. A sample that finds no free slot is counted.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::slots::Slots;

/// Frames kept of a stack, the innermost first.
pub(super) const DEPTH_MAX: usize = 96;
/// Samples per second of CPU time, of all threads together.
pub(super) const FREQUENCY: u32 = 100;

/// One stack.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) thread: i32,
    len: usize,
    addresses: [usize; DEPTH_MAX],
}

impl Sample {
    /// The interrupted address, then return addresses.
    pub(super) fn addresses(&self) -> &[usize] {
        &self.addresses[..self.len]
    }
}

static SLOTS: OnceLock<Slots<Sample>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// Starts the signals. The caller sees to it that only one profile runs.
pub(super) fn start() -> io::Result<()> {
    let empty = || Sample {
        thread: 0,
        len: 0,
        addresses: [0; DEPTH_MAX],
    };
    SLOTS.get_or_init(|| Slots::new(SLOTS_COUNT, empty));
    LOST.store(0, Ordering::Relaxed);
    PROCESS.store(rustix::process::getpid().as_raw_nonzero().get(), Ordering::Relaxed);
    install(handle as extern "C" fn(_, _, _) as usize)?;
    set_timer(1_000_000 / i64::from(FREQUENCY))
}

/// Stops them. A signal that is still on its way finds nobody.
pub(super) fn stop() {
    let _ = set_timer(0);
    let _ = install(libc::SIG_IGN);
}

/// Gives each waiting sample to `take`; returns how many were lost since the start. One reader at a time.
pub(super) fn drain(take: impl FnMut(&Sample)) -> u64 {
    if let Some(slots) = SLOTS.get() {
        slots.drain(take);
    }
    LOST.load(Ordering::Relaxed)
}

fn install(handler: usize) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one; the handler is a function of the type that SA_SIGINFO asks for, or
    // SIG_IGN.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGPROF, &action, ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set_timer(micros: i64) -> io::Result<()> {
    let time = libc::timeval {
        tv_sec: micros / 1_000_000,
        tv_usec: micros % 1_000_000,
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: the structure lives through the call and no old value is asked for.
    let result = unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn handle(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(slots) = SLOTS.get() else { return };
    // SAFETY: the pointer is this thread's own errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let kept = unsafe { *errno };
    let is_kept = !context.is_null()
        && slots.fill(|sample| {
            // SAFETY: the kernel's context is a ucontext_t.
            sample.take(registers(unsafe { &*context.cast::<libc::ucontext_t>() }));
        });
    if !is_kept {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: as above.
    unsafe { *errno = kept };
}

/// Program counter, stack pointer, frame pointer.
#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> [usize; 3] {
    let registers = &context.uc_mcontext.gregs;
    [libc::REG_RIP, libc::REG_RSP, libc::REG_RBP].map(|register| registers[register as usize] as usize)
}

/// Program counter, stack pointer, frame pointer.
#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> [usize; 3] {
    let machine = &context.uc_mcontext;
    [machine.pc as usize, machine.sp as usize, machine.regs[29] as usize]
}

impl Sample {
    /// Follows the frame pointers. They may be anything where code was built without them (the C library), so memory
    /// is read through the kernel, which refuses where there is none.
    fn take(&mut self, [counter, stack, mut frame]: [usize; 3]) {
        // SAFETY: gettid has no arguments and can't fail.
        self.thread = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
        self.addresses[0] = counter;
        self.len = 1;
        let mut lowest = stack;
        while self.len < DEPTH_MAX
            && frame >= lowest
            && frame - stack < STACK_LEN_MAX
            && frame % size_of::<usize>() == 0
        {
            let Some([caller, address]) = read_pair(frame) else {
                break;
            };
            if address == 0 {
                break;
            }
            self.addresses[self.len] = address;
            self.len += 1;
            lowest = frame + 1;
            frame = caller;
        }
    }
}

fn read_pair(address: usize) -> Option<[usize; 2]> {
    let mut pair = [0_usize; 2];
    let len = size_of_val(&pair);
    let local = libc::iovec {
        iov_base: pair.as_mut_ptr().cast(),
        iov_len: len,
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: len,
    };
    // SAFETY: the kernel writes at most `len` bytes into `pair`, and checks the other address itself.
    let count = unsafe { libc::process_vm_readv(PROCESS.load(Ordering::Relaxed), &local, 1, &remote, 1, 0) };
    (count == len as isize).then_some(pair)
}

const SLOTS_COUNT: usize = 2048;
/// No stack is longer.
const STACK_LEN_MAX: usize = 64 << 20;
