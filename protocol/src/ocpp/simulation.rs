//! Drives the sessions of several clients through 100,000 steps and more with a virtual clock, and compares them with a
//! [`Ledger`](ledger::Ledger) of what must be true, while everything goes wrong around them.
//!
//! A failure prints its seed and step; `SIMULATION_SEED=… cargo test simulation` repeats it.

mod backend;
mod client;
mod hand_over;
mod ledger;
mod life;
mod world;

use self::hand_over::LeftOut;
use self::world::World;
use super::session::Fault;
use crate::random::Random;
use crate::record::LIST;
use crate::worlds::{self, Happened};

/// Runs one world.
fn simulate(seed: u64, steps: usize, fault: Option<Fault>) -> Result<Happened, String> {
    simulate_without(seed, steps, fault, None)
}

/// Runs one in which a field is left out of the records.
fn simulate_without(
    seed: u64,
    steps: usize,
    fault: Option<Fault>,
    left_out: Option<LeftOut>,
) -> Result<Happened, String> {
    worlds::play(seed, steps, || {
        let mut world = World::new(seed, fault)?;
        world.left_out = left_out;
        Ok(world)
    })
}

impl worlds::World for World {
    fn step(&mut self) -> Result<(), String> {
        self.step()
    }

    fn finish(mut self) -> Result<Happened, String> {
        World::finish(&mut self)?;
        Ok(self.happened)
    }
}

#[test]
fn every_call_is_answered_and_every_push_ends_once_whatever_happens() {
    let random = Random::seed();
    let seeds = [1, 2, 3, 4, random, random ^ 1, random ^ 2, random ^ 3];
    worlds::assert_all_happens(seeds.map(|seed| simulate(seed, STEPS / 8, None)), EVERYTHING);
}

#[test]
fn a_broken_rule_is_noticed() {
    for (fault, complaints) in [
        (Fault::TimedOutPushStays, &["pushes_in_flight"][..]),
        (
            Fault::RepeatNotCoalesced,
            &["request for no Call", "CallCoalesced", "CallShed"],
        ),
        (Fault::QueueOvertaken, &["overtook"]),
        (Fault::SentPushForgotten, &["no outcome came out"]),
        (Fault::PushTimeForgotten, &["deadline", "no outcome came out"]),
        (Fault::OneCallTooMany, &["calls_in_flight"]),
        (Fault::SendsUncounted, &["wants_read"]),
        (Fault::PaceDoubled, &["wants_read", "deadline"]),
        (
            Fault::TakenWhileLeaving,
            &["request for no Call", "not counted", "CallShed"],
        ),
        (Fault::HoldForgotten, &["is to move"]),
        (Fault::EarlierCallsUncounted, &["wants_read", "beyond the limits"]),
    ] {
        // A world with the smallest queues cannot show every fault.
        let errors = (1..=8).filter_map(|seed| simulate(seed, 10_000, Some(fault)).err());
        worlds::assert_noticed(fault, complaints, errors, 4);
    }
}

#[test]
fn a_field_that_is_left_out_of_a_record_is_noticed() {
    let of_session = (1..=10).chain(LIST..=LIST + 3).map(|number| LeftOut(number, None));
    let parts = [
        // Of its pace: until when it has paid, and whether it is held.
        (7, 1..=2),
        // Of a Call: the message, where its parts are in it, that it is deferred and how long.
        (LIST, 1..=9),
        // Of a push: its id, Action, state, the time that is left, its payload and its trace.
        (LIST + 1, 1..=6),
        // Of a Call that has its answer: id and Action.
        (LIST + 2, 1..=2),
    ];
    let parts = parts
        .into_iter()
        .flat_map(|(number, parts)| parts.map(move |part| LeftOut(number, Some(part))));
    for left_out in of_session.chain(parts) {
        let noticed = (1..=16).any(|seed| simulate_without(seed, 20_000, None, Some(left_out)).is_err());
        assert!(noticed, "{left_out:?} is missed by nobody");
    }
}

/// Of one run of the tests, over its worlds.
const STEPS: usize = 400_000;

/// What has to happen in a run, ten times at least.
const EVERYTHING: &[&str] = &[
    "call",
    "call coalesced",
    "call with an open id",
    "call result",
    "call error",
    "bad answer",
    "held pushes are sent",
    "late answer",
    "bad frame",
    "closed for bad frames",
    "binary message",
    "send",
    "call result error",
    "flood held up",
    "held to its pace",
    "post delivered",
    "read again",
    "answer",
    "answer for a client that has gone",
    "deferral",
    "deferred answer",
    "early deferred answer",
    "deferred answer with another Action",
    "deferral timeout",
    "request deadline",
    "push sent",
    "push queued",
    "push refused",
    "seen before it was reported written",
    "push timeout",
    "ping",
    "dead peer",
    "push withdrawn",
    "shutdown",
    "leave",
    "call of who leaves",
    "loss",
    "replacement",
    "adoption",
    "calls of an earlier connection",
    "is to move",
    "late adoption",
    "handed over",
    "handed over with a push in flight",
    "handed over with a deferred call",
];
