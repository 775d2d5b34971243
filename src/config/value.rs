//! Values as text: durations, sizes, counts, lists, and what is allowed of each.
//!
//! A [`Raw`] is what a file or a flag held; [`Setting::parse`] turns it into a field's type by its key's [`Kind`],
//! which alone knows the bounds; [`Setting::literal`] goes back. Parsing a literal gives the same value again.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::backend_url::{BackendUrl, BackendUrlError};
use super::network::{Network, NetworkError};
use super::words::{self, WordError};

/// A key's type, unit and bounds, both inclusive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Bytes.
    Size {
        /// The least, in bytes.
        min: u64,
        /// The most, in bytes.
        max: u64,
    },
    /// A duration in whole milliseconds.
    Time {
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// An IP address and a port.
    Address,
    /// One or several URLs of the backend.
    Backends,
    /// The start of a URL's path.
    PathPrefix,
    /// A file, or nothing.
    OptionalPath,
    /// Names of WebSocket subprotocols.
    Subprotocols,
    /// Names of headers.
    Headers,
    /// Values of the Origin header.
    Origins,
    /// IP networks.
    Networks,
}

/// Says what is allowed.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Flag => f.write_str("true or false"),
            Kind::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Kind::Size { min, max } => write!(f, "a size from {} to {}", Size(min), Size(max)),
            Kind::Time { min, max } => write!(f, "a duration from {} to {}", Time(min), Time(max)),
            Kind::Address => f.write_str("an IP address and a port, such as \"127.0.0.1:4000\" or \"[::1]:4000\""),
            Kind::Backends => f.write_str("one or several of http://host:port[/prefix] and unix:/path[:/prefix]"),
            Kind::PathPrefix => f.write_str("a path such as \"/ocpp/\""),
            Kind::OptionalPath => f.write_str("the path of a file, or \"\" for none"),
            Kind::Subprotocols => f.write_str("a list of subprotocol names such as \"ocpp1.6\""),
            Kind::Headers => f.write_str("a list of header names such as \"user-agent\""),
            Kind::Origins => f.write_str("a list of origins such as \"https://example.org\""),
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
    /// Any other TOML value, by the name of its type.
    Other(&'static str),
    /// The words of a flag: its kind decides how they are read.
    Words(String),
}

impl Raw {
    /// From a value of a TOML document.
    pub(crate) fn from_toml(value: &DeValue<'_>) -> Raw {
        match value {
            DeValue::Boolean(flag) => Raw::Flag(*flag),
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(digits) => {
                i64::from_str_radix(digits.as_str(), digits.radix()).map_or(Raw::Other("integer"), Raw::Integer)
            }
            DeValue::Array(items) => Raw::List(items.iter().map(|item| Raw::from_toml(item.get_ref())).collect()),
            other => Raw::Other(other.type_str()),
        }
    }

    /// From a flag's words: a TOML string or array if they look like one, else as they are.
    pub(crate) fn from_words(words: &str) -> Raw {
        match DeValue::parse(words) {
            Ok(value) if words.starts_with(['"', '\'', '[']) => Raw::from_toml(value.get_ref()),
            _ => Raw::Words(words.to_owned()),
        }
    }

