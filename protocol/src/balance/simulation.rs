//! Drives a balance through 400,000 steps with a virtual clock, half of them with places, and compares it with a [`Ledger`](ledger::Ledger) of
//! what must be true: backends come and go, connections break, requests wait.
//!
//! A failure prints its seed and step; `SIMULATION_SEED=… cargo test balance` repeats it.

mod ledger;
mod world;

use std::collections::BTreeMap;

use self::world::{Fault, World};
use crate::random::Random;

fn simulate(
    seed: u64,
    steps: usize,
    fault: Option<Fault>,
    is_limited: bool,
) -> Result<BTreeMap<&'static str, usize>, String> {
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
    let mut world = World::new(seed, fault, is_limited);
    for step in 0..steps {
        place.1 = step;
        world.step().map_err(|error| located(step, error))?;
    }
    world.finish().map_err(|error| located(steps, error))?;
    Ok(world.happened)
}

#[test]
fn every_request_ends_once_and_no_bound_is_passed_whatever_the_backends_do() {
    let random = Random::seed();
    let mut happened = BTreeMap::new();
    for seed in (1..=16).chain((0..4).map(|number| random ^ number)) {
        for is_limited in [false, true] {
            match simulate(seed, STEPS / 20, None, is_limited) {
                Ok(counts) => counts
                    .into_iter()
                    .for_each(|(what, count)| *happened.entry(what).or_insert(0) += count),
                Err(error) => panic!("{error}"),
            }
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
        let errors: Vec<_> = (1..=12)
            .filter_map(|seed| simulate(seed, 5_000, Some(fault), fault == Fault::OnePlaceTooMany).err())
            .collect();
        assert!(
            errors.len() >= 4,
            "{fault:?} was noticed in {} of 12 worlds",
            errors.len()
        );
        for error in errors {
            let as_it_is = complaints.iter().any(|complaint| error.contains(complaint));
            assert!(as_it_is, "{fault:?} was noticed as: {error}");
        }
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
