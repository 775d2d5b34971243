//! Resolves what ws2api is told into one [`Config`]: flags over a TOML file over defaults.
//!
//! [`load`] reads the file; the rest is pure. `keys` holds every key once, with its type, bounds, default and why. A
//! flag or `--set` wins over everything the file says, `[[core]]` tables included. With `--cores` a shard keeps the
//! overrides of the `[[core]]` of its CPU, if the file has one.
//!
//! A [`Config`] that exists is sound: every value is within its bounds, every CPU usable, and no two keys conflict.

mod authority;
mod backend_url;
mod certificate_files;
mod choice;
mod cpu_ranges;
mod error;
mod file;
mod keys;
mod nats_url;
mod network;
mod ratio;
mod reload;
mod render;
mod resolve;
mod setting;
mod suggest;
mod units;
mod value;
mod warnings;
mod words;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

pub use backend_url::{BackendUrl, BackendUrlError};
pub use certificate_files::CertificateFiles;
pub use choice::{ClientIdPlace, DrainClose, ExecutorKey, TlsClientAuth, TlsVersion, Tolerated};
pub use cpu_ranges::cpu_ranges;
pub use error::{ConfigError, Conflict, Place};
pub use keys::{Core, KEYS, Key, Node, Scope, When};
pub use nats_url::{NatsLogin, NatsUrl, NatsUrlError};
pub use network::{Network, NetworkError};
pub use ratio::Ratio;
pub use reload::{Change, changes, merge};
pub use render::{effects, sample};
pub use setting::Word;
pub use suggest::suggest;
pub use units::{Size, Time};
pub use value::{Kind, Refusal, ValueError};
pub use warnings::{Warning, warnings};
pub use words::WordError;

/// What ws2api runs with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// What the whole process shares.
    pub node: Node,
    /// One per shard; the index is the shard's.
    pub cores: Vec<Core>,
    /// The names of the keys that the file or a flag sets somewhere, were it to their defaults.
    pub keys_set: BTreeSet<&'static str>,
}

/// What the flags set, over file and defaults.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    /// `--cores`: one shard per CPU named, in this order.
    pub cores: Option<Vec<usize>>,
    /// `--set`, and the flags that are short for it, in their order.
    pub set: Vec<Override>,
    /// `--elsewhere`: the configuration is for another machine, which may have CPUs that this one does not have.
    pub elsewhere: bool,
}

/// One key set by a flag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// The flag, with its dashes; errors name it.
    pub flag: String,
    /// The key's name, such as `clients_max`.
    pub key: String,
    /// The flag's words; several for a flag that was repeated to make a list.
    pub values: Vec<String>,
}

impl Overrides {
    /// Adds what `--set key=value` would.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        let values = vec![value.to_string()];
        self.set.push(Override {
            flag: "--set".to_owned(),
            key: key.to_owned(),
            values,
        });
    }
}

/// Reads `file`, if there is one, and lays `overrides` over it. `usable_cpus` are those that this process may run on.
///
/// # Errors
/// [`ConfigError`] names the place, the key and what is allowed.
pub fn load(file: Option<&Path>, overrides: &Overrides, usable_cpus: &[usize]) -> Result<Config, ConfigError> {
    let Some(path) = file else {
        return resolve(None, overrides, usable_cpus);
    };
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| ConfigError::Read {
        file: name.clone(),
        reason: error.to_string(),
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(unreadable)?;
    opened
        .take(FILE_LEN_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(ConfigError::TooLarge {
            file: name,
            limit: FILE_LEN_MAX,
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + valid.filter(|byte| **byte == b'\n').count();
        let place = Place::File {
            file: name.clone(),
            line,
        };
        ConfigError::Syntax {
            place,
            message: "not UTF-8".to_owned(),
        }
    })?;
    resolve(Some((&name, &text)), overrides, usable_cpus)
}

/// As [`load`], for a file that is already here: its name and its text.
///
/// # Errors
/// [`ConfigError`] names the place, the key and what is allowed.
pub fn resolve(
    file: Option<(&str, &str)>,
    overrides: &Overrides,
    usable_cpus: &[usize],
) -> Result<Config, ConfigError> {
    let file = file.map_or_else(|| Ok(file::File::default()), |(name, text)| file::parse(name, text))?;
    resolve::resolve(&file, overrides, usable_cpus)
}

/// The configuration of two shards with these settings.
#[cfg(test)]
pub(crate) fn two_shards(settings: &[(&str, &str)]) -> Config {
    let mut overrides = Overrides::default();
    for (key, value) in settings {
        overrides.set(key, value);
    }
    resolve(None, &overrides, &[0, 1]).expect("a configuration")
}

/// Shards that one process may have: the mesh has a queue for each ordered pair of them.
pub const SHARDS_MAX: usize = 256;

/// No configuration is larger; a device or a wrong file may be.
const FILE_LEN_MAX: u64 = 1024 * 1024;
