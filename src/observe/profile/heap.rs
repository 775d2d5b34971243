//! Profiles memory: jemalloc's sampling is compiled in, and off until asked for.

use jemalloc_pprof::{JemallocProfCtl, PROF_CTL};

/// Begins to sample allocations: one per 512 KiB allocated, on average.
///
/// # Errors
/// When the program runs on another allocator.
pub fn activate() -> Result<(), String> {
    with(|control| control.activate().map_err(|error| error.to_string()))
}

/// Stops sampling and forgets what was sampled.
///
/// # Errors
/// As [`activate`].
pub fn deactivate() -> Result<(), String> {
    with(|control| control.deactivate().map_err(|error| error.to_string()))
}

/// True while allocations are sampled.
#[must_use]
pub fn is_active() -> bool {
    with(|control| Ok(control.activated())) == Ok(true)
}

/// What was allocated since [`activate`] and not freed, as gzipped pprof.
///
/// # Errors
/// As [`activate`], or when there is no place for jemalloc's temporary file.
pub fn dump() -> Result<Vec<u8>, String> {
    with(|control| control.dump_pprof().map_err(|error| format!("{error:#}")))
}

fn with<T>(act: impl FnOnce(&mut JemallocProfCtl) -> Result<T, String>) -> Result<T, String> {
    let control = PROF_CTL
        .as_ref()
        .ok_or("this program was built without heap profiling")?;
    act(&mut control.blocking_lock())
}
