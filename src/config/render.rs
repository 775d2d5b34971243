//! A [`Config`] as text for people, and the sample file with every key.

use std::fmt::Write as _;

use super::keys::{Core, Key, Node};
use super::{Config, SHARDS_MAX};

impl Config {
    /// What `ws2api check` prints: the node's keys, the keys that are the same for every shard, and a table with a line
    /// per shard for those that differ. What is not the default says so.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::from("# The whole node\n");
        for key in Node::KEYS {
            line(&mut text, key, &self.node.literal(key.name));
        }
        let differs = |key: &&Key| {
            self.cores
                .iter()
                .any(|core| core.literal(key.name) != self.cores[0].literal(key.name))
        };
        let (differing, same): (Vec<&Key>, Vec<&Key>) = Core::KEYS.iter().partition(differs);
        text.push_str("\n# Every shard\n");
        for key in same {
            line(&mut text, key, &self.cores[0].literal(key.name));
        }
        let _ = write!(text, "\n# The shards: {}\nshard  cpu", self.cores.len());
        for key in &differing {
            let _ = write!(text, "  {:>9}", key.name);
        }
        text.push('\n');
        for (shard, core) in self.cores.iter().enumerate() {
            let _ = write!(text, "{shard:>5}  {:>3}", core.cpu);
            for key in &differing {
                let _ = write!(
                    text,
                    "  {:>width$}",
                    core.literal(key.name).trim_matches('"'),
                    width = key.name.len().max(9)
                );
            }
            text.push('\n');
        }
        text
    }
}

fn line(text: &mut String, key: &Key, literal: &str) {
    let default = key.default_literal();
    let note = if default == literal {
        String::new()
    } else {
        format!("  # default: {default}")
    };
    let _ = writeln!(text, "{} = {literal}{note}", key.name);
}

/// Every key with what it allows, its default and why: the text of `config/ws2api.toml`.
#[must_use]
pub fn sample() -> String {
    let mut text = String::from(
        "\
# ws2api.toml: every key, its default and why.
#
# Each line that begins with #key is the default: remove the # to change it. Durations are a whole number and one of ms,
# s, m, h; sizes a whole number and one of B, KiB, MiB, GiB, or a plain number of bytes. A list of one may be written
# without its brackets. Flags win over this file: every key can be set with --set key=value, and that for every shard.
# `ws2api check FILE` says what comes out. This text is made from the table of keys in src/config/keys.rs.
",
    );
    group_texts(&mut text, Node::KEYS);
    text.push_str(
        "
# ---- Shards ----------------------------------------------------------------------------------------------------------
# Below are the keys of one shard: a thread pinned to a CPU, with its own clients. [defaults] holds for every shard.

[defaults]
",
    );
    group_texts(&mut text, Core::KEYS);
    let _ = write!(
        text,
        "
# ---- Which shards there are ------------------------------------------------------------------------------------------
# One [[core]] per shard, at most {SHARDS_MAX}: its cpu, and any key of [defaults] that is different there. A CPU may be
# named twice. Without any [[core]] there is one shard for each CPU that the process may use. --cores takes the place of
# this list; a shard then keeps what the [[core]] of its CPU says. For example:
#
#   [[core]]
#   cpu = 0
#   clients_max = 50000     # this CPU takes the network card's interrupts too
#
#   [[core]]
#   cpu = 1
"
    );
    text
}

fn group_texts(text: &mut String, keys: &[Key]) {
    let mut group = "";
    for key in keys {
        if key.group != group {
            group = key.group;
            let _ = writeln!(
                text,
                "\n# ---- {group} {}",
                "-".repeat(RULE_LEN.saturating_sub(group.len() + 8))
            );
        }
        text.push('\n');
        for why in key.why() {
            let _ = writeln!(text, "# {why}");
        }
        let _ = writeln!(
            text,
            "# Allowed: {}.\n#{} = {}",
            key.kind,
            key.name,
            key.default_literal()
        );
    }
}

/// CPUs as `0-3,8`, or `none`.
#[must_use]
pub fn cpu_ranges(cpus: &[usize]) -> String {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    cpus.dedup();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text = |(first, last): &(usize, usize)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    if ranges.is_empty() {
        "none".to_owned()
    } else {
        ranges.iter().map(text).collect::<Vec<_>>().join(",")
    }
}

/// Columns of the sample's headings.
const RULE_LEN: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_shown_as_ranges() {
        assert_eq!(cpu_ranges(&[]), "none");
        assert_eq!(cpu_ranges(&[3]), "3");
        assert_eq!(cpu_ranges(&[8, 0, 1, 2, 2]), "0-2,8");
    }

    /// Run by hand after a change of the keys: `cargo test --lib write_the_sample -- --ignored`.
    #[test]
    #[ignore = "writes config/ws2api.toml"]
    fn write_the_sample() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/config/ws2api.toml"), sample()).unwrap();
    }
}
