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

use self::world::World;
use super::member::Fault;
use crate::random::Random;
use crate::worlds::{self, Happened};

fn simulate(seed: u64, fault: Option<Fault>) -> Result<Happened, String> {
    worlds::play(seed, STEPS, || Ok(World::new(seed, fault)))
}

impl worlds::World for World {
    fn step(&mut self) -> Result<(), String> {
        self.step()
    }

    fn finish(mut self) -> Result<Happened, String> {
        World::finish(&mut self)?;
        Ok(self.ledger.happened)
    }
}

fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").map_or(200, |count| count.parse().expect("SIMULATION_SEEDS is a number"))
}

#[test]
fn every_accepted_push_ends_once_and_each_client_is_at_one_node_once_all_is_quiet() {
    let first = Random::seed() >> 16;
    let all = (first..first + seeds()).map(|seed| simulate(seed, None));
    worlds::assert_all_happens(all, EVERYTHING);
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
        (Fault::NobodyBelieved, &["nobody has"]),
    ] {
        let errors = (0..200).filter_map(|seed| simulate(seed, Some(fault)).err());
        worlds::assert_noticed(fault, complaints, errors.take(3), 3);
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
