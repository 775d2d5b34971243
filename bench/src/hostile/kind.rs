//! Names the kinds of attackers, and has what each of them sends.

use crate::websocket;

/// What an attacker does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Sends OCPP 2.1's SEND without end.
    Sends,
    /// Continues one message with empty frames.
    Empties,
    /// Sends pings that each want a pong, and reads them.
    Pings,
    /// Continues one message with frames of one byte, up to the largest there is.
    Crumbs,
    /// Sends SENDs of almost 1 MiB, 1 KiB at a time.
    Pieces,
    /// Sends half a message, and waits.
    Halves,
    /// Sends a handshake, and resets the connection.
    Storm,
    /// Shakes hands, by TLS, and goes when that is done.
    Handshakes,
    /// Sends a first message of TLS, the same every time, and goes when it is answered.
    Hellos,
    /// Sends half of one, and waits.
    Stalls,
    /// Sends what is no TLS.
    Garbage,
}

impl Kind {
    /// All of them, by the names that `--hostile=` takes.
    pub const ALL: [(&'static str, Self); 11] = [
        ("sends", Self::Sends),
        ("empties", Self::Empties),
        ("pings", Self::Pings),
        ("crumbs", Self::Crumbs),
        ("pieces", Self::Pieces),
        ("halves", Self::Halves),
        ("storm", Self::Storm),
        ("handshakes", Self::Handshakes),
        ("hellos", Self::Hellos),
        ("stalls", Self::Stalls),
        ("garbage", Self::Garbage),
    ];

    /// What `--hostile=` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// Whether it is TLS that is attacked.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Handshakes | Self::Hellos | Self::Stalls | Self::Garbage)
    }

    /// How many of them are there at once.
    pub(super) fn count(self) -> u32 {
        match self {
            Self::Halves | Self::Stalls => HALVES,
            Self::Storm => STORM_AT_ONCE,
            Self::Handshakes | Self::Hellos | Self::Garbage => STRANGERS,
            _ => OF_A_KIND,
        }
    }

    /// Whether it begins again when all was sent.
    pub(super) fn repeats(self) -> bool {
        self != Self::Halves
    }

    /// Bytes of one write.
    pub(super) fn write_len(self) -> usize {
        if self == Self::Pieces { 1 << 10 } else { ENDLESS_LEN }
    }

    /// So many of them in one go.
    pub(super) fn writes(self) -> usize {
        if self == Self::Pieces { 64 } else { 4 }
    }

    /// What is sent: whole frames, again and again where it repeats.
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Sends => endless(|bytes| {
                websocket::write_client_frame(bytes, websocket::TEXT, br#"[6,"1","N",{}]"#, MASK);
            }),
            Self::Empties => endless(|bytes| bytes.extend_from_slice(&EMPTY_CONTINUATION)),
            Self::Pings => {
                endless(|bytes| websocket::write_client_frame(bytes, websocket::PING, b"are you there?", MASK))
            }
            Self::Crumbs => {
                for place in 0..CRUMBS {
                    let byte = CRUMB_MESSAGE.get(place).copied().unwrap_or(b' ');
                    let first = if place == 0 {
                        TEXT_NOT_FINAL
                    } else {
                        CONTINUATION_NOT_FINAL
                    };
                    let first = if place + 1 == CRUMBS { FINAL_CONTINUATION } else { first };
                    bytes.extend_from_slice(&[first, MASKED | 1]);
                    bytes.extend_from_slice(&MASK);
                    bytes.push(byte ^ MASK[0]);
                }
                bytes
            }
            Self::Pieces => {
                let mut text = br#"[6,"1","N",{"a":""#.to_vec();
                text.resize(PIECES_LEN - 3, b'a');
                text.extend_from_slice(br#""}]"#);
                websocket::write_client_frame(&mut bytes, websocket::TEXT, &text, MASK);
                bytes
            }
            Self::Halves => half_message(),
            Self::Storm | Self::Handshakes | Self::Hellos | Self::Stalls | Self::Garbage => bytes,
        }
    }
}

