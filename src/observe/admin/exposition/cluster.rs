//! Writes the metrics of the cluster, as this node sees it. A node that is in none has none of their values.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::Labels;
use crate::observe::cluster::{self, ClusterSeen};

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let seen = cluster::current();
    for (name, help, value) in GAUGES {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        if let Some(seen) = &seen {
            let labels = Labels(&[("cluster", &seen.name)]);
            metric.encode_family(&labels)?.encode_gauge(&value(seen))?;
        }
    }
    for (name, help, value) in COUNTERS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        if let Some(seen) = &seen {
            let labels = Labels(&[("cluster", &seen.name)]);
            metric
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, u64, f64>(&value(seen), None)?;
        }
    }
    Ok(())
}

type Gauge = (&'static str, &'static str, fn(&ClusterSeen) -> f64);
type Counter = (&'static str, &'static str, fn(&ClusterSeen) -> u64);

const GAUGES: [Gauge; 5] = [
    (
        "ws2api_cluster_up",
        "0 while NATS is away: clients of other nodes are not found.",
        |seen| f64::from(u8::from(seen.is_connected())),
    ),
    (
        "ws2api_cluster_nodes",
        "Nodes that were heard of in the last seconds, this one among them.",
        |seen| seen.nodes.len() as f64,
    ),
    (
        "ws2api_cluster_clients",
        "Clients of this node that others find.",
        |seen| seen.clients as f64,
    ),
    (
        "ws2api_cluster_questions",
        "Questions to other nodes that have no answer yet.",
        |seen| seen.asked as f64,
    ),
    (
        "ws2api_cluster_waiting_bytes",
        "Bytes that NATS has not taken yet.",
        |seen| seen.waiting_len as f64,
    ),
];

const COUNTERS: [Counter; 8] = [
    (
        "ws2api_cluster_connections",
        "Connections to NATS: the first, and those after a loss.",
        |seen| seen.counts.connected,
    ),
    ("ws2api_cluster_losses", "Connections to NATS that were lost.", |seen| {
        seen.counts.gone
    }),
    ("ws2api_cluster_received", "Messages from NATS.", |seen| {
        seen.counts.received
    }),
    ("ws2api_cluster_sent", "Messages to NATS.", |seen| seen.counts.sent),
    (
        "ws2api_cluster_lost",
        "Messages to NATS for which there was no room, or no connection any more.",
        |seen| seen.counts.lost,
    ),
    (
        "ws2api_cluster_bad",
        "Messages from NATS that no node says, and complaints of NATS.",
        |seen| seen.counts.bad,
    ),
    (
        "ws2api_cluster_served",
        "Questions of other nodes about clients of this one.",
        |seen| seen.counts.served,
    ),
    (
        "ws2api_cluster_replaced",
        "Connections of clients that were closed because the client has come to another node.",
        |seen| seen.counts.replaced,
    ),
];
