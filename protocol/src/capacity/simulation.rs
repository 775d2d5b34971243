//! Plays backends of N workers behind one to eight shards, with more clients than they can serve, in a virtual time.
//!
//! Every run is the same each time: what is random comes from a fixed seed.

mod backend;
mod world;

use self::backend::{SERVICES, Service};
use self::world::{Window, World, workers};
use super::Concurrency;

const WORKERS: [usize; 5] = [1, 2, 4, 8, 64];
const SHARDS: [usize; 3] = [1, 2, 8];
/// Of each worker, so that twice what they can do is wanted.
const CLIENTS: usize = 10;
const HOLD_MS: f64 = 200.0;

fn world(seed: u64, count: usize, service: Service, shards: usize, concurrency: Concurrency) -> World {
    let workers = workers(count, HOLD_MS, service);
    World::new(seed, workers, concurrency, shards, CLIENTS * count, 2.0)
}

/// Calls `check` with a name and two worlds for each case: one whose limit adapts, one with a fixed limit.
fn for_each_case(fixed: impl Fn(usize) -> usize, mut check: impl FnMut(&str, World, World)) {
    for service in SERVICES {
        for count in WORKERS {
            for shards in SHARDS {
                let name = format!("{service:?}, {count} workers, {shards} shards");
                let adapting = world(7, count, service, shards, Concurrency::Auto);
                let fixed = world(7, count, service, shards, Concurrency::Fixed(fixed(count)));
                check(&name, adapting, fixed);
            }
        }
    }
}

#[test]
fn twice_the_load_gets_what_the_workers_can_do_and_waits_here() {
    let (mut queues, mut kept, mut cases) = (0.0, 0.0, 0);
    for_each_case(
        |_| 4096,
        |name, mut adapting, mut unlimited| {
            let goodput = |window: &Window| window.goodput;
            let (before, after) = (adapting.run(15.0), unlimited.run(15.0));
            assert!(goodput(&before) >= 0.8 * goodput(&after), "{name}: {before:?} at first");
            let (seen, most) = (adapting.run(20.0), unlimited.run(20.0));
            // With few workers it costs something to find out that there are not more.
            kept += seen.goodput / most.goodput;
            assert!(
                goodput(&seen) >= 0.93 * goodput(&most),
                "{name}: {seen:?}, unlimited {most:?}"
            );
            if name.starts_with("Constant") || name.starts_with("Exponential") {
                // Nobody is passed over. (Elsewhere the longest wait is for the slowest request.)
                assert!(
                    seen.longest <= 2.5 * most.longest,
                    "{name}: {seen:?}, unlimited {most:?}"
                );
            }
            queues += seen.queue / (most.queue + 1.0);
            cases += 1;
        },
    );
    assert_eq!(cases, 60);
    let kept = kept / f64::from(cases);
    assert!(kept > 0.98, "{kept} of what the workers can do");
    // Without a limit, nine requests wait inside the backend for each that is worked on.
    assert!(queues / f64::from(cases) < 0.4, "{}", queues / f64::from(cases));
}

#[test]
fn finding_out_how_many_are_enough_keeps_no_worker_idle_for_long() {
    let (mut kept, mut cases) = (0.0, 0);
    for service in [Service::Constant, Service::Exponential] {
        for count in WORKERS {
            for (shards, seed) in SHARDS.into_iter().flat_map(|shards| [(shards, 1), (shards, 2)]) {
                let mut adapting = world(seed, count, service, shards, Concurrency::Auto);
                let mut unlimited = world(seed, count, service, shards, Concurrency::Fixed(4096));
                for world in [&mut adapting, &mut unlimited] {
                    world.knock_first();
                    world.run(5.0);
                }
                for _ in 0..3 {
                    let (seen, most) = (adapting.run(6.0), unlimited.run(6.0));
                    let part = seen.goodput / most.goodput;
                    let name = format!("{service:?}, {count} workers, {shards} shards, seed {seed}");
                    let least = if matches!(service, Service::Constant) {
                        0.95
                    } else {
                        0.92
                    };
                    assert!(part >= least, "{name}: {seen:?}, unlimited {most:?}");
                    kept += part;
                    cases += 1;
                }
            }
        }
    }
    let kept = kept / f64::from(cases);
    assert!(kept > 0.99, "{kept} of what the workers can do");
}

