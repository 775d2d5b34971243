//! Plays the worlds of the simulations from their seeds, and looks that what is to be shown has happened.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// How often each thing has happened.
pub(crate) type Happened = BTreeMap<&'static str, usize>;

/// One world of a simulation.
pub(crate) trait World: Sized {
    /// Something happens. An error: what is not as it must be.
    fn step(&mut self) -> Result<(), String>;

    /// It becomes quiet.
    fn finish(self) -> Result<Happened, String>;
}

/// Plays `steps` of a world. A failure names its seed and step.
pub(crate) fn play<W: World>(
    seed: u64,
    steps: usize,
    world: impl FnOnce() -> Result<W, String>,
) -> Result<Happened, String> {
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
    let mut world = world().map_err(|error| located(0, error))?;
    for step in 0..steps {
        place.1 = step;
        world.step().map_err(|error| located(step, error))?;
    }
    world.finish().map_err(|error| located(steps, error))
}

/// All worlds went well, and in all of them together each thing of `everything`, and nothing else, has happened ten times at least: a
/// simulation in which something never happens proves nothing about it.
#[track_caller]
pub(crate) fn assert_all_happens(worlds: impl IntoIterator<Item = Result<Happened, String>>, everything: &[&str]) {
    let mut happened = Happened::new();
    for world in worlds {
        for (what, count) in world.unwrap_or_else(|error| panic!("{error}")) {
            *happened.entry(what).or_insert(0) += count;
        }
    }
    for what in everything {
        let count = happened.remove(what).unwrap_or(0);
        assert!(count >= 10, "{what}: only {count} times");
    }
    assert!(happened.is_empty(), "not in the list: {happened:?}");
}

/// At least so many worlds in which a rule is broken have noticed it, each with one of the `complaints`.
#[track_caller]
pub(crate) fn assert_noticed(
    fault: impl Debug,
    complaints: &[&str],
    errors: impl IntoIterator<Item = String>,
    least: usize,
) {
    let mut count = 0;
    for error in errors {
        let as_it_is = complaints.iter().any(|complaint| error.contains(complaint));
        assert!(as_it_is, "{fault:?} was noticed as: {error}");
        count += 1;
    }
    assert!(
        count >= least,
        "{fault:?} was noticed in {count} worlds, not in {least}"
    );
}
