//! Follows what is measured through its upgrades: the processes that have served in turn, of which two live while one takes over
//! from the other. What such a process has started to help it (a balancer before it) counts with it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::sample::Process;

/// The processes, the oldest first.
#[derive(Debug, Default)]
pub struct Succession(Mutex<Vec<Generation>>);

#[derive(Debug)]
struct Generation {
    pid: u32,
    last: Process,
    /// Its id may be another process's by now.
    is_over: bool,
}

impl Succession {
    /// The first one, if it is known.
    #[must_use]
    pub fn new(pid: Option<u32>) -> Self {
        let this = Self::default();
        pid.into_iter().for_each(|pid| this.add(pid));
        this
    }

    /// Another one serves from now on.
    pub fn add(&self, pid: u32) {
        self.generations().push(Generation {
            pid,
            last: Process::default(),
            is_over: false,
        });
    }

    /// The CPU time of all that there were; memory and threads of those that live.
    pub fn read(&self) -> Process {
        let mut sum = Process::default();
        let mut generations = self.generations();
        let pids: Vec<u32> = generations.iter().map(|generation| generation.pid).collect();
        for generation in generations.iter_mut() {
            generation.look(&pids);
            sum.cpu_us += generation.last.cpu_us;
            sum.system_us += generation.last.system_us;
            sum.rss += generation.last.rss;
            sum.threads += generation.last.threads;
        }
        sum
    }

    /// How many live.
    pub fn alive(&self) -> usize {
        self.read();
        self.generations()
            .iter()
            .filter(|generation| !generation.is_over)
            .count()
    }

    /// Ends those that are no children of ours, which nobody else does.
    pub fn end_successors(&self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        for generation in self.generations().iter_mut().skip(1) {
            generation.signal(Signal::TERM);
            while generation.look(&[]) && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
            generation.signal(Signal::KILL);
        }
    }

    fn generations(&self) -> MutexGuard<'_, Vec<Generation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generation {
    /// Whether it lives. What it has used stays used. `pids`: of all generations, which are no helpers.
    fn look(&mut self, pids: &[u32]) -> bool {
        let now = match self.is_over {
            true => None,
            false => Process::read_with_helpers(self.pid, pids),
        };
        match now {
            Some(now) => self.last = now,
            None => {
                self.is_over = true;
                (self.last.rss, self.last.threads) = (0, 0);
            }
        }
        !self.is_over
    }

    fn signal(&mut self, signal: Signal) {
        if self.look(&[])
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            // It may have ended by itself just now.
            let _ = kill_process(pid, signal);
        }
    }
}

const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Ends with the test.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn what_an_ended_process_has_used_stays_used_and_nothing_else_of_it() {
        let (first, second) = (Sleeper::start(), Sleeper::start());
        let succession = Succession::new(Some(first.0.id()));
        assert_eq!((succession.read().threads, succession.alive()), (1, 1));
        succession.add(second.0.id());
        let both = succession.read();
        assert_eq!((both.threads, succession.alive()), (2, 2));
        succession.end_successors();
        let left = succession.read();
        assert_eq!((left.threads, succession.alive()), (1, 1));
        assert!(left.cpu_us >= both.cpu_us);
        assert_eq!(Succession::new(None).read(), Process::default());
    }

    #[test]
    fn helpers_count_with_who_has_started_them_and_successors_do_not() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 100 & read -r _"]).stdin(Stdio::piped());
        let shell = Sleeper(shell.spawn().unwrap());
        let succession = Succession::new(Some(shell.0.id()));
        let deadline = Instant::now() + STOP_TIMEOUT;
        while succession.read().threads < 2 {
            assert!(Instant::now() < deadline, "the helper is not seen");
            std::thread::sleep(POLL);
        }
        let pid = shell.0.id();
        let helper = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        succession.add(helper.trim().parse().unwrap());
        assert_eq!((succession.read().threads, succession.alive()), (2, 2));
        succession.end_successors();
        assert_eq!((succession.read().threads, succession.alive()), (1, 1));
    }
}
