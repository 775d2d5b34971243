//! Lists who was not let in: all shards' last refusals, the newest first.

use std::fmt::Write as _;

use super::connection::{Query, Response};
use crate::observe::refusals::Refused;
use crate::observe::report::Report;
use protocol::ocpp::{ClientId, json};

/// `GET /refused?client=`
pub(super) fn answer(query: &Query<'_>, reports: &[Report]) -> Response {
    let client = match query.parameter("client").map(|id| ClientId::parse(&id)) {
        None => None,
        Some(Ok(client)) => Some(client),
        Some(Err(_)) => return Response::text(400, "this is no ClientId\n"),
    };
    let all = newest_first(reports);
    let wanted = all
        .into_iter()
        .filter(|(_, refused)| client.is_none() || refused.client == client);
    let mut text = String::from(r#"{"refused":"#);
    write(&mut text, wanted);
    text.push('}');
    Response::new(200, "application/json", text)
}

/// All of them, each with its shard.
pub(super) fn newest_first(reports: &[Report]) -> Vec<(usize, &Refused)> {
    let of = |report: &'_ Report| report.shard;
    let mut all: Vec<_> = reports
        .iter()
        .flat_map(|report| report.refused.iter().map(move |refused| (of(report), refused)))
        .collect();
    all.sort_by_key(|(_, refused)| std::cmp::Reverse(refused.at));
    all
}

/// A JSON array of them.
pub(super) fn write<'r>(text: &mut String, refused: impl Iterator<Item = (usize, &'r Refused)>) {
    text.push('[');
    for (index, (shard, refused)) in refused.enumerate() {
        if index > 0 {
            text.push(',');
        }
        let Refused {
            client,
            address,
            status,
            reason,
            at,
        } = refused;
        let _ = write!(
            text,
            r#"{{"at":"{}","shard":{shard},"clientId":{},"address":"{address}","status":{},"reason":{}}}"#,
            humantime::format_rfc3339_millis(*at),
            client.as_ref().map_or_else(|| "null".to_owned(), ClientId::json),
            status.map_or_else(|| "null".to_owned(), |status| status.to_string()),
            json::string(reason),
        );
    }
    text.push(']');
}
