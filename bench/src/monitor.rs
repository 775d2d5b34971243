//! Watches a run: starts the load, steers it through its phases, reads the figures off second by second.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use loadgen::engine::{share, threads_for};

use crate::amounts::{bytes, duration, grouped};
use crate::clients::{self, Load, Traffic, WARM_UP_NS};
use crate::counters::{Control, Count, Counts, Slice, ThreadCounters, Totals, slice_histogram};
use crate::environment::Environment;
use crate::hostile::{self, HostileCounts};
use crate::options::{Mode, Options};
use crate::poller::now_ns;
use crate::pushes::{self, PushCounts, PushLoad};
use crate::report::Second;
use crate::rpc::Shape;
use crate::sample::{Kernel, Process};
use crate::schedule::{Schedule, Timing};
use crate::stats::Stats;
use crate::upgrades::{self, Upgrades};
use crate::{http, sys};

/// A snapshot of the whole run.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub at_ns: u64,
    pub relay: Process,
    pub backend: Process,
    pub harness: Process,
    pub kernel: Kernel,
    pub totals: Totals,
    pub accepted: u64,
    /// CPU time of each load thread.
    pub threads_cpu_ns: Vec<u64>,
}

/// What the attack has done, and its thread.
pub type Attack = (Arc<HostileCounts>, JoinHandle<io::Result<()>>);

/// A run under way.
pub struct Monitor<'a> {
    pub options: &'a Options,
    pub environment: &'a Environment,
    pub start_ns: u64,
    pub control: Arc<Control>,
    pub counts: Vec<Arc<Counts>>,
    pub push_counts: Arc<PushCounts>,
    pub threads: Vec<JoinHandle<io::Result<ThreadCounters>>>,
    /// The attack meanwhile, if there is one.
    pub attack: Option<Attack>,
    /// The upgrades meanwhile, if there are any. They end the measurement.
    pub upgrades: Option<JoinHandle<io::Result<Upgrades>>>,
    pub slices: Receiver<Slice>,
    /// Calls and pushes answered in each second, merged over the threads.
    pub by_second: BTreeMap<u64, (Histogram<u32>, Histogram<u32>)>,
    pub seconds: Vec<Second>,
    /// Before the first connect, at the begin and at the end of the measurement.
    pub empty: Snapshot,
    pub begin: Option<Snapshot>,
    pub end: Option<Snapshot>,
    pub last: Snapshot,
    /// When all connects were done.
    pub connected_ns: Option<u64>,
    pub terminal: bool,
}

impl<'a> Monitor<'a> {
    pub fn start(options: &'a Options, environment: &'a Environment, open_files: u64) -> Result<Self, String> {
        let threads = options
            .threads
            .unwrap_or_else(|| threads_for(options.clients, open_files));
        let threads = threads.min(options.clients);
        let control = Arc::new(Control::default());
        let counts: Vec<Arc<Counts>> = (0..threads).map(|_| Arc::default()).collect();
        let push_counts = Arc::new(PushCounts::default());
        let start_ns = now_ns() + START_DELAY.as_nanos() as u64;
        if options.mode == Mode::Hold {
            // Open loop: the times are known before the first connect.
            let begin = start_ns + options.ramp.as_nanos() as u64;
            control.window_start_ns.store(begin, Ordering::Relaxed);
            if options.upgrades == 0 {
                let end = begin + options.hold.as_nanos() as u64;
                control.window_end_ns.store(end, Ordering::Relaxed);
            }
        }
        let (sender, slices) = channel();
        let pushing = u32::from(options.pushes_per_second > 0);
        let ready = Arc::new(Barrier::new(
            (threads + pushing + u32::from(!options.hostile.is_empty())) as usize + 1,
        ));
        let mut handles = Vec::new();
        for thread in 0..threads {
            let load = load(options, environment, start_ns, thread, threads);
            let (counts, control) = (Arc::clone(&counts[thread as usize]), Arc::clone(&control));
            let (sender, ready) = (sender.clone(), Arc::clone(&ready));
            handles.push(spawn(format!("load-{thread}"), move || {
                isolate(&ready)?;
                clients::run(load, counts, control, sender)
            })?);
        }
        if pushing == 1 {
            let load = PushLoad {
                ingress: environment.ingress.clone().into(),
                rate: options.pushes_per_second,
                clients: options.clients,
            };
            let (counts, control, ready) = (Arc::clone(&push_counts), Arc::clone(&control), Arc::clone(&ready));
            handles.push(spawn("pushes".to_owned(), move || {
                isolate(&ready)?;
                pushes::run(load, counts, control)
            })?);
        }
        let attack = match options.hostile.is_empty() {
            false => {
                let kinds = options.hostile.clone();
                let counts = Arc::new(HostileCounts::default());
                let (targets, tls) = (environment.targets.clone().into(), environment.tls.clone());
                let (own, control, ready) = (Arc::clone(&counts), Arc::clone(&control), Arc::clone(&ready));
                let thread = spawn("hostile".to_owned(), move || {
                    isolate(&ready)?;
                    hostile::run(&kinds, targets, tls, own, control)
                })?;
                Some((counts, thread))
            }
            true => None,
        };
        ready.wait();
        let plan = environment
            .admin
            .filter(|_| options.upgrades > 0)
            .map(|admin| upgrades::Plan {
                count: options.upgrades,
                admin,
                start_ns,
                hold: options.hold,
                succession: environment.relays.clone(),
            });
        let upgrades = plan.map(|plan| {
            let control = Arc::clone(&control);
            spawn("upgrades".to_owned(), move || Ok(upgrades::run(&plan, &control)))
        });
        let mut monitor = Self {
            options,
            environment,
            start_ns,
            control,
            counts,
            push_counts,
            threads: handles,
            attack,
            upgrades: upgrades.transpose()?,
            slices,
            by_second: BTreeMap::new(),
            seconds: Vec::new(),
            empty: Snapshot::default(),
            begin: None,
            end: None,
            last: Snapshot::default(),
            connected_ns: None,
            terminal: io::stderr().is_terminal(),
        };
        monitor.empty = monitor.snapshot();
        monitor.last = monitor.empty.clone();
        Ok(monitor)
    }

