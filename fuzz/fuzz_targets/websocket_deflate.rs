//! Plays a client that compresses with zlib, one stream each way for as long as the connection lasts: what either side sends
//! arrives, whatever window and takeover were agreed on; and any other bytes are to us what they are to zlib.
#![no_main]

mod zlib;

use std::borrow::Cow;
use std::ffi::c_int;

use libfuzzer_sys::fuzz_target;
use libz_sys as z;
use protocol::websocket::WebSocketError;
use protocol::websocket::deflate::{Agreement, Deflate, DeflateConfig, Deflater, Inflater, negotiate};

use zlib::{Stop, TAIL};

/// More than what an inflater has room for.
const MESSAGE_MAX: usize = 200_000;
const HELD_MAX: usize = 64 * 1024;
/// So many last blocks are let through in one message.
const STREAMS_MAX: usize = 16;

fuzz_target!(|input: &[u8]| {
    let mut input = Choices(input);
    let agreement = agree(&mut input);
    let mut client = Client::new(agreement, &mut input);
    let mut ours = Deflate::new(agreement);
    let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
    let mut texts = Vec::new();
    while !input.0.is_empty() {
        match input.below(8) {
            0..=2 => {
                let message = input.message(&mut texts);
                let deflated = client.deflate(&message, &mut input);
                // Seldom one that is too small.
                let len_max = match input.below(16) {
                    0 => message.len().saturating_sub(1),
                    1 => message.len(),
                    _ => MESSAGE_MAX,
                };
                let plain = inflater.inflate(&mut ours, &deflated, len_max);
                if message.len() > len_max {
                    return assert_eq!(plain, Err(WebSocketError::TooLong { limit: len_max }));
                }
                let plain = plain.expect("what zlib has deflated");
                assert_eq!(plain[..], message);
                check_memory(&plain, len_max);
            }
            3..=5 => {
                let message = input.message(&mut texts);
                if let Some(deflated) = deflater.deflate(&mut ours, &message) {
                    assert!(deflated.len() < message.len());
                    assert_eq!(client.inflate(deflated), message);
                }
            }
            6 => {
                // A message that travels as it is changes nothing; so does another process that goes on.
                input.message(&mut texts);
                (inflater, deflater) = (Inflater::default(), Deflater::default());
            }
            _ => {
                let noise = input.noise(&texts, &mut client);
                return compare(&mut inflater, &mut ours, &noise, 3 * input.below(60_000));
            }
        }
        let windows = agreement.client_window() + agreement.server_window();
        assert!(ours.held_len() <= windows, "{} of {windows}", ours.held_len());
    }
});

/// Any bytes at all are to us what they are to zlib.
fn compare(inflater: &mut Inflater, ours: &mut Deflate, message: &[u8], len_max: usize) {
    let history = ours.received.bytes().to_vec();
    let expected = inflate(&history, message, len_max);
    let plain = inflater.inflate(ours, message, len_max);
    match &plain {
        Ok(plain) => check_memory(plain, len_max),
        // Too long and malformed: which of the two is seen first depends on how much is inflated at once.
        Err(WebSocketError::Deflate) if inflate(&history, message, usize::MAX).is_err() => return,
        Err(_) => {}
    }
    assert_eq!(plain.as_deref(), expected.as_deref());
    assert!(inflater.held_len() <= HELD_MAX);
}

fn check_memory(plain: &Cow<'_, [u8]>, len_max: usize) {
    if let Cow::Owned(plain) = plain {
        assert!(plain.capacity() <= len_max + 1);
    }
}

/// What zlib finds in a message whose sender has kept `history`.
fn inflate(history: &[u8], message: &[u8], len_max: usize) -> Result<Vec<u8>, WebSocketError> {
    let too_long = WebSocketError::TooLong { limit: len_max };
    let whole = [message, &TAIL].concat();
    let (mut rest, mut plain) = (&whole[..], Vec::new());
    for _ in 0..STREAMS_MAX {
        let mut inflater = zlib::Inflater::new(15);
        let before = [history, &plain].concat();
        inflater.set_dictionary(&before[before.len().saturating_sub(1 << 15)..]);
        match inflater.inflate(&mut rest, &mut plain, len_max) {
            Stop::Full => return Err(too_long),
            Stop::Malformed => return Err(WebSocketError::Deflate),
            Stop::Dry => return Ok(plain),
            // The last block may have ended with the message, or within the four bytes that were put back.
            Stop::End if rest.len() <= TAIL.len() => return Ok(plain),
            Stop::End => {}
        }
    }
    Err(too_long)
}

/// An offer of a client, and what we answer.
fn agree(input: &mut Choices<'_>) -> Agreement {
    let mut offer = "permessage-deflate".to_owned();
    if input.coin() {
        offer.push_str("; server_no_context_takeover");
    }
    if input.coin() {
        offer.push_str("; client_no_context_takeover");
    }
    match input.below(8) {
        bits @ ..7 => offer.push_str(&format!("; server_max_window_bits={}", bits + 9)),
        _ => {}
    }
    match input.below(9) {
        bits @ ..7 => offer.push_str(&format!("; client_max_window_bits={}", bits + 9)),
        7 => offer.push_str("; client_max_window_bits"),
        _ => {}
    }
    let config = DeflateConfig {
        window_bits: 9 + input.below(7) as u8,
    };
    negotiate([offer.as_bytes()], config).expect("an offer that can be kept")
}