#[test]
fn half_as_many_places_as_workers_do_half_and_the_limit_finds_more() {
    for_each_case(
        |count| (count / 2).max(1),
        |name, mut adapting, mut half| {
            if name.contains(", 1 workers") {
                return;
            }
            adapting.run(10.0);
            half.run(10.0);
            let (seen, half) = (adapting.run(20.0), half.run(20.0));
            assert!(seen.goodput >= half.goodput, "{name}: {seen:?}, half {half:?}");
        },
    );
}

#[test]
fn workers_that_slow_down_tenfold_and_come_back_are_kept_busy() {
    let (mut recovered, mut kept, mut cases) = (0.0, 0.0, 0);
    for_each_case(
        |_| 4096,
        |name, mut adapting, mut unlimited| {
            for world in [&mut adapting, &mut unlimited] {
                world.run(20.0);
                world.workers.mean *= 10.0;
            }
            let (slow, most) = (adapting.run(40.0), unlimited.run(40.0));
            assert!(
                slow.goodput >= 0.88 * most.goodput,
                "{name}: {slow:?}, unlimited {most:?}"
            );
            for world in [&mut adapting, &mut unlimited] {
                world.workers.mean /= 10.0;
            }
            recovered += adapting.run(5.0).goodput / unlimited.run(5.0).goodput;
            let (back, most) = (adapting.run(20.0), unlimited.run(20.0));
            assert!(
                back.goodput >= 0.88 * most.goodput,
                "{name}: {back:?}, unlimited {most:?}"
            );
            kept += back.goodput / most.goodput;
            cases += 1;
        },
    );
    let (recovered, kept) = (recovered / f64::from(cases), kept / f64::from(cases));
    assert!(recovered > 0.93, "{recovered} in the first five seconds");
    assert!(kept > 0.98, "{kept} after that");
}

#[test]
fn a_backend_that_turns_away_gets_no_more_than_it_takes() {
    for count in [1, 4, 16] {
        for queue in [0, 4] {
            let mut world = world(3, count, Service::Exponential, 2, Concurrency::Auto);
            world.workers.queue_max = queue;
            world.run(20.0);
            let seen = world.run(60.0);
            let answers: usize = seen.answered.iter().sum();
            let name = format!("{count} workers and room for {queue}");
            assert!(
                seen.refused * 6 <= answers,
                "{name}: {} of {answers} turned away",
                seen.refused
            );
            assert!(seen.goodput > 0.8, "{name}: {seen:?}");
        }
    }
}

#[test]
fn what_is_turned_away_for_another_reason_keeps_no_worker_idle() {
    for percent in [10, 100] {
        let mut world = world(3, 8, Service::Exponential, 2, Concurrency::Auto);
        world.run(20.0);
        world.workers.refused_percent = percent;
        let seen = world.run(60.0);
        assert!(seen.goodput > 0.9 || percent == 100, "{seen:?}");
        world.workers.refused_percent = 0;
        world.run(5.0);
        let seen = world.run(10.0);
        assert!(seen.goodput > 0.9, "{percent} of a hundred: {seen:?}");
    }
}

#[test]
fn each_shard_has_its_part_also_where_there_are_more_shards_than_workers() {
    for (count, shards) in [(1, 8), (2, 8), (4, 8), (8, 64)] {
        let mut world = world(5, count, Service::Exponential, shards, Concurrency::Fixed(count + 1));
        let clients = world.clients_of_shards();
        world.run(10.0);
        let seen = world.run(200.0);
        let all: usize = seen.answered.iter().sum();
        for (shard, (answered, clients)) in seen.answered.iter().zip(&clients).enumerate() {
            let fair = all as f64 * *clients as f64 / (CLIENTS * count) as f64;
            assert!(
                *answered as f64 >= 0.6 * fair,
                "shard {shard} of {shards} with {clients} clients: {answered} of {all}, not {fair}"
            );
        }
        assert!(seen.longest < 40.0, "{count} workers, {shards} shards: {seen:?}");
    }
}

