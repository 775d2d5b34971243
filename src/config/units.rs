//! Reads and writes durations and sizes: a whole number and its unit.

use std::fmt;
use std::time::Duration;

use super::value::{Kind, Refusal, quote};

/// The number before the unit and the unit.
fn split_unit(text: &str) -> (Option<u64>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number.parse().ok(), unit.trim_start_matches(' '))
}

/// The duration that `text` says.
pub(super) fn time_from(text: &str, kind: Kind) -> Result<Duration, Refusal> {
    let (number, unit) = split_unit(text);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ if number.is_some() => return Err(Refusal::Unit(kind, quote(unit))),
        _ => return Err(Refusal::Type(kind)),
    };
    let number = number.ok_or(Refusal::Type(kind))?;
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or(Refusal::Range(kind))
}

/// The size in bytes; `None` if it is no size at all.
pub(super) fn size_from(text: &str, kind: Kind) -> Result<Option<i64>, Refusal> {
    let (number, unit) = split_unit(text);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ if number.is_some() => return Err(Refusal::Unit(kind, quote(unit))),
        _ => return Ok(None),
    };
    let Some(number) = number else { return Ok(None) };
    let bytes = number
        .checked_mul(1 << shift)
        .and_then(|bytes| i64::try_from(bytes).ok());
    bytes.map(Some).ok_or(Refusal::Range(kind))
}

/// Bytes in the largest unit that holds them exactly.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

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
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            _ if millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) && millis > 120_000 => write!(f, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1000) => write!(f, "{}s", millis / 1000),
            _ => write!(f, "{millis}ms"),
        }
    }
}
