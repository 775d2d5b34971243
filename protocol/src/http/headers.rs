//! Finds the header lines of one head by name.

use std::fmt;

use smallvec::SmallVec;

use super::head::{HEAD_LEN_MAX, is_token_byte};

/// Most header lines that a head may have. 64 lines of a request behind two proxies leave room to spare.
pub const HEADERS_MAX: usize = 64;

/// The header lines of a head, in their order: positions into the head, on the heap only where there are very many.
#[derive(Clone)]
pub struct Headers<'b> {
    head: &'b [u8],
    lines: SmallVec<[Line; INLINE_LINES]>,
}

impl<'b> Headers<'b> {
    /// Takes over what `httparse` found; every one of `parsed` points into `head`.
    pub(super) fn new(head: &'b [u8], parsed: &[httparse::Header<'b>]) -> Self {
        assert!(head.len() <= HEAD_LEN_MAX, "the caller bounds the head");
        assert!(parsed.len() <= HEADERS_MAX, "the caller bounds the headers");
        let position = |part: &[u8]| (part.as_ptr().addr() - head.as_ptr().addr()) as u16;
        let lines = parsed.iter().map(|header| Line {
            name_start: position(header.name.as_bytes()),
            name_len: header.name.len() as u16,
            value_start: position(header.value),
            value_len: header.value.len() as u16,
        });
        Headers {
            head,
            lines: lines.collect(),
        }
    }

    /// All lines in their order: name as sent, value without the white space around it.
    pub fn iter(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b, '_> {
        self.lines.iter().map(|line| {
            let name = str::from_utf8(slice(self.head, line.name_start, line.name_len)).unwrap_or_default();
            (name, slice(self.head, line.value_start, line.value_len))
        })
    }

    /// The first line called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers(name).next()
    }

    /// The line called `name`, in any case, if there is exactly one.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&'b [u8]> {
        let mut lines = self.headers(name);
        let first = lines.next()?;
        lines.next().is_none().then_some(first)
    }

    /// Every line called `name`, in any case.
    pub fn headers<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n, '_> {
        self.lines.iter().filter_map(|line| {
            let same = usize::from(line.name_len) == name.len()
                && slice(self.head, line.name_start, line.name_len).eq_ignore_ascii_case(name.as_bytes());
            same.then(|| slice(self.head, line.value_start, line.value_len))
        })
    }

    /// How many lines are called `name`, in any case.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.headers(name).count()
    }

    /// The elements of the comma-separated list `name` over all its lines, empty ones left out (RFC 9110, 5.6.1).
    pub fn elements<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n, '_> {
        self.headers(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(trim)
            .filter(|one| !one.is_empty())
    }

    /// Whether `token` is an element of the list `name`, in any case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let is_token = |element: &[u8]| trim(element).eq_ignore_ascii_case(token.as_bytes());
        let mut values = self.headers(name);
        !token.is_empty() && values.any(|value| value.split(|byte| *byte == b',').any(is_token))
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(name, value)| (name, value.escape_ascii().to_string())),
            )
            .finish()
    }
}

/// Where one header line has its parts, in the head.
#[derive(Clone, Copy)]
struct Line {
    name_start: u16,
    name_len: u16,
    value_start: u16,
    value_len: u16,
}

/// As many as a backend, an upgrade of a charger or a push have; browsers send more. A head is moved some times before
/// it is used.
const INLINE_LINES: usize = 12;
const _: () = assert!(
    size_of::<Headers<'_>>() <= 8 * INLINE_LINES + 40,
    "a head stays small on the stack"
);

#[allow(
    clippy::indexing_slicing,
    reason = "the parser has found the line there, in this head"
)]
fn slice(head: &[u8], start: u16, len: u16) -> &[u8] {
    &head[usize::from(start)..usize::from(start) + usize::from(len)]
}

/// `text` without optional white space around it (RFC 9110, 5.6.3).
#[allow(clippy::indexing_slicing, reason = "both are places in it, one not before the other")]
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let start = text
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t'))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'\t'))
        .map_or(start, |last| last + 1);
    &text[start..end]
}

/// Whether `text` is one token (RFC 9110, 5.6.2).
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_headers<T>(lines: &str, look: impl FnOnce(Headers<'_>) -> T) -> T {
        let head = format!("{lines}\r\n");
        let mut parsed = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let (_, parsed) = httparse::parse_headers(head.as_bytes(), &mut parsed).unwrap().unwrap();
        look(Headers::new(head.as_bytes(), parsed))
    }

    #[test]
    fn a_header_is_found_by_its_name_in_any_case() {
        with_headers("X-One: 1\r\nx-two:  2 \t\r\nX-ONE: 3\r\nEmpty:\r\n", |headers| {
            assert_eq!(headers.header("x-one"), Some(&b"1"[..]));
            assert_eq!(
                headers.header("X-Two"),
                Some(&b"2"[..]),
                "white space around a value is no part of it"
            );
            assert_eq!(headers.header("empty"), Some(&b""[..]));
            assert_eq!(headers.header("x-on"), None);
            assert_eq!(
                (headers.only("x-one"), headers.only("x-two"), headers.only("x-on")),
                (None, Some(&b"2"[..]), None)
            );
            assert_eq!(headers.headers("x-one").collect::<Vec<_>>(), [b"1", b"3"]);
            assert_eq!((headers.count("x-one"), headers.count("x-none")), (2, 0));
            let all: Vec<_> = headers.iter().collect();
            assert_eq!(
                all,
                [("X-One", &b"1"[..]), ("x-two", b"2"), ("X-ONE", b"3"), ("Empty", b"")]
            );
            let shown = format!("{headers:?}");
            assert!(shown.contains(r#""X-One": "1""#), "{shown}");
        });
    }

    #[test]
    fn a_list_is_read_over_all_its_lines() {
        with_headers("L: a, b\r\nL:\r\nl: ,C ,,\td e\r\n", |headers| {
            assert_eq!(
                headers.elements("l").collect::<Vec<_>>(),
                [&b"a"[..], b"b", b"C", b"d e"]
            );
            for token in ["a", "A", "b", "c", "d e"] {
                assert!(headers.has_token("l", token), "{token}");
            }
            for token in ["", "d", "e", "a,", "ab"] {
                assert!(!headers.has_token("l", token), "{token}");
            }
            assert!(!headers.has_token("m", "a"));
        });
    }
}
