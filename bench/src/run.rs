//! One run from the first thread to the report: starts the load, watches it, ends it, adds it up.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::clients::{self, Load, Traffic, WARM_UP_NS};
use crate::options::{Mode, Options};
use crate::poller::now_ns;
use crate::pushes::{self, PushCounts, PushLoad};
use crate::report::{self, Counted, Cpu, Floor, LatencyReport, Memory, Percentiles, Rates, Report, Scene, Second};
use crate::rpc::Shape;
use crate::sample::{Kernel, Process};
use crate::scenery::{self, Scenery};
use crate::schedule::{Schedule, Timing, share};
use crate::stats::Stats;
use crate::tally::{Control, Count, Counts, Slice, Tally, Totals, slice_histogram};
use crate::{flags, http, launch, sys};

/// Does what the options say.
///
/// # Errors
/// In words: it could not run. What went wrong in a run is in the report.
pub fn run(options: &Options) -> Result<Report, String> {
    let open_files = flags::raise_open_files();
    let mut report = run_against(options, None, open_files)?;
    if options.compare_floor {
        let floor = run_against(options, Some(launch::sibling("floor")?), open_files)?;
        report
            .problems
            .extend(floor.problems.iter().map(|problem| format!("floor: {problem}")));
        let us = floor.cpu.relay_us_per_message;
        report.floor = Some(Floor {
            us_per_message: us,
            ratio: if us > 0.0 {
                report.cpu.relay_us_per_message / us
            } else {
                0.0
            },
            messages_per_second: floor.rates.messages,
            calls: floor.latency.calls,
        });
    }
    Ok(report)
}

fn run_against(options: &Options, program: Option<PathBuf>, open_files: u64) -> Result<Report, String> {
    let scenery = Scenery::set(options, program, open_files)?;
    if let Some(backend) = scenery.backend {
        http::fetch(backend, "POST", "/reset").map_err(|error| format!("stub_backend at {backend}: {error}"))?;
    }
    let mut watch = Watch::start(options, &scenery, open_files)?;
    watch.until_done();
    let outcomes = watch.wait_for_outcomes();
    watch.finish(outcomes, open_files)
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    at_ns: u64,
    relay: Process,
    backend: Process,
    harness: Process,
    kernel: Kernel,
    totals: Totals,
    accepted: u64,
    /// CPU time of each load thread.
    threads_cpu_ns: Vec<u64>,
}

/// A run under way.
struct Watch<'a> {
    options: &'a Options,
    scenery: &'a Scenery,
    start_ns: u64,
    control: Arc<Control>,
    counts: Vec<Arc<Counts>>,
    push_counts: Arc<PushCounts>,
    threads: Vec<JoinHandle<io::Result<Tally>>>,
    slices: Receiver<Slice>,
    /// Calls and pushes answered in each second, merged over the threads.
    by_second: BTreeMap<u64, (Histogram<u32>, Histogram<u32>)>,
    seconds: Vec<Second>,
    /// Before the first connect, at the begin and at the end of the measurement.
    empty: Snapshot,
    begin: Option<Snapshot>,
    end: Option<Snapshot>,
    last: Snapshot,
    /// When all connects were done.
    connected_ns: Option<u64>,
    terminal: bool,
}

