//! Cuts what is said into packets, of which a socket takes no long ones, and puts it together again.
//!
//! A message is one packet, unless it is too long: then all of it comes in parts, each a kind and some of the bytes, one right
//! after the other.

use zeroize::Zeroizing;

use super::message::{Message, MessageError};

/// What has come in part.
#[derive(Debug, Default)]
pub struct Assembly {
    parts: Vec<u8>,
}

/// Calls `send` for each packet of the message; it is told whether it is the last one. Stops at the first that it refuses.
///
/// # Errors
/// What `send` says.
pub fn packets<E>(message: &Message, mut send: impl FnMut(&[u8], bool) -> Result<(), E>) -> Result<(), E> {
    // Some have secrets in them.
    let bytes = Zeroizing::new(message.to_bytes());
    if bytes.len() <= PACKET_LEN_MAX {
        return send(&bytes, true);
    }
    let mut parts = bytes.chunks(PACKET_LEN_MAX - 1).peekable();
    let mut packet = Zeroizing::new(Vec::with_capacity(PACKET_LEN_MAX));
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        packet.clear();
        packet.push(if is_last { LAST_PART } else { PART });
        packet.extend_from_slice(part);
        send(&packet, is_last)?;
    }
    Ok(())
}

impl Assembly {
    /// The message that is complete with this packet. `None`: it is not, or of a kind that this version does not know.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn add(&mut self, packet: &[u8]) -> Result<Option<Message>, MessageError> {
        match packet.split_first() {
            Some((&(PART | LAST_PART), part)) if self.parts.len() + part.len() > MESSAGE_LEN_MAX => {
                self.parts = Vec::new();
                Err(MessageError::TooLong)
            }
            Some((&PART, part)) => {
                self.parts.extend_from_slice(part);
                Ok(None)
            }
            Some((&LAST_PART, part)) => {
                let mut whole = std::mem::take(&mut self.parts);
                whole.extend_from_slice(part);
                Message::parse(&whole)
            }
            _ => Message::parse(packet),
        }
    }
}

/// The longest packet that is sent: far below what a socket takes by default.
pub const PACKET_LEN_MAX: usize = 64 * 1024;
/// More than the queues and messages in part of any client, as they are bounded by the configuration.
pub const MESSAGE_LEN_MAX: usize = if cfg!(test) { 1 << 20 } else { 1 << 28 };

/// The longest record of a client that goes into a message.
pub const RECORD_LEN_MAX: usize = MESSAGE_LEN_MAX - 64;

/// A part of a message that another one follows.
const PART: u8 = 254;
const LAST_PART: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(message: &Message) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let mut lasts = Vec::new();
        let all = packets(message, |packet, is_last| -> Result<(), ()> {
            sent.push(packet.to_vec());
            lasts.push(is_last);
            Ok(())
        });
        assert_eq!(all, Ok(()));
        assert!(lasts.pop() == Some(true) && !lasts.contains(&true));
        sent
    }

    #[test]
    fn messages_of_all_lengths_come_whole() {
        let mut assembly = Assembly::default();
        let overhead = sent(&Message::Client {
            number: 1,
            record: Vec::new(),
        })[0]
            .len();
        for len in [
            0,
            PACKET_LEN_MAX - overhead,
            PACKET_LEN_MAX - overhead + 1,
            PACKET_LEN_MAX,
            5 * PACKET_LEN_MAX,
        ] {
            let record = (0..len).map(|at| at as u8).collect();
            let message = Message::Client { number: 1, record };
            let packets = sent(&message);
            assert!(packets.iter().all(|packet| packet.len() <= PACKET_LEN_MAX));
            assert_eq!(packets.len() > 1, len + overhead > PACKET_LEN_MAX, "{len}");
            let (last, before) = packets.split_last().unwrap();
            for packet in before {
                assert_eq!(assembly.add(packet), Ok(None));
            }
            assert_eq!(assembly.add(last), Ok(Some(message)), "{len}");
        }
    }

    #[test]
    fn a_packet_that_is_refused_is_the_last_one() {
        let mut tries = 0;
        let record = vec![1; 3 * PACKET_LEN_MAX];
        let refused = packets(&Message::Client { number: 1, record }, |_, _| {
            tries += 1;
            if tries == 2 { Err("full") } else { Ok(()) }
        });
        assert_eq!((refused, tries), (Err("full"), 2));
    }

    #[test]
    fn what_is_too_long_is_refused_and_nothing_of_it_is_kept() {
        let mut assembly = Assembly {
            parts: vec![0; MESSAGE_LEN_MAX - 2],
        };
        assert_eq!(assembly.add(&[PART, 1, 2]), Ok(None));
        assert_eq!(assembly.add(&[LAST_PART, 3]), Err(MessageError::TooLong));
        assert_eq!(assembly.parts.capacity(), 0);
        assert_eq!(assembly.add(&Message::Ready.to_bytes()), Ok(Some(Message::Ready)));
        assert_eq!(assembly.add(&[]), Err(MessageError::CutOff));
    }
}
