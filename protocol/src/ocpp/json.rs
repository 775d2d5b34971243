//! Validates JSON without making values of it, bounds its depth, and cuts it into slices. No other file uses sonic-rs.
//!
//! A scanner of our own finds the ends of values: sonic-rs recurses (a 10 KB message of `[` would end the process), takes `\u` with
//! any four bytes behind it, and ignores what follows the closing `]` of an array.
//! sonic-rs reads the escapes of strings.
//!
//! The texts are messages and bodies whose size the caller has bounded. Grammar: RFC 8259, to the letter: lone
//! surrogates as escapes, numbers of any size and repeated names pass, since nothing here computes with them.

mod scanner;

use std::borrow::Cow;

use sonic_rs::{Deserialize, Deserializer, Read};

use self::scanner::{Scanner, is_plain, is_space};

/// The most elements that [`split_array`] hands out: the 5 of a CallError and one that is too many.
pub const ELEMENTS_MAX: usize = 6;

/// The highest nesting limit; higher ones act like this one.
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
/// [`JsonError`]: of UTF-8, or else the first one in the text.
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
/// [`JsonError`], the first one in the text.
pub fn check_text(text: &str, depth_max: usize) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text, depth_max);
    scanner.skip_value()?;
    scanner.skip_space();
    match scanner.peek() {
        None => Ok(()),
        Some(_) => Err(JsonError::Trailing { at: scanner.at }),
    }
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

/// Cuts a JSON array into slices of its elements. The array counts as the first level of depth.
///
/// The elements before an error are handed out too: a frame that is broken behind its MessageId can be answered.
pub fn split_array(text: &str, depth_max: usize) -> Elements<'_> {
    let mut elements = Elements {
        slices: [""; ELEMENTS_MAX],
        count: 0,
        end: Ok(()),
    };
    elements.end = elements.fill(text, depth_max);
    elements
}

impl<'t> Elements<'t> {
    fn fill(&mut self, text: &'t str, depth_max: usize) -> Result<(), JsonError> {
        let mut scanner = Scanner::new(text, depth_max);
        if scanner.peek() != Some(b'[') {
            return Err(JsonError::Syntax);
        }
        scanner.open(false)?;
        scanner.skip_space();
        if !scanner.take(b']') {
            loop {
                let begin = scanner.at;
                scanner.skip_value()?;
                if let Some(place) = self.slices.get_mut(self.count) {
                    *place = text.get(begin..scanner.at).unwrap_or_default();
                    self.count += 1;
                }
                scanner.skip_space();
                if scanner.take(b']') {
                    break;
                }
                if !scanner.take(b',') {
                    return Err(JsonError::Syntax);
                }
                scanner.skip_space();
            }
        }
        scanner.skip_space();
        match scanner.peek() {
            None => Ok(()),
            Some(_) => Err(JsonError::Trailing { at: scanner.at }),
        }
    }
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
#[inline]
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
    let bytes = text.as_bytes();
    let begin = skip_space(bytes, 0);
    let last = bytes.iter().rposition(|byte| !is_space(*byte));
    text.get(begin..last.map_or(begin, |last| last + 1)).unwrap_or_default()
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
    if is_all_plain(text) {
        return text.len() + 2;
    }
    2 + text.bytes().map(escape_len).sum::<usize>()
}

/// Appends a text as a JSON string, quotes included; escaped is only what RFC 8259, 7 demands.
pub fn write_string(raw: &mut String, text: &str) {
    raw.push('"');
    let mut rest = text;
    if is_all_plain(text) {
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
fn is_all_plain(text: &str) -> bool {
    text.bytes().fold(true, |fine, byte| fine & is_plain(byte))
}

fn escape_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// The end of the valid value that begins at `at`.
pub(crate) fn value_end(text: &[u8], at: usize) -> usize {
    let mut scanner = Scanner::at(text, at, DEPTH_MAX);
    match scanner.skip_value() {
        Ok(()) => scanner.at,
        Err(_) => text.len(),
    }
}

fn unescape(raw: &str, lossy: bool) -> Result<Cow<'_, str>, JsonError> {
    let inner = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or(JsonError::Syntax)?;
    if !has_escape(inner) {
        return Ok(Cow::Borrowed(inner));
    }
    Scanner::at(raw.as_bytes(), 0, DEPTH_MAX).skip_string()?;
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
    let mut scanner = Scanner::at(text, at, 0);
    scanner.skip_space();
    scanner.at
}

#[cfg(test)]
mod tests;
