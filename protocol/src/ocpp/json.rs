//! Validates JSON without making values of it, bounds its depth, and cuts it into slices. No other file uses sonic-rs.
//!
//! sonic-rs checks structure, numbers and literals and finds where elements begin and end. Three of its ways are not
//! ours, so a scan of our own goes first (one pass, no recursion): it recurses (a 10 KB message of `[` would end the
//! process), it takes `\u` with any four bytes behind it, and it ignores what follows the closing `]` of an array.
//!
//! The texts are messages and bodies whose size the caller has bounded. Grammar: RFC 8259, to the letter: lone
//! surrogates as escapes, numbers of any size and repeated names pass, since nothing here computes with them.

use std::borrow::Cow;

use sonic_rs::{Deserialize, Deserializer, Read, to_array_iter};

/// The most elements that [`split_array`] hands out: the 5 of a CallError and one that is too many.
pub const ELEMENTS_MAX: usize = 6;

/// The highest nesting limit that keeps sonic-rs' recursion within a small stack; higher ones act like this one.
pub const DEPTH_MAX: usize = 512;

/// Why a text is not (usable as) JSON. The peer's fault. `at` is an index in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JsonError {
    /// Arrays and objects nested deeper than allowed.
    #[error("nested deeper than {limit} at byte {at}")]
    TooDeep {
        /// Levels of nesting that are allowed.
        limit: usize,
        /// Index of the bracket that was one too many.
        at: usize,
    },
    /// A backslash in a string that no escape of RFC 8259, 7 follows.
    #[error("no such escape at byte {at}")]
    Escape {
        /// Index of the backslash.
        at: usize,
    },
    /// Bytes that are not UTF-8 (RFC 8259, 8.1).
    #[error("not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Index of the first bad byte.
        at: usize,
    },
    /// Not a JSON value, or not the kind that was asked for.
    #[error("not JSON")]
    Syntax,
    /// Something follows the value.
    #[error("more after the end at byte {at}")]
    Trailing {
        /// Index of the first byte behind the value.
        at: usize,
    },
    /// A string that has no UTF-8: half of a surrogate pair. Fine inside a payload, never in a name.
    #[error("a lone surrogate")]
    Surrogate,
}

/// Checks that `bytes` are exactly one JSON value, white space around it allowed, and gives them back as text.
///
/// # Errors
/// [`JsonError`], by the first of: UTF-8, depth and escapes, grammar.
pub fn check_value(bytes: &[u8], depth_max: usize) -> Result<&str, JsonError> {
    let text = utf8(bytes)?;
    check_text(text, depth_max)?;
    Ok(text)
}

/// The bytes as text.
///
/// # Errors
/// [`JsonError::NotUtf8`].
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(bytes).map_err(|error| JsonError::NotUtf8 {
        at: error.valid_up_to(),
    })
}

/// As [`check_value`], for what is known to be UTF-8.
///
/// # Errors
/// [`JsonError`], by the first of: depth and escapes, grammar.
pub fn check_text(text: &str, depth_max: usize) -> Result<(), JsonError> {
    scan(text.as_bytes(), depth_max)?;
    sonic_rs::from_str::<serde::de::IgnoredAny>(text)
        .map(|_| ())
        .map_err(|_| JsonError::Syntax)
}

/// An array cut into its elements: as many as were readable, and whether the text is one whole valid array.
#[derive(Debug)]
pub struct Elements<'t> {
    slices: [&'t str; ELEMENTS_MAX],
    count: usize,
    /// Whether the text is one valid array and nothing else. The elements before an error are valid values all the
    /// same.
    pub end: Result<(), JsonError>,
}

impl<'t> Elements<'t> {
    /// The elements read, at most [`ELEMENTS_MAX`]: exact slices of the input, without white space around them.
    pub fn as_slice(&self) -> &[&'t str] {
        self.slices.get(..self.count).unwrap_or(&self.slices)
    }
}

