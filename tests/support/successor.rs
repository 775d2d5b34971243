//! Holds a process that has taken over from the program that the test has started: no child of the test's.

use rustix::process::{Pid, Signal, kill_process};

/// A process that runs; at the end of the test it does not.
#[derive(Debug)]
pub struct Successor(Pid);

impl Successor {
    pub fn new(pid: i64) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self(pid.expect("the id of a process"))
    }

    pub fn id(&self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).unwrap();
    }

    /// Whether it has not ended; whoever should has maybe not waited for it yet.
    pub fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        !state.is_empty() && !state.starts_with('Z')
    }

    #[track_caller]
    pub fn wait(&self) {
        super::eventually("the new process's end", || (!self.is_running()).then_some(()));
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn terminate(self) {
        self.signal(Signal::TERM);
        self.wait();
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}