/// Reads the names of kinds, with commas between them.
///
/// # Errors
/// In words: a name that is none.
pub fn parse_kinds(text: &str) -> Result<Vec<Kind>, String> {
    text.split(',')
        .map(|name| {
            let known = Kind::ALL.iter().find(|(known, _)| *known == name);
            known.map(|(_, kind)| *kind).ok_or_else(|| {
                let names: Vec<_> = Kind::ALL.iter().map(|(name, _)| *name).collect();
                format!("--hostile={name}: the kinds are {}", names.join(", "))
            })
        })
        .collect()
}

fn endless(add: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < ENDLESS_LEN {
        add(&mut bytes);
    }
    bytes
}

/// The first half of a message of [`HALF_LEN`] bytes.
fn half_message() -> Vec<u8> {
    let mut text = br#"[2,"1","Half",{"a":""#.to_vec();
    text.resize(HALF_LEN, b'a');
    let mut frame = Vec::new();
    websocket::write_client_frame(&mut frame, websocket::TEXT, &text, MASK);
    frame.truncate(HALF_LEN / 2);
    frame
}

/// Clients of each kind that sends without end.
pub const OF_A_KIND: u32 = 16;
/// Connections of each kind that never become clients.
pub const STRANGERS: u32 = 64;
/// Clients with half a message.
pub const HALVES: u32 = 400;
/// Bytes of the message of which they send half.
pub const HALF_LEN: usize = 512 << 10;
/// Connections per second that are given up.
pub const STORM_PER_SECOND: u64 = 500;

const STORM_AT_ONCE: u32 = 100;
const ENDLESS_LEN: usize = 64 << 10;
const MASK: [u8; 4] = [7, 77, 177, 217];
/// Bytes of a message in pieces; with its frame it is below the 1 MiB that a message may have.
const PIECES_LEN: usize = (1 << 20) - 64;
/// Bytes of a message in crumbs, one in each frame: blanks follow the text.
const CRUMBS: usize = 100_000;
const CRUMB_MESSAGE: &[u8] = br#"[6,"1","N",{}]"#;
/// RFC 6455, 5.2: the first byte of a frame, and the mask bit of the second.
const TEXT_NOT_FINAL: u8 = 0x01;
const CONTINUATION_NOT_FINAL: u8 = 0x00;
const FINAL_CONTINUATION: u8 = 0x80;
const MASKED: u8 = 0x80;
/// RFC 6455, 5.2: not final, opcode 0, masked, no payload.
const EMPTY_CONTINUATION: [u8; 6] = [0x00, 0x80, 7, 77, 177, 217];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_whole_frames_and_half_a_message_is_half() {
        for (name, kind) in Kind::ALL {
            let bytes = kind.bytes();
            assert_eq!(kind.name(), name);
            if kind == Kind::Halves || kind == Kind::Storm || kind.is_tls() {
                continue;
            }
            let mut rest = &bytes[..];
            let mut frames = 0;
            while !rest.is_empty() {
                let header = websocket::Header::parse(rest).unwrap().unwrap();
                rest = &rest[header.frame_len()..];
                frames += 1;
            }
            assert!(frames == 1 || bytes.len() / frames <= 64, "{name}: {frames} frames");
        }
        let half = half_message();
        let header = websocket::Header::parse(&half).unwrap().unwrap();
        assert_eq!((header.payload_len, half.len()), (HALF_LEN, HALF_LEN / 2));
    }

    #[test]
    fn kinds_have_names_and_others_are_refused() {
        assert_eq!(parse_kinds("pings,storm"), Ok(vec![Kind::Pings, Kind::Storm]));
        assert!(parse_kinds("pongs").unwrap_err().contains("pings, crumbs"));
        assert!(parse_kinds("").is_err());
    }
}
