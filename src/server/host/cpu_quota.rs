//! Reads how much of the CPUs the control group lets this process have (`cpu.max`, what `docker run --cpus` and a limit in
//! Kubernetes set).

use crate::config::{Config, Warning};

/// `$MAX $PERIOD` of cpu.max, both in microseconds; `max` is no quota. In thousandths of a CPU.
pub(super) fn parse(text: &str) -> Option<u64> {
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
    use crate::config::two_shards;

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
    fn more_shards_than_the_quota_has_cpus_are_told() {
        let config = two_shards(&[]);
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
