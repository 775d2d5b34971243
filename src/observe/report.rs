//! What a shard says of itself when it is asked: a copy of what it counts, and how it is.

use std::time::{Duration, Instant};

use shards::reactor::PASS_BOUNDS_US;

use crate::observe::counters::{FAMILIES, SHED};
use crate::observe::latency::LatencyCopy;
use crate::shard::Shard;

/// A copy of what a shard counts, and how it is.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Which shard.
    pub shard: usize,
    /// Its CPU.
    pub cpu: usize,
    /// The kernel's id of its thread.
    pub thread: i32,
    /// In the order of `FAMILIES` and their members.
    pub counters: Vec<u64>,
    /// In the order of [`SHED`].
    pub shed: Vec<u64>,
    /// How it is now.
    pub gauges: Gauges,
    /// Calls.
    pub calls: LatencyCopy,
    /// Requests to the backend.
    pub backend: LatencyCopy,
    /// Pushes.
    pub pushes: LatencyCopy,
    /// Rounds of the loop by their length, in the order of [`PASS_BOUNDS_US`] and one more.
    pub passes: [u64; PASS_BOUNDS_US.len() + 1],
    /// Time spent outside of `epoll_wait` since the start.
    pub busy: Duration,
    /// It drains.
    pub draining: bool,
    /// No backend can be connected to.
    pub backend_down: bool,
}

macro_rules! gauges {
    ($( $name:ident: $help:literal, )+) => {
        /// What goes up and down.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Gauges {
            $( #[doc = $help] pub $name: f64, )+
        }

        /// Each gauge's name, meaning and value.
        pub const GAUGES: &[(&str, &str, fn(&Gauges) -> f64)] = &[
            $( (stringify!($name), $help, |gauges| gauges.$name), )+
        ];
    };
}

gauges! {
    clients: "Clients connected.",
    clients_max: "Clients that the shard may hold.",
    handshakes: "Opening handshakes under way.",
    handshakes_max: "Opening handshakes that may be under way.",
    ingress_connections: "Connections at the ingress.",
    backend_connections: "Connections to the backend, those being opened among them.",
    backend_connections_max: "Connections to the backend that the shard may open.",
    backend_connections_in_use: "Connections to the backend that have a request, or are being opened for one.",
    backend_connections_idle: "Connections to the backend that have no request.",
    backend_waiting: "Requests that wait for a connection to the backend.",
    posts_waiting: "Posts (/result, /error) that are not delivered yet.",
    push_waits: "Pushes that an ingress request waits for.",
    mesh_queue_depth_max: "Deepest queue from another shard since the last scrape.",
    sockets: "Sockets of the shard.",
    timers: "Timers set.",
    loop_longest_pass_seconds: "Longest round of the loop since the last scrape.",
    report_seconds: "What the last scrape cost the shard.",
    draining: "1 while the shard drains.",
    backend_up: "0 while no backend can be connected to: the last try failed at each.",
}

impl Report {
    /// The sum of a family's counters, or of those of its members that have the label value `member`.
    #[must_use]
    pub fn count(&self, family: &str, member: Option<&str>) -> u64 {
        let mut first = 0;
        for own in FAMILIES {
            if own.name == family {
                let counted = own.members.iter().zip(&self.counters[first..]);
                let wanted = counted.filter(|(labels, _)| member.is_none_or(|member| labels.contains(&member)));
                return wanted.map(|(_, count)| count).sum();
            }
            first += own.members.len();
        }
        debug_assert!(false, "there is no counter {family}");
        0
    }
}

impl Shard {
    /// What a scrape gets. It walks three histograms and nothing else: well below a millisecond.
    pub fn report(&self) -> Report {
        let start = Instant::now();
        let (connections, idle) = self.pool.connections_count();
        let load = self.reactor.load();
        let (draining, backend_down) = (self.is_draining(), self.pool.is_down());
        let gauges = Gauges {
            clients: self.registry.borrow().len() as f64,
            clients_max: self.core.clients_max as f64,
            handshakes: self.handshakes.count() as f64,
            handshakes_max: self.core.handshakes_max as f64,
            ingress_connections: self.ingress_connections.get() as f64,
            backend_connections: connections as f64,
            backend_connections_max: self.core.backend_connections_max as f64,
            backend_connections_in_use: (connections - idle) as f64,
            backend_connections_idle: idle as f64,
            backend_waiting: self.pool.waiting_count() as f64,
            posts_waiting: self.outbox.len() as f64,
            push_waits: self.outcome_waits.len() as f64,
            mesh_queue_depth_max: self.mesh.take_depth_max() as f64,
            sockets: self.reactor.sockets_count() as f64,
            timers: self.reactor.timers_count() as f64,
            loop_longest_pass_seconds: self.reactor.take_longest_pass().as_secs_f64(),
            report_seconds: 0.0,
            draining: f64::from(u8::from(draining)),
            backend_up: f64::from(u8::from(!backend_down)),
        };
        let mut report = Report {
            shard: self.index,
            cpu: self.core.cpu,
            thread: rustix::thread::gettid().as_raw_nonzero().get(),
            counters: self.counters.read(),
            shed: SHED.iter().map(|(_, count)| count(&self.counters).get()).collect(),
            gauges,
            calls: self.counters.call_latency.copy(),
            backend: self.counters.backend_latency.copy(),
            pushes: self.counters.push_latency.copy(),
            passes: self.reactor.pass_lengths().counts(),
            busy: load.busy,
            draining,
            backend_down,
        };
        report.gauges.report_seconds = start.elapsed().as_secs_f64();
        report
    }
}
