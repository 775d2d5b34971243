//! Says which nodes there are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Ingress;
use super::answer::Answer;
use crate::shard::mail::{ClientReply, ClientRequest};
use protocol::cluster::{Node, NodeId};
use protocol::ocpp::json;

/// `GET /nodes`: this one, and those of its cluster.
pub(super) async fn nodes(ingress: &Ingress) -> Answer {
    let Some(mut nodes) = known(ingress).await else {
        return unanswered("the cluster's thread");
    };
    nodes.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
    let texts: Vec<String> = nodes.iter().map(text).collect();
    Answer::json(200, format!(r#"{{"nodes":[{}]}}"#, texts.join(",")).into_bytes())
}

/// The nodes that are known here, as they were last heard of. `None`: nobody says so.
async fn known(ingress: &Ingress) -> Option<Vec<Node>> {
    if !ingress.home().is_in_cluster() {
        return Some(vec![this_one(ingress).await?]);
    }
    let token = ingress.queries.begin();
    ingress.home().ask_which_nodes(token);
    let until = ingress.env.reactor.now() + NODE_TIMEOUT;
    match ingress.queries.reply_until(token, until).await {
        Some(ClientReply::Nodes(nodes)) => Some(nodes),
        _ => None,
    }
}

async fn this_one(ingress: &Ingress) -> Option<Node> {
    let mut clients = 0;
    for shard in 0..ingress.env.count {
        match ingress.ask(shard, ClientRequest::Count).await {
            Ok(ClientReply::Counted(count)) => clients += count as u64,
            _ => return None,
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = now.saturating_sub(ingress.env.uptime());
    Some(Node {
        id: NodeId::new(0),
        name: ingress.home().node_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        clients,
        since_ms: u64::try_from(since.as_millis()).unwrap_or(0),
        is_draining: ingress.env.is_draining(),
        is_subscribing: false,
        now_ms: 0,
    })
}

fn text(node: &Node) -> String {
    let since = UNIX_EPOCH.checked_add(Duration::from_millis(node.since_ms.min(YEAR_9999_MS)));
    format!(
        r#"{{"name":{},"version":{},"clients":{},"since":"{}","draining":{}}}"#,
        json::string(&node.name),
        json::string(&node.version),
        node.clients,
        humantime::format_rfc3339_millis(since.unwrap_or(UNIX_EPOCH)),
        node.is_draining
    )
}

fn unanswered(who: &str) -> Answer {
    Answer::error(503, &format!("{who} does not answer: ask again")).with_retry_after("1")
}

/// A node that lives answers within.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// No node says a later one.
const YEAR_9999_MS: u64 = 253_402_300_799_000;
