//! Reports how a shard is: a copy of what it counts.

use std::time::Instant;

use super::Shard;
use crate::config::Word as _;
use crate::observe::counters::SHED;
use crate::observe::report::{Gauges, Report};

impl Shard {
    /// What a scrape gets. It walks three histograms and nothing else: well below a millisecond.
    pub(super) fn report(&self) -> Report {
        let start = Instant::now();
        let counters = &self.env.counters;
        let (connections, idle) = self.pool.connections_count();
        let load = self.env.reactor.load();
        let draining = self.env.is_draining();
        let gauges = Gauges {
            clients: self.clients.len() as f64,
            clients_max: self.env.core.clients_max as f64,
            buffers_bytes: self.env.buffers.held() as f64,
            buffers_max_bytes: self.env.core.buffers_max as f64,
            handshakes: self.clients.handshakes_count() as f64,
            handshakes_max: self.env.core.handshakes_max as f64,
            ingress_connections: self.ingress.connections_count() as f64,
            backend_connections: connections as f64,
            backend_connections_max: self.env.core.backend_connections_max as f64,
            backend_connections_in_use: (connections - idle) as f64,
            backend_connections_idle: idle as f64,
            backend_waiting: self.pool.waiting_count() as f64,
            posts_waiting: self.outbox.len() as f64,
            push_waits: self.ingress.waits_count() as f64,
            mesh_queue_depth_max: self.mesh.take_depth_max() as f64,
            taps: self.env.watch.taps_count() as f64,
            sockets: self.env.reactor.sockets_count() as f64,
            timers: self.env.reactor.timers_count() as f64,
            loop_longest_pass_seconds: self.env.reactor.take_longest_pass().as_secs_f64(),
            report_seconds: 0.0,
            draining: f64::from(u8::from(draining)),
            // Settled when all shards have said what they know.
            backend_up: 1.0,
        };
        let mut report = Report {
            shard: self.env.index,
            cpu: self.env.core.cpu,
            thread: rustix::thread::gettid().as_raw_nonzero().get(),
            counters: counters.read(),
            shed: SHED.iter().map(|(_, count)| count(counters).get()).collect(),
            incidents: counters.incidents.report(),
            gauges,
            calls: counters.call_latency.copy(),
            backend: counters.backend_latency.copy(),
            pushes: counters.push_latency.copy(),
            passes: self.env.reactor.pass_lengths().counts(),
            busy: load.busy,
            draining,
            refused: self.env.refusals.list(),
            tolerated: self.env.node.tolerate.iter().map(|word| word.spelling()).collect(),
            backends: self.pool.report(),
        };
        report.gauges.report_seconds = start.elapsed().as_secs_f64();
        report
    }
}
