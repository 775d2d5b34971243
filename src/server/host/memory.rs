//! Adds up what a configuration's bounds come to in memory, and keeps the default of `buffers_max` within the machine's.

use super::Limits;
use super::one_table;
use super::warnings::CLIENT_MEMORY;
use crate::config::{Config, Core};

/// Lowers what is too much for one table of descriptors, and what the default has too much of, to what this machine carries.
pub fn fit(config: &mut Config, limits: &Limits) {
    one_table::fit(config, limits);
    fit_buffers(config, limits);
}

/// Lowers `buffers_max` where nobody has set it, so that all shards together hold no more than a part of the memory for others: else
/// it is the kernel that makes room, and it ends the process.
fn fit_buffers(config: &mut Config, limits: &Limits) {
    let Some(memory) = limits.memory.filter(|_| !config.keys_set.contains("buffers_max")) else {
        return;
    };
    let part = memory / HELD_PART / config.cores.len() as u64;
    let part = usize::try_from(part).unwrap_or(usize::MAX) / MIB * MIB;
    for core in &mut config.cores {
        core.buffers_max = core.buffers_max.min(part.max(HELD_LEAST));
    }
}

/// What one shard may come to hold, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Needs {
    /// `clients_max` clients that are idle.
    clients: u64,
    /// What these have more if all compress.
    windows: u64,
    /// Messages in part, queues, bodies, posts.
    held: u64,
}

impl Needs {
    fn of(core: &Core) -> Self {
        let clients = core.clients_max as u64;
        let window = if core.deflate { core.deflate_window as u64 } else { 0 };
        Self {
            clients: clients.saturating_mul(CLIENT_MEMORY as u64),
            windows: clients.saturating_mul(window.saturating_mul(2)),
            held: core.buffers_max as u64,
        }
    }

    fn sum(self) -> u64 {
        self.clients.saturating_add(self.windows).saturating_add(self.held)
    }
}

/// What the bounds come to, shard by shard and in all, and what there is: line by line.
#[must_use]
pub fn memory_rows(config: &Config, limits: &Limits) -> Vec<String> {
    let needs: Vec<Needs> = config.cores.iter().map(Needs::of).collect();
    let are_alike = needs.windows(2).all(|pair| pair[0] == pair[1]);
    let shown = if are_alike { 1 } else { needs.len() };
    let mut rows = Vec::new();
    for (index, (needs, core)) in needs.iter().zip(&config.cores).enumerate().take(shown) {
        let which = match config.cores.len() {
            count @ 2.. if are_alike => format!("each of {count} shards"),
            _ => format!("shard {index}"),
        };
        let windows = match needs.windows {
            0 => String::new(),
            windows => format!(", {} more if all of them compress", mib(windows)),
        };
        rows.push(format!(
            "# {which}: {} for {} idle clients (clients_max){windows}, and {} held for others (buffers_max)",
            mib(needs.clients),
            core.clients_max,
            mib(needs.held)
        ));
    }
    let all = needs.iter().fold(0_u64, |sum, needs| sum.saturating_add(needs.sum()));
    let there_is = limits.memory.map_or_else(
        || "how much there is can't be read".to_owned(),
        |memory| {
            let verdict = if memory < all {
                ", which is less: the bounds do not protect it"
            } else {
                ""
            };
            format!("the machine, or the control group, has {}{verdict}", mib(memory))
        },
    );
    rows.push(format!("# all together: {}; {there_is}", mib(all)));
    rows
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(MIB as u64))
}

const MIB: usize = 1 << 20;
/// One part of so many of the memory may be held for others, by default.
const HELD_PART: u64 = 4;
/// What a shard needs to be of use: some of the largest messages.
const HELD_LEAST: usize = 16 * MIB;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::two_shards;

    fn of_memory(memory: u64) -> Limits {
        Limits {
            memory: Some(memory),
            ..Limits::default()
        }
    }

    #[test]
    fn what_nobody_has_set_is_a_quarter_of_the_memory_and_what_was_set_stays() {
        let fitted = |settings: &[(&str, &str)], memory| {
            let mut config = two_shards(settings);
            fit_buffers(&mut config, &of_memory(memory));
            assert_eq!(config.cores[0].buffers_max, config.cores[1].buffers_max);
            config.cores[0].buffers_max / MIB
        };
        assert_eq!(fitted(&[], 2 << 30), 256);
        assert_eq!(fitted(&[], (2 << 30) - 1), 255);
        assert_eq!(fitted(&[], 512 << 20), 64);
        assert_eq!(fitted(&[], 1 << 20), 16, "some messages have room");
        assert_eq!(fitted(&[("buffers_max", "256MiB")], 512 << 20), 256);
    }

    #[test]
    fn what_the_bounds_come_to_is_said_with_what_there_is() {
        let config = two_shards(&[("clients_max", "1024"), ("deflate", "false"), ("buffers_max", "100MiB")]);
        let [each, all] = &memory_rows(&config, &of_memory(214 << 20))[..] else {
            panic!("shards that are alike are one line");
        };
        assert_eq!(
            each,
            "# each of 2 shards: 7 MiB for 1024 idle clients (clients_max), and 100 MiB held for others (buffers_max)"
        );
        assert_eq!(
            all,
            "# all together: 214 MiB; the machine, or the control group, has 214 MiB"
        );
        let less = memory_rows(&config, &of_memory((214 << 20) - 1));
        assert!(
            less[1].ends_with("which is less: the bounds do not protect it"),
            "{less:?}"
        );
        let compressing = two_shards(&[("clients_max", "1024"), ("deflate_window", "2KiB")]);
        let row = &memory_rows(&compressing, &Limits::default())[0];
        assert!(
            row.contains("(clients_max), 4 MiB more if all of them compress"),
            "{row}"
        );
    }
}
