//! Plays NATS: two servers, between which it takes a while until a subscription is known, and a network that may do anything.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::{NodeId, Output, Subject};
use crate::ocpp::ClientId;
use crate::random::Random;

#[derive(Default)]
pub(super) struct Nats {
    pub(super) is_up: bool,
    links: BTreeMap<NodeId, Link>,
    links_count: u64,
    flying: Vec<Flying>,
}

/// A node's connection.
struct Link {
    number: u64,
    server: usize,
    /// What the node has sent, in order.
    sent: Vec<(Duration, Output)>,
    is_reachable: bool,
    subscriptions: BTreeMap<usize, Subscription>,
}

struct Subscription {
    client: ClientId,
    /// From then on the other server knows it.
    known_at: Duration,
}

struct Flying {
    due: Duration,
    to: NodeId,
    link: u64,
    what: Arrival,
}

/// What a node gets.
#[derive(Clone)]
pub(super) enum Arrival {
    Message(Subject, Vec<u8>),
    Nobody(u64),
}

/// What goes wrong on the way.
#[derive(Default)]
pub(super) struct Mishaps {
    pub(super) is_noisy: bool,
    pub(super) lost: usize,
    pub(super) doubled: usize,
    pub(super) late: usize,
}

impl Nats {
    pub(super) fn connect(&mut self, node: NodeId, server: usize) {
        self.links_count += 1;
        let link = Link {
            number: self.links_count,
            server,
            sent: Vec::new(),
            is_reachable: false,
            subscriptions: BTreeMap::new(),
        };
        self.links.insert(node, link);
    }

    pub(super) fn disconnect(&mut self, node: NodeId) -> bool {
        self.links.remove(&node).is_some()
    }

    pub(super) fn is_linked(&self, node: NodeId) -> bool {
        self.links.contains_key(&node)
    }

    /// A node sends something: it arrives in its order, if the connection stays so long.
    pub(super) fn send(&mut self, node: NodeId, output: Output, now: Duration, random: &mut Random) {
        let Some(link) = self.links.get_mut(&node) else {
            return;
        };
        let due = now + Duration::from_millis(random.below(5) as u64);
        let due = link.sent.last().map_or(due, |(last, _)| due.max(*last));
        link.sent.push((due, output));
    }

    /// Does what has arrived at the servers.
    pub(super) fn work(&mut self, now: Duration, random: &mut Random, mishaps: &mut Mishaps) {
        for node in self.links.keys().copied().collect::<Vec<_>>() {
            let Some(link) = self.links.get_mut(&node) else {
                continue;
            };
            let count = link.sent.partition_point(|(due, _)| *due <= now);
            let arrived: Vec<_> = link.sent.drain(..count).collect();
            for (_, output) in arrived {
                self.handle(node, output, now, random, mishaps);
            }
        }
    }

    /// What arrives at nodes now.
    pub(super) fn arrivals(&mut self, now: Duration) -> Vec<(NodeId, Arrival)> {
        let mut due: Vec<_> = self.flying.extract_if(.., |flying| flying.due <= now).collect();
        due.sort_by_key(|flying| flying.due);
        let links = &self.links;
        let is_there = |flying: &Flying| links.get(&flying.to).is_some_and(|link| link.number == flying.link);
        due.into_iter()
            .filter(is_there)
            .map(|flying| (flying.to, flying.what))
            .collect()
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        let sent = self.links.values().filter_map(|link| link.sent.first());
        let flying = self.flying.iter().map(|flying| flying.due);
        sent.map(|(due, _)| *due).chain(flying).min()
    }

    fn handle(&mut self, node: NodeId, output: Output, now: Duration, random: &mut Random, mishaps: &mut Mishaps) {
        let Some(link) = self.links.get_mut(&node) else {
            return;
        };
        let server = link.server;
        match output {
            Output::SubscribeOwn => link.is_reachable = true,
            Output::Subscribe { slot, client } => {
                let known_at = now + Duration::from_millis(random.below(800) as u64);
                let before = link.subscriptions.insert(slot, Subscription { client, known_at });
                assert!(before.is_none(), "slot {slot} is subscribed to");
            }
            Output::Unsubscribe { slot } => {
                let before = link.subscriptions.remove(&slot);
                assert!(before.is_some(), "slot {slot} is not subscribed to");
            }
            Output::Publish { to, reply, bytes } => {
                let mut receivers: Vec<_> = match &to {
                    Subject::Client(client) | Subject::Took(client) => self.who_has(client, server, now),
                    Subject::Node(node, _) => self
                        .links
                        .get(node)
                        .filter(|link| link.is_reachable)
                        .map(|_| *node)
                        .into_iter()
                        .collect(),
                    Subject::Nodes => self
                        .links
                        .iter()
                        .filter(|(_, link)| link.is_reachable)
                        .map(|(node, _)| *node)
                        .collect(),
                };
                if let (true, Subject::Client(_)) = (receivers.len() > 1, &to) {
                    receivers = vec![receivers[random.below(receivers.len())]];
                }
                if let (true, Some(number)) = (receivers.is_empty(), reply) {
                    self.fly(node, Arrival::Nobody(number), now, random, mishaps);
                }
                for receiver in receivers {
                    self.fly(
                        receiver,
                        Arrival::Message(to.clone(), bytes.clone()),
                        now,
                        random,
                        mishaps,
                    );
                }
            }
            _ => unreachable!("it is for the shards"),
        }
    }

    fn who_has(&self, client: &ClientId, server: usize, now: Duration) -> Vec<NodeId> {
        let has = |link: &Link| {
            link.subscriptions.values().any(|subscription| {
                subscription.client == *client && (link.server == server || subscription.known_at <= now)
            })
        };
        let having = self.links.iter().filter(|(_, link)| has(link));
        having.map(|(node, _)| *node).collect()
    }

    fn fly(&mut self, to: NodeId, what: Arrival, now: Duration, random: &mut Random, mishaps: &mut Mishaps) {
        let Some(link) = self.links.get(&to).map(|link| link.number) else {
            return;
        };
        let mut copies = 1;
        let mut delay = 1 + random.below(10);
        if mishaps.is_noisy {
            match random.below(100) {
                0..3 => {
                    mishaps.lost += 1;
                    return;
                }
                3..5 => {
                    mishaps.doubled += 1;
                    copies = 2;
                }
                5..8 => {
                    mishaps.late += 1;
                    delay = random.below(60_000);
                }
                8..16 => delay = random.below(2_000),
                _ => {}
            }
        }
        for copy in 0..copies {
            let due = now + Duration::from_millis((delay + copy * random.below(500)) as u64);
            let what = what.clone();
            self.flying.push(Flying { due, to, link, what });
        }
    }
}
