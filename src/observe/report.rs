//! Defines what a shard reports of itself when it is asked: a copy of what it counts, and how it is.

use std::time::Duration;

use shards::pass::PASS_BOUNDS_US;

use crate::observe::backends::BackendReport;
use crate::observe::counters::FAMILIES;
use crate::observe::incidents::IncidentReport;
use crate::observe::latency::LatencyCopy;
use crate::observe::refusals::Refused;

/// A copy of what a shard counts, and how it is.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The shard's index.
    pub shard: usize,
    /// The number of the CPU that the shard is pinned to.
    pub cpu: usize,
    /// The kernel's id of its thread.
    pub thread: i32,
    /// In the order of `FAMILIES` and their members.
    pub counters: Vec<u64>,
    /// In the order of [`SHED`](crate::observe::counters::SHED).
    pub shed: Vec<u64>,
    /// What happened to clients, in the order of [`KINDS`](crate::observe::incidents::KINDS).
    pub incidents: Vec<IncidentReport>,
    /// How it is now.
    pub gauges: Gauges,
    /// How long Calls took, from the client's frame to its answer.
    pub calls: LatencyCopy,
    /// How long requests to the backend took.
    pub backend: LatencyCopy,
    /// How long pushes took, from the frame to the client's answer.
    pub pushes: LatencyCopy,
    /// Rounds of the loop by their length, in the order of [`PASS_BOUNDS_US`] and one more.
    pub passes: [u64; PASS_BOUNDS_US.len() + 1],
    /// Time spent outside of `epoll_wait` since the start.
    pub busy: Duration,
    /// Whether the shard drains.
    pub draining: bool,
    /// Who was not let in of late, the oldest first.
    pub refused: Vec<Refused>,
    /// `tolerate`: breaches of the protocols that are let in.
    pub tolerated: Vec<&'static str>,
    /// How each backend is, in the order of the configuration.
    pub backends: Vec<BackendReport>,
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
    buffers_bytes: "Bytes that the shard holds for others: messages in part, queues, bodies, posts.",
    buffers_max_bytes: "Bytes that the shard may hold for others.",
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
    taps: "Taps open, as this shard knows them.",
    sockets: "Sockets of the shard.",
    timers: "Timers set.",
    loop_longest_pass_seconds: "Longest round of the loop since the last scrape.",
    report_seconds: "What the last scrape cost the shard.",
    draining: "1 while the shard drains.",
    backend_up: "0 while every backend is down: the last that was heard of each is bad.",
}

impl Report {
    /// The sum of a family's counters, of those of its members that have all these label values.
    #[must_use]
    pub fn count(&self, family: &str, values: &[&str]) -> u64 {
        let mut first = 0;
        for own in FAMILIES {
            if own.name == family {
                let counted = own.members.iter().zip(&self.counters[first..]);
                let wanted = counted.filter(|(labels, _)| values.iter().all(|value| labels.contains(value)));
                return wanted.map(|(_, count)| count).sum();
            }
            first += own.members.len();
        }
        debug_assert!(false, "there is no counter {family}");
        0
    }
}
