//! In the place of heap.rs where the library is built without the program's allocator: nothing is ever sampled.

const REASON: &str = "this was built without heap profiling";

/// Samples nothing.
///
/// # Errors
/// Always.
pub fn activate() -> Result<(), String> {
    Err(REASON.to_owned())
}

/// Has nothing to stop.
///
/// # Errors
/// Always.
pub fn deactivate() -> Result<(), String> {
    Err(REASON.to_owned())
}

/// False.
#[must_use]
pub fn is_active() -> bool {
    false
}

/// Has nothing to tell.
///
/// # Errors
/// Always.
pub fn dump() -> Result<Vec<u8>, String> {
    Err(REASON.to_owned())
}
