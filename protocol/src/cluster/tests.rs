//! What the simulation does not play: another process of a node.

use std::time::{Duration, Instant};

use super::{Limits, Member, NodeId, Now, Output, Own, Subject};
use crate::mapping::ConnectionId;
use crate::ocpp::ClientId;

const LIMITS: Limits = Limits {
    shards: 1,
    asked_max: 2,
    len_max: 100,
    served_max: 2,
};

fn member(id: u64, now: Now) -> Member {
    let own = Own {
        id: NodeId::new(id),
        name: format!("n{id}"),
        version: "1".to_owned(),
        since_ms: 0,
    };
    let mut member = Member::new(own, LIMITS, now.instant);
    member.handle_connected(now, &mut Vec::new());
    member
}

fn start() -> Now {
    Now {
        instant: Instant::now(),
        unix_ms: 1_000_000,
    }
}

fn later(now: Now, by: Duration) -> Now {
    Now {
        instant: now.instant + by,
        unix_ms: now.unix_ms + by.as_millis() as u64,
    }
}

fn client() -> ClientId {
    ClientId::parse("CP 1").unwrap()
}

/// What each of them publishes reaches the others, until nobody says anything; the rest is given back, with who wants it.
fn exchange(members: &mut [Member], mut outs: Vec<Vec<Output>>, now: Now) -> Vec<(usize, Output)> {
    let mut rest = Vec::new();
    while let Some(from) = outs.iter().position(|out| !out.is_empty()) {
        for output in std::mem::take(&mut outs[from]) {
            match output {
                Output::Publish { to, bytes, .. } => {
                    for (at, member) in members.iter_mut().enumerate() {
                        let is_its = match to {
                            Subject::Node(node, _) => node == NodeId::new(at as u64 + 1),
                            _ => at != from,
                        };
                        if is_its {
                            assert!(member.handle_message(to.clone(), &bytes, now, &mut outs[at]));
                        }
                    }
                }
                Output::Subscribe { .. } | Output::Unsubscribe { .. } | Output::SubscribeOwn => {}
                other => rest.push((from, other)),
            }
        }
    }
    rest
}

/// The client has gone from node 1 to node 2 and then the process of node 1, which had it before, goes on as node 3.
#[test]
fn a_client_that_moves_to_another_process_is_no_newer_than_it_was() {
    let now = start();
    let mut members = vec![member(1, now), member(2, now), member(3, now)];
    let (old, new) = (ConnectionId::new(1, 0, 1), ConnectionId::new(2, 0, 1));
    let mut outs = vec![Vec::new(), Vec::new(), Vec::new()];
    members[0].handle_client(client(), old, 0, now, &mut outs[0]);
    assert_eq!(exchange(&mut members, outs, now), []);
    let jump = later(now, Duration::from_secs(1));
    let mut outs = vec![Vec::new(), Vec::new(), Vec::new()];
    let late = later(jump, Duration::from_secs(1));
    members[1].handle_client(client(), new, 0, jump, &mut outs[1]);
    // Node 1 has not heard that when it hands the client on.
    outs[1].clear();
    members[2].handle_moved_in(client(), (old, now.unix_ms), 0, late, &mut outs[2]);
    let rest = exchange(&mut members, outs, late);
    let replaced: Vec<_> = rest
        .iter()
        .map(|(at, output)| match output {
            Output::Replaced { connection, by, .. } => (*at, connection.as_str(), by.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        replaced,
        [(0, old.as_str(), new.as_str()), (2, old.as_str(), new.as_str())]
    );
}
