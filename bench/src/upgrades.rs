//! Has what is measured upgrade itself again and again while it is measured (`POST /upgrade`), and keeps the books: who noticed, how
//! long it took, how much memory both processes had together.
//!
//! One begins when the one before is over: when the old process has ended and the new one knows it. The measurement goes on until the
//! last one is over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::amounts::{bytes, duration, grouped};
use crate::counters::{Control, micros};
use crate::http;
use crate::percentiles::Percentiles;
use crate::poller::now_ns;
use crate::succession::Succession;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// So many, spread over the measurement.
    pub count: u32,
    /// Who is asked.
    pub admin: SocketAddr,
    /// When the first connect is due.
    pub start_ns: u64,
    /// The measurement's length, unless the upgrades take longer.
    pub hold: Duration,
    /// Both processes.
    pub succession: Arc<Succession>,
}

/// What has come of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Upgrades {
    /// So many were asked for.
    pub asked: u32,
    /// Those that went well.
    pub done: Vec<Upgrade>,
    /// Why others did not.
    pub failed: Vec<String>,
    /// `/connect` beyond one for each client.
    pub connects_again: u64,
    /// `/disconnect`, which nobody has given cause for.
    pub disconnects: u64,
    /// Answers that came before the one to an earlier Call of their client.
    pub reordered: u64,
    /// Latencies of Calls that waited while an upgrade was under way.
    pub calls: Percentiles,
    /// Latencies of all others.
    pub calls_without: Percentiles,
    /// How much longer one of a thousand Calls waited than the median one without an upgrade.
    pub pause_p999: u64,
    /// The same of the one that waited longest.
    pub pause_max: u64,
    /// The most that a pause may be at p99.9.
    pub pause_allowed: u64,
}

/// One of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Upgrade {
    /// When it was asked for, in seconds since the first connect was due.
    pub at_seconds: f64,
    /// The new process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Until it served, in microseconds.
    pub serving: u64,
    /// Until the old process had ended, in microseconds.
    pub over: u64,
    /// Resident bytes before.
    pub rss_before: u64,
    /// The most that both had together.
    pub rss_peak: u64,
}

/// Does what the plan says, and ends the measurement.
#[must_use]
pub fn run(plan: &Plan, control: &Control) -> Upgrades {
    let mut upgrades = Upgrades {
        asked: plan.count,
        ..Upgrades::default()
    };
    let begin = control.window_start();
    let hold = plan.hold.as_nanos() as u64;
    for number in 0..u64::from(plan.count) {
        // Each in the middle of its part.
        wait_until(begin + hold * (2 * number + 1) / (2 * u64::from(plan.count)));
        match upgrade(plan, control) {
            Ok(done) => upgrades.done.push(done),
            Err(words) => upgrades.failed.push(words),
        }
    }
    // What was under way when the last one was over is part of it.
    let end = (begin + hold).max(now_ns() + REST.as_nanos() as u64);
    control.window_end_ns.store(end, Ordering::Relaxed);
    upgrades
}

fn upgrade(plan: &Plan, control: &Control) -> Result<Upgrade, String> {
    let begin = now_ns();
    let since = || micros(begin, now_ns());
    let rss_before = plan.succession.read().rss;
    control.begin_upgrade(begin);
    let mut done = Upgrade {
        at_seconds: begin.saturating_sub(plan.start_ns) as f64 / 1e9,
        rss_before,
        rss_peak: rss_before,
        ..Upgrade::default()
    };
    let result = ask(plan.admin).and_then(|(pid, version)| {
        plan.succession.add(pid);
        (done.pid, done.version, done.serving) = (pid, version, since());
        while plan.succession.alive() > 1 || !is_alone(plan.admin) {
            done.rss_peak = done.rss_peak.max(plan.succession.read().rss);
            if since() > OVER_TIMEOUT.as_micros() as u64 {
                return Err(format!("the process before {pid} has not ended after {OVER_TIMEOUT:?}"));
            }
            std::thread::sleep(LOOK);
        }
        done.over = since();
        Ok(())
    });
    control.end_upgrade(now_ns());
    result.map(|()| done)
}

/// Has a new process take over: its id and version.
fn ask(admin: SocketAddr) -> Result<(u32, String), String> {
    #[derive(Deserialize)]
    struct TakenOver {
        pid: u32,
        version: String,
    }
    let answer = http::fetch_within(admin, "POST", "/upgrade", OVER_TIMEOUT);
    let (status, body) = answer.map_err(|error| format!("POST /upgrade at {admin}: {error}"))?;
    match serde_json::from_slice(&body) {
        Ok(TakenOver { pid, version }) if status == 200 => Ok((pid, version)),
        _ => Err(format!(
            "POST /upgrade: {status} {}",
            String::from_utf8_lossy(&body).trim()
        )),
    }
}

