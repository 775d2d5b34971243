//! Defines values as they are written, what is allowed of each, and why one is refused.
//!
//! A [`Raw`] is what a file or a flag held; its key's [`Kind`] knows type, unit and bounds. `setting` brings them
//! together.

use std::fmt;
use std::time::Duration;

use toml::de::DeValue;

use super::backend_url::BackendUrlError;
use super::nats_url::NatsUrlError;
use super::network::NetworkError;
use super::units::{Size, Time};
use super::words::WordError;

/// A key's type, unit and bounds, both inclusive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Count {
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// A whole number within bounds, or this word.
    CountOr {
        /// The word.
        word: &'static str,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// A part of a whole.
    Ratio,
    /// A size in bytes, with an optional unit.
    Size {
        /// The least, in bytes.
        min: u64,
        /// The most, in bytes.
        max: u64,
    },
    /// A duration in whole milliseconds.
    Time {
        /// The least that is allowed.
        min: Duration,
        /// The most that is allowed.
        max: Duration,
    },
    /// An IP address and a port.
    Address,
    /// The same, or nothing.
    OptionalAddress,
    /// One or several URLs of the backend.
    Backends,
    /// Starts of a URL's path.
    PathPrefixes,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words.
    Choices(&'static [&'static str]),
    /// A file, or nothing.
    OptionalPath,
    /// The files of certificates.
    Certificates,
    /// The files of one certificate, or nothing.
    OptionalCertificate,
    /// Names of WebSocket subprotocols.
    Subprotocols,
    /// Names of headers.
    Headers,
    /// Values of the Origin header.
    Origins,
    /// Names of hosts.
    Hosts,
    /// Parts of the User-Agent header.
    UserAgents,
    /// Names of members of JSON objects.
    Members,
    /// IP networks.
    Networks,
    /// Servers of NATS.
    NatsUrls,
    /// The name of a cluster.
    ClusterName,
    /// The name of this node, or nothing.
    NodeName,
}

/// Says what is allowed.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Flag => f.write_str("true or false"),
            Kind::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Kind::CountOr { word, min, max } => write!(f, "\"{word}\" or a whole number from {min} to {max}"),
            Kind::Ratio => f.write_str("a number from 0 to 1, in millionths at the finest"),
            Kind::Size { min, max } => write!(f, "a size from {} to {}", Size(min), Size(max)),
            Kind::Time { min, max } => write!(f, "a duration from {} to {}", Time(min), Time(max)),
            Kind::Address => f.write_str("an IP address and a port, such as \"127.0.0.1:4000\" or \"[::1]:4000\""),
            Kind::OptionalAddress => {
                f.write_str("an IP address and a port, such as \"127.0.0.1:4000\" or \"[::1]:4000\"; or \"\"")
            }
            Kind::Backends => f.write_str("one or several of http[s]://host:port[/prefix] and unix:/path[:/prefix]"),
            Kind::PathPrefixes => f.write_str("one or several paths such as \"/ocpp/\""),
            Kind::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Kind::Choices(words) => write!(f, "a list of {}", words.join(", ")),
            Kind::OptionalPath => f.write_str("the path of a file, or \"\" for none"),
            Kind::OptionalCertificate => f.write_str("{ chain = \"….pem\", key = \"….pem\" }, or \"\" for none"),
            Kind::Certificates => f.write_str("a list of { chain = \"….pem\", key = \"….pem\" }"),
            Kind::Subprotocols => f.write_str("a list of subprotocol names such as \"ocpp1.6\""),
            Kind::Headers => f.write_str("a list of header names such as \"user-agent\""),
            Kind::Origins => f.write_str("a list of origins such as \"https://example.org\""),
            Kind::Hosts => f.write_str("a list of host names such as \"ws2api.example.org\", without port"),
            Kind::UserAgents => f.write_str("a list of parts of a User-Agent such as \"Java-WebSocket/1.5\""),
            Kind::Members => f.write_str("a list of names of members such as \"idTag\""),
            Kind::NatsUrls => f.write_str("one or several of nats://[user:password@]host[:port] and tls://…"),
            Kind::ClusterName => f.write_str("1 to 32 letters, digits, - and _"),
            Kind::NodeName => f.write_str("1 to 64 visible ASCII characters, or \"\" for the host's name"),
            Kind::Networks => f.write_str("a list of networks such as \"10.0.0.0/8\" and \"2001:db8::/32\""),
        }
    }
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// A TOML boolean.
    Flag(bool),
    /// A TOML integer.
    Integer(i64),
    /// A TOML string.
    Text(String),
    /// A TOML array.
    List(Vec<Raw>),
    /// A TOML table, in the order of its lines.
    Table(Vec<(String, Raw)>),
    /// Any other TOML value, as text.
    Other(String),
    /// The words of a flag: its kind decides how they are read.
    Words(String),
}

