//! `ws2api status`: what is wrong, how the shards are, and what the backends may be asked at once.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::clients::{parsed, refused};
use super::failure::Failure;
use super::http::Ask;
use super::screen::{Cell, Column, Paint, count, span};
use super::session::Session;

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    // Not the seconds before now.
    let answer = session
        .admin()?
        .ask(Ask::get("/status.json?after=18446744073709551615"))?;
    if answer.status != 200 {
        return Err(refused("it does not say how it is", &answer));
    }
    if session.screen.is_json() {
        return Ok(session.screen.line(answer.body.trim())?);
    }
    let status: Value = parsed(&answer)?;
    let list = |name: &str| status[name].as_array().map_or(&[][..], Vec::as_slice);
    let screen = &mut session.screen;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |now| now.as_secs_f64());
    let up = status["startSeconds"]
        .as_f64()
        .map_or("?".to_owned(), |start| span(now - start));
    let memory = status["memoryBytes"].as_f64().unwrap_or_default() / f64::from(1 << 20);
    let shards = list("shards");
    let clients: f64 = shards.iter().map(|shard| number(shard, "clients")).sum();
    let calls: f64 = shards.iter().map(|shard| number(shard, "calls")).sum();
    screen.cells(&[
        (
            Paint::Strong,
            format!("ws2api {}", status["version"].as_str().unwrap_or("?")),
        ),
        (
            Paint::Plain,
            format!(
                "up {up}, {} client{}, {} Calls a second, {memory:.0} MiB",
                count(clients),
                if clients == 1.0 { "" } else { "s" },
                count(calls)
            ),
        ),
    ])?;
    screen.line("")?;
    let alerts = list("alerts");
    if alerts.is_empty() {
        screen.cells(&[(Paint::Good, "all well".to_owned())])?;
    }
    for alert in alerts {
        let is_error = alert["severity"] == "error";
        screen.cells(&[
            (
                if is_error { Paint::Bad } else { Paint::Warn },
                alert["message"].as_str().unwrap_or_default().to_owned(),
            ),
            (Paint::Soft, format!("for {}", span(number(alert, "seconds")))),
        ])?;
    }
    let left = number(&status, "rebalanceLeft");
    if left > 0.0 {
        let words = format!(
            "a rebalance is under way: {} clients are still to be sent away",
            count(left)
        );
        screen.cells(&[(Paint::Warn, words)])?;
    }
    if let Some(words) = status["takeover"]["underWay"].as_str() {
        screen.cells(&[(Paint::Warn, format!("an upgrade is under way: {words}"))])?;
    }
    if status["takeover"]["isSuccessor"] == true {
        screen.cells(&[(
            Paint::Soft,
            format!("it took over from another process {up} ago, and counts since then"),
        )])?;
    }
    screen.line("")?;
    let rows: Vec<Vec<Cell>> = shards.iter().map(shard_row).collect();
    screen.table(SHARDS, &rows)?;
    let rows: Vec<Vec<Cell>> = list("backends").iter().map(backend_row).collect();
    if !rows.is_empty() {
        screen.line("")?;
        screen.table(BACKENDS, &rows)?;
    }
    Ok(())
}

fn shard_row(shard: &Value) -> Vec<Cell> {
    let state = match (&shard["up"], &shard["draining"], &shard["backendUp"]) {
        (Value::Bool(false), _, _) => (Paint::Bad, "does not answer"),
        (_, Value::Bool(true), _) => (Paint::Warn, "drains"),
        (_, _, Value::Bool(false)) => (Paint::Bad, "backend down"),
        _ => (Paint::Good, "serves"),
    };
    let busy = number(shard, "busy");
    vec![
        plain(count(number(shard, "shard"))),
        plain(count(number(shard, "cpu"))),
        (
            if busy >= 0.9 { Paint::Warn } else { Paint::Plain },
            format!("{:.0} %", busy * 100.0),
        ),
        plain(count(number(shard, "clients"))),
        plain(count(number(shard, "received"))),
        plain(count(number(shard, "sent"))),
        plain(count(number(shard, "calls"))),
        plain(count(number(shard, "pushes"))),
        plain(millis(&shard["callMs"][0])),
        plain(millis(&shard["callMs"][1])),
        (state.0, state.1.to_owned()),
    ]
}

fn backend_row(backend: &Value) -> Vec<Cell> {
    let waiting = number(backend, "waiting");
    vec![
        plain(backend["address"].as_str().unwrap_or_default().to_owned()),
        plain(count(number(backend, "inUse"))),
        plain(count(number(backend, "limit"))),
        (if waiting > 0.0 { Paint::Warn } else { Paint::Plain }, count(waiting)),
        plain(millis(&backend["floorMs"])),
    ]
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_default()
}

fn millis(value: &Value) -> String {
    match value.as_f64() {
        None => "–".to_owned(),
        Some(ms) if ms >= 10.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{ms:.2} ms"),
    }
}

fn plain(text: String) -> Cell {
    (Paint::Plain, text)
}

const SHARDS: &[Column] = &[
    Column::number("SHARD"),
    Column::number("CPU"),
    Column::number("LOAD"),
    Column::number("CLIENTS"),
    Column::number("IN/S"),
    Column::number("OUT/S"),
    Column::number("CALLS/S"),
    Column::number("PUSHES/S"),
    Column::number("P50"),
    Column::number("P99"),
    Column::text("STATE"),
];
const BACKENDS: &[Column] = &[
    Column::text("BACKEND"),
    Column::number("AT WORK"),
    Column::number("LIMIT"),
    Column::number("WAITING"),
    Column::number("QUICKEST"),
];
