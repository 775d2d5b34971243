//! Says why a configuration is refused: where, and what is allowed.

use std::fmt;

use super::value::ValueError;

/// Where a setting was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A line of a file; lines count from 1.
    File {
        /// The file's path as it was given.
        file: String,
        /// The line of the key, from 1.
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
        /// The file's path as it was given.
        file: String,
        /// The operating system's message.
        reason: String,
    },
    /// The file is far larger than any configuration.
    #[error("{file}: a configuration has at most {limit} bytes")]
    TooLarge {
        /// The file's path as it was given.
        file: String,
        /// The bound, in bytes.
        limit: u64,
    },
    /// The file is not TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// Where the first wrong character is.
        place: Place,
        /// The TOML parser's message.
        message: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key \"{key}\"{}", did_you_mean(.meant))]
    UnknownKey {
        /// Where the key is written.
        place: Place,
        /// As it was written.
        key: String,
        /// The key that looks like it.
        meant: Option<String>,
    },
    /// A key of the whole node inside `[defaults]` or `[[core]]`.
    #[error("{place}: \"{key}\" holds for the whole node; write it above the first [table]")]
    NodeKey {
        /// Where the key is written.
        place: Place,
        /// The key's name.
        key: &'static str,
    },
    /// A key of shards outside `[defaults]` and `[[core]]`.
    #[error("{place}: \"{key}\" holds per shard; write it in [defaults], or in a [[core]] for one shard")]
    CoreKey {
        /// Where the key is written.
        place: Place,
        /// The key's name.
        key: &'static str,
    },
    /// `[defaults]` or `[[core]]` is something else.
    #[error("{place}: \"{key}\" is written as {form}")]
    Table {
        /// Where the key is written.
        place: Place,
        /// `defaults` or `core`.
        key: &'static str,
        /// How it is written.
        form: &'static str,
    },
    /// A value that its key does not allow.
    #[error("{place}: {key} = {error}")]
    Value {
        /// Where the key is written.
        place: Place,
        /// The key's name.
        key: &'static str,
        /// What was written, and what is allowed.
        error: Box<ValueError>,
    },
    /// `cpu` where there is no one shard, or through `--set`.
    #[error("{place}: \"cpu\" belongs to one shard; write it in [[core]], or name CPUs with --cores")]
    CpuOutsideCore {
        /// Where the key is written.
        place: Place,
    },
    /// A `[[core]]` without `cpu`.
    #[error("{place}: this [[core]] needs a \"cpu\"; usable are {usable}")]
    CpuMissing {
        /// Where the table begins.
        place: Place,
        /// The CPUs that the process may use, such as `0-3,8`.
        usable: String,
    },
    /// `cpu` is not the number of a CPU.
    #[error("{place}: cpu = {got}: not the number of a CPU; usable are {usable}")]
    CpuNumber {
        /// Where the key is written.
        place: Place,
        /// As it was written.
        got: String,
        /// The CPUs that the process may use, such as `0-3,8`.
        usable: String,
    },
    /// A CPU that this machine does not have, or that this process may not use.
    #[error("{place}: CPU {cpu} is not usable by this process; usable are {usable}")]
    CpuUnusable {
        /// Where the key is written.
        place: Place,
        /// The number of the CPU.
        cpu: usize,
        /// The CPUs that the process may use, such as `0-3,8`.
        usable: String,
    },
    /// More shards than ws2api supports, or none.
    #[error("{place}: {count} shards; allowed are 1 to {limit}")]
    ShardCount {
        /// Where the last shard is written.
        place: Place,
        /// How many were asked for.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Two keys whose values do not go together.
    #[error("{place}: {key} = {value}: {conflict}")]
    Conflict {
        /// Where that key is written which was set last.
        place: Place,
        /// The key's name.
        key: &'static str,
        /// The key's value, as it would be written.
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
        /// The value of `ping_after`, as it would be written.
        ping_after: String,
        /// The value of `dead_after`, as it would be written.
        dead_after: String,
    },
    /// Two listeners on one port.
    #[error("this port is taken by {other} = {address}")]
    SamePort {
        /// The other listener's key.
        other: &'static str,
        /// The other listener's address.
        address: String,
    },
    /// Neither `listen` nor `listen_tls`.
    #[error("with listen_tls empty, too, no client could connect")]
    NoListener,
    /// `listen_tls` without `tls_certificates`.
    #[error("set tls_certificates, too: without a certificate there is no TLS")]
    NoCertificate,
    /// `tls_versions` without any.
    #[error("with no version listed, every client would be refused")]
    NoTlsVersions,
    /// `tls_client_auth` without `tls_client_ca`.
    #[error("set tls_client_ca, too: it says whose certificates are good")]
    NoClientCa,
    /// `subprotocol_required` with no subprotocols.
    #[error("with no subprotocols listed, every client would be refused")]
    NoSubprotocols,
    /// A header of `trusted_headers` that is in `forward_headers` too.
    #[error("{header} is in forward_headers too, so anybody could send it")]
    TrustedAndForwarded {
        /// The header's name.
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
