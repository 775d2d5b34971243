//! Drives a balance through 400,000 steps with a virtual clock, half of them with places, and compares it with a [`Ledger`](ledger::Ledger) of
//! what must be true: backends come and go, connections break, requests wait.
//!
//! A failure prints its seed and step; `SIMULATION_SEED=… cargo test balance` repeats it, and `SIMULATION_SEEDS=2000` plays as many random
//! ones.

mod ledger;
mod world;

use self::world::{Fault, World};
use crate::random::Random;
use crate::worlds::{self, Happened};

fn simulate(seed: u64, steps: usize, fault: Option<Fault>, is_limited: bool) -> Result<Happened, String> {
    worlds::play(seed, steps, || Ok(World::new(seed, fault, is_limited)))
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
fn every_request_ends_once_and_no_bound_is_passed_whatever_the_backends_do() {
    let random = Random::seed();
    let seeds = (1..=16).chain((0..Random::seeds_count(4)).map(|number| random ^ number));
    let all = seeds.flat_map(|seed| [false, true].map(|is_limited| simulate(seed, STEPS / 20, None, is_limited)));
    worlds::assert_all_happens(all, EVERYTHING);
}

/// Two requests that one grant gave to two connections came back one by one, both connections being dead, and stood in reverse order.
#[test]
fn who_comes_back_with_others_stands_in_the_order_of_arrival() {
    for is_limited in [false, true] {
        simulate(7_362_767_936_727_156_834, STEPS / 20, None, is_limited).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_broken_rule_is_noticed() {
    for (fault, complaints) in [
        (Fault::OneConnectionTooMany, &["connections"][..]),
        (Fault::OneWaiterTooMany, &["of one kind wait"]),
        (Fault::Overtaken, &["overtook", "of one kind wait"]),
        (Fault::DeadlineForgotten, &["deadline"]),
        (Fault::FailureForgotten, &["left alone"]),
        (Fault::TimeOutForgotten, &["left alone"]),
        (Fault::RefusedAtOnce, &["was not tried again"]),
        (Fault::EndForgotten, &["not open", "connections", "nothing is done"]),
        (Fault::BusyLinkIsIdle, &["busy", "not open", "connections"]),
        (Fault::OnePlaceTooMany, &["places"]),
        (Fault::UseForgotten, &["without an end", "not open"]),
    ] {
        // A world with one backend or no queue cannot show every fault.
        let errors =
            (1..=12).filter_map(|seed| simulate(seed, 5_000, Some(fault), fault == Fault::OnePlaceTooMany).err());
        worlds::assert_noticed(fault, complaints, errors, 4);
    }
}

/// Of one run of the tests, over its worlds; once without and once with places.
const STEPS: usize = 200_000;

/// What has to happen in a run, ten times at least.
const EVERYTHING: &[&str] = &[
    "claim",
    "grant",
    "use of an idle connection",
    "use after waiting",
    "use of a shared connection",
    "request shed",
    "connect",
    "connect that nobody awaits",
    "connect refused",
    "connect without room",
    "slow connect",
    "slow connect awaited no longer",
    "tried again after a refusal",
    "tried again after it was turned away",
    "turned away for good",
    "refused",
    "answer",
    "broken",
    "time-out",
    "kept for what is owed",
    "what was owed",
    "closed to make room",
    "closed since its address is gone",
    "new address",
    "address gone",
    "idle connection found dead",
    "unsent",
    "deadline",
    "withdrawn",
    "down",
    "down and not asked",
];
