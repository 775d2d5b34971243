//! Shares the process's one table of descriptors out among the shards, where none may have its own.

use super::{Limits, descriptors_max};
use crate::config::{Config, Core};

/// Lowers each shard's `clients_max` so far that all shards together fit into one table of descriptors, if that is what
/// `limits` have for them: else the shard that fills it would leave none to the others' backends.
///
/// Half of a shard's part is its clients' at the least, whatever else it may hold.
pub(super) fn fit(config: &mut Config, limits: &Limits) {
    let Some(limit) = limits.open_files.filter(|_| limits.is_one_table) else {
        return;
    };
    let shards = config.cores.len();
    for core in &mut config.cores {
        core.clients_max = core.clients_max.min(clients_that_fit(core, shards, limit));
    }
}

/// How many clients a shard may hold of one table of `limit` descriptors for all.
pub(super) fn clients_that_fit(core: &Core, shards: usize, limit: u64) -> usize {
    let part = limit / shards as u64;
    let others = descriptors_max(core, shards) - core.clients_max as u64;
    let clients = part.saturating_sub(others.min(part / 2));
    usize::try_from(clients).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::two_shards;

    #[test]
    fn each_shard_gets_its_part_of_one_table() {
        // As in `warnings`: what is no client's are 4096 + 1024 + 256 + 64 + 32 of each shard.
        const OTHERS: u64 = 5472;
        let fitted = |clients_max: u64, limit, is_one_table| {
            let mut config = two_shards(&[("clients_max", &clients_max.to_string())]);
            let limits = Limits {
                open_files: Some(limit),
                is_one_table,
                ..Limits::default()
            };
            fit(&mut config, &limits);
            assert_eq!(config.cores[0].clients_max, config.cores[1].clients_max);
            config.cores[0].clients_max
        };
        assert_eq!(fitted(20_000, 2 * (20_000 + OTHERS), true), 20_000);
        assert_eq!(fitted(20_000, 2 * (20_000 + OTHERS) - 1, true), 19_999);
        assert_eq!(fitted(20_000, 20_000, true), 5_000, "half of it, at least");
        assert_eq!(fitted(100, 20_000, true), 100);
        assert_eq!(fitted(20_000, 1, true), 1);
        assert_eq!(fitted(20_000, 1, false), 20_000, "each has its own");
    }
}