impl<'a> Watch<'a> {
    fn start(options: &'a Options, scenery: &'a Scenery, open_files: u64) -> Result<Self, String> {
        let threads = options
            .threads
            .unwrap_or_else(|| scenery::load_threads(options.clients, open_files));
        let threads = threads.min(options.clients);
        let control = Arc::new(Control::default());
        let counts: Vec<Arc<Counts>> = (0..threads).map(|_| Arc::default()).collect();
        let push_counts = Arc::new(PushCounts::default());
        let start_ns = now_ns() + START_DELAY.as_nanos() as u64;
        if options.mode == Mode::Hold {
            // Open loop: the times are known before the first connect.
            let begin = start_ns + options.ramp.as_nanos() as u64;
            control.window_start_ns.store(begin, Ordering::Relaxed);
            control
                .window_end_ns
                .store(begin + options.hold.as_nanos() as u64, Ordering::Relaxed);
        }
        let (sender, slices) = channel();
        let pushing = u32::from(options.pushes_per_second > 0);
        let ready = Arc::new(Barrier::new((threads + pushing) as usize + 1));
        let mut handles = Vec::new();
        for thread in 0..threads {
            let load = load(options, scenery, start_ns, thread, threads);
            let (counts, control) = (Arc::clone(&counts[thread as usize]), Arc::clone(&control));
            let (sender, ready) = (sender.clone(), Arc::clone(&ready));
            handles.push(spawn(format!("load-{thread}"), move || {
                isolate(&ready)?;
                clients::run(load, counts, control, sender)
            })?);
        }
        if pushing == 1 {
            let load = PushLoad {
                ingress: scenery.ingress.clone().into(),
                rate: options.pushes_per_second,
                clients: options.clients,
            };
            let (counts, control, ready) = (Arc::clone(&push_counts), Arc::clone(&control), Arc::clone(&ready));
            handles.push(spawn("pushes".to_owned(), move || {
                isolate(&ready)?;
                pushes::run(load, counts, control)
            })?);
        }
        ready.wait();
        let mut watch = Self {
            options,
            scenery,
            start_ns,
            control,
            counts,
            push_counts,
            threads: handles,
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
        watch.empty = watch.snapshot();
        watch.last = watch.empty.clone();
        Ok(watch)
    }

    /// Returns when everything is answered, or when it is not going to be.
    fn until_done(&mut self) {
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

    fn totals(&self) -> Totals {
        Totals::of(self.counts.iter().map(AsRef::as_ref))
    }

    fn snapshot(&self) -> Snapshot {
        let process = |pid: Option<u32>| pid.and_then(Process::read).unwrap_or_default();
        Snapshot {
            at_ns: now_ns(),
            relay: process(self.scenery.relay_pid),
            backend: process(self.scenery.backend_pid),
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

    fn take_slices(&mut self) {
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
    fn fill_latencies(&self, seen: &mut Second) {
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
        let trouble = totals.get(Count::Failed)
            + totals.get(Count::Closed)
            + totals.get(Count::Wrong)
            + totals.get(Count::Duplicated)
            + totals.get(Count::Late);
        let line = format!(
            "{:>4} s  {:>9} open  {:>7} msg/s  {:>6} push/s  p50 {:>8}  p99 {:>8}  p99.9 {:>8}  {} {:.2} cores {}  trouble {trouble}",
            seen.second + 1,
            report::grouped(seen.connections),
            report::grouped(seen.messages),
            report::grouped(seen.pushes),
            report::duration(seen.p50),
            report::duration(seen.p99),
            report::duration(seen.p999),
            self.scenery.relay,
            seen.relay_cores,
            report::bytes(seen.relay.rss),
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
    fn wait_for_outcomes(&self) -> Option<Stats> {
        let backend = self.scenery.backend.filter(|_| self.options.pushes_per_second > 0)?;
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

    fn finish(mut self, outcomes: Option<Stats>, open_files: u64) -> Result<Report, String> {
        let held = self.snapshot();
        self.control.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for thread in std::mem::take(&mut self.threads) {
            let own = thread.join().map_err(|_| "a thread of the load has panicked")?;
            let own = own.map_err(|error| format!("a thread of the load: {error}"))?;
            tally.latencies.merge(&own.latencies);
            tally.faults.extend(own.faults);
        }
        tally.faults.truncate(crate::tally::FAULTS_MAX);
        let mut report = Report {
            relay: self.scenery.relay.clone(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            started_unix: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            machine: scenery::machine(open_files),
            scene: self.scene(),
            faults: tally.faults,
            counts: self.counted(outcomes),
            latency: LatencyReport {
                calls: Percentiles::of(&tally.latencies.calls),
                calls_in_ramp: Percentiles::of(&tally.latencies.calls_in_ramp),
                connects: Percentiles::of(&tally.latencies.connects),
                pushes: Percentiles::of(&tally.latencies.pushes),
                accepts: Percentiles::of(&tally.latencies.accepts),
                send_lag: Percentiles::of(&tally.latencies.send_lag),
            },
            memory: self.memory(&held),
            ..Report::default()
        };
        let curve_of = match self.options.mode {
            Mode::Hold | Mode::Saturate => &tally.latencies.calls,
            Mode::Push => &tally.latencies.pushes,
            Mode::Ramp | Mode::Idle => &tally.latencies.connects,
        };
        report.curve = report::curve(curve_of);
        (report.rates, report.cpu) = self.rates_and_cpu();
        // A thread that was late with its slice has handed it over by now.
        self.take_slices();
        let mut seconds = std::mem::take(&mut self.seconds);
        seconds.iter_mut().for_each(|seen| self.fill_latencies(seen));
        report.seconds = seconds;
        report.judge();
        judge_ourselves(&mut report);
        Ok(report)
    }

    fn scene(&self) -> Scene {
        let options = self.options;
        Scene {
            mode: options.mode,
            clients: options.clients,
            ramp_seconds: options.ramp.as_secs_f64(),
            interval_seconds: options.interval.as_secs_f64(),
            hold_seconds: options.hold.as_secs_f64(),
            payload_bytes: options.payload,
            pushes_per_second: options.pushes_per_second,
            subprotocol: options.subprotocol.clone(),
            load_threads: self.counts.len() as u32,
            relay_cores: self.scenery.cores.clone(),
        }
    }

    fn counted(&self, outcomes: Option<Stats>) -> Counted {
        let totals = self.totals();
        let get = |count| totals.get(count);
        let pushes = &self.push_counts;
        let read = |cell: &std::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
        let accepted = read(&pushes.accepted);
        let stats = outcomes.unwrap_or_default();
        // Equal counts of different sets would be hidden in the counts alone.
        let other_set = stats.outcomes.distinct == accepted && stats.outcomes.sum != read(&pushes.sum);
        Counted {
            connected: get(Count::Opened),
            failed_connects: u64::from(self.options.clients).saturating_sub(get(Count::Opened)),
            lost_connections: get(Count::Closed),
            sent: get(Count::Sent),
            answered: get(Count::Answered),
            lost: totals.unanswered(),
            wrong: get(Count::Wrong),
            duplicated: get(Count::Duplicated),
            late: get(Count::Late),
            missed: get(Count::Missed),
            pings: get(Count::Pings),
            pushes: read(&pushes.sent),
            pushes_accepted: accepted,
            pushes_failed: read(&pushes.sent).saturating_sub(accepted),
            pushes_arrived: get(Count::Pushed),
            pushes_wrong: get(Count::PushedWrong),
            outcomes: stats.outcomes.distinct + stats.outcomes.unknown,
            outcomes_duplicated: stats.outcomes.duplicates + u64::from(other_set),
            outcomes_failed: stats.errors,
        }
    }

    fn rates_and_cpu(&self) -> (Rates, Cpu) {
        let (Some(begin), Some(end)) = (&self.begin, &self.end) else {
            return Default::default();
        };
        let elapsed = end.at_ns.saturating_sub(begin.at_ns).max(1) as f64;
        let grown = |count| (end.totals.get(count) - begin.totals.get(count)) as f64;
        let per_second = |number: f64| number * 1e9 / elapsed;
        let connected_ns = self
            .connected_ns
            .unwrap_or(end.at_ns)
            .saturating_sub(self.start_ns)
            .max(1);
        let rates = Rates {
            connects: self.totals().get(Count::Opened) as f64 * 1e9 / connected_ns as f64,
            messages: per_second(grown(Count::Answered)),
            pushes: per_second((end.accepted - begin.accepted) as f64),
        };
        let relay_us = end.relay.cpu_us.saturating_sub(begin.relay.cpu_us) as f64;
        let system_us = end.relay.system_us.saturating_sub(begin.relay.system_us) as f64;
        let counted = match self.options.mode {
            Mode::Ramp => grown(Count::Opened),
            Mode::Push => (end.accepted - begin.accepted) as f64,
            Mode::Hold | Mode::Saturate | Mode::Idle => grown(Count::Answered),
        };
        let busiest = end
            .threads_cpu_ns
            .iter()
            .zip(&begin.threads_cpu_ns)
            .map(|(end, begin)| end.saturating_sub(*begin));
        let idle_us = end.kernel.idle_us.saturating_sub(begin.kernel.idle_us) as f64;
        let cpu = Cpu {
            relay_cores: cores(begin.relay, end.relay, elapsed),
            relay_kernel_part: if relay_us > 0.0 { system_us / relay_us } else { 0.0 },
            backend_cores: cores(begin.backend, end.backend, elapsed),
            harness_cores: cores(begin.harness, end.harness, elapsed),
            machine_cores: (end.kernel.cpus as f64 - idle_us * 1e3 / elapsed).max(0.0),
            relay_us_per_message: if counted > 0.0 { relay_us / counted } else { 0.0 },
            busiest_load_thread: busiest.max().unwrap_or(0) as f64 / elapsed,
        };
        (rates, cpu)
    }

    fn memory(&self, held: &Snapshot) -> Memory {
        let clients = held.totals.get(Count::Opened).max(1) as f64;
        let kernel_growth = held.kernel.memory().saturating_sub(self.empty.kernel.memory());
        Memory {
            rss_empty: self.empty.relay.rss,
            rss: held.relay.rss,
            rss_per_client: held.relay.rss.saturating_sub(self.empty.relay.rss) as f64 / clients,
            kernel_before: self.empty.kernel.memory(),
            kernel_growth,
            kernel_share: kernel_growth / 2,
            total: held.relay.rss + kernel_growth / 2,
            threads: held.relay.threads,
        }
    }
}

fn load(options: &Options, scenery: &Scenery, start_ns: u64, thread: u32, threads: u32) -> Load {
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
        targets: scenery.targets.clone().into(),
        subprotocol: options.subprotocol.as_deref().map(Into::into),
        shape: Shape {
            payload_len: options.payload,
        },
        traffic,
        late_ns: options.late.as_nanos() as u64,
    }
}

/// Says where the harness was the limit.
fn judge_ourselves(report: &mut Report) {
    let lag = report.latency.send_lag.p99;
    if lag > SEND_LAG_MAX_US {
        let lag = report::duration(lag);
        report
            .bottlenecks
            .push(format!("the harness sent late: p99 of the send lag is {lag}"));
    }
    if report.cpu.busiest_load_thread > 0.9 {
        let percent = report.cpu.busiest_load_thread * 100.0;
        report.bottlenecks.push(format!(
            "a thread of the load was busy {percent:.0} % of the time: give it --threads"
        ));
    }
    let (busy, cpus) = (report.cpu.machine_cores, report.machine.cpus);
    if busy > 0.95 * cpus as f64 {
        report.bottlenecks.push(format!(
            "the machine was full: {busy:.2} of {cpus} CPUs, clients and backend included"
        ));
    }
}

/// Cores that a process took between two moments.
fn cores(begin: Process, end: Process, elapsed_ns: f64) -> f64 {
    end.cpu_us.saturating_sub(begin.cpu_us) as f64 * 1e3 / elapsed_ns
}

fn spawn(
    name: String,
    body: impl FnOnce() -> io::Result<Tally> + Send + 'static,
) -> Result<JoinHandle<io::Result<Tally>>, String> {
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
const SEND_LAG_MAX_US: u64 = 1_000;
const HANDSHAKES_AT_ONCE: u32 = 64;
const STACK_LEN: usize = 512 << 10;