    /// The text of a single value.
    fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) | Raw::Words(text) => Some(text),
            _ => None,
        }
    }

    fn integer(&self) -> Option<i64> {
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
            Raw::Text(text) | Raw::Words(text) => f.write_str(&quoted(text)),
            Raw::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Raw::Other(name) => f.write_str(name),
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
    /// Of another type.
    #[error("allowed is {0}")]
    Type(Kind),
    /// Beyond the bounds.
    #[error("out of range; allowed is {0}")]
    Range(Kind),
    /// A duration that is a bare number.
    #[error("a duration needs a unit: ms, s, m or h; allowed is {0}")]
    NoUnit(Kind),
    /// A unit that a duration or size does not have.
    #[error("{1} is not a unit; allowed is {0} in {units}", units = if matches!(.0, Kind::Time { .. }) { "ms, s, m or h" } else { "B, KiB, MiB or GiB" })]
    Unit(Kind, String),
    /// The same item again.
    #[error("listed twice")]
    Twice,
    /// An empty list where one item is needed.
    #[error("at least one is needed; allowed is {0}")]
    Empty(Kind),
    /// Not a backend's URL.
    #[error("{0}")]
    Backend(#[from] BackendUrlError),
    /// Not an IP network.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// Not a path, name or origin.
    #[error("{0}")]
    Word(#[from] WordError),
}

/// A type that a key can have.
pub(crate) trait Setting: Sized {
    /// Reads a value that `kind` allows.
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError>;
    /// The value as the config file would hold it.
    fn literal(&self, kind: Kind) -> String;
}

fn refused(raw: &Raw, why: Refusal) -> ValueError {
    ValueError {
        got: raw.to_string(),
        why,
    }
}

impl Setting for bool {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        match raw {
            Raw::Flag(flag) => Ok(*flag),
            Raw::Words(words) if words == "true" => Ok(true),
            Raw::Words(words) if words == "false" => Ok(false),
            _ => Err(refused(raw, Refusal::Type(kind))),
        }
    }

    fn literal(&self, _: Kind) -> String {
        self.to_string()
    }
}

/// Counts and sizes.
impl Setting for usize {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let (min, max, number) = match kind {
            Kind::Count { min, max } => (min, max, raw.integer()),
            Kind::Size { min, max } => match raw.text() {
                Some(text) if raw.integer().is_none() => {
                    (min, max, size_from(text, kind).map_err(|e| refused(raw, e))?)
                }
                _ => (min, max, raw.integer()),
            },
            _ => unreachable!("{kind} is not a number"),
        };
        let number = number.ok_or_else(|| refused(raw, Refusal::Type(kind)))?;
        match u64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(usize::try_from(number).expect("at least 64 bits")),
            _ => Err(refused(raw, Refusal::Range(kind))),
        }
    }

    fn literal(&self, kind: Kind) -> String {
        match kind {
            Kind::Size { .. } => quoted(&Size(*self as u64).to_string()),
            _ => self.to_string(),
        }
    }
}

impl Setting for Duration {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let Kind::Time { min, max } = kind else {
            unreachable!("{kind} is not a duration")
        };
        if raw.integer().is_some() || raw.text().is_some_and(|text| text.parse::<i64>().is_ok()) {
            return Err(refused(raw, Refusal::NoUnit(kind)));
        }
        let text = raw.text().ok_or_else(|| refused(raw, Refusal::Type(kind)))?;
        let time = time_from(text, kind).map_err(|why| refused(raw, why))?;
        if (min..=max).contains(&time) {
            Ok(time)
        } else {
            Err(refused(raw, Refusal::Range(kind)))
        }
    }

    fn literal(&self, _: Kind) -> String {
        quoted(&Time(*self).to_string())
    }
}

impl Setting for SocketAddr {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        raw.text()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| refused(raw, Refusal::Type(kind)))
    }

    fn literal(&self, _: Kind) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Option<PathBuf> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let text = raw.text().ok_or_else(|| refused(raw, Refusal::Type(kind)))?;
        if text.contains('\0') {
            return Err(refused(raw, Refusal::Type(kind)));
        }
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn literal(&self, _: Kind) -> String {
        quoted(&self.as_deref().unwrap_or("".as_ref()).to_string_lossy())
    }
}

/// The start of a path.
impl Setting for String {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        assert_eq!(kind, Kind::PathPrefix, "the only single text");
        let text = raw.text().ok_or_else(|| refused(raw, Refusal::Type(kind)))?;
        words::path_prefix(text).map_err(|why| refused(raw, why.into()))
    }

    fn literal(&self, _: Kind) -> String {
        quoted(self)
    }
}

