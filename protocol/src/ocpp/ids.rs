//! Checks the names that travel in URLs, frames and headers: [`ClientId`], [`Action`] and [`MessageId`].
//!
//! Each is checked once, where it enters, and is safe everywhere afterwards: it can be one segment of a request path
//! (some servers decode `%2F`, and would then see another path) and cannot split a header. All three keep the decoded
//! text, inline up to 40 bytes (a UUID, every Action of OCPP), so that most cost no allocation; longer ones share one.
//!
//! Invariants: never empty, `.` or `..`; no `/`, no `\`, no control character (C0, DEL, C1); within their length.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrayvec::ArrayString;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::json;
use super::subprotocol::Subprotocol;

/// The longest ClientId, in bytes of UTF-8, decoded.
pub const CLIENT_ID_LEN_MAX: usize = 128;
/// The longest Action, in bytes of UTF-8, decoded. OCPP's own have at most 36.
pub const ACTION_LEN_MAX: usize = 128;
/// The longest MessageId without an OCPP subprotocol, in bytes of UTF-8, decoded.
pub const MESSAGE_ID_LEN_MAX: usize = 255;
/// The longest MessageId under an OCPP subprotocol, in characters (OCPP-J 1.6, 4.2.2; 2.0.1 and 2.1, part 4, 4.1.4).
pub const MESSAGE_ID_CHARACTERS_MAX: usize = 36;

/// Why a text is not a name. The peer's fault: 404 for a ClientId, 400 at the ingress, a CallError in a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdError {
    /// No bytes at all.
    #[error("empty")]
    Empty,
    /// More bytes than allowed. `len` is that of the decoded text; of the encoded one, where that alone is too long.
    #[error("{len} bytes, {limit} allowed")]
    TooLong {
        /// The text's length in bytes.
        len: usize,
        /// The bound, in bytes.
        limit: usize,
    },
    /// `.` or `..`, which mean something else in a path.
    #[error("a dot segment")]
    DotSegment,
    /// `/`, `\` or a control character.
    #[error("character U+{code:04X} is not allowed")]
    Forbidden {
        /// The character's code point.
        code: u32,
    },
    /// A `%` that two hexadecimal digits do not follow.
    #[error("broken percent-encoding at byte {at}")]
    PercentEncoding {
        /// Index of the `%`.
        at: usize,
    },
    /// The decoded bytes are not UTF-8.
    #[error("not UTF-8 after byte {at}")]
    NotUtf8 {
        /// How many decoded bytes are valid.
        at: usize,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $len_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Eq, PartialEq, Ord, PartialOrd)]
        pub struct $name(ShortText);

        impl $name {
            /// Checks the decoded text.
            ///
            /// # Errors
            /// [`IdError`] when the text is no such name.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                Self::check(text)?;
                Ok(Self(ShortText::new(text)))
            }

            /// Checks the decoded text, and keeps nothing.
            ///
            /// # Errors
            /// [`IdError`] when the text is no such name.
            pub fn check(text: &str) -> Result<(), IdError> {
                Self::check_plain(text)?;
                check_characters(text)
            }

            /// As [`check`](Self::check), for a text of [`plain_name`].
            pub(super) fn check_plain(text: &str) -> Result<(), IdError> {
                check_len(text, $len_max)
            }

            /// Checks one path segment as it stands in a URL (RFC 3986, 2.1). `+` stays `+`.
            ///
            /// # Errors
            /// [`IdError`] when the encoding is broken or the decoded text is no such name.
            pub fn from_percent_encoded(segment: &str) -> Result<Self, IdError> {
                Self::parse(&decode(segment, $len_max)?)
            }

            /// The decoded text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// As one path segment or header value: everything but RFC 3986 unreserved characters percent-encoded.
            pub fn encoded(&self) -> Cow<'_, str> {
                encoded(self.as_str())
            }

            /// As a JSON string, quotes included.
            pub fn json(&self) -> String {
                json::string(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    };
}

name! {
    /// A client's name: 1 to [`CLIENT_ID_LEN_MAX`] bytes of UTF-8.
    ClientId, CLIENT_ID_LEN_MAX
}

name! {
    /// What a Call asks for: 1 to [`ACTION_LEN_MAX`] bytes of UTF-8.
    Action, ACTION_LEN_MAX
}

name! {
    /// What ties an answer to its Call: 1 to [`MESSAGE_ID_LEN_MAX`] bytes of UTF-8. An OCPP subprotocol allows less:
    /// see [`MessageId::fits`].
    MessageId, MESSAGE_ID_LEN_MAX
}

impl MessageId {
    /// Whether this id may be used under that subprotocol: [`MESSAGE_ID_CHARACTERS_MAX`] under an OCPP one.
    pub fn fits(&self, subprotocol: Subprotocol) -> bool {
        Self::text_fits(self.as_str(), subprotocol)
    }