impl Raw {
    /// From a value of a TOML document.
    pub(crate) fn from_toml(value: &DeValue<'_>) -> Raw {
        match value {
            DeValue::Boolean(flag) => Raw::Flag(*flag),
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .map_or_else(|_| Raw::Other(digits.to_string()), Raw::Integer),
            DeValue::Array(items) => Raw::List(items.iter().map(|item| Raw::from_toml(item.get_ref())).collect()),
            DeValue::Float(float) => Raw::Other(float.to_string()),
            DeValue::Datetime(datetime) => Raw::Other(datetime.to_string()),
            DeValue::Table(table) => {
                let mut entries: Vec<_> = table.iter().collect();
                entries.sort_by_key(|(key, _)| key.span().start);
                let entries = entries.into_iter();
                Raw::Table(
                    entries
                        .map(|(key, value)| (key.get_ref().to_string(), Raw::from_toml(value.get_ref())))
                        .collect(),
                )
            }
        }
    }

    /// From a flag's words: a TOML string or array if they look like one, else as they are.
    pub(crate) fn from_words(words: &str) -> Raw {
        match DeValue::parse(words) {
            Ok(value) if words.starts_with(['"', '\'', '[', '{']) => Raw::from_toml(value.get_ref()),
            _ => Raw::Words(words.to_owned()),
        }
    }

    /// The text of a single value.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) | Raw::Words(text) => Some(text),
            _ => None,
        }
    }

    /// The value, if it is a whole number.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Raw::Integer(number) => Some(*number),
            Raw::Words(words) => words.replace('_', "").parse().ok(),
            _ => None,
        }
    }
}

/// As the file would hold it.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Flag(flag) => write!(f, "{flag}"),
            Raw::Integer(number) => write!(f, "{number}"),
            Raw::Text(text) => f.write_str(&quote(text)),
            Raw::Words(words) if words.is_empty() || words.contains(char::is_control) => f.write_str(&quote(words)),
            Raw::Words(words) => f.write_str(words),
            Raw::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Raw::Table(entries) => {
                f.write_str("{ ")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key} = {value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str(" }")
            }
            Raw::Other(text) => f.write_str(text),
        }
    }
}

/// A value that its key refuses.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{got}: {why}")]
pub struct ValueError {
    /// The value, or the one item of a list, as it was written.
    pub got: String,
    /// What is wrong with it.
    pub why: Refusal,
}

/// Why a value is refused, and what is allowed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The value has another type; inside is what is allowed.
    #[error("allowed is {0}{example}", example = example(.0))]
    Type(Kind),
    /// The value is beyond the bounds; inside is what is allowed.
    #[error("out of range; allowed is {0}")]
    Range(Kind),
    /// A duration that is a bare number.
    #[error("a duration needs a unit: ms, s, m or h; allowed is {0}")]
    NoUnit(Kind),
    /// A unit that a duration or size does not have.
    #[error("{1} is not a unit; allowed is {0} in {units}", units = units(.0))]
    Unit(Kind, String),
    /// The same item again.
    #[error("listed twice")]
    Twice,
    /// Longer than a list may be.
    #[error("more than {0}")]
    TooMany(usize),
    /// An empty list where one item is needed.
    #[error("at least one is needed; allowed is {0}")]
    Empty(Kind),
    /// Not a backend's URL.
    #[error("{0}")]
    Backend(#[from] BackendUrlError),
    /// Not the URL of a NATS server.
    #[error("{0}")]
    Nats(#[from] NatsUrlError),
    /// Not an IP network.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// Not a path, name or origin.
    #[error("{0}")]
    Word(#[from] WordError),
}

fn units(kind: &Kind) -> &'static str {
    if matches!(kind, Kind::Time { .. }) {
        "ms, s, m or h"
    } else {
        "B, KiB, MiB or GiB"
    }
}

fn example(kind: &Kind) -> &'static str {
    match kind {
        Kind::Size { .. } => ", such as \"256KiB\"",
        Kind::Time { .. } => ", such as \"25s\"",
        _ => "",
    }
}

/// A TOML basic string. Debug's escapes for control characters are not TOML's, so they are written out here.
pub(crate) fn quote(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => literal.extend(['\\', character]),
            control if control.is_control() => literal.push_str(&format!("\\u{:04X}", u32::from(control))),
            plain => literal.push(plain),
        }
    }
    literal.push('"');
    literal
}
