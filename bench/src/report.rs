//! Gathers the figures of a run in one value that becomes the JSON file, the table on the terminal and the HTML page.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::amounts::grouped;
use crate::hostile::Kind;
use crate::options::Mode;
use crate::percentiles::Percentiles;
use crate::sample::{Kernel, Process};
use crate::upgrades::Upgrades;

/// Everything there is to say about a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The name of what was measured: `ws2api`, `floor`, or its address.
    pub relay: String,
    /// The command line.
    pub command: String,
    /// Seconds since 1970.
    pub started_unix: u64,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked of the run: mode, clients, rates and times.
    pub scene: Scene,
    /// Empty: all is well.
    pub problems: Vec<String>,
    /// Where the harness itself was the limit; its figures then say less about what was measured.
    pub bottlenecks: Vec<String>,
    /// The first few things that went wrong, in words.
    pub faults: Vec<String>,
    /// What was counted.
    pub counts: Counted,
    /// Latencies from due, in microseconds.
    pub latency: LatencyReport,
    /// Messages, pushes and connects per second.
    pub rates: Rates,
    /// CPU time of the programs over the measurement.
    pub cpu: Cpu,
    /// Memory of the programs at the measurement's end.
    pub memory: Memory,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// The percentile curve of the Calls (of the pushes or connects where there are no Calls).
    pub curve: Vec<CurvePoint>,
    /// The same scene with the floor relay.
    pub floor: Option<Floor>,
    /// The same scene without the attack, and what the attack did.
    pub hostile: Option<Hostile>,
    /// The upgrades meanwhile, and who noticed.
    #[serde(default)]
    pub upgrades: Option<Upgrades>,
}

/// The machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the CPU.
    pub cpu: String,
    /// CPUs that we may use.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Kernel release.
    pub kernel: String,
    /// Open files that a descriptor table may hold.
    pub open_files: u64,
}

/// What was asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the flag of its name; seconds and bytes")]
pub struct Scene {
    pub mode: Mode,
    pub clients: u32,
    pub ramp_seconds: f64,
    pub interval_seconds: f64,
    pub hold_seconds: f64,
    pub payload_bytes: usize,
    pub pushes_per_second: u32,
    pub subprotocol: Option<String>,
    pub load_threads: u32,
    pub relay_cores: Vec<usize>,
}

/// Counts over the whole run, ramp included.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    /// Handshakes finished.
    pub connected: u64,
    /// Of them, those that have resumed a session of TLS.
    #[serde(default)]
    pub resumed: u64,
    /// Connects that failed, or were never begun.
    pub failed_connects: u64,
    /// Connections lost before the end.
    pub lost_connections: u64,
    /// Calls sent.
    pub sent: u64,
    /// Calls answered right.
    pub answered: u64,
    /// Calls without an answer.
    pub lost: u64,
    /// Wrong answers.
    pub wrong: u64,
    /// Second answers.
    pub duplicated: u64,
    /// Right, but late.
    pub late: u64,
    /// Due on a connection that was gone.
    pub missed: u64,
    /// Pings answered.
    pub pings: u64,
    /// Pushes posted at the ingress.
    pub pushes: u64,
    /// Of them, accepted with 202.
    pub pushes_accepted: u64,
    /// Of them, refused or without an answer.
    pub pushes_failed: u64,
    /// Pushes that arrived at the right client.
    pub pushes_arrived: u64,
    /// Pushes that arrived broken or at another client.
    pub pushes_wrong: u64,
    /// Accepted pushes with an outcome at the backend.
    pub outcomes: u64,
    /// Outcomes beyond the first of a push.
    pub outcomes_duplicated: u64,
    /// Outcomes that were errors (`Timeout`, `Disconnected`, …), which no client of ours sends.
    pub outcomes_failed: u64,
}

/// All latencies of a run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Calls that were due while the measurement ran.
    pub calls: Percentiles,
    /// Calls that were due during the ramp.
    pub calls_in_ramp: Percentiles,
    /// Connects: from due to upgraded.
    pub connects: Percentiles,
    /// Pushes: from due to arrived at the client.
    pub pushes: Percentiles,
    /// Pushes: from due to 202.
    pub accepts: Percentiles,
    /// How late the harness sent.
    pub send_lag: Percentiles,
}

