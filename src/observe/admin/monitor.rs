//! Looks at the shards once a second, so that the status page and the log have something to compare with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::alert_log::{AlertLog, Lasting, Line};
use super::alerts::alerts;
use super::snapshot::{Seen, Snapshot};
use crate::observe::latency::LatencyCopy;
use crate::observe::report::Report;

/// What a shard did between two snapshots.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    /// Part of the time that it worked, 0 to 1.
    pub(super) busy: f64,
    pub(super) clients: f64,
    /// Messages from and to clients, per second.
    pub(super) received: f64,
    pub(super) sent: f64,
    /// Calls, pushes and connections begun and ended, per second.
    pub(super) calls: f64,
    pub(super) pushes: f64,
    pub(super) opened: f64,
    pub(super) closed: f64,
    /// A Call's round trip in ms; `None`: there was none.
    pub(super) call_ms: [Option<f64>; 2],
    pub(super) backend_ms: [Option<f64>; 2],
    pub(super) push_ms: [Option<f64>; 2],
}

/// One second: a number that grows, and each shard's rates.
#[derive(Clone, Debug)]
pub(super) struct Second {
    pub(super) number: u64,
    pub(super) rates: Vec<Rates>,
    /// Over all shards.
    pub(super) call_ms: [Option<f64>; 2],
}

/// What the monitor has seen, for the page and the alerts.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) now: Option<Snapshot>,
    pub(super) alerts: AlertLog,
    pub(super) seconds: VecDeque<Second>,
}

/// What the monitor has seen, shared with the status page.
#[derive(Clone, Debug, Default)]
pub(super) struct Monitor(Arc<Mutex<History>>);

impl Monitor {
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what `see` gives once a second, for ever; `tell` gets the lines for the log, and what is wrong.
    pub(super) fn watch(&self, see: impl Fn() -> Seen, mut tell: impl FnMut(&[Line], &[Lasting])) {
        loop {
            let seen = see();
            let at = Instant::now();
            let mut history = self.history();
            let now = Snapshot::new(at, seen, history.now.as_ref());
            let lines = history.take(now);
            let lasting = history.alerts.lasting();
            drop(history);
            tell(&lines, &lasting);
            std::thread::sleep(PAUSE);
        }
    }
}

impl History {
    fn take(&mut self, now: Snapshot) -> Vec<Line> {
        let lines = self.alerts.take(now.at, &alerts(self.now.as_ref(), &now));
        if let Some(before) = &self.now {
            let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
            let mut calls = LatencyCopy::default();
            let rates = now.reports.iter().map(|now| {
                let Some(before) = before.reports.iter().find(|before| before.shard == now.shard) else {
                    return Rates::default();
                };
                calls.merge(&now.calls.since(&before.calls));
                Rates::between(before, now, seconds)
            });
            let rates = rates.collect();
            self.seconds.push_back(Second {
                number: self.seconds.back().map_or(0, |last| last.number + 1),
                rates,
                call_ms: quantiles(&calls),
            });
            if self.seconds.len() > SECONDS_KEPT {
                self.seconds.pop_front();
            }
        }
        self.now = Some(now);
        lines
    }
}

impl Rates {
    fn between(before: &Report, now: &Report, seconds: f64) -> Self {
        let rate = |family, member: Option<&str>| {
            let count = now
                .count(family, member.as_slice())
                .saturating_sub(before.count(family, member.as_slice()));
            count as f64 / seconds
        };
        Self {
            busy: (now.busy.saturating_sub(before.busy).as_secs_f64() / seconds).min(1.0),
            clients: now.gauges.clients,
            received: rate("frames", Some("in")),
            sent: rate("frames", Some("out")),
            calls: rate("calls_started", None),
            pushes: rate("pushes_accepted", None),
            opened: rate("clients_opened", None),
            closed: rate("clients_closed", None),
            call_ms: quantiles(&now.calls.since(&before.calls)),
            backend_ms: quantiles(&now.backend.since(&before.backend)),
            push_ms: quantiles(&now.pushes.since(&before.pushes)),
        }
    }
}

/// The median and the 99th percentile in ms.
fn quantiles(latency: &LatencyCopy) -> [Option<f64>; 2] {
    [0.5, 0.99].map(|quantile| latency.quantile(quantile).map(|time| time.as_secs_f64() * 1000.0))
}

const PAUSE: Duration = Duration::from_secs(1);
/// What a page that has just been opened can draw.
const SECONDS_KEPT: usize = 120;