    pub(super) fn text_fits(text: &str, subprotocol: Subprotocol) -> bool {
        !subprotocol.is_ocpp()
            || text.len() <= MESSAGE_ID_CHARACTERS_MAX
            || text.chars().nth(MESSAGE_ID_CHARACTERS_MAX).is_none()
    }
}

/// A short text without an allocation, a long one with one that its clones share.
#[derive(Clone)]
enum ShortText {
    Inline(ArrayString<INLINE_LEN>),
    Shared(Arc<str>),
}

impl ShortText {
    fn new(text: &str) -> Self {
        ArrayString::from(text).map_or_else(|_| Self::Shared(text.into()), Self::Inline)
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Inline(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl Eq for ShortText {}

impl PartialEq for ShortText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Ord for ShortText {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for ShortText {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn check_len(text: &str, len_max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > len_max {
        return Err(IdError::TooLong {
            len: text.len(),
            limit: len_max,
        });
    }
    if text == "." || text == ".." {
        return Err(IdError::DotSegment);
    }
    Ok(())
}

fn check_characters(text: &str) -> Result<(), IdError> {
    // Nearly all are ASCII and fine: one pass without branches.
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) & (byte != b'/') & (byte != b'\\');
    if text.bytes().fold(true, |fine, byte| fine & plain(byte)) {
        return Ok(());
    }
    match text.chars().find(|c| matches!(c, '/' | '\\') || c.is_control()) {
        Some(c) => Err(IdError::Forbidden { code: c.into() }),
        None => Ok(()),
    }
}

/// As one path segment or header value: everything but RFC 3986 unreserved characters percent-encoded.
pub(super) fn encoded(text: &str) -> Cow<'_, str> {
    if is_all_unreserved(text) {
        return Cow::Borrowed(text);
    }
    utf8_percent_encode(text, RESERVED).into()
}

/// RFC 3986, 2.3.
/// What a JSON string stands for, if that stands for itself in a path, too: no escape in it, every character unreserved.
/// `None`: it has others, or is no string.
pub(super) fn plain_name(raw: &str) -> Option<&str> {
    let name = raw.strip_prefix('"')?.strip_suffix('"')?;
    is_all_unreserved(name).then_some(name)
}

/// UUIDs, numbers and the Actions of OCPP are: one pass without branches.
fn is_all_unreserved(text: &str) -> bool {
    text.bytes().fold(true, |fine, byte| fine & is_unreserved(byte))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | (byte == b'-') | (byte == b'.') | (byte == b'_') | (byte == b'~')
}

fn decode(segment: &str, len_max: usize) -> Result<Cow<'_, str>, IdError> {
    if segment.len() > 3 * len_max {
        return Err(IdError::TooLong {
            len: segment.len(),
            limit: 3 * len_max,
        });
    }
    let bytes = segment.as_bytes();
    let Some(first) = memchr::memchr(b'%', bytes) else {
        return Ok(Cow::Borrowed(segment));
    };
    let from_first = bytes.get(first..).unwrap_or_default();
    for at in memchr::memchr_iter(b'%', from_first).map(|at| first + at) {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(IdError::PercentEncoding { at });
        }
    }
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|error| IdError::NotUtf8 {
            at: error.valid_up_to(),
        })
}

