//! Reads how much of the CPUs the control group lets this process have (`cpu.max`, what `docker run --cpus` and a limit in
//! Kubernetes set).

use std::fs;
use std::path::Path;

use crate::config::{Config, Warning};

/// The smallest quota of the group `path` and of those above it, in thousandths of a CPU. `None`: no quota, or none that can be
/// read here.
pub(super) fn read(root: &Path, path: &str) -> Option<u64> {
    let group = root.join(path.trim_start_matches('/'));
    group
        .ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| parse(&fs::read_to_string(group.join("cpu.max")).ok()?))
        .min()
}

/// `$MAX $PERIOD` of cpu.max, both in microseconds; `max` is no quota.
fn parse(text: &str) -> Option<u64> {
    let (most, period) = text.trim().split_once(' ')?;
    let (most, period) = (most.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    most.checked_mul(1000)?.checked_div(period)
}

/// More shards than the quota has CPUs: the kernel then stops all of them for the rest of a period.
pub(super) fn find_excess(config: &Config, quota: Option<u64>) -> Option<Warning> {
    let (quota, shards) = (quota?, config.cores.len() as u64);
    (quota < shards.saturating_mul(1000)).then_some(())?;
    let whole = (quota / 1000).max(1);
    Some(Warning {
        what: format!(
            "{shards} shards have {}.{:03} CPUs together (the CPU quota of their control group): when they are used up, all stop for \
             up to a tenth of a second, and every client waits",
            quota / 1000,
            quota % 1000
        ),
        fix: format!(
            "--cores with {whole} of them, or whole CPUs instead of a quota (`--cpuset-cpus`; in Kubernetes the static CPU \
             manager, and requests equal to limits)"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, resolve};

    #[test]
    fn a_quota_is_a_part_of_its_period() {
        assert_eq!(parse("200000 100000\n"), Some(2000));
        assert_eq!(parse("50000 100000"), Some(500));
        assert_eq!(parse("max 100000\n"), None);
        for text in [
            "",
            "200000",
            "200000 0",
            "x y",
            "99999999999999999999 1",
            "18446744073709551615 1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_smallest_of_a_group_and_those_above_it_holds() {
        let folder = std::env::temp_dir().join(format!("ws2api-quota-{}", std::process::id()));
        let group = folder.join("a/b");
        fs::create_dir_all(&group).expect("a folder");
        assert_eq!(read(&folder, "/a/b"), None);
        fs::write(group.join("cpu.max"), "max 100000\n").expect("a file");
        fs::write(folder.join("a/cpu.max"), "150000 100000\n").expect("a file");
        assert_eq!(read(&folder, "/a/b"), Some(1500));
        assert_eq!(read(&folder, ""), None);
        fs::write(folder.join("cpu.max"), "100000 100000\n").expect("a file");
        assert_eq!(read(&folder, "/a/b"), Some(1000));
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn more_shards_than_the_quota_has_cpus_are_told() {
        let config = resolve(None, &Overrides::default(), &[0, 1]).expect("a configuration");
        assert_eq!(find_excess(&config, None), None);
        assert_eq!(find_excess(&config, Some(2000)), None);
        let told = find_excess(&config, Some(1500)).expect("a warning");
        assert!(
            told.what.starts_with("2 shards have 1.500 CPUs together"),
            "{}",
            told.what
        );
        assert!(told.fix.starts_with("--cores with 1 of them"), "{}", told.fix);
    }
}
