//! Profiles CPU time: a thread collects what the sampler takes, and counts equal stacks.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::{pprof, sampler};

/// A CPU profile that is being taken. Ends when dropped.
#[derive(Debug)]
pub struct CpuProfile {
    stacks: Arc<Mutex<Stacks>>,
    start: SystemTime,
    began: Instant,
    stop: Option<mpsc::Sender<()>>,
    collector: Option<JoinHandle<()>>,
}

/// A CPU profile can't be taken now.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// There is one at a time: the kernel has one such timer per process.
    #[error("another CPU profile is being taken")]
    Running,
    /// Timer, signal or thread.
    #[error("can't be taken: {0}")]
    System(#[from] io::Error),
}

/// Stacks that were seen, and how often. Bounded: beyond that many different ones, further ones lose their callers.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    pub(super) counts: HashMap<(i32, Vec<usize>), u64>,
    /// Names of the threads that were seen.
    pub(super) threads: HashMap<i32, String>,
    pub(super) lost: u64,
}

impl CpuProfile {
    /// Starts one.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn start() -> Result<Self, Busy> {
        if RUNNING.swap(true, Ordering::AcqRel) {
            return Err(Busy::Running);
        }
        // What an earlier profile left behind.
        sampler::drain(|_| {});
        let stacks = Arc::new(Mutex::new(Stacks::default()));
        let (stop, stopped) = mpsc::channel();
        let shared = stacks.clone();
        let collector = std::thread::Builder::new().name("profile".into()).spawn(move || {
            while stopped.recv_timeout(COLLECT_PAUSE) == Err(mpsc::RecvTimeoutError::Timeout) {
                lock(&shared).collect();
            }
        });
        // From here on its end gives the place free again, whatever fails.
        let mut profile = Self {
            stacks,
            start: SystemTime::now(),
            began: Instant::now(),
            stop: Some(stop),
            collector: None,
        };
        profile.collector = Some(collector?);
        sampler::start()?;
        Ok(profile)
    }

    /// What there is so far, as gzipped pprof.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut stacks = lock(&self.stacks);
        stacks.collect();
        pprof::encode(&stacks, self.start, self.began.elapsed())
    }
}

impl Drop for CpuProfile {
    fn drop(&mut self) {
        sampler::stop();
        self.stop = None;
        if let Some(collector) = self.collector.take() {
            let _ = collector.join();
        }
        RUNNING.store(false, Ordering::Release);
    }
}

impl Stacks {
    fn collect(&mut self) {
        let (counts, threads) = (&mut self.counts, &mut self.threads);
        self.lost = sampler::drain(|sample| {
            threads
                .entry(sample.thread)
                .or_insert_with(|| thread_name(sample.thread));
            let addresses = sample.addresses();
            let kept = if counts.len() < STACKS_MAX {
                addresses
            } else {
                &addresses[..1]
            };
            // Looked up without an allocation would be nicer; this is a hundred times a second.
            *counts.entry((sample.thread, kept.to_vec())).or_default() += 1;
        });
    }
}

fn thread_name(thread: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
    name.map_or_else(|_| thread.to_string(), |name| name.trim_end().to_owned())
}

fn lock(stacks: &Mutex<Stacks>) -> MutexGuard<'_, Stacks> {
    stacks.lock().unwrap_or_else(PoisonError::into_inner)
}

static RUNNING: AtomicBool = AtomicBool::new(false);
const COLLECT_PAUSE: Duration = Duration::from_millis(100);
const STACKS_MAX: usize = 100_000;
