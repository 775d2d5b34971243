//! `POST /reload` reads the configuration again, as SIGHUP does, and says what has changed.

use std::fmt::Write as _;

use super::connection::{Query, Response};
use super::running::Running;
use crate::config::When;
use protocol::ocpp::json;

pub(super) fn answer(running: &Running, query: &Query<'_>) -> Response {
    if query.method != "POST" {
        return Response::not_allowed("POST");
    }
    let reloaded = match running.reload() {
        None => return Response::text(503, "it has only just started\n").with("Retry-After", "1"),
        Some(Err(error)) => {
            let text = format!("{{\"error\":{}}}\n", json::string(&error));
            return Response::new(409, "application/json", text);
        }
        Some(Ok(reloaded)) => reloaded,
    };
    let mut text = format!(r#"{{"token":{},"changes":["#, json::string(reloaded.token));
    for (index, change) in reloaded.changes.iter().enumerate() {
        let when = match change.when {
            When::Now => "now",
            When::NewClients => "new clients",
            When::Restart => "restart",
        };
        let comma = if index > 0 { "," } else { "" };
        let [key, from, to] = [&change.key, &change.from, &change.to].map(|text| json::string(text));
        let _ = write!(
            text,
            r#"{comma}{{"key":{key},"from":{from},"to":{to},"when":"{when}"}}"#
        );
    }
    text.push_str("]}\n");
    Response::new(200, "application/json", text)
}
