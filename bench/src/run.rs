//! Takes one run from its programs to its report: what was counted is added up and judged.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::amounts::{duration, grouped};
use crate::counters::{Count, FAULTS_MAX, ThreadCounters};
use crate::environment::{self, Environment};
use crate::monitor::{Monitor, Snapshot, cores};
use crate::options::{Mode, Options};
use crate::percentiles::Percentiles;
use crate::poller::now_ns;
use crate::report::{self, Counted, Cpu, Floor, Hostile, LatencyReport, Memory, Rates, Report, Scene};
use crate::stats::Stats;
use crate::upgrades::Upgrades;
use crate::{flags, http, launch};

/// Does what the options say.
///
/// # Errors
/// In words: it could not run. What went wrong in a run is in the report.
pub fn run(options: &Options) -> Result<Report, String> {
    let open_files = flags::raise_open_files();
    let quiet = match options.hostile.is_empty() {
        false => Some(run_against(
            &Options {
                hostile: Vec::new(),
                ..options.clone()
            },
            None,
            open_files,
        )?),
        true => None,
    };
    let mut report = run_against(options, None, open_files)?;
    if let (Some(quiet), Some(hostile)) = (quiet, &mut report.hostile) {
        let ratio = |with: u64, without: u64| with as f64 / without.max(1) as f64;
        let (with, without) = (&report.latency.calls, quiet.latency.calls);
        (hostile.ratio_p50, hostile.ratio_p99) = (ratio(with.p50, without.p50), ratio(with.p99, without.p99));
        hostile.quiet_calls = without;
        report.problems.extend(hostile.missing(&options.hostile));
        report.problems.extend(
            quiet
                .problems
                .iter()
                .map(|problem| format!("without the attack: {problem}")),
        );
    }
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
    let environment = Environment::set(options, program, open_files)?;
    if let Some(backend) = environment.backend {
        http::fetch(backend, "POST", "/reset").map_err(|error| format!("stub_backend at {backend}: {error}"))?;
    }
    let mut monitor = Monitor::start(options, &environment, open_files)?;
    monitor.until_done();
    let outcomes = monitor.wait_for_outcomes();
    monitor.finish(outcomes, open_files)
}