/// Rates that were reached.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Handshakes per second, from the first due to the last done.
    pub connects: f64,
    /// Calls answered per second of the measurement.
    pub messages: f64,
    /// Pushes accepted per second of the measurement.
    pub pushes: f64,
}

/// CPU over the measurement; cores are CPU seconds per second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// What the relay took.
    pub relay_cores: f64,
    /// Of it, the part in the kernel: 0 to 1.
    pub relay_kernel_part: f64,
    /// What the backend stub took.
    pub backend_cores: f64,
    /// What the harness took.
    pub harness_cores: f64,
    /// What the whole machine took.
    pub machine_cores: f64,
    /// Microseconds of the relay per Call, push or connect, whichever the mode counts.
    pub relay_us_per_message: f64,
    /// The busiest thread of the load: 0 to 1.
    pub busiest_load_thread: f64,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The relay before the first connect.
    pub rss_empty: u64,
    /// The relay at the end.
    pub rss: u64,
    /// Growth per client.
    pub rss_per_client: f64,
    /// The kernel's socket buffers and objects before the first connect.
    pub kernel_before: u64,
    /// Growth of the kernel's socket buffers and objects, both ends of every connection together.
    pub kernel_growth: u64,
    /// The relay's half of it.
    pub kernel_share: u64,
    /// `rss + kernel_share`.
    pub total: u64,
    /// Threads of the relay.
    pub threads: u64,
    /// What the harness has grown by, per client.
    #[serde(default)]
    pub harness_per_client: f64,
}

/// One second of the run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the first connect was due.
    pub second: u64,
    /// Open connections at its end.
    pub connections: u64,
    /// Calls answered in it.
    pub messages: u64,
    /// Pushes that arrived in it.
    pub pushes: u64,
    /// Latencies of what was answered in it.
    pub p50: u64,
    /// See `p50`.
    pub p99: u64,
    /// See `p50`.
    pub p999: u64,
    /// See `p50`.
    pub max: u64,
    /// The relay at its end.
    pub relay: Process,
    /// The kernel at its end.
    pub kernel: Kernel,
    /// CPU that the relay took in it, in cores.
    pub relay_cores: f64,
}

/// One point of the percentile curve.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct CurvePoint {
    /// 0 to 100.
    pub percentile: f64,
    /// The latency at that percentile, in microseconds.
    pub micros: u64,
}

/// The floor relay in the same scene.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Floor {
    /// Its CPU-µs per message.
    pub us_per_message: f64,
    /// Ours divided by it.
    pub ratio: f64,
    /// Its messages per second of the measurement.
    pub messages_per_second: f64,
    /// Its latencies of Calls.
    pub calls: Percentiles,
}

/// What `--hostile` compares with, and what was done.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Hostile {
    /// Latencies of Calls without the attack.
    pub quiet_calls: Percentiles,
    /// With it, divided by those without: at the median and at p99.
    pub ratio_p50: f64,
    /// See `ratio_p50`.
    pub ratio_p99: f64,
    /// Handshakes of the attack.
    pub connects: u64,
    /// Of TLS, those that the proxy has computed, and how many in a second.
    #[serde(default)]
    pub answered: u64,
    /// See `answered`.
    #[serde(default)]
    pub answered_per_second: f64,
    /// Its connections that the proxy has ended.
    pub ended: u64,
    /// Bytes that the proxy's sockets have taken of it.
    pub bytes: u64,
    /// Of them, those of each kind, in the order of [`Kind::ALL`].
    pub bytes_by_kind: [u64; Kind::ALL.len()],
}

impl Hostile {
    /// Which of these `kinds` were to be there and were not: a run without an attack proves nothing.
    #[must_use]
    pub fn missing(&self, kinds: &[Kind]) -> Vec<String> {
        let known = Kind::ALL.iter().zip(self.bytes_by_kind);
        let is_missing = |kind: Kind, bytes: u64| match kind {
            Kind::Storm => self.connects < CONNECTS_LEAST,
            Kind::Handshakes | Kind::Hellos => self.answered == 0,
            _ => bytes == 0,
        };
        known
            .filter(|((_, kind), bytes)| kinds.contains(kind) && is_missing(*kind, *bytes))
            .map(|((name, _), _)| format!("the attack was to bring {name}, and brought none"))
            .collect()
    }
}

