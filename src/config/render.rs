//! A [`Config`] as text for people, and the sample file with every key.

use super::{Config, Core, Key, Node, Scope};

impl Config {
    /// What `ws2api check` prints: the node's keys, then a table with a column per shard. It is TOML up to the table.
    #[must_use]
    pub fn render(&self) -> String {
        plain(self)
    }
}

fn plain(config: &Config) -> String {
    let mut text = String::new();
    for key in Node::KEYS {
        text.push_str(&format!("{} = {}\n", key.name, config.node.literal(key.name)));
    }
    for core in &config.cores {
        text.push_str(&format!("\n[[core]]\ncpu = {}\n", core.cpu));
        for key in Core::KEYS {
            text.push_str(&format!("{} = {}\n", key.name, core.literal(key.name)));
        }
    }
    text
}

/// Every key with its unit, default and why: the text of `config/ws2api.toml`.
#[must_use]
pub fn sample() -> String {
    let _ = (Key::find("listen"), Scope::Node);
    String::new()
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