impl Monitor<'_> {
    fn finish(mut self, outcomes: Option<Stats>, open_files: u64) -> Result<Report, String> {
        let upgrades = match self.upgrades.take() {
            Some(thread) => {
                let ended = thread.join().map_err(|_| "the thread of the upgrades has panicked")?;
                Some(ended.map_err(|error| format!("the thread of the upgrades: {error}"))?)
            }
            None => None,
        };
        let held = self.snapshot();
        self.control.stop.store(true, Ordering::Relaxed);
        let attacked_ns = now_ns().saturating_sub(self.control.window_start());
        let mut counters = ThreadCounters::default();
        for thread in std::mem::take(&mut self.threads) {
            let own = thread.join().map_err(|_| "a thread of the load has panicked")?;
            let own = own.map_err(|error| format!("a thread of the load: {error}"))?;
            counters.latencies.merge(&own.latencies);
            counters.faults.extend(own.faults);
        }
        counters.faults.truncate(FAULTS_MAX);
        let hostile = match self.attack.take() {
            Some((counts, thread)) => {
                let ended = thread.join().map_err(|_| "the thread of the attack has panicked")?;
                ended.map_err(|error| format!("the thread of the attack: {error}"))?;
                let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
                let answered = read(&counts.answered);
                Some(Hostile {
                    connects: read(&counts.connects),
                    answered,
                    answered_per_second: answered as f64 * 1e9 / attacked_ns.max(1) as f64,
                    ended: read(&counts.ended),
                    bytes: counts.bytes.iter().map(read).sum(),
                    bytes_by_kind: counts.bytes.each_ref().map(read),
                    ..Hostile::default()
                })
            }
            None => None,
        };
        let upgrades = upgrades.map(|upgrades| self.judged(upgrades, &counters, outcomes));
        let mut report = Report {
            relay: self.environment.relay.clone(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            started_unix: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            machine: environment::machine(open_files),
            scene: self.scene(),
            faults: counters.faults,
            counts: self.counted(outcomes),
            latency: LatencyReport {
                calls: Percentiles::of(&counters.latencies.calls),
                calls_in_ramp: Percentiles::of(&counters.latencies.calls_in_ramp),
                connects: Percentiles::of(&counters.latencies.connects),
                pushes: Percentiles::of(&counters.latencies.pushes),
                accepts: Percentiles::of(&counters.latencies.accepts),
                send_lag: Percentiles::of(&counters.latencies.send_lag),
            },
            memory: self.memory(&held),
            upgrades,
            hostile,
            ..Report::default()
        };
        let curve_of = match self.options.mode {
            Mode::Hold | Mode::Saturate => &counters.latencies.calls,
            Mode::Push => &counters.latencies.pushes,
            Mode::Ramp | Mode::Idle => &counters.latencies.connects,
        };
        report.curve = report::curve(curve_of);
        (report.rates, report.cpu) = self.rates_and_cpu();
        // A thread that was late with its slice has handed it over by now.
        self.take_slices();
        let mut seconds = std::mem::take(&mut self.seconds);
        seconds.iter_mut().for_each(|seen| self.fill_latencies(seen));
        report.seconds = seconds;
        if self.environment.knows_relay && held.relay.rss == 0 {
            report
                .problems
                .push(format!("the process of {} ended during the run", report.relay));
        }
        report.judge();
        let Counted { connected, resumed, .. } = report.counts;
        if self.options.resume && resumed < connected / 2 {
            report.problems.push(format!(
                "only {} of {} connects resumed a session",
                grouped(resumed),
                grouped(connected)
            ));
        }
        report
            .problems
            .extend(report.upgrades.iter().flat_map(Upgrades::problems));
        judge_ourselves(&mut report);
        Ok(report)
    }

    /// With what clients and backend have noticed of them.
    fn judged(&self, upgrades: Upgrades, counters: &ThreadCounters, stats: Option<Stats>) -> Upgrades {
        let (totals, stats) = (self.totals(), stats.unwrap_or_default());
        let in_upgrades = &counters.latencies.calls_in_upgrades;
        let mut without = counters.latencies.calls.clone();
        // All of them are in there, too, so it cannot fail.
        let _ = without.subtract(in_upgrades);
        let mut upgrades = Upgrades {
            connects_again: stats.connects.saturating_sub(totals.get(Count::Opened)),
            disconnects: stats.disconnects,
            reordered: totals.get(Count::Reordered),
            calls: Percentiles::of(in_upgrades),
            calls_without: Percentiles::of(&without),
            pause_allowed: self.options.pause_allowed.as_micros() as u64,
            ..upgrades
        };
        upgrades.compare();
        upgrades
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
            relay_cores: self.environment.cores.clone(),
        }
    }

    fn counted(&self, outcomes: Option<Stats>) -> Counted {
        let totals = self.totals();
        let get = |count| totals.get(count);
        let pushes = &self.push_counts;
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let accepted = read(&pushes.accepted);
        let stats = outcomes.unwrap_or_default();
        // Equal counts of different sets would be hidden in the counts alone.
        let other_set = stats.outcomes.distinct == accepted && stats.outcomes.sum != read(&pushes.sum);
        Counted {
            connected: get(Count::Opened),
            resumed: get(Count::Resumed),
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
            harness_per_client: held.harness.rss.saturating_sub(self.empty.harness.rss) as f64 / clients,
        }
    }
}

/// Says where the harness was the limit.
fn judge_ourselves(report: &mut Report) {
    let lag = report.latency.send_lag.p99;
    if lag > SEND_LAG_MAX_US {
        let lag = duration(lag);
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

const SEND_LAG_MAX_US: u64 = 1_000;
