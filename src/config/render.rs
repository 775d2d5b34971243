//! Writes a [`Config`] as text for people, and the sample file with every key.

use std::fmt::Write as _;

use super::keys::{Core, Key, Node, When};
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
        let first = self.cores.first();
        let literal = |key: &Key| first.map(|core| core.literal(key.name)).unwrap_or_default();
        let differs = |key: &&Key| self.cores.iter().any(|core| core.literal(key.name) != literal(key));
        let (differing, same): (Vec<&Key>, Vec<&Key>) = Core::KEYS.iter().partition(differs);
        text.push_str("\n# Every shard\n");
        for key in same {
            line(&mut text, key, &literal(key));
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
# `ws2api check FILE` says what comes out. SIGHUP reads the file again; each key says when its new value takes effect
# then. This text is made from the table of keys in src/config/keys.rs.
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
            "# Allowed: {}. Takes effect {}.\n#{} = {}",
            key.kind,
            match key.when {
                When::Now => "at once",
                When::NewClients => "for new clients",
                When::Restart => "after a restart",
            },
            key.name,
            key.default_literal()
        );
    }
}

/// Which keys take effect when, after SIGHUP: a part of docs/operating.md.
#[must_use]
pub fn effects() -> String {
    let mut text = String::new();
    for (when, begin, end) in [
        (When::Now, "At once:", "."),
        (When::NewClients, "For clients that connect from then on:", "."),
        (
            When::Restart,
            "After a restart:",
            "; and which shards there are, on which CPUs.",
        ),
    ] {
        let keys: Vec<String> = Key::all()
            .filter(|key| key.when == when)
            .map(|key| format!("`{}`", key.name))
            .collect();
        let mut line = format!("- {begin}");
        for word in format!("{}{end}", keys.join(", ")).split(' ') {
            if line.len() + 1 + word.len() > RULE_LEN {
                text.push_str(&line);
                text.push('\n');
                line = "  ".to_owned();
            } else {
                line.push(' ');
            }
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Columns of the pages.
const RULE_LEN: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    /// Run by hand after a change of the keys: `cargo test --lib write_the_pages -- --ignored`.
    #[test]
    #[ignore = "writes config/ws2api.toml and docs/operating.md"]
    fn write_the_pages() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/config/ws2api.toml"), sample()).unwrap();
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md");
        let text = std::fs::read_to_string(page).unwrap();
        let (before, rest) = text.split_once(EFFECTS_BEGIN).unwrap();
        let (_, after) = rest.split_once(EFFECTS_END).unwrap();
        let text = format!("{before}{EFFECTS_BEGIN}{}{EFFECTS_END}{after}", effects());
        std::fs::write(page, text).unwrap();
    }

    const EFFECTS_BEGIN: &str = "<!-- From the table of keys: cargo test --lib write_the_pages -- --ignored -->\n";
    const EFFECTS_END: &str = "<!-- The end of what is from the table. -->\n";
}
