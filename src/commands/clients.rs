//! `ws2api clients [ID]`: who is connected, page by page as the ingress gives them, or how one client is.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::failure::Failure;
use super::http::{Answer, Ask};
use super::screen::{Cell, Column, Paint, count, span};
use super::session::Session;
use protocol::ocpp::ClientId;

/// What the ingress answers to `GET /clients`.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    clients: Vec<&'a RawValue>,
    next: Option<String>,
}

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    match session.args.words.first() {
        Some(id) => one(session, id),
        None => all(session),
    }
}

/// The ClientId as a path has it.
pub(super) fn client_id(id: &str) -> Result<ClientId, Failure> {
    ClientId::parse(id).map_err(|error| Failure::Usage(format!("\"{id}\" is no ClientId: {error}")))
}

/// For a client that is not connected.
pub(super) fn not_connected(id: &str) -> Failure {
    Failure::Nobody(format!(
        "{id} is not connected here; who is: ws2api clients, who was not let in: /refused at the admin address"
    ))
}

/// For an answer that says no, and is none of those that a command knows.
pub(super) fn refused(what: &str, answer: &Answer) -> Failure {
    Failure::Refused(format!("{what}: {} ({})", answer.why(), answer.status))
}

/// What the answer holds, if it is what ws2api answers.
pub(super) fn parsed<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Result<T, Failure> {
    let unreadable = |error| Failure::Refused(format!("the answer can't be read: {error}; is it another version?"));
    serde_json::from_str(&answer.body).map_err(unreadable)
}

fn one(session: &mut Session<'_>, id: &str) -> Result<(), Failure> {
    let client = client_id(id)?;
    let answer = session
        .ingress()?
        .ask(Ask::get(&format!("/clients/{}", client.encoded())))?;
    match answer.status {
        200 => {}
        404 => return Err(not_connected(id)),
        _ => return Err(refused(id, &answer)),
    }
    if session.screen.is_json() {
        session.screen.line(answer.body.trim())?;
        return Ok(());
    }
    let client: Value = parsed(&answer)?;
    let text = |name: &str| plain(client[name].as_str().unwrap_or("none"));
    let number = |group: &str, name: &str| count(client[group][name].as_f64().unwrap_or_default());
    let pair =
        |group: &str, one: &str, other: &str| plain(&format!("{} / {}", number(group, one), number(group, other)));
    let silent = client["silentSeconds"].as_f64().unwrap_or_default();
    let rows = [
        ("client", (Paint::Name, text("clientId").1)),
        ("connection", text("connectionId")),
        ("since", text("since")),
        ("address", text("address")),
        ("subprotocol", text("subprotocol")),
        ("last heard of", plain(&format!("{} ago", span(silent)))),
        ("messages in / out", pair("traffic", "framesIn", "framesOut")),
        ("bytes in / out", pair("traffic", "bytesIn", "bytesOut")),
        ("Calls / pushes", pair("traffic", "calls", "pushes")),
        ("bad frames", plain(&number("traffic", "badFrames"))),
        (
            "Calls at the backend / waiting",
            pair("pending", "callsInFlight", "callsQueued"),
        ),
        (
            "pushes at the client / waiting",
            pair("pending", "pushesInFlight", "pushesQueued"),
        ),
    ];
    Ok(session.screen.pairs(&rows)?)
}

fn all(session: &mut Session<'_>) -> Result<(), Failure> {
    let client = session.ingress()?;
    let mut after = String::new();
    let mut found = 0;
    loop {
        let answer = client.ask(Ask::get(&format!("/clients?limit={PAGE_LEN}&after={after}")))?;
        if answer.status != 200 {
            return Err(refused("the list ends here", &answer));
        }
        let page: Page<'_> = parsed(&answer)?;
        found += page.clients.len();
        if session.screen.is_json() {
            page.clients
                .iter()
                .try_for_each(|client| session.screen.line(client.get()))?;
        } else {
            let rows: Vec<Vec<Cell>> = page.clients.iter().map(|client| row(client.get())).collect();
            let columns = if after.is_empty() { COLUMNS } else { COLUMNS_GO_ON };
            if !rows.is_empty() {
                session.screen.table(columns, &rows)?;
            }
        }
        // Whoever looks sees a page at a time.
        session.screen.flush()?;
        match page.next {
            // A cursor that does not move would never end; one that does is a place or, during an upgrade, a name in digits.
            Some(next)
                if next != after
                    && next
                        .bytes()
                        .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b'~')) =>
            {
                after = next;
            }
            Some(_) => return Err(Failure::Refused("the list does not go on".to_owned())),
            None => break,
        }
    }
    if session.screen.is_terminal() && !session.screen.is_json() {
        let words = match found {
            0 => "nobody is connected".to_owned(),
            1 => "1 client".to_owned(),
            _ => format!("{} clients", count(found as f64)),
        };
        session.screen.cells(&[(Paint::Soft, words)])?;
    }
    Ok(())
}

fn row(client: &str) -> Vec<Cell> {
    let client: Value = serde_json::from_str(client).unwrap_or_default();
    let text = |name: &str| client[name].as_str().unwrap_or("–").to_owned();
    let number = |group: &str, name: &str| client[group][name].as_f64().unwrap_or_default();
    let waiting = |in_flight: &str, queued: &str| {
        let sum = number("pending", in_flight) + number("pending", queued);
        (if sum > 0.0 { Paint::Warn } else { Paint::Soft }, count(sum))
    };
    let bad = number("traffic", "badFrames");
    vec![
        (Paint::Name, text("clientId")),
        plain(&text("subprotocol")),
        plain(&text("address")),
        plain(&whole_seconds(&text("since"))),
        plain(&span(client["silentSeconds"].as_f64().unwrap_or_default())),
        plain(&count(number("traffic", "framesIn"))),
        plain(&count(number("traffic", "framesOut"))),
        waiting("callsInFlight", "callsQueued"),
        waiting("pushesInFlight", "pushesQueued"),
        (if bad > 0.0 { Paint::Bad } else { Paint::Soft }, count(bad)),
    ]
}

/// A time without its milliseconds.
fn whole_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

fn plain(text: &str) -> Cell {
    (Paint::Plain, text.to_owned())
}

/// Of a list in parts the columns stay where they are, but for longer words than these.
const COLUMNS: &[Column] = &[
    Column::text("CLIENT").at_least(16),
    Column::text("SUBPROTOCOL"),
    Column::text("ADDRESS").at_least(15),
    Column::text("SINCE").at_least(20),
    Column::number("SILENT").at_least(6),
    Column::number("IN").at_least(6),
    Column::number("OUT").at_least(6),
    Column::number("CALLS"),
    Column::number("PUSHES"),
    Column::number("BAD"),
];
/// The same without heads.
const COLUMNS_GO_ON: &[Column] = &[
    Column::text("").at_least(16),
    Column::text("").at_least(11),
    Column::text("").at_least(15),
    Column::text("").at_least(20),
    Column::number("").at_least(6),
    Column::number("").at_least(6),
    Column::number("").at_least(6),
    Column::number("").at_least(5),
    Column::number("").at_least(6),
    Column::number("").at_least(3),
];
/// The most that a page holds.
const PAGE_LEN: usize = protocol::mapping::routes::PAGE_MAX;
