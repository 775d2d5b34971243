//! Says why a configuration is refused: where, and what is allowed.

use std::fmt;

use super::value::ValueError;

/// Where a setting was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A line of a file; lines count from 1.
    File {
        /// As it was named.
        file: String,
        /// Of the key.
        line: usize,
    },
    /// A flag, with its dashes.
    Flag(String),
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line } => write!(f, "{file}:{line}"),
            Place::Flag(flag) => f.write_str(flag),
            Place::Default => f.write_str("defaults"),
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    Read {
        /// As it was named.
        file: String,
        /// The operating system's words.
        reason: String,
    },
    /// The file is far larger than any configuration.
    #[error("{file}: a configuration has at most {limit} bytes")]
    TooLarge {
        /// As it was named.
        file: String,
        /// In bytes.
        limit: u64,
    },
    /// Not TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// Of the first wrong character.
        place: Place,
        /// The TOML parser's words.
        message: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key \"{key}\"{}", did_you_mean(.meant))]
    UnknownKey {
        /// Of the key.
        place: Place,
        /// As it was written.
        key: String,
        /// The key that looks like it.
        meant: Option<String>,
    },
    /// A key of the whole node inside `[defaults]` or `[[core]]`.
    #[error("{place}: \"{key}\" holds for the whole node; write it above the first [table]")]
    NodeKey {
        /// Of the key.
        place: Place,
        /// Its name.
        key: &'static str,
    },
    /// A key of shards outside `[defaults]` and `[[core]]`.
    #[error("{place}: \"{key}\" holds per shard; write it in [defaults], or in a [[core]] for one shard")]
    CoreKey {
        /// Of the key.
        place: Place,
        /// Its name.
        key: &'static str,
    },
    /// `[defaults]` or `[[core]]` is something else.
    #[error("{place}: \"{key}\" is written as {form}")]
    Table {
        /// Of the key.
        place: Place,
        /// `defaults` or `core`.
        key: &'static str,
        /// How it is written.
        form: &'static str,
    },
    /// A value that its key does not allow.
    #[error("{place}: {key} = {error}")]
    Value {
        /// Of the key.
        place: Place,
        /// Its name.
        key: &'static str,
        /// What is allowed.
        error: Box<ValueError>,
    },
    /// `cpu` where there is no one shard, or through `--set`.
    #[error("{place}: \"cpu\" belongs to one shard; write it in [[core]], or name CPUs with --cores")]
    CpuOutsideCore {
        /// Of the key.
        place: Place,
    },
    /// A `[[core]]` without `cpu`.
    #[error("{place}: this [[core]] needs a \"cpu\"; usable are {usable}")]
    CpuMissing {
        /// Of the table.
        place: Place,
        /// For example `0-3,8`.
        usable: String,
    },
    /// `cpu` is not the number of a CPU.
    #[error("{place}: cpu = {got}: not the number of a CPU; usable are {usable}")]
    CpuNumber {
        /// Of the key.
        place: Place,
        /// As it was written.
        got: String,
        /// For example `0-3,8`.
        usable: String,
    },
    /// A CPU that this machine does not have, or that this process may not use.
    #[error("{place}: CPU {cpu} is not usable by this process; usable are {usable}")]
    CpuUnusable {
        /// Of the key.
        place: Place,
        /// The CPU.
        cpu: usize,
        /// For example `0-3,8`.
        usable: String,
    },
    /// More shards than ws2api supports, or none.
    #[error("{place}: {count} shards; allowed are 1 to {limit}")]
    ShardCount {
        /// Of the last one.
        place: Place,
        /// How many were asked for.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Two keys whose values do not go together.
    #[error("{place}: {key} = {value}: {conflict}")]
    Conflict {
        /// Of the key that was set last.
        place: Place,
        /// Its name.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it conflicts with.
        conflict: Box<Conflict>,
    },
}

/// What two keys must not say together.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Conflict {
    /// `ping_after >= dead_after`.
    #[error(
        "ping_after ({ping_after}) must be less than dead_after ({dead_after}), so that a pong can arrive in between"
    )]
    PingAfterDead {
        /// Its value.
        ping_after: String,
        /// Its value.
        dead_after: String,
    },
    /// Two listeners on one port.
    #[error("this port is taken by {other} = {address}")]
    SamePort {
        /// The other listener's key.
        other: &'static str,
        /// Its address.
        address: String,
    },
    /// `subprotocol_required` with no subprotocols.
    #[error("with no subprotocols listed, every client would be refused")]
    NoSubprotocols,
    /// A header of `trusted_headers` that is in `forward_headers` too.
    #[error("{header} is in forward_headers too, so anybody could send it")]
    TrustedAndForwarded {
        /// Its name.
        header: String,
    },
    /// `trusted_headers` without `trusted_proxies`.
    #[error("nobody is trusted to send them; set trusted_proxies")]
    NobodyTrusted,
}

fn did_you_mean(meant: &Option<String>) -> String {
    meant
        .as_ref()
        .map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"))
}
