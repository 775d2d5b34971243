//! Serves the status page and its data.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::connection::Response;
use super::monitor::{History, Interval, Rates};
use super::refused;
use crate::observe::backends;
use crate::observe::counters::{FAMILIES, SHED};
use crate::observe::report::Report;
use protocol::ocpp::json;

/// One file, nothing from elsewhere.
pub(super) fn page() -> Response {
    Response::new(200, "text/html; charset=utf-8", PAGE).with("Content-Security-Policy", POLICY)
}

/// How the node is now, and the seconds that came after number `after`.
pub(super) fn json(history: &History, after: Option<u64>) -> Response {
    let Some(now) = &history.now else {
        return Response::text(503, "nothing was seen yet\n");
    };
    let process = &now.process;
    let mut text = format!(
        r#"{{"version":"{}","startSeconds":{},"memoryBytes":{},"cpuSeconds":{},"openFilesMax":{}"#,
        env!("CARGO_PKG_VERSION"),
        number(process.start_seconds),
        number(process.resident_bytes.map(|bytes| bytes as f64)),
        number(process.cpu_seconds),
        number(process.open_files_max.map(|count| count as f64)),
    );
    let tolerated = now.reports.first().map_or(&[][..], |report| &report.tolerated);
    let takeover = now.takeover;
    let _ = write!(
        text,
        r#","rebalanceLeft":{},"takeover":{{"underWay":{},"isSuccessor":{}}},"tolerated":["#,
        now.rebalance_left,
        takeover.words().map_or_else(|| "null".to_owned(), json::string),
        takeover.is_successor,
    );
    list(&mut text, tolerated, |text, word| text.push_str(&json::string(word)));
    text.push_str(r#"],"alerts":["#);
    list(&mut text, history.alerts.lasting(), |text, lasting| {
        let alert = &lasting.alert;
        let _ = write!(
            text,
            r#"{{"severity":"{}","seconds":{},"message":{}}}"#,
            alert.severity.name(),
            now.at.saturating_duration_since(lasting.since).as_secs(),
            json::string(&alert.message)
        );
    });
    text.push_str(r#"],"shards":["#);
    let rates = history.seconds.back().map_or(&[][..], |second| &second.rates);
    list(&mut text, &now.reports, |text, report| {
        let own = rates.get(report.shard).copied().unwrap_or_default();
        let open_files = process.open_files_of(report.shard);
        let is_up = now.silent.iter().all(|silent| silent.shard != report.shard);
        shard(text, report, &own, open_files, is_up);
    });
    text.push_str(r#"],"backends":["#);
    list(&mut text, &backends::lent(&now.reports), |text, lent| {
        let _ = write!(
            text,
            r#"{{"backend":{},"address":{},"limit":{},"inUse":{},"waiting":{},"floorMs":{}}}"#,
            json::string(&lent.backend),
            json::string(&lent.address),
            lent.limit,
            lent.in_use,
            lent.waiting,
            number(lent.floor.map(|floor| floor.as_secs_f64() * 1000.0)),
        );
    });
    text.push_str(r#"],"seconds":"#);
    intervals(&mut text, &history.seconds, after);
    text.push_str(r#","refused":"#);
    refused::write(
        &mut text,
        refused::newest_first(&now.reports).into_iter().take(REFUSED_SHOWN),
    );
    text.push_str(r#","certificates":["#);
    list(&mut text, now.certificates.iter(), |text, seen| {
        let _ = write!(
            text,
            r#"{{"file":{},"kind":{},"notAfter":{}}}"#,
            json::string(&seen.file),
            json::string(&seen.kind),
            seen.not_after
        );
    });
    text.push_str("],");
    totals(&mut text, &now.reports);
    text.push('}');
    Response::new(200, "application/json", text)
}

/// The half minutes of the last hour that came after number `after`.
pub(super) fn hour(history: &History, after: Option<u64>) -> Response {
    let mut text = String::from(r#"{"halfMinutes":"#);
    intervals(&mut text, &history.hour, after);
    text.push('}');
    Response::new(200, "application/json", text)
}

fn intervals(text: &mut String, kept: &VecDeque<Interval>, after: Option<u64>) {
    let is_new = |interval: &&Interval| after.is_none_or(|after| interval.number > after);
    text.push('[');
    list(text, kept.iter().filter(is_new), |text, interval| {
        let _ = write!(
            text,
            r#"{{"number":{},"callMs":{},"shards":["#,
            interval.number,
            pair(interval.call_ms)
        );
        list(text, &interval.rates, |text, rates| {
            let [median, high] = rates.call_ms;
            let _ = write!(
                text,
                "[{:.4},{},{:.1},{:.1},{},{}]",
                rates.busy,
                rates.clients,
                rates.received,
                rates.sent,
                number(median),
                number(high)
            );
        });
        text.push_str(r#"],"lent":["#);
        list(text, &interval.lent, |text, [limit, in_use, waiting]| {
            let _ = write!(text, "[{limit},{in_use},{waiting}]");
        });
        text.push_str("]}");
    });
    text.push(']');
}

fn shard(text: &mut String, report: &Report, rates: &Rates, open_files: Option<u64>, is_up: bool) {
    let gauges = &report.gauges;
    let _ = write!(
        text,
        concat!(
            r#"{{"shard":{},"cpu":{},"clients":{},"clientsMax":{},"busy":{:.4},"received":{:.1},"sent":{:.1},"#,
            r#""calls":{:.1},"pushes":{:.1},"opened":{:.1},"closed":{:.1},"callMs":{},"backendMs":{},"pushMs":{},"#,
            r#""handshakes":{},"backendOpen":{},"backendIdle":{},"backendMax":{},"backendWaiting":{},"postsWaiting":{},"#,
            r#""longestPassMs":{:.3},"openFiles":{},"backendUp":{},"draining":{},"up":{}}}"#
        ),
        report.shard,
        report.cpu,
        gauges.clients,
        gauges.clients_max,
        rates.busy,
        rates.received,
        rates.sent,
        rates.calls,
        rates.pushes,
        rates.opened,
        rates.closed,
        pair(rates.call_ms),
        pair(rates.backend_ms),
        pair(rates.push_ms),
        gauges.handshakes,
        gauges.backend_connections,
        gauges.backend_connections_idle,
        gauges.backend_connections_max,
        gauges.backend_waiting,
        gauges.posts_waiting,
        gauges.loop_longest_pass_seconds * 1000.0,
        number(open_files.map(|count| count as f64)),
        gauges.backend_up > 0.0,
        report.draining,
        is_up,
    );
}

/// What was refused, and how clients ended, since the start: only what there was.
fn totals(text: &mut String, reports: &[Report]) {
    let mut entries: Vec<(String, u64)> = Vec::new();
    for family in FAMILIES.iter().filter(|family| SHOWN.contains(&family.name)) {
        for member in family.members {
            let count = reports.iter().map(|report| report.count(family.name, member)).sum();
            let colon = if member.is_empty() { "" } else { ": " };
            let name = format!("{}{colon}{}", family.name, member.join(", "));
            entries.push((name.replace('_', " "), count));
        }
    }
    for (index, (bound, _)) in SHED.iter().enumerate() {
        let count = reports.iter().filter_map(|report| report.shed.get(index)).sum();
        entries.push((format!("shed: {bound}"), count));
    }
    text.push_str(r#""totals":["#);
    list(
        text,
        entries.iter().filter(|(_, count)| *count > 0),
        |text, (name, count)| {
            let _ = write!(text, "[{},{count}]", json::string(name));
        },
    );
    text.push(']');
}

fn list<T>(text: &mut String, items: impl IntoIterator<Item = T>, write: impl Fn(&mut String, T)) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(text, item);
    }
}

fn pair([first, second]: [Option<f64>; 2]) -> String {
    format!("[{},{}]", number(first), number(second))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(
        || "null".to_owned(),
        |value| format!("{}", (value * 1000.0).round() / 1000.0),
    )
}

/// On the page; /refused has all.
const REFUSED_SHOWN: usize = 12;
const PAGE: &str = include_str!("status.html");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
const SHOWN: &[&str] = &[
    "clients_closed",
    "upgrades_refused",
    "deflate_messages",
    "deflate_bytes",
    "tls_handshakes",
    "frames_bad",
    "calls",
    "pushes",
    "pushes_refused",
    "backend_failures",
    "backend_connects",
    "posts_dropped",
];
