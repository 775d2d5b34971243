//! Checks that this CPU has what the binary was built for (scripts/build-v3). Without it the process would end with
//! SIGILL, at whatever point the first such instruction comes.

use std::fs;

/// What the compiler was allowed to use, by the names of `/proc/cpuinfo`.
const NEEDED: &[(bool, &str)] = &[
    (cfg!(target_feature = "sse4.2"), "sse4_2"),
    (cfg!(target_feature = "popcnt"), "popcnt"),
    (cfg!(target_feature = "avx"), "avx"),
    (cfg!(target_feature = "avx2"), "avx2"),
    (cfg!(target_feature = "bmi1"), "bmi1"),
    (cfg!(target_feature = "bmi2"), "bmi2"),
    (cfg!(target_feature = "fma"), "fma"),
    (cfg!(target_feature = "movbe"), "movbe"),
];

/// This CPU does not carry the binary.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "this binary is built for newer CPUs; this one lacks {lacks}. Take the one for x86-64-v2: cargo build --release"
)]
pub struct TooOld {
    lacks: String,
}

/// Looks before anything else runs.
///
/// # Errors
/// [`TooOld`] with the names of what is missing.
pub fn check() -> Result<(), TooOld> {
    let needed = NEEDED.iter().filter(|(is_used, _)| *is_used).map(|(_, name)| *name);
    match fs::read_to_string("/proc/cpuinfo") {
        Ok(text) => compare(&text, needed),
        // Who can't know does not refuse.
        Err(_) => Ok(()),
    }
}

fn compare<'n>(cpuinfo: &str, needed: impl Iterator<Item = &'n str>) -> Result<(), TooOld> {
    let Some(flags) = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")) else {
        return Ok(());
    };
    let lacks: Vec<&str> = needed
        .filter(|name| !flags.split_whitespace().any(|flag| flag == *name))
        .collect();
    if lacks.is_empty() {
        Ok(())
    } else {
        Err(TooOld {
            lacks: lacks.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cpu_lacks_is_named() {
        let text = "processor\t: 0\nflags\t\t: fpu sse4_2 avx popcnt\nbugs\t\t:\n";
        assert_eq!(compare(text, ["avx", "sse4_2"].into_iter()), Ok(()));
        let error = compare(text, ["avx", "avx2", "bmi2"].into_iter()).unwrap_err();
        assert!(error.to_string().contains("lacks avx2, bmi2."), "{error}");
        assert_eq!(compare("Features: asimd\n", ["avx2"].into_iter()), Ok(()));
    }

    #[test]
    fn this_one_carries_this_binary() {
        assert_eq!(check(), Ok(()));
    }
}
