//! Lets a command that would go on for long end in good order at Ctrl-C.

use nix::sys::signal::{SigSet, Signal};

use super::failure::Failure;

/// Calls `end` at SIGINT and SIGTERM. Where it says that there is nothing (more) to end, the program ends at once: what is
/// printed may be stuck. It has to come before the command's threads.
pub(super) fn watch(end: impl Fn() -> bool + Send + 'static) -> Result<(), Failure> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block().map_err(std::io::Error::from)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while signals.wait().is_ok() {
            if !end() {
                std::process::exit(EXIT_INTERRUPTED);
            }
        }
    })?;
    Ok(())
}

const EXIT_INTERRUPTED: i32 = 130;
