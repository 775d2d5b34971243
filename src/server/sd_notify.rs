//! Notifies the service manager (sd_notify(3)): ready, reloading, stopping, alive, taken over. Does nothing where there is none.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Tells the service manager that all shards serve.
pub fn ready() {
    send("READY=1");
}

/// Another process is the service's from now on, and is ready. This one says no more.
pub fn main_process(pid: u32) {
    send(&format!("MAINPID={pid}\nREADY=1\nSTATUS=taken over by a new process"));
    be_silent();
}

/// The service is this process's again.
pub fn main_process_again() {
    speak();
    send(&format!("MAINPID={}\nREADY=1", std::process::id()));
}

/// What this process would say is not the service's: another process's is.
pub fn be_silent() {
    IS_SILENT.store(true, Ordering::Relaxed);
}

/// This process is the service's.
pub fn speak() {
    IS_SILENT.store(false, Ordering::Relaxed);
}

/// The configuration is being read again; [`ready`] follows.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The end begins, and takes `drain_timeout` at most: whatever the unit's TimeoutStopSec says, nothing is killed before
/// that.
pub fn stopping(drain_timeout: Duration) {
    let micros = (drain_timeout + STOP_MARGIN).as_micros();
    send(&format!("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={micros}"));
}

/// All shards answer: the watchdog's time begins anew. `words` appear in `systemctl status`.
pub fn alive(words: &str) {
    send(&format!("WATCHDOG=1\nSTATUS={words}"));
}

/// Nobody listens, or does not want to: that is not ours to fix.
fn send(text: &str) {
    if IS_SILENT.load(Ordering::Relaxed) {
        return;
    }
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(path))),
    };
    let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) else {
        return;
    };
    let _ = socket.set_nonblocking(true);
    let _ = socket.send_to_addr(text.as_bytes(), &address);
}

static IS_SILENT: AtomicBool = AtomicBool::new(false);
/// From the end of the drain to that of the process: profiles are written.
const STOP_MARGIN: Duration = Duration::from_secs(10);
