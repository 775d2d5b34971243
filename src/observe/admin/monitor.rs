//! Looks at the shards once a second, so that the status page and the log have something to compare with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::alert_log::{AlertLog, Lasting, Line};
use super::alerts::alerts;
use super::snapshot::{Seen, Snapshot};
use crate::observe::backends;
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

/// A second, or half a minute of the hour: a number that grows, and each shard's rates.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    pub(super) number: u64,
    pub(super) rates: Vec<Rates>,
    /// Over all shards.
    pub(super) call_ms: [Option<f64>; 2],
    /// Of each backend address at its end: how many requests it gets at once, has, and how many wait.
    pub(super) lent: Vec<[usize; 3]>,
}

/// What the monitor has seen, for the page and the alerts.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) now: Option<Snapshot>,
    pub(super) alerts: AlertLog,
    pub(super) seconds: VecDeque<Interval>,
    /// The last hour, by half minutes: their rates are means, their latencies those of all that was measured in them.
    pub(super) hour: VecDeque<Interval>,
    /// Where the half minute under way began.
    half_minute: Option<Snapshot>,
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
            keep(&mut self.seconds, before, &now);
        }
        match &self.half_minute {
            Some(began) if now.at.saturating_duration_since(began.at) < HALF_MINUTE => {}
            began => {
                if let Some(began) = began {
                    keep(&mut self.hour, began, &now);
                }
                self.half_minute = Some(now.clone());
            }
        }
        self.now = Some(now);
        lines
    }
}

/// Adds what was done between two moments, and forgets what is too long ago.
fn keep(intervals: &mut VecDeque<Interval>, before: &Snapshot, now: &Snapshot) {
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
    intervals.push_back(Interval {
        number: intervals.back().map_or(0, |last| last.number + 1),
        rates,
        call_ms: quantiles(&calls),
        lent: backends::lent(&now.reports)
            .iter()
            .map(|lent| [lent.limit, lent.in_use, lent.waiting])
            .collect(),
    });
    if intervals.len() > INTERVALS_KEPT {
        intervals.pop_front();
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
/// What a page that has just been opened can draw: two minutes of seconds, an hour of half minutes.
const INTERVALS_KEPT: usize = 120;
/// A little less: the looks come a second apart, and a little more.
const HALF_MINUTE: Duration = Duration::from_millis(29_500);

#[cfg(test)]
mod tests {
    use super::super::snapshot::moment;
    use super::*;

    /// Two hours of looks, a second and a bit apart; what the clients of shard 1 send grows from look to look.
    #[test]
    fn an_hour_is_kept_by_half_minutes_and_no_more() {
        let (mut history, start) = (History::default(), Instant::now());
        for look in 0..7200_u32 {
            let mut snapshot = moment(|report| {
                report.gauges.clients = f64::from(look);
            });
            snapshot.at = start + Duration::from_millis(1001) * look;
            history.take(snapshot);
        }
        assert_eq!(
            (history.seconds.len(), history.hour.len()),
            (INTERVALS_KEPT, INTERVALS_KEPT)
        );
        let clients = |interval: &Interval| interval.rates[1].clients;
        let hour: Vec<f64> = history.hour.iter().map(clients).collect();
        assert!(
            hour.windows(2).all(|pair| (29.0..31.0).contains(&(pair[1] - pair[0]))),
            "{hour:?}"
        );
        let span = hour.last().unwrap() - hour[0];
        assert!((3500.0..3700.0).contains(&span), "{span} seconds");
        assert!(history.hour.back().unwrap().number > 200, "the numbers go on");
    }
}