#[test]
fn fewer_workers_than_shards_are_all_busy_and_get_no_more_than_the_limit() {
    for (concurrency, limit) in [(Concurrency::Fixed(32), 32), (Concurrency::Auto, 2 * 32)] {
        let mut world = world(6, 32, Service::Constant, 64, concurrency);
        world.run(15.0);
        let seen = world.run(15.0);
        assert!(seen.goodput > 0.95, "{concurrency:?}: {seen:?}");
        assert!(seen.in_use_max <= limit, "{concurrency:?}: {seen:?}");
    }
}

#[test]
fn spare_places_of_other_shards_are_used() {
    // All clients but a few are on one shard, which has a place of eight at first.
    let workers = workers(8, HOLD_MS, Service::Constant);
    let mut world = World::new(1, workers, Concurrency::Fixed(8), 8, 40, 2.0);
    world.crowd(3, 36);
    world.run(2.0);
    let seen = world.run(10.0);
    assert!(seen.goodput > 0.97, "{seen:?}");
    assert!(seen.in_use_max <= 8, "{seen:?}");
}

#[test]
fn places_of_a_shard_that_stalls_come_back_and_it_does_without_meanwhile() {
    let mut world = world(2, 8, Service::Exponential, 4, Concurrency::Fixed(9));
    world.run(5.0);
    world.stall(2, 10.5);
    world.run(3.0);
    let seen = world.run(7.0);
    assert!(seen.goodput > 0.93, "{seen:?}");
    assert_eq!(seen.answered[2], 0);
    world.run(2.0);
    let after = world.run(10.0);
    assert!(after.goodput > 0.93 && after.answered[2] > 20, "{after:?}");
    // What it had under way is beyond the limit for a while, and nothing else is.
    assert!(seen.in_use_max.max(after.in_use_max) <= 9 + 9, "{seen:?} {after:?}");
}

#[test]
fn places_of_a_shard_that_has_ended_come_back() {
    let mut world = world(2, 8, Service::Exponential, 4, Concurrency::Fixed(9));
    world.run(5.0);
    world.end(1);
    world.run(3.0);
    let seen = world.run(10.0);
    assert!(seen.goodput > 0.95, "{seen:?}");
}

#[test]
fn while_the_keeper_stalls_shards_go_on_with_what_they_have() {
    let mut world = world(2, 8, Service::Exponential, 4, Concurrency::Fixed(12));
    world.run(5.0);
    world.stall(0, 5.0);
    let seen = world.run(4.0);
    assert!(seen.answered[1..].iter().all(|answered| *answered > 10), "{seen:?}");
    world.run(2.0);
    assert!(world.run(10.0).goodput > 0.95);
}

#[test]
fn a_shard_without_a_place_whose_keeper_is_silent_sends_one_request_at_a_time() {
    let mut world = world(2, 2, Service::Constant, 8, Concurrency::Fixed(2));
    world.run(5.0);
    world.stall(0, 20.0);
    world.run(2.0);
    let seen = world.run(15.0);
    let crowded = world
        .clients_of_shards()
        .into_iter()
        .enumerate()
        .skip(1)
        .filter(|(_, clients)| *clients > 0);
    for (shard, _) in crowded {
        assert!(seen.answered[shard] > 0, "shard {shard}: {seen:?}");
    }
    assert!(seen.in_use_max <= 2 + 8, "{seen:?}");
}

#[test]
fn lost_messages_cost_time_and_no_place() {
    let mut world = world(4, 8, Service::Exponential, 8, Concurrency::Auto);
    world.lost_percent = 20;
    world.run(10.0);
    let seen = world.run(30.0);
    assert!(seen.goodput > 0.93, "{seen:?}");
}

#[test]
fn where_nobody_waits_nothing_is_said() {
    let workers = workers(64, HOLD_MS, Service::Exponential);
    let mut world = World::new(1, workers, Concurrency::Fixed(256), 8, 100, 0.2);
    world.run(20.0);
    assert_eq!(world.mail_count, 0);
}
