//! Takes apart what a server says.

use std::ops::Range;

use memchr::memchr;

use super::info::Info;

/// Reads operations from bytes that come in pieces. After a [`Fault`] there is nothing more to be had of it.
#[derive(Debug)]
pub struct Decoder {
    payload_len_max: usize,
    buffer: Vec<u8>,
    /// Where in it begins what has not been read.
    at: usize,
    /// So many bytes behind `at` hold no end of a line.
    searched: usize,
    state: State,
}

/// What a server says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation<'b> {
    /// Who it is: at first, and whenever that changes.
    Info(Box<Info>),
    /// Something was published where there is a subscription.
    Message(Message<'b>),
    /// The same, and it was longer than is taken here: it has been passed over.
    TooLong {
        /// Of which subscription.
        sid: u64,
        /// The length, in bytes; headers included.
        len: usize,
    },
    /// It wants a PONG.
    Ping,
    /// The answer to a PING.
    Pong,
    /// Said of everything, where that is asked for. It is not.
    Ok,
    /// Something is wrong: what stands between the quotation marks. Mostly it closes the connection then.
    Error(&'b [u8]),
}

/// What was published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message<'b> {
    /// By which this client knows the subscription.
    pub sid: u64,
    /// Where. Not always UTF-8: that is the publisher's choice.
    pub subject: &'b [u8],
    /// Where answers are to go.
    pub reply: Option<&'b [u8]>,
    /// The status in its headers, if there is one: the server itself has said it.
    pub status: Option<u16>,
    /// What; without headers.
    pub payload: &'b [u8],
}

impl Message<'_> {
    /// Whether it says that nobody subscribes to where something was published with a reply.
    #[must_use]
    pub fn is_no_responders(&self) -> bool {
        self.status == Some(NO_RESPONDERS) && self.payload.is_empty()
    }
}

/// Why it is not the protocol. Nothing behind it can be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A line that does not end.
    #[error("a line is longer than {limit} bytes")]
    LineTooLong {
        /// As long as it may be.
        limit: usize,
    },
    /// An operation that is unknown, or has another form than the protocol gives it.
    #[error("a line is none of the protocol")]
    Line,
    /// An INFO that is no JSON object, or says something of another type.
    #[error("its INFO cannot be read")]
    Info,
    /// A payload that another length was said of.
    #[error("a payload does not end where it should")]
    PayloadEnd,
}

#[derive(Clone, Debug)]
enum State {
    Line,
    /// At the head of a message that is not whole yet.
    Payload(Head),
    /// In the payload of one that is too long.
    Passing {
        left: usize,
    },
}

/// The line in front of a message; places count from the line's first byte.
#[derive(Clone, Debug)]
struct Head {
    line_len: usize,
    sid: u64,
    subject: Range<usize>,
    reply: Option<Range<usize>>,
    headers_len: usize,
    total_len: usize,
}

/// An operation as places in the buffer.
enum Found {
    Nothing,
    Info(Box<Info>),
    Message { begin: usize, head: Head },
    TooLong { sid: u64, len: usize },
    Ping,
    Pong,
    Ok,
    Error(Range<usize>),
}

impl Decoder {
    /// For payloads, headers included, of at most `payload_len_max` bytes; longer ones are passed over.
    #[must_use]
    pub fn new(payload_len_max: usize) -> Self {
        Self {
            payload_len_max,
            buffer: Vec::new(),
            at: 0,
            searched: 0,
            state: State::Line,
        }
    }

