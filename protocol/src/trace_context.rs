//! Reads and makes `traceparent`, which ties the requests of several systems together (W3C Trace Context, Level 1 and 2).
//!
//! ws2api makes no spans of its own: what it is given goes on as it came, with what this version of the header does not know
//! taken out, and a trace that begins here has the id of a span that nobody reports.

use arrayvec::ArrayString;

/// A trace and the request in it (3.2): always of version 00, with ids that are not zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceParent(ArrayString<TEXT_LEN>);

impl TraceParent {
    /// What the header's one value says. `None`: it is malformed, and as good as not there (3.2.2.5, 4.3).
    ///
    /// Of a later version the first four fields count, and of its flags the one that this version shares with all (3.2.4).
    #[must_use]
    #[allow(
        clippy::string_slice,
        reason = "it is as long as this, and of hexadecimal digits and dashes alone"
    )]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fields, rest) = value.split_at_checked(TEXT_LEN)?;
        let text = str::from_utf8(fields).ok()?;
        let is_apart = DASHES.iter().all(|at| fields.get(*at) == Some(&b'-'));
        if !is_apart || !text.split('-').all(is_hexadecimal) || text.split('-').count() != DASHES.len() + 1 {
            return None;
        }
        let (version, trace_id, span_id, flags) = (&text[..2], &text[TRACE_ID], &text[SPAN_ID], &text[FLAGS]);
        let known = match (version, rest) {
            ("ff", _) => return None,
            ("00", []) => SAMPLED | RANDOM,
            ("00", _) => return None,
            (_, [] | [b'-', ..]) => SAMPLED,
            _ => return None,
        };
        let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0');
        if is_zero(trace_id) || is_zero(span_id) {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()? & known;
        Some(Self::from_parts(trace_id, span_id, flags))
    }

    /// A trace that begins here, and is to be recorded. The ids are random numbers.
    #[must_use]
    pub fn begin(trace_id: u128, span_id: u64) -> Self {
        let trace_id = format_hexadecimal::<32>(trace_id.max(1));
        let span_id = format_hexadecimal::<16>(u128::from(span_id.max(1)));
        Self::from_parts(&trace_id, &span_id, SAMPLED)
    }

    /// The header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace's id, as logs and collectors write it.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.0.get(TRACE_ID).unwrap_or_default()
    }

    fn from_parts(trace_id: &str, span_id: &str, flags: u8) -> Self {
        let mut text = ArrayString::new();
        let flags = format_hexadecimal::<2>(flags.into());
        for part in ["00-", trace_id, "-", span_id, "-", &flags] {
            text.push_str(part);
        }
        Self(text)
    }
}

/// Digits in lower case, which alone are allowed (3.2.2).
fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `LEN` digits of it, the last ones.
fn format_hexadecimal<const LEN: usize>(number: u128) -> ArrayString<LEN> {
    let digit = |place: usize| char::from_digit((number >> (4 * place)) as u32 & 15, 16).unwrap_or('0');
    let mut text = ArrayString::new();
    (0..LEN).rev().for_each(|place| text.push(digit(place)));
    text
}

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";
const TEXT_LEN: usize = 55;
const TRACE_ID: std::ops::Range<usize> = 3..35;
const SPAN_ID: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;
const DASHES: [usize; 3] = [2, 35, 52];
/// Flags of version 00 (Level 2, 3.2.2.5).
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parsed(value: &str) -> Option<String> {
        TraceParent::parse(value.as_bytes()).map(|trace| trace.as_str().to_owned())
    }

    #[test]
    fn a_traceparent_goes_on_as_it_came_and_without_flags_that_nobody_knows() {
        assert_eq!(parsed(GOOD).as_deref(), Some(GOOD));
        let trace = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for (flags, known) in [("00", "00"), ("02", "02"), ("03", "03"), ("ff", "03"), ("04", "00")] {
            let (value, expected) = (
                GOOD.replace("-01", &format!("-{flags}")),
                GOOD.replace("-01", &format!("-{known}")),
            );
            assert_eq!(parsed(&value), Some(expected), "{flags}");
        }
    }

    #[test]
    fn of_a_later_version_what_this_one_knows_is_read() {
        let later = GOOD.replace("00-4b", "cc-4b");
        assert_eq!(parsed(&later).as_deref(), Some(GOOD));
        assert_eq!(parsed(&format!("{later}-what-the-future-holds")).as_deref(), Some(GOOD));
        assert_eq!(parsed(&later.replace("-01", "-03")).as_deref(), Some(GOOD));
        assert_eq!(parsed(&format!("{later}.x")), None);
    }

    /// The cases of W3C's own test suite (trace-context/test).
    #[test]
    fn a_malformed_traceparent_is_none() {
        let cases = [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}-00"),
            &format!("{GOOD}0"),
            &GOOD.replace("00-4b", "ff-4b"),
            &GOOD.replace("00-4b", "0x-4b"),
            &GOOD.replace("00-4b", ".0-4b"),
            &GOOD.replace("4bf9", "4BF9"),
            &GOOD.replace("4bf9", "4bg9"),
            &GOOD.replace("4bf9", "4b-9"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD.replace("-01", "-0X"),
            &GOOD.replace("-01", "-+1"),
            &GOOD.replace('-', "_"),
            &GOOD.replace("0e0e4736-", "0e0e47361"),
            &format!("é{}", &GOOD[2..]),
        ];
        for case in cases {
            assert_eq!(parsed(case), None, "{case}");
        }
        assert_eq!(TraceParent::parse(&[0xff; 55]), None);
    }

    /// Good ones with bytes changed, added and taken away: whatever is read is one that others read, and the same again.
    #[test]
    fn whatever_comes_is_read_as_one_or_as_none() {
        let seed = Random::seed();
        let mut random = Random::new(seed);
        let mut read = 0;
        for _ in 0..200_000 {
            let mut bytes = GOOD.as_bytes().to_vec();
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes[at] = b"0123456789abcdef-"[random.below(17)],
                    2 => bytes.insert(at, b"0-\xc3"[random.below(3)]),
                    _ => drop(bytes.remove(at)),
                }
            }
            let Some(trace) = TraceParent::parse(&bytes) else {
                continue;
            };
            read += 1;
            assert_eq!(
                TraceParent::parse(trace.as_str().as_bytes()),
                Some(trace),
                "SIMULATION_SEED={seed}"
            );
            assert_eq!(
                (&trace.as_str()[..3], trace.as_str().len()),
                ("00-", TEXT_LEN),
                "SIMULATION_SEED={seed}"
            );
            assert_eq!(trace.trace_id().as_bytes(), &bytes[TRACE_ID], "SIMULATION_SEED={seed}");
        }
        assert!(read > 10_000, "{read}");
    }

    #[test]
    fn a_trace_that_begins_here_is_one_that_others_read() {
        let trace = TraceParent::begin(0xab, u64::MAX);
        assert_eq!(
            trace.as_str(),
            "00-000000000000000000000000000000ab-ffffffffffffffff-01"
        );
        assert_eq!(TraceParent::parse(trace.as_str().as_bytes()), Some(trace));
        let least = TraceParent::begin(0, 0);
        assert_eq!(
            TraceParent::parse(least.as_str().as_bytes()),
            Some(least),
            "zero is no id"
        );
    }
}
