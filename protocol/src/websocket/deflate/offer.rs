//! Chooses among a client's offers of permessage-deflate (RFC 7692, 5 and 7.1).

use std::fmt::Write as _;

use super::BITS_MAX;

/// What the configuration says of compression.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeflateConfig {
    /// `deflate_window` as a power of two: 9 to 15.
    pub window_bits: u8,
}

/// What both sides keep to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Agreement {
    /// Our window is 2^bits bytes; 9 to 15.
    pub server_window_bits: u8,
    /// We forget after each message.
    pub server_no_context_takeover: bool,
    /// The client's window is 2^bits bytes. `None`: it forgets after each message.
    pub client_window_bits: Option<u8>,
    /// The client asked for a bound of its own window, so that the answer may name one.
    pub(super) names_client_window: bool,
}

impl Agreement {
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    #[must_use]
    pub fn header(&self) -> String {
        let mut value = String::from(NAME);
        let _ = write!(value, "; {SERVER_WINDOW}={}", self.server_window_bits);
        if self.server_no_context_takeover {
            let _ = write!(value, "; {SERVER_FORGETS}");
        }
        match self.client_window_bits {
            Some(bits) if self.names_client_window => {
                let _ = write!(value, "; {CLIENT_WINDOW}={bits}");
            }
            Some(_) => {}
            None => {
                let _ = write!(value, "; {CLIENT_FORGETS}");
            }
        }
        value
    }

    /// How much of the client's plain text is kept, in bytes.
    #[must_use]
    pub fn client_window(&self) -> usize {
        self.client_window_bits.map_or(0, |bits| 1 << bits)
    }

    /// How much of our plain text is kept, in bytes.
    #[must_use]
    pub fn server_window(&self) -> usize {
        if self.server_no_context_takeover {
            0
        } else {
            1 << self.server_window_bits
        }
    }
}

/// The answer to the first acceptable offer in the values of `Sec-WebSocket-Extensions`. `None`: there is none, and messages
/// travel uncompressed. An offer with parameters that are unknown, doubled, out of range, or 8 bits (which the algorithm's
/// libraries cannot do) is passed over, not the client.
#[must_use]
pub fn negotiate<'h>(values: impl IntoIterator<Item = &'h [u8]>, config: DeflateConfig) -> Option<Agreement> {
    let values = values.into_iter().filter_map(|value| str::from_utf8(value).ok());
    let offers = values.flat_map(|value| value.split(','));
    offers.take(OFFERS_MAX).find_map(|offer| accept(offer, config))
}

fn accept(offer: &str, config: DeflateConfig) -> Option<Agreement> {
    let mut parts = offer.split(';').map(trim);
    if !parts.next()?.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let (mut server_forgets, mut client_forgets) = (None, None);
    let (mut server_bits, mut client_bits) = (None, None);
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (trim(name), Some(unquote(trim(value))?)),
            None => (part, None),
        };
        let is_first = match (name, value) {
            (SERVER_FORGETS, None) => server_forgets.replace(()).is_none(),
            (CLIENT_FORGETS, None) => client_forgets.replace(()).is_none(),
            (SERVER_WINDOW, Some(value)) => server_bits.replace(window_bits(value)?).is_none(),
            (CLIENT_WINDOW, None) => client_bits.replace(BITS_MAX).is_none(),
            (CLIENT_WINDOW, Some(value)) => client_bits.replace(window_bits(value)?).is_none(),
            _ => return None,
        };
        if !is_first {
            return None;
        }
    }
    let ours = config.window_bits;
    let client_window_bits = match (client_forgets, client_bits) {
        (Some(()), _) | (None, None) => None,
        (None, Some(bits)) => Some(bits.min(ours)),
    };
    Some(Agreement {
        server_window_bits: server_bits.map_or(ours, |bits: u8| bits.min(ours)),
        server_no_context_takeover: server_forgets.is_some(),
        client_window_bits,
        names_client_window: client_bits.is_some(),
    })
}

/// 9 to 15, without leading zeros (RFC 7692, 7.1.2.1).
fn window_bits(value: &str) -> Option<u8> {
    let bits = match value.as_bytes() {
        [digit @ b'9'] => digit - b'0',
        [b'1', digit @ b'0'..=b'5'] => 10 + (digit - b'0'),
        _ => return None,
    };
    Some(bits)
}

/// A token, or one between quotation marks (RFC 6455, 9.1).
fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

const NAME: &str = "permessage-deflate";
const SERVER_FORGETS: &str = "server_no_context_takeover";
const CLIENT_FORGETS: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";
/// No client has more ways to compress; a head has room for hundreds.
const OFFERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(offers: &[&str]) -> Option<String> {
        let values = offers.iter().map(|offer| offer.as_bytes());
        negotiate(values, DeflateConfig { window_bits: 11 }).map(|agreement| agreement.header())
    }

    #[test]
    fn the_first_acceptable_offer_is_answered() {
        for (offers, expected) in [
            (
                &["permessage-deflate; client_max_window_bits"][..],
                "; server_max_window_bits=11; client_max_window_bits=11",
            ),
            (
                &["permessage-deflate"],
                "; server_max_window_bits=11; client_no_context_takeover",
            ),
            (
                &["Permessage-Deflate ; client_max_window_bits = \"9\" ;server_max_window_bits=10"],
                "; server_max_window_bits=10; client_max_window_bits=9",
            ),
            (
                &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
                "; server_max_window_bits=11; server_no_context_takeover; client_no_context_takeover",
            ),
            (
                &["permessage-deflate; server_max_window_bits=15; client_max_window_bits=15"],
                "; server_max_window_bits=11; client_max_window_bits=11",
            ),
            (
                &[
                    "x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=8",
                    "permessage-deflate",
                ],
                "; server_max_window_bits=11; client_no_context_takeover",
            ),
        ] {
            assert_eq!(
                answer(offers),
                Some(format!("permessage-deflate{expected}")),
                "{offers:?}"
            );
        }
    }

    #[test]
    fn an_offer_that_cannot_be_kept_is_declined() {
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate;",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
        assert_eq!(
            negotiate([&b"permessage-deflate; \xff"[..]], DeflateConfig { window_bits: 11 }),
            None
        );
        let many = "x,".repeat(OFFERS_MAX) + "permessage-deflate";
        assert_eq!(answer(&[&many]), None, "behind too many others");
    }

    #[test]
    fn what_is_kept_follows_from_what_was_agreed() {
        let of = |offer: &str| negotiate([offer.as_bytes()], DeflateConfig { window_bits: 11 }).expect("acceptable");
        let both = of("permessage-deflate; client_max_window_bits");
        assert_eq!((both.client_window(), both.server_window()), (2048, 2048));
        let neither = of("permessage-deflate; server_no_context_takeover");
        assert_eq!((neither.client_window(), neither.server_window()), (0, 0));
    }
}