    /// Takes what has been received. [`next`](Self::next) is to be called until there is nothing.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_LEN {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that have come of something that is not whole.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// The next operation that is whole.
    ///
    /// # Errors
    /// [`Fault`]: the same one again and again.
    #[expect(clippy::should_implement_trait, reason = "what it gives is borrowed from it")]
    pub fn next(&mut self) -> Result<Option<Operation<'_>>, Fault> {
        let found = self.advance()?;
        let place = |range: Range<usize>| self.buffer.get(range).unwrap_or_default();
        Ok(Some(match found {
            Found::Nothing => return Ok(None),
            Found::Info(info) => Operation::Info(info),
            Found::Message { begin, head } => {
                let behind = |range: Range<usize>| place(begin + range.start..begin + range.end);
                let payload = head.line_len + head.headers_len..head.line_len + head.total_len;
                Operation::Message(Message {
                    sid: head.sid,
                    subject: behind(head.subject),
                    reply: head.reply.map(behind),
                    status: status(behind(head.line_len..payload.start)),
                    payload: behind(payload),
                })
            }
            Found::TooLong { sid, len } => Operation::TooLong { sid, len },
            Found::Ping => Operation::Ping,
            Found::Pong => Operation::Pong,
            Found::Ok => Operation::Ok,
            Found::Error(text) => Operation::Error(place(text)),
        }))
    }

    fn advance(&mut self) -> Result<Found, Fault> {
        loop {
            match &mut self.state {
                State::Line => {
                    let Some(len) = self.line_len()? else {
                        return Ok(Found::Nothing);
                    };
                    let begin = self.at;
                    let line = self.buffer.get(begin..begin + len).unwrap_or_default();
                    let found = match read(line)? {
                        Read::Info(info) => Found::Info(info),
                        Read::Ping => Found::Ping,
                        Read::Pong => Found::Pong,
                        Read::Ok => Found::Ok,
                        Read::Error(text) => Found::Error(begin + text.start..begin + text.end),
                        Read::Head(head) if head.total_len <= self.payload_len_max => {
                            self.state = State::Payload(head);
                            continue;
                        }
                        Read::Head(head) => {
                            self.state = State::Passing { left: head.total_len };
                            Found::TooLong {
                                sid: head.sid,
                                len: head.total_len,
                            }
                        }
                    };
                    self.at += len;
                    self.searched = 0;
                    return Ok(found);
                }
                State::Payload(head) => {
                    let end = self.at + head.line_len + head.total_len;
                    let Some(mark) = self.buffer.get(end..end + LINE_END.len()) else {
                        return Ok(Found::Nothing);
                    };
                    if mark != LINE_END {
                        return Err(Fault::PayloadEnd);
                    }
                    let head = head.clone();
                    let begin = self.at;
                    self.at = end + LINE_END.len();
                    self.searched = 0;
                    self.state = State::Line;
                    return Ok(Found::Message { begin, head });
                }
                State::Passing { left: 0 } => {
                    let Some(mark) = self.buffer.get(self.at..self.at + LINE_END.len()) else {
                        return Ok(Found::Nothing);
                    };
                    if mark != LINE_END {
                        return Err(Fault::PayloadEnd);
                    }
                    self.at += LINE_END.len();
                    self.state = State::Line;
                }
                State::Passing { left } => {
                    let passed = (*left).min(self.buffer.len() - self.at);
                    if passed == 0 {
                        return Ok(Found::Nothing);
                    }
                    *left -= passed;
                    self.at += passed;
                }
            }
        }
    }

    /// The length of the line at `at`, its end included; `None`: it is not whole.
    fn line_len(&mut self) -> Result<Option<usize>, Fault> {
        let bytes = self.buffer.get(self.at..).unwrap_or_default();
        let limit = match bytes
            .get(..INFO.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(INFO))
        {
            true => INFO_LEN_MAX,
            false => LINE_LEN_MAX,
        };
        let unsearched = bytes.get(self.searched..).unwrap_or_default();
        let end = memchr(b'\n', unsearched).map(|at| self.searched + at + 1);
        match end {
            Some(len) if len <= limit => Ok(Some(len)),
            None if bytes.len() < limit => {
                self.searched = bytes.len();
                Ok(None)
            }
            _ => Err(Fault::LineTooLong { limit }),
        }
    }
}

/// A line that was understood.
enum Read {
    Info(Box<Info>),
    Head(Head),
    Ping,
    Pong,
    Ok,
    Error(Range<usize>),
}