    /// Returns when everything is answered, or when it is not going to be.
    pub fn until_done(&mut self) {
        let mut next_tick = self.start_ns + SECOND_NS + TICK_LAG_NS;
        loop {
            let now = now_ns();
            if now >= next_tick {
                self.tick((next_tick - TICK_LAG_NS - self.start_ns) / SECOND_NS - 1);
                next_tick += SECOND_NS;
            }
            if self.connected_ns.is_none() {
                self.check_connected(now);
            }
            let (begin, end) = (self.control.window_start(), self.control.window_end());
            if self.begin.is_none() && now >= begin {
                self.begin = Some(self.snapshot());
            }
            if self.end.is_none() && now >= end {
                self.end = Some(self.snapshot());
            }
            if self.end.is_some() && self.connected_ns.is_some() {
                let unanswered = self.totals().unanswered() + self.push_counts.open();
                let answered = unanswered == 0 || now > end.saturating_add(2 * self.options.late.as_nanos() as u64);
                // The last full second of the measurement is still to be read off.
                if answered && next_tick - TICK_LAG_NS > end {
                    break;
                }
            }
            let wake = next_tick.min(if now < begin {
                begin
            } else if now < end {
                end
            } else {
                u64::MAX
            });
            std::thread::sleep(Duration::from_nanos(wake.saturating_sub(now)).min(PAUSE));
        }
        if self.seconds.is_empty() {
            self.tick(0);
        }
        if self.terminal && !self.options.quiet {
            eprintln!();
        }
    }

    /// Notes when the last connect was done (or given up), and opens the measurement where that waits for it.
    fn check_connected(&mut self, now: u64) {
        let totals = self.totals();
        let done = totals.get(Count::Opened) + totals.get(Count::Failed) >= u64::from(self.options.clients);
        let deadline = self.start_ns + (self.options.ramp + CONNECT_TIMEOUT).as_nanos() as u64;
        if !done && now < deadline {
            return;
        }
        self.connected_ns = Some(now);
        let begin = match self.options.mode {
            Mode::Hold => return,
            Mode::Ramp => {
                self.begin = Some(self.empty.clone());
                self.control.window_end_ns.store(now, Ordering::Relaxed);
                return;
            }
            Mode::Saturate => now + 2 * WARM_UP_NS,
            Mode::Push => now + WARM_UP_NS,
            Mode::Idle => now + 2 * SECOND_NS,
        };
        self.control
            .window_end_ns
            .store(begin + self.options.hold.as_nanos() as u64, Ordering::Relaxed);
        self.control.window_start_ns.store(begin, Ordering::Relaxed);
    }

    pub fn totals(&self) -> Totals {
        Totals::of(self.counts.iter().map(AsRef::as_ref))
    }

    pub fn snapshot(&self) -> Snapshot {
        let process = |pid: Option<u32>| pid.and_then(Process::read).unwrap_or_default();
        Snapshot {
            at_ns: now_ns(),
            relay: self.environment.relays.read(),
            backend: process(self.environment.backend_pid),
            harness: process(Some(std::process::id())),
            kernel: Kernel::read(),
            totals: self.totals(),
            accepted: self.push_counts.accepted.load(Ordering::Relaxed),
            threads_cpu_ns: self.counts.iter().map(|counts| counts.get(Count::CpuNs)).collect(),
        }
    }

    /// One second is over: notes its figures and shows them.
    fn tick(&mut self, second: u64) {
        self.take_slices();
        let now = self.snapshot();
        let elapsed = now.at_ns.saturating_sub(self.last.at_ns).max(1) as f64;
        let open = now.totals.get(Count::Opened) - now.totals.get(Count::Closed);
        let mut seen = Second {
            second,
            connections: open,
            relay: now.relay,
            kernel: now.kernel,
            relay_cores: cores(self.last.relay, now.relay, elapsed),
            ..Second::default()
        };
        self.fill_latencies(&mut seen);
        if !self.options.quiet {
            self.show(&seen, &now.totals);
        }
        self.seconds.push(seen);
        self.last = now;
    }

