//! Gives rustls what was received, a record at a time, and takes from it what is to be sent.

use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error};

use super::HandshakeError;
use crate::tls::records::RECORD_LEN_MAX;

/// One of the two sides of rustls.
pub(super) trait Side {
    type Data;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn common(&self) -> &CommonState;
}

/// How far a handshake is.
#[derive(Default)]
pub(super) struct Progress {
    /// What rustls has not done with, and what it has not been given.
    received: Vec<u8>,
    /// So much of it is whole records that rustls has been given.
    given: usize,
    /// What rustls has done with, in bytes.
    done: usize,
    is_over: bool,
}

impl Progress {
    /// True: it is done.
    pub(super) fn advance<S: Side>(
        &mut self,
        side: &mut S,
        received: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, HandshakeError> {
        if self.is_over {
            return Err(HandshakeError::Ended);
        }
        self.received.extend_from_slice(received);
        let result = self.check_first_byte().and_then(|()| self.run(side, out));
        self.is_over = result.is_err();
        result
    }

    /// What was received behind the handshake.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.received
    }

    pub(super) fn held_len(&self) -> usize {
        self.received.capacity()
    }

    fn run<S: Side>(&mut self, side: &mut S, out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        loop {
            match self.step(side, out) {
                Ok(true) => {}
                Ok(false) if !side.common().is_handshaking() => return Ok(true),
                Ok(false) => match self.next_record() {
                    Some(end) => self.given = end,
                    None if self.done + self.received.len() > HANDSHAKE_LEN_MAX => return Err(HandshakeError::TooLong),
                    None => return Ok(false),
                },
                Err(error) => {
                    // The alert. Nothing else is asked of it any more.
                    while side.common().wants_write() && matches!(self.step(side, out), Ok(true)) {}
                    return Err(error);
                }
            }
        }
    }

    /// False: it has done all that it can with what it was given.
    fn step<S: Side>(&mut self, side: &mut S, out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        let given = self.received.get_mut(..self.given).unwrap_or_default();
        let UnbufferedStatus { discard, state } = side.process(given);
        let result = match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let start = out.len();
                match data.encode(&mut []) {
                    Ok(_) => Ok(true),
                    Err(EncodeError::InsufficientSize(size)) => {
                        out.resize(start + size.required_size, 0);
                        let encoded = data.encode(out.get_mut(start..).unwrap_or_default());
                        encoded.map(|_| true).map_err(|_| HandshakeError::Ended)
                    }
                    Err(EncodeError::AlreadyEncoded) => Err(HandshakeError::Ended),
                }
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(true)
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(false),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(HandshakeError::Ended),
            // It is not given any, and is not told to take early data.
            Ok(_) => Err(Error::General("text before the end of the handshake".into()).into()),
            Err(error) => Err(error.into()),
        };
        let discard = discard.min(self.received.len());
        self.received.drain(..discard);
        self.given = self.given.saturating_sub(discard);
        self.done += discard;
        result
    }

    /// Where the first record ends that has not been given. One that is none is given as it is: rustls knows what to say of it.
    fn next_record(&self) -> Option<usize> {
        let rest = self.received.get(self.given..)?;
        let [kind, major, _, high, low] = *rest.first_chunk()?;
        let end = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
        if !KINDS.contains(&kind) || major != MAJOR || end > RECORD_LEN_MAX {
            return Some(self.received.len());
        }
        (rest.len() >= end).then_some(self.given + end)
    }

    fn check_first_byte(&self) -> Result<(), HandshakeError> {
        match self.received.first() {
            Some(first) if self.done > 0 || KINDS.contains(first) => Ok(()),
            Some(b'A'..=b'Z') => Err(HandshakeError::PlainHttp),
            Some(_) => Err(HandshakeError::NotTls),
            None => Ok(()),
        }
    }
}

/// So many bytes may be received before a handshake is done. A client with a chain of certificates needs some thousand.
pub const HANDSHAKE_LEN_MAX: usize = 32 * 1024;
/// change_cipher_spec, alert, handshake, application_data (RFC 8446, 5.1).
const KINDS: std::ops::RangeInclusive<u8> = 20..=23;
const MAJOR: u8 = 3;
const HEADER_LEN: usize = 5;