fn read(whole: &[u8]) -> Result<Read, Fault> {
    let line = whole.strip_suffix(LINE_END).ok_or(Fault::Line)?;
    let mut words = Words { line, at: 0 };
    let name = words.next().ok_or(Fault::Line)?;
    if name.start != 0 {
        return Err(Fault::Line);
    }
    let rest = name.end..line.len();
    let name = line.get(name).unwrap_or_default();
    let is = |operation: &[u8]| name.eq_ignore_ascii_case(operation);
    let bare = |read| if rest.is_empty() { Ok(read) } else { Err(Fault::Line) };
    if is(b"MSG") {
        head(whole.len(), words, false).map(Read::Head)
    } else if is(b"HMSG") {
        head(whole.len(), words, true).map(Read::Head)
    } else if is(b"PING") {
        bare(Read::Ping)
    } else if is(b"PONG") {
        bare(Read::Pong)
    } else if is(b"+OK") {
        bare(Read::Ok)
    } else if is(b"-ERR") {
        Ok(Read::Error(unquoted(line, rest)))
    } else if is(INFO) {
        let text = line.get(rest).unwrap_or_default();
        Info::read(text).map(Box::new).map(Read::Info).ok_or(Fault::Info)
    } else {
        Err(Fault::Line)
    }
}

/// `subject sid [reply] [headers' length] length`.
fn head(line_len: usize, words: Words<'_>, has_headers: bool) -> Result<Head, Fault> {
    let line = words.line;
    let text = |word: &Range<usize>| line.get(word.clone()).unwrap_or_default();
    let mut found = [const { None }; ARGUMENTS_MAX];
    let mut count = 0;
    for word in words {
        *found.get_mut(count).ok_or(Fault::Line)? = Some(word);
        count += 1;
    }
    let lengths = if has_headers { 2 } else { 1 };
    let mut found = found.into_iter().flatten();
    let mut next = || found.next().ok_or(Fault::Line);
    let (subject, sid) = (next()?, number(text(&next()?))?);
    let reply = match count.checked_sub(2 + lengths) {
        Some(0) => None,
        Some(1) => Some(next()?),
        _ => return Err(Fault::Line),
    };
    let mut len = || {
        let len = number(text(&next()?))?;
        usize::try_from(len)
            .ok()
            .filter(|len| *len <= TOTAL_LEN_MAX)
            .ok_or(Fault::Line)
    };
    let headers_len = if has_headers { len()? } else { 0 };
    let total_len = len()?;
    if headers_len > total_len {
        return Err(Fault::Line);
    }
    Ok(Head {
        line_len,
        sid,
        subject,
        reply,
        headers_len,
        total_len,
    })
}

fn number(digits: &[u8]) -> Result<u64, Fault> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(digits).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok()).ok_or(Fault::Line)
}

/// `NATS/1.0 503 No Responders`: its number.
fn status(headers: &[u8]) -> Option<u16> {
    let rest = headers.strip_prefix(b"NATS/1.0")?;
    let mut words = Words { line: rest, at: 0 };
    let digits = words.next().filter(|word| word.start > 0 && word.len() == 3)?;
    let digits = rest.get(digits)?;
    u16::try_from(number(digits).ok()?).ok()
}

/// The place of a text without white space and quotation marks around it.
fn unquoted(line: &[u8], mut place: Range<usize>) -> Range<usize> {
    let is_around = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t' | b'\''));
    while !place.is_empty() && is_around(line.get(place.start)) {
        place.start += 1;
    }
    while !place.is_empty() && is_around(line.get(place.end - 1)) {
        place.end -= 1;
    }
    place
}

/// The places of what stands between white space.
struct Words<'l> {
    line: &'l [u8],
    at: usize,
}

impl Iterator for Words<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.line.get(self.at..)?;
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let begin = rest.iter().position(|byte| !is_space(byte))?;
        let word = rest.get(begin..)?;
        let len = word.iter().position(is_space).unwrap_or(word.len());
        let start = self.at + begin;
        self.at = start + len;
        Some(start..self.at)
    }
}

const INFO: &[u8] = b"INFO";
const LINE_END: &[u8] = b"\r\n";
/// As servers have it for clients (`max_control_line`).
const LINE_LEN_MAX: usize = 4096;
/// An INFO names each address of each server of theirs.
const INFO_LEN_MAX: usize = 64 * 1024;
/// No server allows as much (`max_payload`): 64 MiB at most.
const TOTAL_LEN_MAX: usize = 1 << 30;
/// Between two pieces, once a long message has gone.
const KEPT_LEN: usize = 256 * 1024;
/// Of HMSG: subject, sid, reply, and two lengths.
const ARGUMENTS_MAX: usize = 5;
const NO_RESPONDERS: u16 = 503;

#[cfg(test)]
mod tests;