    pub fn take_slices(&mut self) {
        for slice in self.slices.try_iter() {
            let merged = self
                .by_second
                .entry(slice.second)
                .or_insert_with(|| (slice_histogram(), slice_histogram()));
            // All have the same bounds, so adding cannot fail.
            let _ = merged.0.add(&slice.calls);
            let _ = merged.1.add(&slice.pushes);
        }
    }

    /// What was answered in that second: its number, and its latencies (those of the Calls, if there are any).
    pub fn fill_latencies(&self, seen: &mut Second) {
        let Some((calls, pushes)) = self.by_second.get(&seen.second) else {
            return;
        };
        let latencies = if calls.is_empty() { pushes } else { calls };
        (seen.messages, seen.pushes) = (calls.len(), pushes.len());
        seen.p50 = latencies.value_at_quantile(0.5);
        seen.p99 = latencies.value_at_quantile(0.99);
        seen.p999 = latencies.value_at_quantile(0.999);
        seen.max = latencies.max();
    }

    fn show(&self, seen: &Second, totals: &Totals) {
        let faults = totals.get(Count::Failed)
            + totals.get(Count::Closed)
            + totals.get(Count::Wrong)
            + totals.get(Count::Duplicated)
            + totals.get(Count::Late);
        let line = format!(
            "{:>4} s  {:>9} open  {:>7} msg/s  {:>6} push/s  p50 {:>8}  p99 {:>8}  p99.9 {:>8}  {} {:.2} cores {}  faults {faults}",
            seen.second + 1,
            grouped(seen.connections),
            grouped(seen.messages),
            grouped(seen.pushes),
            duration(seen.p50),
            duration(seen.p99),
            duration(seen.p999),
            self.environment.relay,
            seen.relay_cores,
            bytes(seen.relay.rss),
        );
        let mut stderr = io::stderr().lock();
        let _ = if self.terminal {
            write!(stderr, "\r\x1b[K{line}")
        } else {
            writeln!(stderr, "{line}")
        };
        let _ = stderr.flush();
    }

    /// The stub's counters when every accepted push has its outcome, or when some are not going to come.
    pub fn wait_for_outcomes(&self) -> Option<Stats> {
        let backend = self
            .environment
            .backend
            .filter(|_| self.options.pushes_per_second > 0 || self.options.upgrades > 0)?;
        let accepted = self.push_counts.accepted.load(Ordering::Relaxed);
        let deadline = now_ns() + OUTCOMES_TIMEOUT.as_nanos() as u64;
        loop {
            let body = http::fetch(backend, "GET", "/stats").ok()?.1;
            let stats: Stats = serde_json::from_slice(&body).ok()?;
            if stats.outcomes.distinct >= accepted || now_ns() > deadline {
                return Some(stats);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn load(options: &Options, environment: &Environment, start_ns: u64, thread: u32, threads: u32) -> Load {
    let clients = share(options.clients, thread, threads);
    let traffic = match options.mode {
        Mode::Hold => Traffic::OpenLoop,
        Mode::Saturate => Traffic::ClosedLoop,
        Mode::Ramp | Mode::Push | Mode::Idle => Traffic::Silent,
    };
    let interval_ns = if traffic == Traffic::OpenLoop {
        options.interval.as_nanos() as u64
    } else {
        0
    };
    let timing = Timing {
        start_ns,
        ramp_ns: options.ramp.as_nanos() as u64,
        interval_ns,
    };
    Load {
        thread,
        threads,
        clients,
        schedule: Schedule::new(timing, clients, thread, threads),
        start_ns,
        handshakes_at_once: options.ramp.is_zero().then(|| HANDSHAKES_AT_ONCE.div_ceil(threads)),
        targets: environment.targets.clone().into(),
        tls: environment.tls.clone(),
        subprotocol: options.subprotocol.as_deref().map(Into::into),
        shape: Shape {
            payload_len: options.payload,
        },
        traffic,
        late_ns: options.late.as_nanos() as u64,
    }
}

/// Cores that a process took between two snapshots.
pub fn cores(begin: Process, end: Process, elapsed_ns: f64) -> f64 {
    end.cpu_us.saturating_sub(begin.cpu_us) as f64 * 1e3 / elapsed_ns
}

fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<JoinHandle<io::Result<T>>, String> {
    let builder = std::thread::Builder::new().name(name).stack_size(STACK_LEN);
    builder
        .spawn(body)
        .map_err(|error| format!("cannot start a thread: {error}"))
}

/// No thread opens a socket before all have their own descriptor table.
fn isolate(ready: &Barrier) -> io::Result<()> {
    let isolated = sys::unshare_descriptors();
    ready.wait();
    isolated
}

const SECOND_NS: u64 = 1_000_000_000;
/// A second is read off this long after its end, when every thread has handed over its slice.
const TICK_LAG_NS: u64 = 150_000_000;
const START_DELAY: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const OUTCOMES_TIMEOUT: Duration = Duration::from_secs(15);
const HANDSHAKES_AT_ONCE: u32 = 64;
const STACK_LEN: usize = 512 << 10;
