//! Runs whole shards without a kernel, between clients, backend and network of its own, with everything going wrong, and
//! holds them to what must be true (ledger.rs).
//!
//! Everything of the proxy runs as it is (accepting, handshakes, connections, sessions, the pool and its links, the
//! outbox, the ingress, the mesh, the drain); the clock, the sockets and the dice are the test's
//! (shards/src/simulation/). A failure prints its seed: `SIMULATION_SEED=… cargo test --config
//! .cargo/simulation.toml --test simulation` repeats it, step by step.
#![cfg(simulation)]

mod backend;
mod client;
#[path = "../support/compression.rs"]
mod compression;
mod hostile;
mod hung_shards;
mod ledger;
mod lengths;
mod lines;
mod progress;
mod pusher;
mod readiness;
mod scene;
mod turns;
mod world;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use world::World;

/// Runs one world: so many steps of trouble, then peace, then the end.
fn simulate(seed: u64, steps: usize) -> BTreeMap<&'static str, usize> {
    struct Place(u64);
    impl Drop for Place {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("SIMULATION_SEED={}", self.0);
            }
        }
    }
    let _place = Place(seed);
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.make_peace();
    world.check_peace();
    world.check_reach();
    world.drain();
    world.ledger.happened.clone()
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SIMULATION_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIMULATION_SEED is a number")],
        Err(_) => {
            let random = RandomState::new().hash_one(0);
            (0..count)
                .map(|number| if number < count / 2 { number } else { random ^ number })
                .collect()
        }
    }
}

fn run(seeds: &[u64]) -> BTreeMap<&'static str, usize> {
    let mut happened = BTreeMap::new();
    for seed in seeds {
        for (what, count) in simulate(*seed, STEPS) {
            *happened.entry(what).or_default() += count;
        }
    }
    happened
}

#[test]
fn every_call_is_answered_once_and_every_push_has_one_outcome_whatever_happens() {
    let seeds = seeds(SEEDS);
    let happened = run(&seeds);
    println!("{} seeds: {happened:#?}", seeds.len());
    if seeds.len() > 1 {
        for what in EVERYTHING {
            assert!(
                happened.get(what).is_some_and(|count| *count >= 3),
                "{what}: {happened:#?}"
            );
        }
    }
}

#[test]
#[ignore = "four minutes: cargo test --config .cargo/simulation.toml --test simulation -- --ignored"]
fn the_same_for_very_many_seeds() {
    println!("{:#?}", run(&seeds(40 * SEEDS)));
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(simulate(7, STEPS), simulate(7, STEPS));
}

const STEPS: usize = 1_500;
const SEEDS: u64 = 40;

/// What has to happen in a run, three times at least: else it proves nothing about it.
const EVERYTHING: &[&str] = &[
    "client comes",
    "client comes again",
    "client refused",
    "client lost",
    "client closed",
    "client resets",
    "client finishes",
    "client leaves",
    "client deaf",
    "bad frame",
    "ping",
    "message too large",
    "call",
    "large call",
    "send",
    "send seen",
    "result error seen",
    "result",
    "error",
    "push accepted",
    "push refused",
    "push seen",
    "compressed frame",
    "push answered",
    "pusher resets",
    "outcome result",
    "outcome Disconnected",
    "outcome Replaced",
    "outcome Timeout",
    "backend answers late",
    "backend never answers",
    "backend cuts",
    "backend resets",
    "backend closes idle",
    "backend says too much",
    "backend says a huge thing",
    "backend says 500",
    "door shut",
    "door a black hole",
    "out of descriptors",
    "shard hangs",
    "sparse pass",
    "crowded pass",
    "post again",
    "backend defers",
    "late answer",
    "handed over",
    "handed over with a push in flight",
    "handed over with a push queued",
    "handed over with a deferred call",
    "handed over with a call queued",
    "handed over with a post",
    "question of another process",
    "reply of another process",
    "outcome for another process",
    "post of another process",
    "description",
    "wait answered",
    "wait timed out",
];
