//! Remembers how the last reading of the configuration ended, for /metrics and whoever watches them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

/// The configuration was read, at the start or after SIGHUP, and is what runs.
pub fn succeeded() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    LAST_SUCCESS.store(now.map_or(0, |now| now.as_secs()), Ordering::Relaxed);
    IS_SUCCESSFUL.store(true, Ordering::Relaxed);
}

/// What was read after SIGHUP is wrong; the configuration before goes on.
pub fn failed() {
    IS_SUCCESSFUL.store(false, Ordering::Relaxed);
}

/// Whether what was read last is what runs.
#[must_use]
pub fn is_successful() -> bool {
    IS_SUCCESSFUL.load(Ordering::Relaxed)
}

/// When the configuration that runs was read, in seconds since 1970.
#[must_use]
pub fn last_success() -> u64 {
    LAST_SUCCESS.load(Ordering::Relaxed)
}

static IS_SUCCESSFUL: AtomicBool = AtomicBool::new(true);
static LAST_SUCCESS: AtomicU64 = AtomicU64::new(0);