impl Setting for Vec<String> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let one = match kind {
            Kind::Subprotocols => words::subprotocol,
            Kind::Headers => words::header,
            Kind::Origins => words::origin,
            _ => unreachable!("{kind} is not a list of texts"),
        };
        list(raw, kind, |text| Ok(one(text)?))
    }

    fn literal(&self, _: Kind) -> String {
        list_literal(self)
    }
}

impl Setting for Vec<Network> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        list(raw, kind, |text| Ok(text.parse::<Network>()?))
    }

    fn literal(&self, _: Kind) -> String {
        list_literal(self)
    }
}

impl Setting for Vec<BackendUrl> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let urls = list(raw, kind, |text| Ok(text.parse::<BackendUrl>()?))?;
        if urls.is_empty() {
            Err(refused(raw, Refusal::Empty(kind)))
        } else {
            Ok(urls)
        }
    }

    fn literal(&self, _: Kind) -> String {
        list_literal(self)
    }
}

/// A list: a TOML array of strings, one string alone, or a flag's words between commas. Nothing may come twice.
fn list<T: PartialEq>(raw: &Raw, kind: Kind, one: impl Fn(&str) -> Result<T, Refusal>) -> Result<Vec<T>, ValueError> {
    let texts: Vec<&str> = match raw {
        Raw::Text(text) => vec![text],
        Raw::Words(words) => words
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect(),
        Raw::List(items) => {
            let text = |item: &'_ Raw| match item {
                Raw::Text(_) | Raw::Words(_) => Ok(()),
                _ => Err(refused(item, Refusal::Type(kind))),
            };
            items.iter().try_for_each(text)?;
            items.iter().filter_map(Raw::text).collect()
        }
        _ => return Err(refused(raw, Refusal::Type(kind))),
    };
    let mut values = Vec::with_capacity(texts.len());
    for text in texts {
        let error = |why| ValueError { got: quoted(text), why };
        let value = one(text).map_err(error)?;
        if values.contains(&value) {
            return Err(error(Refusal::Twice));
        }
        values.push(value);
    }
    Ok(values)
}

fn list_literal<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// A TOML basic string. Debug's escapes for control characters are not TOML's, so they are written out here.
pub(crate) fn quoted(text: &str) -> String {
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

/// The number before the unit and the unit.
fn split_unit(text: &str) -> (Option<u64>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (text[..digits].parse().ok(), text[digits..].trim_start_matches(' '))
}

fn time_from(text: &str, kind: Kind) -> Result<Duration, Refusal> {
    let (number, unit) = split_unit(text);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ if number.is_some() => return Err(Refusal::Unit(kind, quoted(unit))),
        _ => return Err(Refusal::Type(kind)),
    };
    let number = number.ok_or(Refusal::Type(kind))?;
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or(Refusal::Range(kind))
}

/// The size in bytes; `None` if it is no size at all.
fn size_from(text: &str, kind: Kind) -> Result<Option<i64>, Refusal> {
    let (number, unit) = split_unit(text);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ if number.is_some() => return Err(Refusal::Unit(kind, quoted(unit))),
        _ => return Ok(None),
    };
    let Some(number) = number else { return Ok(None) };
    let bytes = number
        .checked_mul(1 << shift)
        .and_then(|bytes| i64::try_from(bytes).ok());
    bytes.map(Some).ok_or(Refusal::Range(kind))
}

/// Bytes in the largest unit that holds them exactly.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size(bytes) = *self;
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", bytes >> shift);
            }
        }
        write!(f, "{bytes}B")
    }
}

/// A duration in the largest unit that holds it exactly; seconds up to two minutes.
pub(crate) struct Time(pub(crate) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            _ if millis % 1000 != 0 => write!(f, "{millis}ms"),
            _ if millis % 3_600_000 == 0 => write!(f, "{}h", millis / 3_600_000),
            _ if millis % 60_000 == 0 && millis > 120_000 => write!(f, "{}m", millis / 60_000),
            _ => write!(f, "{}s", millis / 1000),
        }
    }
}