/// Cuts a JSON array into slices of its elements, in one pass each for depth and for grammar. The array counts as the
/// first level of depth.
///
/// The elements before an error are handed out too: a frame that is broken behind its MessageId can be answered.
pub fn split_array(text: &str, depth_max: usize) -> Elements<'_> {
    let mut elements = Elements {
        slices: [""; ELEMENTS_MAX],
        count: 0,
        end: Ok(()),
    };
    let scanned = scan(text.as_bytes(), depth_max);
    // Up to the scan's error the text is shallow and its escapes are sound: sonic-rs may see that much.
    let sound = match scanned {
        Err(JsonError::TooDeep { at, .. } | JsonError::Escape { at }) => text.get(..at).unwrap_or_default(),
        _ => text,
    };
    let mut end = None;
    for element in to_array_iter(sound) {
        let Ok(element) = element else {
            elements.end = Err(scanned.err().unwrap_or(JsonError::Syntax));
            return elements;
        };
        let Cow::Borrowed(slice) = element.as_raw_cow() else {
            unreachable!("sonic-rs borrows from a str");
        };
        end = Some(slice.as_ptr() as usize - text.as_ptr() as usize + slice.len());
        if let Some(place) = elements.slices.get_mut(elements.count) {
            *place = slice;
            elements.count += 1;
        }
    }
    // The iterator has seen the closing bracket: it is the next one behind the last element, or the array is empty.
    let bytes = sound.as_bytes();
    let end = end.unwrap_or_else(|| skip_space(bytes, 0) + 1);
    let close = skip_space(bytes, end);
    let tail = skip_space(bytes, close + 1);
    elements.end = match bytes.get(close) {
        Some(b']') if tail >= text.len() => Ok(()),
        Some(b']') => Err(JsonError::Trailing { at: tail }),
        _ => Err(JsonError::Syntax),
    };
    elements
}

/// The text that a JSON string (quotes included, one valid value) stands for; borrowed where it has no escapes.
///
/// # Errors
/// [`JsonError::Syntax`] when it is not a string, [`JsonError::Surrogate`] when it has no UTF-8.
pub fn unescape_string(raw: &str) -> Result<Cow<'_, str>, JsonError> {
    unescape(raw, false)
}

/// Like [`unescape_string`], with U+FFFD in the place of each lone surrogate.
///
/// # Errors
/// [`JsonError::Syntax`] when it is not a string.
pub fn unescape_string_lossy(raw: &str) -> Result<Cow<'_, str>, JsonError> {
    unescape(raw, true)
}

/// Whether the value (valid, white space in front allowed) is a string.
pub fn is_string(raw: &str) -> bool {
    trim(raw).starts_with('"')
}

/// Whether the value (valid, white space in front allowed) is an object.
pub fn is_object(raw: &str) -> bool {
    trim(raw).starts_with('{')
}

/// Without the byte order mark in front of it, which a receiver may ignore (RFC 8259, 8.1).
pub fn without_mark(text: &str) -> &str {
    // One look at one byte for nearly everybody.
    match text.as_bytes().first() {
        Some(0xef) => text.strip_prefix('\u{feff}').unwrap_or(text),
        _ => text,
    }
}

/// Without the white space of RFC 8259, 2 around it.
pub fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// The values of some members of an object, in the order of `names`, as exact slices. A repeated name: the last wins,
/// as in PHP. `None` when the text is another kind of value.
///
/// The text must have passed [`check_value`].
pub(crate) fn members<'t, const N: usize>(text: &'t str, names: [&str; N]) -> Option<[Option<&'t str>; N]> {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    let mut found = [None; N];
    loop {
        // At the opening brace or a comma.
        at = skip_space(bytes, at + 1);
        if bytes.get(at) != Some(&b'"') {
            return Some(found);
        }
        let name_end = value_end(bytes, at);
        let value = skip_space(bytes, skip_space(bytes, name_end) + 1);
        let end = value_end(bytes, value);
        if let Ok(name) = unescape_string(text.get(at..name_end)?)
            && let Some((place, _)) = found.iter_mut().zip(names).find(|(_, wanted)| *wanted == name)
        {
            *place = text.get(value..end);
        }
        at = skip_space(bytes, end);
    }
}

/// A text as a JSON string, quotes included.
pub fn string(text: &str) -> String {
    let mut raw = String::with_capacity(string_len(text));
    write_string(&mut raw, text);
    raw
}

