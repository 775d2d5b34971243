//! `ws2api reload`: the process reads its configuration again, and says what has changed.

use serde_json::Value;

use super::clients::{parsed, refused};
use super::failure::Failure;
use super::http::Ask;
use super::screen::{Column, Paint};
use super::session::Session;

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    let answer = session.admin()?.ask(Ask::post("/reload"))?;
    match answer.status {
        200 => {}
        409 => {
            return Err(Failure::Refused(format!(
                "the configuration stays as it was: {}",
                answer.why()
            )));
        }
        _ => return Err(refused("it is not read again", &answer)),
    }
    if session.screen.is_json() {
        return Ok(session.screen.line(answer.body.trim())?);
    }
    let reloaded: Value = parsed(&answer)?;
    let changes = reloaded["changes"].as_array().map_or(&[][..], Vec::as_slice);
    let word = |change: &Value, name: &str| change[name].as_str().unwrap_or_default().to_owned();
    let rows: Vec<_> = changes
        .iter()
        .map(|change| {
            let (paint, when) = match change["when"].as_str() {
                Some("now") => (Paint::Good, "at once"),
                Some("new clients") => (Paint::Good, "for clients that connect from now on"),
                _ => (Paint::Warn, "not before a restart"),
            };
            vec![
                (Paint::Name, word(change, "key")),
                (Paint::Plain, word(change, "from")),
                (Paint::Plain, word(change, "to")),
                (paint, when.to_owned()),
            ]
        })
        .collect();
    let (token, screen) = (word(&reloaded, "token"), &mut session.screen);
    let words = match rows.len() {
        0 => format!("read again: nothing has changed, {token}"),
        1 => format!("read again: 1 value differs, {token}"),
        many => format!("read again: {many} values differ, {token}"),
    };
    screen.cells(&[(Paint::Plain, words)])?;
    if !rows.is_empty() {
        let columns = ["KEY", "FROM", "TO", "WHEN"].map(Column::text);
        screen.table(&columns, &rows)?;
    }
    Ok(())
}
