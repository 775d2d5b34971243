//! Tells what came of it: a table for people, one object for programs.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;

use hdrhistogram::Histogram;
use loadgen::amounts::duration;
use loadgen::stream::TLS_BYTES;
use serde_json::{Value, json};

use super::chargers::CHARGER_BYTES;
use super::options::Options;
use super::say::Action;
use super::tally::{Calls, Tally};
use crate::commands::screen::{Cell, Column, Paint, Screen, count};

/// What a run was and what came of it.
pub(super) struct Report<'a> {
    pub(super) options: &'a Options,
    pub(super) tally: &'a Tally,
    pub(super) seconds: f64,
    pub(super) threads: u32,
    /// The most memory that this process had.
    pub(super) resident_bytes: u64,
}

impl Report<'_> {
    pub(super) fn print(&self, screen: &mut Screen) -> io::Result<()> {
        if screen.is_json() {
            return screen.line(&self.object().to_string());
        }
        let Self { options, tally, .. } = self;
        screen.pairs(&self.pairs())?;
        let rows: Vec<Vec<Cell>> = self.sent().map(|(name, calls)| row(name, calls)).collect();
        if !rows.is_empty() {
            screen.line("")?;
            screen.table(COLUMNS, &rows)?;
        }
        if !tally.requests.is_empty() {
            screen.line("")?;
            let rows: Vec<Vec<Cell>> = tally
                .requests
                .iter()
                .map(|(action, requests)| {
                    vec![
                        (Paint::Name, action.clone()),
                        number(requests.answered, Paint::Plain),
                        number(requests.refused, Paint::Warn),
                    ]
                })
                .collect();
            screen.table(REQUEST_COLUMNS, &rows)?;
        }
        for example in &tally.examples {
            screen.cells(&[(Paint::Bad, example.clone())])?;
        }
        if tally.storms == 0 && options.storm.is_some() {
            screen.cells(&[(Paint::Warn, "no storm: --storm is longer than --duration".to_owned())])?;
        }
        Ok(())
    }

    fn pairs(&self) -> Vec<(&'static str, Cell)> {
        let Self { options, tally, .. } = self;
        let versions: Vec<&str> = options.versions.iter().map(|version| version.number()).collect();
        let plain = |text: String| (Paint::Plain, text);
        let of = format!(
            "{} of {} chargers",
            count(tally.connected as f64),
            count(options.chargers.into())
        );
        let all = tally.connected == u64::from(options.chargers);
        let storms = match tally.storms {
            0 => String::new(),
            1 => ", a storm".to_owned(),
            storms => format!(", {storms} storms"),
        };
        let resumed = match options.target.is_tls {
            true => format!(", {} of them resumed", count(tally.resumed as f64)),
            false => String::new(),
        };
        let mut pairs = vec![
            (
                "chargers",
                plain(format!("{}, OCPP {}", options.ids.text(1), versions.join(" and "))),
            ),
            ("connected", (if all { Paint::Good } else { Paint::Bad }, of)),
            (
                "connects",
                plain(format!(
                    "{}{resumed}{storms}, {} in {:.1} s on {} threads",
                    count(tally.connects as f64),
                    percentiles(&tally.connect_latency),
                    self.seconds,
                    self.threads
                )),
            ),
            (
                "memory",
                plain(format!(
                    "{:.1} MB, of it {} B per charger; the kernel's sockets are beside it",
                    self.resident_bytes as f64 / 1e6,
                    self.charger_bytes()
                )),
            ),
        ];
        let bad = |text: String| (Paint::Bad, text);
        for (name, by) in [
            ("refused", by_key(&tally.refused)),
            ("failed", by_key(&tally.failed)),
            ("closed", by_key(&tally.closed)),
        ] {
            if !by.is_empty() {
                pairs.push((name, bad(by)));
            }
        }
        for (name, number, words) in [
            (
                "misunderstood",
                tally.misunderstood,
                "handshakes answered otherwise than RFC 6455 wants, or without the subprotocol",
            ),
            ("cut", tally.cut, "without a close frame"),
            ("broken", tally.broken, "no WebSocket frames"),
            ("not accepted", tally.not_accepted, "BootNotifications"),
            (
                "bad messages",
                tally.bad_messages,
                "answers to nothing, or no frames of OCPP-J",
            ),
            ("late", tally.late, "answers behind their time-out"),
        ] {
            if number > 0 {
                pairs.push((name, bad(format!("{} {words}", count(number as f64)))));
            }
        }
        pairs
    }

    fn charger_bytes(&self) -> usize {
        match self.options.target.is_tls {
            true => CHARGER_BYTES + TLS_BYTES,
            false => CHARGER_BYTES,
        }
    }

    fn sent(&self) -> impl Iterator<Item = (&'static str, &Calls)> {
        let all = Action::ALL.iter().map(|(_, name)| *name).zip(&self.tally.calls);
        all.filter(|(_, calls)| calls.sent > 0)
    }

    fn object(&self) -> Value {
        let Self { options, tally, .. } = self;
        let calls: BTreeMap<&str, Value> = self
            .sent()
            .map(|(name, calls)| {
                let object = json!({
                    "sent": calls.sent, "answered": calls.answered, "callErrors": calls.errors, "timedOut": calls.timed_out,
                    "lost": calls.lost, "latencyMicros": latency(&calls.latency),
                });
                (name, object)
            })
            .collect();
        let requests: BTreeMap<&str, Value> = tally
            .requests
            .iter()
            .map(|(action, requests)| {
                let object = json!({"answered": requests.answered, "refused": requests.refused});
                (action.as_str(), object)
            })
            .collect();
        let versions: Vec<&str> = options.versions.iter().map(|version| version.number()).collect();
        json!({
            "chargers": options.chargers, "ocpp": versions, "seconds": self.seconds, "threads": self.threads,
            "connected": tally.connected, "connects": tally.connects, "resumed": tally.resumed,
            "connectLatencyMicros": latency(&tally.connect_latency),
            "storms": tally.storms, "failed": tally.failed, "refused": tally.refused,
            "misunderstood": tally.misunderstood, "closed": tally.closed, "cut": tally.cut,
            "broken": tally.broken, "notAccepted": tally.not_accepted, "badMessages": tally.bad_messages, "late": tally.late,
            "calls": calls, "requests": requests, "residentBytes": self.resident_bytes,
            "bytesPerCharger": self.charger_bytes(), "examples": tally.examples,
        })
    }
}

