//! `POST /rebalance?close=N&per_second=M` sends clients away bit by bit, and says what it will do.

use super::connection::{Query, Response};
use crate::observe::report::Report;
use crate::server::rebalance::{Plan, Rebalance};

/// Begins one, ends one (`close=0`), or says how it goes.
pub(super) fn answer(rebalance: &Rebalance, query: &Query<'_>, reports: &[Report]) -> Response {
    // One that does not answer is asked for none.
    let mut clients = vec![0; reports.iter().map(|report| report.shard + 1).max().unwrap_or(0)];
    for report in reports {
        clients[report.shard] = report.gauges.clients as usize;
    }
    let count: usize = clients.iter().sum();
    match query.method {
        "GET" => return describe(rebalance, count, 0),
        "POST" => {}
        _ => return Response::not_allowed("GET, POST"),
    }
    if reports.iter().any(|report| report.draining) {
        return Response::text(409, "it drains: all clients leave\n");
    }
    let number = |name| query.parameter(name).map(|value| value.parse::<usize>().ok());
    let (Some(Some(close)), Some(per_second @ 1..=PER_SECOND_MAX)) =
        (number("close"), number("per_second").unwrap_or(Some(PER_SECOND)))
    else {
        return Response::text(400, USAGE);
    };
    let plan = Plan {
        close: close.min(count),
        per_second,
    };
    match rebalance.begin(plan, &clients) {
        Ok(stopped) => {
            tracing::info!(
                "rebalance: {} of {count} clients are sent away, {per_second} a second",
                plan.close
            );
            describe(rebalance, count, stopped)
        }
        Err(error) => Response::text(503, format!("no thread for it: {error}\n")),
    }
}

fn describe(rebalance: &Rebalance, clients: usize, stopped: usize) -> Response {
    let (plan, left) = rebalance.progress();
    let Plan { close, per_second } = plan;
    let seconds = left.div_ceil(per_second.max(1));
    let text = format!(
        "{{\"clients\":{clients},\"close\":{close},\"perSecond\":{per_second},\"left\":{left},\"seconds\":{seconds},\"stopped\":{stopped}}}\n"
    );
    Response::new(200, "application/json", text)
}

const PER_SECOND: usize = 10;
const PER_SECOND_MAX: usize = 10_000;
const USAGE: &str = "POST /rebalance?close=N&per_second=M sends N clients away, M of them a second (1 to 10000, 10 by default); close=0 stops it; \
GET says how it goes\n";