/// The curve from the median's left to the maximum, denser towards the tail.
#[must_use]
pub fn curve(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    if histogram.is_empty() {
        return Vec::new();
    }
    // Steps of a tenth of a decade of 1 / (1 - quantile), as far as there are samples.
    let steps = ((histogram.len() as f64).log10() * 10.0).ceil() as u32;
    (0..=steps)
        .map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 10.0))
        .map(|quantile| CurvePoint {
            percentile: quantile * 100.0,
            micros: histogram.value_at_quantile(quantile),
        })
        .collect()
}

impl Report {
    /// Whether nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// Writes down what must not have happened, out of the counts.
    pub fn judge(&mut self) {
        let counts = &self.counts;
        let cases = [
            (counts.failed_connects, "connects failed"),
            (counts.lost_connections, "connections were lost"),
            (counts.lost, "Calls got no answer"),
            (counts.wrong, "answers were wrong"),
            (counts.duplicated, "answers came twice"),
            (counts.late, "answers were late"),
            (counts.missed, "Calls could not be sent"),
            (counts.pushes_failed, "pushes were refused or got no answer"),
            (counts.pushes_wrong, "pushes arrived broken or at another client"),
            (
                counts.pushes_accepted.saturating_sub(counts.outcomes),
                "accepted pushes have no outcome",
            ),
            (
                counts.outcomes.saturating_sub(counts.pushes_accepted),
                "outcomes are of no accepted push",
            ),
            (counts.outcomes_duplicated, "outcomes came twice"),
            (counts.outcomes_failed, "outcomes are errors"),
        ];
        for (count, what) in cases {
            if count > 0 {
                self.problems.push(format!("{} {what}", grouped(count)));
            }
        }
    }
}

/// Of a storm, whoever else connects.
const CONNECTS_LEAST: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::histogram;

    #[test]
    fn an_attack_that_was_none_is_told() {
        let attack = Hostile {
            connects: CONNECTS_LEAST,
            answered: 1,
            bytes_by_kind: [1; Kind::ALL.len()],
            ..Hostile::default()
        };
        let all = Kind::ALL.map(|(_, kind)| kind);
        assert_eq!(attack.missing(&all), [""; 0]);
        assert_eq!(Hostile::default().missing(&all).len(), all.len());
        assert_eq!(Hostile::default().missing(&[Kind::Storm]).len(), 1);
    }

    #[test]
    fn the_curve_rises_to_the_maximum() {
        let mut samples = histogram();
        for micros in 1..=1_000 {
            samples.saturating_record(micros);
        }
        let points = curve(&samples);
        assert_eq!(points.last().map(|point| point.micros), Some(999));
        assert!(points.windows(2).all(|pair| pair[0].micros <= pair[1].micros));
    }

    #[test]
    fn every_kind_of_trouble_fails_the_run() {
        let cases: [fn(&mut Counted); 13] = [
            |counts| counts.failed_connects = 1,
            |counts| counts.lost_connections = 1,
            |counts| counts.lost = 1,
            |counts| counts.wrong = 1,
            |counts| counts.duplicated = 1,
            |counts| counts.late = 1,
            |counts| counts.missed = 1,
            |counts| counts.pushes_failed = 1,
            |counts| counts.pushes_wrong = 1,
            |counts| counts.pushes_accepted = 1,
            |counts| counts.outcomes = 1,
            |counts| counts.outcomes_duplicated = 1,
            |counts| counts.outcomes_failed = 1,
        ];
        for (index, spoil) in cases.iter().enumerate() {
            let mut report = Report::default();
            spoil(&mut report.counts);
            report.judge();
            assert_eq!(report.problems.len(), 1, "case {index}");
        }
        let mut report = Report::default();
        report.judge();
        assert!(report.passed());
    }
}