/// A client that reads of our answer what it has to keep to, and no more.
struct Client {
    deflater: zlib::Deflater,
    inflater: zlib::Inflater,
    window: u8,
    forgets: bool,
    server_forgets: bool,
    /// Of what was deflated since the deflater was made; it goes on with its window when it has ended a stream.
    sent: Vec<u8>,
}

impl Client {
    fn new(agreement: Agreement, input: &mut Choices<'_>) -> Self {
        let header = agreement.header();
        let bits = |name: &str| {
            let value = header.split_once(&format!("{name}="));
            value.map_or(15, |(_, rest)| {
                let digits = rest.split(';').next().expect("at least one part");
                digits.parse().expect("a number of bits")
            })
        };
        let window = bits("client_max_window_bits");
        let level = input.below(10) as c_int;
        let memory = 1 + input.below(9) as c_int;
        // Of the five strategies one is for Huffman codes alone, one for run lengths, one for fixed codes.
        let strategy = input.below(5) as c_int;
        Self {
            deflater: zlib::Deflater::new(level, window, memory, strategy),
            inflater: zlib::Inflater::new(bits("server_max_window_bits")),
            window,
            forgets: header.contains("client_no_context_takeover"),
            server_forgets: header.contains("server_no_context_takeover"),
            sent: Vec::new(),
        }
    }

    /// A message in one or more blocks, flushed in one way or another.
    fn deflate(&mut self, message: &[u8], input: &mut Choices<'_>) -> Vec<u8> {
        if self.forgets {
            self.deflater.reset();
            self.sent.clear();
        }
        let mut out = Vec::new();
        let mut rest = message;
        for _ in 0..input.below(4) {
            let (block, tail) = rest.split_at(input.below(rest.len().min(60_000) + 1));
            let flush = [
                z::Z_NO_FLUSH,
                z::Z_PARTIAL_FLUSH,
                z::Z_SYNC_FLUSH,
                z::Z_FULL_FLUSH,
                z::Z_BLOCK,
            ];
            self.deflater.deflate(block, flush[input.below(flush.len())], &mut out);
            rest = tail;
        }
        self.sent.extend_from_slice(message);
        if input.below(8) == 0 {
            // RFC 7692, 7.2.3.4: the last block says so, and a byte of zeros stands for an empty one.
            self.deflater.deflate(rest, z::Z_FINISH, &mut out);
            out.push(0);
            self.deflater.reset();
            let kept = self.sent.len().saturating_sub(1 << self.window);
            self.deflater.set_dictionary(&self.sent[kept..]);
            return out;
        }
        self.deflater.deflate(rest, z::Z_SYNC_FLUSH, &mut out);
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        } else {
            // Nothing was left to flush: an empty block, which has to be there (7.2.3.6).
            assert!(out.is_empty());
            out.push(0);
        }
        out
    }

    fn inflate(&mut self, message: &[u8]) -> Vec<u8> {
        if self.server_forgets {
            self.inflater.reset();
        }
        let whole = [message, &TAIL].concat();
        let (mut rest, mut plain) = (&whole[..], Vec::new());
        let stop = self.inflater.inflate(&mut rest, &mut plain, 2 * MESSAGE_MAX);
        assert_eq!((stop, rest), (Stop::Dry, &[][..]));
        plain
    }
}

/// The input, as a source of decisions; zeros when it is used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        assert!(bound <= 1 << 16);
        let wide = if bound > 256 {
            usize::from(self.byte()) << 8 | usize::from(self.byte())
        } else {
            usize::from(self.byte())
        };
        wide % bound
    }

    /// A message of literal bytes, runs, and pieces of what was said before; it is added to that.
    fn message(&mut self, texts: &mut Vec<u8>) -> Vec<u8> {
        let mut message = Vec::new();
        for _ in 0..self.below(12) {
            match self.below(4) {
                0 => {
                    let len = self.below(64).min(self.0.len());
                    message.extend_from_slice(self.0.split_off(..len).unwrap_or_default());
                }
                1 => {
                    let (byte, len) = (self.byte(), self.below(40_000));
                    message.resize(message.len() + len, byte);
                }
                _ => {
                    let place = texts.len() - self.below(60_000).min(texts.len());
                    let len = self.below(30_000).min(texts.len() - place);
                    message.extend_from_slice(&texts[place..place + len]);
                }
            }
        }
        message.truncate(MESSAGE_MAX);
        texts.extend_from_slice(&message);
        message
    }

    /// Bytes that may be anything: those of the input, or a good message with some of them changed.
    fn noise(&mut self, texts: &[u8], client: &mut Client) -> Vec<u8> {
        if self.coin() {
            return self.0.to_vec();
        }
        let message = self.message(&mut texts.to_vec());
        let mut noise = client.deflate(&message, self);
        for _ in 0..1 + self.below(3) {
            let place = self.below(noise.len().clamp(1, 60_000));
            if let Some(byte) = noise.get_mut(place) {
                *byte ^= self.byte();
            }
        }
        noise
    }
}