/// How many bytes [`write_string`] appends.
pub fn string_len(text: &str) -> usize {
    if is_plain(text) {
        return text.len() + 2;
    }
    2 + text.bytes().map(escape_len).sum::<usize>()
}

/// Appends a text as a JSON string, quotes included; escaped is only what RFC 8259, 7 demands.
pub fn write_string(raw: &mut String, text: &str) {
    raw.push('"');
    let mut rest = text;
    if is_plain(text) {
        raw.push_str(text);
        rest = "";
    }
    while let Some((at, byte)) = rest.bytes().enumerate().find(|(_, byte)| escape_len(*byte) > 1) {
        // What is escaped is one byte long.
        let (before, after) = rest.split_at(at);
        raw.push_str(before);
        match byte {
            b'\n' => raw.push_str("\\n"),
            b'\r' => raw.push_str("\\r"),
            b'\t' => raw.push_str("\\t"),
            byte @ 0..0x20 => {
                raw.push_str("\\u00");
                raw.extend([byte >> 4, byte & 15].map(hex_digit));
            }
            byte => raw.extend(['\\', char::from(byte)]),
        }
        rest = after.get(1..).unwrap_or_default();
    }
    raw.push_str(rest);
    raw.push('"');
}

/// Of a number below 16.
fn hex_digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0')
}

/// Whether nothing in it is to be escaped: one pass without branches.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| (byte >= 0x20) & (byte != b'"') & (byte != b'\\');
    text.bytes().fold(true, |fine, byte| fine & plain(byte))
}

fn escape_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// Looks at brackets and escapes only; what is not JSON for another reason passes.
fn scan(text: &[u8], depth_max: usize) -> Result<(), JsonError> {
    let limit = depth_max.min(DEPTH_MAX);
    if is_tame(text, limit) {
        return Ok(());
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = scan_string(text, at)?,
            b'[' | b'{' => {
                if depth == limit {
                    return Err(JsonError::TooDeep { limit, at });
                }
                depth += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Whether a short text has no escape, and too few brackets for a depth above the limit: one pass without branches.
/// Most messages are such; in longer ones the search for the ends of strings is faster.
fn is_tame(text: &[u8], limit: usize) -> bool {
    if text.len() > usize::from(u8::MAX) {
        return false;
    }
    let (mut brackets, mut escapes) = (0_u8, 0_u8);
    for byte in text {
        brackets += u8::from(matches!(byte, b'[' | b'{'));
        escapes |= u8::from(*byte == b'\\');
    }
    usize::from(brackets) <= limit && escapes == 0
}

/// From the opening quote to the closing one, or to the end of the text.
fn scan_string(text: &[u8], quote: usize) -> Result<usize, JsonError> {
    let mut at = quote + 1;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
            return Ok(text.len());
        };
        at += found;
        at += match rest.get(found..).unwrap_or_default() {
            [b'"', ..] => return Ok(at),
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', digits @ ..]
                if digits
                    .get(..4)
                    .is_some_and(|four| four.iter().all(u8::is_ascii_hexdigit)) =>
            {
                6
            }
            _ => return Err(JsonError::Escape { at }),
        };
    }
}

/// The end of the valid value that begins at `at`.
pub(crate) fn value_end(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = scan_string(text, at).unwrap_or(text.len()),
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth == 0 => return at,
            b']' | b'}' => depth -= 1,
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
        if depth == 0 && matches!(byte, b'"' | b']' | b'}') {
            return at.min(text.len());
        }
    }
    text.len()
}

fn unescape(raw: &str, lossy: bool) -> Result<Cow<'_, str>, JsonError> {
    let inner = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or(JsonError::Syntax)?;
    if !has_escape(inner) {
        return Ok(Cow::Borrowed(inner));
    }
    scan(raw.as_bytes(), 0)?;
    let mut deserializer = Deserializer::new(Read::from(raw));
    if lossy {
        deserializer = deserializer.utf8_lossy();
    }
    match String::deserialize(&mut deserializer) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(_) => Err(JsonError::Surrogate),
    }
}

/// Names are short: a pass without branches is over before a call has begun.
fn has_escape(text: &str) -> bool {
    text.bytes().fold(false, |found, byte| found | (byte == b'\\'))
}

pub(crate) fn skip_space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests;