/// Everything but the unreserved characters of RFC 3986, 2.3.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// As many as the alignment of an `Arc` leaves room for, beside the length and the tag, in 48 bytes.
const INLINE_LEN: usize = 40;
const _: () = assert!(size_of::<ShortText>() == 48);
const _: () = assert!(INLINE_LEN >= MESSAGE_ID_CHARACTERS_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_path_could_misread_are_refused() {
        for (text, error) in [
            ("", IdError::Empty),
            (".", IdError::DotSegment),
            ("..", IdError::DotSegment),
            ("a/b", IdError::Forbidden { code: 0x2f }),
            ("a\\b", IdError::Forbidden { code: 0x5c }),
            ("a\0", IdError::Forbidden { code: 0 }),
            ("a\r\nX: y", IdError::Forbidden { code: 0x0d }),
            ("\u{1f}", IdError::Forbidden { code: 0x1f }),
            ("\u{7f}", IdError::Forbidden { code: 0x7f }),
            ("\u{85}", IdError::Forbidden { code: 0x85 }),
            ("\u{9f}", IdError::Forbidden { code: 0x9f }),
        ] {
            assert_eq!(ClientId::parse(text).unwrap_err(), error, "{text:?}");
            assert_eq!(Action::parse(text).unwrap_err(), error, "{text:?}");
            assert_eq!(MessageId::parse(text).unwrap_err(), error, "{text:?}");
        }
        for text in [
            "...",
            ".a",
            " ",
            "%2F",
            "a b",
            "\u{a0}",
            "ü",
            "😀",
            "a?b#c;d:e@f",
            "\"",
            "-1",
        ] {
            assert_eq!(ClientId::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn each_name_ends_at_its_length() {
        let text = "x".repeat(300);
        let longest = |parse: fn(&str) -> bool| (1..=300).filter(|len| parse(&text[..*len])).max();
        assert_eq!(longest(|text| ClientId::parse(text).is_ok()), Some(128));
        assert_eq!(longest(|text| Action::parse(text).is_ok()), Some(128));
        assert_eq!(longest(|text| MessageId::parse(text).is_ok()), Some(255));
        assert_eq!(ClientId::parse(&"ä".repeat(64)).expect("128 bytes").as_str().len(), 128);
        assert_eq!(
            ClientId::parse(&"ä".repeat(65)).unwrap_err(),
            IdError::TooLong { len: 130, limit: 128 }
        );
    }

    #[test]
    fn ocpp_counts_the_characters_of_a_message_id() {
        for (text, fits) in [
            ("x".repeat(36), true),
            ("x".repeat(37), false),
            ("ä".repeat(36), true),
            ("ä".repeat(37), false),
        ] {
            let id = MessageId::parse(&text).expect("short enough without OCPP");
            assert!(id.fits(Subprotocol::None) && id.fits(Subprotocol::Other(0)));
            for subprotocol in [Subprotocol::Ocpp16, Subprotocol::Ocpp201, Subprotocol::Ocpp21] {
                assert_eq!(id.fits(subprotocol), fits, "{text}");
            }
        }
    }

    #[test]
    fn percent_encoding_is_undone_strictly_and_redone_completely() {
        for (segment, decoded, encoded) in [
            ("CP-1_a.b~c", "CP-1_a.b~c", "CP-1_a.b~c"),
            ("a%20b", "a b", "a%20b"),
            ("a+b", "a+b", "a%2Bb"),
            ("%41%7a", "Az", "Az"),
            ("%C3%BC", "ü", "%C3%BC"),
            ("ü", "ü", "%C3%BC"),
            (
                "a:b@c!$&'()*,;=",
                "a:b@c!$&'()*,;=",
                "a%3Ab%40c%21%24%26%27%28%29%2A%2C%3B%3D",
            ),
            ("%2541", "%41", "%2541"),
            ("...", "...", "..."),
        ] {
            let id = ClientId::from_percent_encoded(segment).expect(segment);
            assert_eq!((id.as_str(), &*id.encoded()), (decoded, encoded));
            assert_eq!(ClientId::from_percent_encoded(&id.encoded()), Ok(id));
        }
        for (segment, error) in [
            ("%", IdError::PercentEncoding { at: 0 }),
            ("a%4", IdError::PercentEncoding { at: 1 }),
            ("a%4g", IdError::PercentEncoding { at: 1 }),
            ("a%%41", IdError::PercentEncoding { at: 1 }),
            ("%+1", IdError::PercentEncoding { at: 0 }),
            ("%2F", IdError::Forbidden { code: 0x2f }),
            ("%5c", IdError::Forbidden { code: 0x5c }),
            ("%2e%2E", IdError::DotSegment),
            ("%2e", IdError::DotSegment),
            ("%00", IdError::Forbidden { code: 0 }),
            ("a%ff", IdError::NotUtf8 { at: 1 }),
            ("%c0%af", IdError::NotUtf8 { at: 0 }),
            ("%ed%a0%80", IdError::NotUtf8 { at: 0 }),
            ("", IdError::Empty),
        ] {
            assert_eq!(ClientId::from_percent_encoded(segment).unwrap_err(), error, "{segment}");
        }
        let longest = "%41".repeat(CLIENT_ID_LEN_MAX);
        assert!(ClientId::from_percent_encoded(&longest).is_ok());
        assert!(matches!(
            ClientId::from_percent_encoded(&(longest + "%")),
            Err(IdError::TooLong { .. })
        ));
    }

    #[test]
    fn short_and_long_names_compare_hash_and_print_as_their_text() {
        use std::collections::{HashMap, HashSet};
        let texts: Vec<_> = (1..=60).map(|len| "x".repeat(len)).collect();
        let set: HashSet<_> = texts.iter().map(|text| Action::parse(text).expect("fine")).collect();
        let map: HashMap<ClientId, usize> = texts
            .iter()
            .map(|text| (ClientId::parse(text).expect("fine"), text.len()))
            .collect();
        for text in &texts {
            assert!(set.contains(text.as_str()));
            assert_eq!(map.get(text.as_str()), Some(&text.len()), "a map by id is asked by str");
            assert_eq!(Action::parse(text).expect("fine").to_string(), *text);
        }
        assert_eq!(ClientId::parse("a\"b").expect("fine").json(), r#""a\"b""#);
        assert_eq!(format!("{:?}", ClientId::parse("a").expect("fine")), "ClientId(\"a\")");
    }

    #[test]
    fn names_travel_between_shards() {
        fn travels<T: Send + Clone + 'static>() {}
        travels::<ClientId>();
        travels::<Action>();
        travels::<MessageId>();
    }
}
