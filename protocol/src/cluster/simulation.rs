//! Plays several nodes with the same clients in a virtual time, and compares what they do with a [`Ledger`](ledger::Ledger) of what must be
//! true. Messages are lost, doubled, late and in another order; NATS comes and goes, for one node or for all; nodes die and start
//! anew; clocks differ; clients jump between nodes, and leave connections behind of which nobody knows that they are dead.
//!
//! A failure prints its seed and step; `SIMULATION_SEED=… cargo test -p protocol cluster` begins with it, and `SIMULATION_SEEDS=5000`
//! plays so many.

mod ledger;
mod nats;
mod shard;
mod world;

use std::collections::BTreeMap;

use self::world::World;
use super::member::Fault;
use crate::random::Random;

fn simulate(seed: u64, fault: Option<Fault>) -> Result<BTreeMap<&'static str, usize>, String> {
    /// A panic in between names the place, too.
    struct Place(u64, usize);
    impl Drop for Place {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("SIMULATION_SEED={} step {}", self.0, self.1);
            }
        }
    }
    let mut place = Place(seed, 0);
    let located = |step: usize, error: String| format!("SIMULATION_SEED={seed} step {step}: {error}");
    let mut world = World::new(seed, fault);
    for step in 0..STEPS {
        place.1 = step;
        world.step().map_err(|error| located(step, error))?;
    }
    world.finish().map_err(|error| located(STEPS, error))?;
    Ok(world.ledger.happened)
}

fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").map_or(200, |count| count.parse().expect("SIMULATION_SEEDS is a number"))
}

#[test]
fn every_accepted_push_ends_once_and_each_client_is_at_one_node_once_all_is_quiet() {
    let first = Random::seed() >> 16;
    let mut happened = BTreeMap::new();
    for seed in first..first + seeds() {
        match simulate(seed, None) {
            Ok(counts) => counts
                .into_iter()
                .for_each(|(what, count)| *happened.entry(what).or_insert(0) += count),
            Err(error) => panic!("{error}"),
        }
    }
    // A simulation in which something never happens proves nothing about it.
    for what in EVERYTHING {
        let count = happened.remove(what).unwrap_or(0);
        assert!(count >= 10, "{what}: only {count} times");
    }
    assert!(happened.is_empty(), "not in the list: {happened:?}");
}

#[test]
fn a_broken_rule_is_noticed() {
    for (fault, complaints) in [
        (Fault::OlderStays, &["at several nodes"][..]),
        (Fault::TieEndsBoth, &["none of the two stays"]),
        (Fault::AnnouncedOnce, &["at several nodes"]),
        (Fault::NotMadeAnew, &["nobody has", "at several nodes"]),
        (Fault::RepetitionCarriedOut, &["carried out twice"]),
        (Fault::LateCarriedOut, &["nobody waits"]),
        (Fault::AwayIsNobody, &["nobody has"]),
        (Fault::LossForgotten, &["was never answered"]),
        (Fault::UnsurePosted, &["two outcomes"]),
        (Fault::OutcomeToldOnce, &["was not told"]),
        (Fault::BoundForgotten, &["questions are open"]),
        (Fault::NotAskedAgain, &["nobody has"]),
    ] {
        let errors = (0..200).filter_map(|seed| simulate(seed, Some(fault)).err());
        let errors: Vec<_> = errors.take(3).collect();
        assert_eq!(
            errors.len(),
            3,
            "{fault:?} was noticed in {} of 200 worlds",
            errors.len()
        );
        for error in errors {
            let as_it_is = complaints.iter().any(|complaint| error.contains(complaint));
            assert!(as_it_is, "{fault:?} was noticed as: {error}");
        }
    }
}

/// Of each world, before it becomes quiet.
const STEPS: usize = 1_500;

/// What has to happen in a run, ten times at least.
const EVERYTHING: &[&str] = &[
    "client connects",
    "client connects to two nodes at once",
    "client goes",
    "client is replaced by another node's",
    "ghost found dead",
    "push to a client here",
    "push to another node",
    "push taken",
    "push refused",
    "push answered",
    "push timed out",
    "push moves to another node",
    "push moves within a node",
    "request that waits is told",
    "request that waits is told nothing",
    "request that waits hangs up",
    "outcome posted since nobody is there",
    "outcome comes when nobody waits",
    "nobody",
    "away",
    "full",
    "not carried out",
    "unanswered",
    "message lost",
    "message doubled",
    "message late",
    "NATS goes",
    "a node loses NATS",
    "a node dies",
];
