//! Writes what a shard tells of one frame or event as bytes, without allocating more than the buffer that it is written into, and reads
//! it back where there is time.

use super::{Direction, TEXT_LEN_MAX};

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// A client's WebSocket was opened.
    Connect,
    /// It has ended.
    Disconnect,
    /// A request did not become a client.
    Refused,
    /// `[2, …`
    Call,
    /// `[3, …`
    CallResult,
    /// `[4, …`
    CallError,
    /// `[5, …`
    CallResultError,
    /// `[6, …`
    Send,
    /// A text message that begins like none of these.
    Other,
    /// A binary message.
    Binary,
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// A close frame.
    Close,
}

/// One line's contents.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Record<'r> {
    /// Microseconds since the process started.
    pub at_us: u64,
    /// What happened; `None` is never written.
    pub kind: Option<Kind>,
    /// Of a frame.
    pub direction: Option<Direction>,
    /// The ClientId; empty where it is not known.
    pub client: &'r str,
    /// The connection's id; empty where there is none.
    pub connection: &'r str,
    /// Of a frame that has one.
    pub message_id: &'r str,
    /// The frame's, or that of the Call that it answers.
    pub action: &'r str,
    /// Where a client comes from, when it comes or is refused.
    pub address: &'r str,
    /// What was agreed on, when it comes.
    pub subprotocol: &'r str,
    /// Why it is refused, or has ended.
    pub reason: &'r str,
    /// A close code, or an HTTP status.
    pub code: u16,
    /// A frame's payload, in bytes.
    pub size: u64,
    /// A text message; `None`: it is another frame, or too long to be shown.
    pub text: Option<&'r str>,
}

impl Kind {
    /// As the line has it.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "each kind has its name")]
    pub const fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, own)| *own == name).map(|(kind, _)| *kind)
    }

    /// True of what a client or the backend said in text.
    #[must_use]
    pub fn is_text(self) -> bool {
        (Self::Call as u8..=Self::Other as u8).contains(&(self as u8))
    }
}

impl<'r> Record<'r> {
    /// Puts everything but the text into `head` (what was in it is gone). The record is `head` and the text behind it.
    pub fn write_head(&self, head: &mut Vec<u8>) {
        head.clear();
        let kind = self.kind.map_or(NONE, |kind| kind as u8);
        let direction = self.direction.map_or(NONE, |direction| direction as u8);
        head.extend([kind, direction, u8::from(self.text.is_some())]);
        head.extend(self.code.to_le_bytes());
        head.extend(self.at_us.to_le_bytes());
        head.extend(self.size.to_le_bytes());
        for text in self.texts() {
            let (text, _) = text.split_at(text.floor_char_boundary(usize::from(u8::MAX)));
            head.push(text.len() as u8);
            head.extend(text.as_bytes());
        }
        debug_assert!(self.text.is_none_or(|text| text.len() <= TEXT_LEN_MAX));
    }

    /// Reads one. `None`: these bytes were not written here.
    #[must_use]
    pub fn read(bytes: &'r [u8]) -> Option<Self> {
        let mut bytes = bytes;
        let [kind, direction, has_text] = take(&mut bytes)?;
        let mut record = Self {
            kind: Some(NAMES.get(usize::from(kind))?.0),
            direction: [Direction::In, Direction::Out].get(usize::from(direction)).copied(),
            code: u16::from_le_bytes(take(&mut bytes)?),
            at_us: u64::from_le_bytes(take(&mut bytes)?),
            size: u64::from_le_bytes(take(&mut bytes)?),
            ..Self::default()
        };
        for text in [
            &mut record.client,
            &mut record.connection,
            &mut record.message_id,
            &mut record.action,
            &mut record.address,
            &mut record.subprotocol,
            &mut record.reason,
        ] {
            let [len] = take(&mut bytes)?;
            let (own, rest) = bytes.split_at_checked(usize::from(len))?;
            *text = str::from_utf8(own).ok()?;
            bytes = rest;
        }
        if has_text == 1 {
            record.text = Some(str::from_utf8(bytes).ok()?);
        }
        Some(record)
    }

    fn texts(&self) -> [&'r str; 7] {
        [
            self.client,
            self.connection,
            self.message_id,
            self.action,
            self.address,
            self.subprotocol,
            self.reason,
        ]
    }
}

fn take<const LEN: usize>(bytes: &mut &[u8]) -> Option<[u8; LEN]> {
    let (own, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*own)
}

const NONE: u8 = u8::MAX;
/// In the order of their numbers.
const NAMES: [(Kind, &str); 13] = [
    (Kind::Connect, "connect"),
    (Kind::Disconnect, "disconnect"),
    (Kind::Refused, "refused"),
    (Kind::Call, "call"),
    (Kind::CallResult, "callresult"),
    (Kind::CallError, "callerror"),
    (Kind::CallResultError, "callresulterror"),
    (Kind::Send, "send"),
    (Kind::Other, "other"),
    (Kind::Binary, "binary"),
    (Kind::Ping, "ping"),
    (Kind::Pong, "pong"),
    (Kind::Close, "close"),
];
