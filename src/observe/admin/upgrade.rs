//! `POST /upgrade` has a new process take over, and says whether it has.

use std::time::Duration;

use super::connection::{Query, Response};
use crate::server::takeover::old::{NotBegun, TakenOver, Upgrades};
use crate::shard::control_plane::ControlPlane;
use protocol::ocpp::json;

/// Begins one and waits for how it ends, or says how the last one did.
pub(super) fn answer(upgrades: &Upgrades, control: &ControlPlane, query: &Query<'_>, timeout: Duration) -> Response {
    match query.method {
        "GET" => return describe(upgrades, control),
        "POST" => {}
        _ => return Response::not_allowed("GET, HEAD, POST"),
    }
    let result = match upgrades.begin(timeout) {
        Ok(end) => end.recv().unwrap_or_else(|_| Err("its thread has ended".to_owned())),
        Err(error @ NotBegun::NoThread) => return Response::text(503, format!("{error}\n")),
        Err(error) => return Response::text(409, format!("{error}\n")),
    };
    match result {
        Ok(taken_over) => Response::new(200, "application/json", format!("{}\n", object(&taken_over))),
        Err(words) => Response::text(500, format!("undone, this process goes on: {words}\n")),
    }
}

fn describe(upgrades: &Upgrades, control: &ControlPlane) -> Response {
    let progress = upgrades.progress();
    let last = match &progress.last {
        None => "null".to_owned(),
        Some(Ok(taken_over)) => object(taken_over),
        Some(Err(words)) => format!(r#"{{"error":{}}}"#, json::string(words)),
    };
    let text = format!(
        "{{\"underWay\":{},\"failed\":{},\"last\":{last},\"hasPredecessor\":{},\"isTakenOver\":{}}}\n",
        progress.is_under_way,
        progress.failed,
        control.has_predecessor(),
        control.is_taken_over(),
    );
    Response::new(200, "application/json", text)
}

fn object(taken_over: &TakenOver) -> String {
    let TakenOver { pid, version } = taken_over;
    format!(r#"{{"pid":{pid},"version":{}}}"#, json::string(version))
}
