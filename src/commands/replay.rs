//! `ws2api replay FILE`: plays the clients' side of what a tap has recorded against a server, and says what the server does
//! otherwise than it did.
//!
//! Every client has a thread and plays its connections one after another. What a client says is said when it is due, and not before
//! what had been answered until then is answered again. Its answers to pushes follow the pushes that come.

mod connection;
mod recording;
mod station;
mod tally;

use std::io::BufReader;
use std::time::Instant;

use super::failure::Failure;
use super::screen::{Column, Paint, Screen};
use super::session::Session;
use super::target::Target;
use recording::Recording;
use station::{Pace, Station};
use tally::Tally;

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    let pace = pace(session)?;
    let target = match session.args.flag("to") {
        Some(url) => Target::parse(url).map_err(|why| Failure::Usage(format!("--to {url}: {why}")))?,
        None => {
            let (address, prefix) = session.clients_address()?;
            Target::at(address, &prefix)
        }
    };
    if target.is_tls {
        let words = "TLS is not spoken here: ws://, to what is behind it";
        return Err(Failure::Usage(format!("--to wss://{}: {words}", target.address)));
    }
    let name = session.word(0);
    let unreadable = |why: String| Failure::Usage(format!("{name}: {why}"));
    let file = std::fs::File::open(name).map_err(|error| unreadable(error.to_string()))?;
    let recording = Recording::read(BufReader::new(file)).map_err(unreadable)?;
    if recording.clients.is_empty() {
        return Err(unreadable("there is nothing that a client has said in it".to_owned()));
    }
    if recording.clients.len() > CLIENTS_MAX {
        let count = recording.clients.len();
        let words =
            format!("{count} clients are in it, and {CLIENTS_MAX} are played at once: ws2api tap --client records one");
        return Err(unreadable(words));
    }
    let started = Instant::now();
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = recording
            .clients
            .iter()
            .map(|client| {
                let target = &target;
                let play = move || Station::new(client, target, pace, started).play();
                std::thread::Builder::new()
                    .stack_size(STACK_LEN)
                    .spawn_scoped(scope, play)
            })
            .collect();
        for thread in threads {
            match thread.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(own)) => tally.add(own),
                Ok(Err(_)) => tally.lost_clients += 1,
                Err(_) => tally.lost_clients += 1,
            }
        }
    });
    report(&mut session.screen, &recording, &tally)?;
    match tally.differences() {
        None => Ok(()),
        Some(words) => Err(Failure::Refused(words)),
    }
}

fn pace(session: &Session<'_>) -> Result<Pace, Failure> {
    match (session.args.flag("fast"), session.args.flag("speed")) {
        (Some(_), Some(_)) => Err(Failure::Usage(
            "--fast is as fast as it goes, whatever --speed".to_owned(),
        )),
        (Some(_), None) => Ok(Pace::Fast),
        (None, None) => Ok(Pace::Times(1.0)),
        (None, Some(speed)) => match speed.parse() {
            Ok(factor) if (0.001..=1000.0).contains(&factor) => Ok(Pace::Times(factor)),
            _ => Err(Failure::Usage(format!("--speed {speed}: a number from 0.001 to 1000"))),
        },
    }
}

fn report(screen: &mut Screen, recording: &Recording, tally: &Tally) -> Result<(), Failure> {
    if screen.is_json() {
        for (kind, action, row) in tally.rows() {
            let object = serde_json::json!({
                "type": kind, "action": action, "count": row.count, "same": row.same, "different": row.different,
                "missing": row.missing, "unexpected": row.unexpected,
            });
            screen.line(&object.to_string())?;
        }
        return Ok(());
    }
    let cell = |count: u64, paint| (if count > 0 { paint } else { Paint::Soft }, count.to_string());
    let rows: Vec<_> = tally
        .rows()
        .map(|(kind, action, row)| {
            vec![
                (Paint::Plain, kind.to_owned()),
                (Paint::Name, action.to_owned()),
                cell(row.count, Paint::Plain),
                cell(row.same, Paint::Good),
                cell(row.different, Paint::Warn),
                cell(row.missing, Paint::Bad),
                cell(row.unexpected, Paint::Warn),
            ]
        })
        .collect();
    let columns = [
        Column::text("WHAT"),
        Column::text("ACTION"),
        Column::number("RECORDED"),
        Column::number("SAME"),
        Column::number("DIFFERENT"),
        Column::number("MISSING"),
        Column::number("UNEXPECTED"),
    ];
    screen.table(&columns, &rows)?;
    for example in &tally.examples {
        screen.line("")?;
        screen.cells(&[
            (Paint::Soft, "recorded:".to_owned()),
            (Paint::Plain, example.recorded.clone()),
        ])?;
        screen.cells(&[
            (Paint::Soft, "now:     ".to_owned()),
            (Paint::Warn, example.now.clone()),
        ])?;
    }
    for (count, words) in [
        (recording.lost, "lines were lost when it was recorded"),
        (
            recording.omitted,
            "messages of clients are not in the recording: too long, or hidden by tap_mask",
        ),
        (tally.refused, "connections were refused"),
        (tally.closed, "connections were closed by the server before their end"),
        (tally.lost_clients, "clients could not be played"),
    ] {
        if count > 0 {
            screen.cells(&[(Paint::Warn, format!("{count} {words}"))])?;
        }
    }
    Ok(())
}

/// Each has a thread.
const CLIENTS_MAX: usize = 1000;
const STACK_LEN: usize = 256 * 1024;