/// Whether the process that answers knows that no other one is there.
fn is_alone(admin: SocketAddr) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        under_way: bool,
        has_predecessor: bool,
        is_taken_over: bool,
    }
    let body = http::fetch(admin, "GET", "/upgrade").map(|(_, body)| body);
    let told = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
    told.is_some_and(|told: Told| !told.under_way && !told.has_predecessor && !told.is_taken_over)
}

fn wait_until(time_ns: u64) {
    std::thread::sleep(Duration::from_nanos(time_ns.saturating_sub(now_ns())));
}

impl Upgrades {
    /// The pauses, by the latencies.
    pub fn compare(&mut self) {
        let median = self.calls_without.p50;
        self.pause_p999 = self.calls.p999.saturating_sub(median);
        self.pause_max = self.calls.max.saturating_sub(median);
    }

    /// What must not have happened, in words.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.failed.iter().map(|words| format!("an upgrade: {words}")).collect();
        let cases = [
            (self.connects_again, "clients were asked about again (/connect)"),
            (self.disconnects, "clients were told to be gone (/disconnect)"),
            (self.reordered, "answers came before earlier ones"),
        ];
        problems.extend(
            cases
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{} {what}", grouped(*count))),
        );
        if self.done.len() as u64 + self.failed.len() as u64 != u64::from(self.asked) {
            problems.push(format!("{} of {} upgrades were done", self.done.len(), self.asked));
        }
        if self.pause_p999 > self.pause_allowed {
            problems.push(format!(
                "Calls paused for {} at p99.9: {} are allowed",
                duration(self.pause_p999),
                duration(self.pause_allowed)
            ));
        }
        problems
    }

    /// For people: what, and how much.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let most = |value: fn(&Upgrade) -> u64| self.done.iter().map(value).max().unwrap_or(0);
        let median = |value: fn(&Upgrade) -> u64| {
            let mut values: Vec<u64> = self.done.iter().map(value).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        };
        let times = |value| {
            format!(
                "{} (median), {} at most",
                duration(median(value)),
                duration(most(value))
            )
        };
        vec![
            (
                "upgrades",
                format!(
                    "{} of {}; {} /connect again, {} /disconnect, {} reordered",
                    self.done.len(),
                    self.asked,
                    self.connects_again,
                    self.disconnects,
                    self.reordered
                ),
            ),
            ("new one serves", times(|upgrade| upgrade.serving)),
            ("old one is gone", times(|upgrade| upgrade.over)),
            (
                "pause",
                format!(
                    "p99.9 {}, longest {}, above the p50 of {} without an upgrade",
                    duration(self.pause_p999),
                    duration(self.pause_max),
                    duration(self.calls_without.p50)
                ),
            ),
            (
                "both together",
                format!(
                    "RSS {} at most, {} before",
                    bytes(most(|upgrade| upgrade.rss_peak)),
                    bytes(self.done.first().map_or(0, |upgrade| upgrade.rss_before))
                ),
            ),
        ]
    }
}

/// From the end of the last one to that of the measurement.
const REST: Duration = Duration::from_millis(500);
/// `upgrade_timeout` twice, once until the new one serves and once for the clients, and a drain.
const OVER_TIMEOUT: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_somebody_noticed_is_told() {
        let well = Upgrades {
            asked: 1,
            done: vec![Upgrade::default()],
            pause_allowed: 1,
            ..Upgrades::default()
        };
        assert_eq!(well.problems(), [""; 0]);
        let cases: [fn(&mut Upgrades); 6] = [
            |upgrades| upgrades.asked = 2,
            |upgrades| (upgrades.done, upgrades.failed) = (Vec::new(), vec!["no".to_owned()]),
            |upgrades| upgrades.connects_again = 1,
            |upgrades| upgrades.disconnects = 1,
            |upgrades| upgrades.reordered = 1,
            |upgrades| upgrades.pause_p999 = 2,
        ];
        for (index, spoil) in cases.iter().enumerate() {
            let mut upgrades = well.clone();
            spoil(&mut upgrades);
            assert_eq!(upgrades.problems().len(), 1, "case {index}");
        }
    }

    #[test]
    fn a_pause_is_what_is_above_the_median_without_an_upgrade() {
        let percentiles = |p50, p999, max| Percentiles {
            p50,
            p999,
            max,
            ..Percentiles::default()
        };
        let mut upgrades = Upgrades {
            calls: percentiles(20, 500, 900),
            calls_without: percentiles(10, 50, 60),
            ..Upgrades::default()
        };
        upgrades.compare();
        assert_eq!((upgrades.pause_p999, upgrades.pause_max), (490, 890));
    }
}