fn row(name: &str, calls: &Calls) -> Vec<Cell> {
    let at = |quantile| (Paint::Plain, duration(calls.latency.value_at_quantile(quantile)));
    vec![
        (Paint::Name, name.to_owned()),
        number(calls.sent, Paint::Plain),
        number(calls.answered, Paint::Plain),
        number(calls.errors, Paint::Bad),
        number(calls.timed_out, Paint::Bad),
        number(calls.lost, Paint::Warn),
        at(0.5),
        at(0.99),
        at(0.999),
        (Paint::Plain, duration(calls.latency.max())),
    ]
}

fn number(number: u64, paint: Paint) -> Cell {
    (if number > 0 { paint } else { Paint::Soft }, count(number as f64))
}

fn percentiles(latency: &Histogram<u64>) -> String {
    let at = |quantile| duration(latency.value_at_quantile(quantile));
    format!("p50 {}, p99 {}, max {}", at(0.5), at(0.99), duration(latency.max()))
}

fn latency(latency: &Histogram<u64>) -> Value {
    let at = |quantile| latency.value_at_quantile(quantile);
    json!({
        "count": latency.len(), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": latency.max(),
    })
}

/// `3 × 401, 1 × 503`.
fn by_key<K: Display>(counts: &BTreeMap<K, u64>) -> String {
    let counts = counts.iter().map(|(key, number)| format!("{number} × {key}"));
    counts.collect::<Vec<_>>().join(", ")
}

const COLUMNS: &[Column] = &[
    Column::text("CALLS"),
    Column::number("SENT"),
    Column::number("ANSWERED"),
    Column::number("ERRORS"),
    Column::number("TIMED OUT"),
    Column::number("LOST"),
    Column::number("P50"),
    Column::number("P99"),
    Column::number("P99.9"),
    Column::number("MAX"),
];
const REQUEST_COLUMNS: &[Column] = &[
    Column::text("REQUESTS"),
    Column::number("ANSWERED"),
    Column::number("NOT IMPLEMENTED"),
];
