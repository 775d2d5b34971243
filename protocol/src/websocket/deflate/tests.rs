//! Sends streams of many messages to and from a peer that keeps one stream for ever.

use std::borrow::Cow;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::inflater::{PLAIN_KEPT, STREAMS_MAX};
use super::*;
use crate::random::Random;
use crate::websocket::WebSocketError;

/// A client's end: one inflater and one deflater that are never reset.
struct Peer {
    inflater: Decompress,
    deflater: Compress,
}

impl Peer {
    fn new(server_bits: u8, client_bits: u8) -> Self {
        Self {
            inflater: Decompress::new_with_window_bits(false, server_bits),
            deflater: Compress::new_with_window_bits(Compression::new(6), false, client_bits),
        }
    }

    fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() * 2 + 64);
        self.deflater
            .compress_vec(message, &mut out, FlushCompress::Sync)
            .expect("room");
        out.strip_suffix(&TAIL).expect("a sync flush").to_vec()
    }

    fn inflate(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 << 20);
        for part in [message, &TAIL] {
            self.inflater
                .decompress_vec(part, &mut out, FlushDecompress::Sync)
                .expect("a deflate stream");
        }
        out
    }
}

fn client(offer: &str, window_bits: u8) -> Deflate {
    let offers = [offer.as_bytes()];
    Deflate::new(negotiate(offers, DeflateConfig { window_bits }).expect("acceptable"))
}

fn too_long(limit: usize) -> WebSocketError {
    WebSocketError::TooLong { limit }
}

/// Something like the meter values of a charge point, or noise.
fn message(random: &mut Random) -> Vec<u8> {
    if random.percent(10) {
        let len = random.below(3000);
        return (0..len).map(|_| random.next() as u8).collect();
    }
    let samples: Vec<String> = (0..random.below(40))
        .map(|_| {
            let value = random.below(100_000);
            format!(r#"{{"value":"{value}","measurand":"Energy.Active.Import.Register","unit":"Wh"}}"#)
        })
        .collect();
    format!(
        r#"[2,"{}","MeterValues",{{"connectorId":1,"meterValue":[{}]}}]"#,
        random.next(),
        samples.join(",")
    )
    .into_bytes()
}

#[test]
fn a_peer_that_keeps_one_stream_for_ever_understands_every_message() {
    let mut random = Random::new(7692);
    let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
    for bits in [9, 10, 11, 12, 15] {
        let mut ours = client("permessage-deflate; client_max_window_bits", bits);
        let mut peer = Peer::new(bits, bits);
        let (mut plain_len, mut deflated_len) = (0, 0);
        for _ in 0..600 {
            let sent = message(&mut random);
            let received = inflater
                .inflate(&mut ours, &peer.deflate(&sent), 1 << 20)
                .expect("a good message");
            assert_eq!(received[..], sent, "{bits} bits, from the peer");
            let sent = message(&mut random);
            if let Some(deflated) = deflater.deflate(&mut ours, &sent) {
                plain_len += sent.len();
                deflated_len += deflated.len();
                assert_eq!(peer.inflate(deflated), sent, "{bits} bits, to the peer");
            }
        }
        assert!(deflated_len * 2 < plain_len, "{deflated_len} of {plain_len}");
        assert!(ours.held_len() <= 2 << bits, "{bits} bits keep {}", ours.held_len());
    }
}

#[test]
fn without_takeover_nothing_is_kept() {
    let mut random = Random::new(1);
    let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
    let mut ours = client("permessage-deflate; server_no_context_takeover", 11);
    for _ in 0..50 {
        let sent = message(&mut random);
        let mut peer = Peer::new(15, 15);
        let deflated = peer.deflate(&sent);
        assert_eq!(
            inflater.inflate(&mut ours, &deflated, 1 << 20).as_deref(),
            Ok(&sent[..])
        );
        if let Some(deflated) = deflater.deflate(&mut ours, &sent) {
            assert_eq!(peer.inflate(deflated), sent);
        }
    }
    assert_eq!(ours.held_len(), 0);
}

#[test]
fn a_bomb_ends_with_1009_and_takes_no_memory() {
    let mut inflater = Inflater::default();
    let mut ours = client("permessage-deflate", 11);
    let bomb = Peer::new(15, 15).deflate(&vec![b' '; 4 << 20]);
    assert!(bomb.len() * 1000 < 4 << 20, "{}", bomb.len());
    let held_max = PLAIN_KEPT;
    for len_max in [1, 1000, 100_000, 1 << 20] {
        let refused = inflater.inflate(&mut ours, &bomb, len_max);
        assert_eq!(refused, Err(too_long(len_max)));
        assert!(inflater.held_len() <= held_max);
    }
    assert_eq!(too_long(1000).close_code(), 1009);
    // Stored blocks of no bytes, as many as a message has room for: nothing comes of them.
    let empty = [0, 0, 0, 0xff, 0xff].repeat(200_000);
    assert_eq!(inflater.inflate(&mut ours, &empty, 1000).as_deref(), Ok(&[][..]));
    // Empty blocks that each say they are the last one: more than a few are refused.
    let finals = [0x03, 0x00].repeat(STREAMS_MAX - 1);
    assert_eq!(inflater.inflate(&mut ours, &finals, 1000).as_deref(), Ok(&[][..]));
    let finals = [0x03, 0x00].repeat(500_000);
    assert_eq!(inflater.inflate(&mut ours, &finals, 1000), Err(too_long(1000)));
    assert!(inflater.held_len() <= held_max);
}

#[test]
fn a_message_may_be_as_long_as_the_limit_and_takes_no_more_memory_than_it_is_long() {
    let mut inflater = Inflater::default();
    let mut random = Random::new(9);
    for len in [PLAIN_KEPT - 1, PLAIN_KEPT, PLAIN_KEPT + 1, 100_000, 200_000] {
        let mut ours = client("permessage-deflate; client_max_window_bits", 15);
        let mut peer = Peer::new(15, 15);
        // Twice, so that the second one refers to the first.
        let sent: Vec<u8> = (0..len).map(|_| b'a' + random.below(16) as u8).collect();
        for _ in 0..2 {
            let deflated = peer.deflate(&sent);
            let mut below = ours.clone();
            assert_eq!(inflater.inflate(&mut below, &deflated, len - 1), Err(too_long(len - 1)));
            let plain = inflater.inflate(&mut ours, &deflated, len).expect("at the limit");
            assert_eq!(plain[..], sent);
            if let Cow::Owned(plain) = plain {
                assert!(plain.capacity() <= len + 1);
            }
            assert!(inflater.held_len() <= PLAIN_KEPT);
        }
    }
}

#[test]
fn a_stream_that_ends_in_the_middle_goes_on() {
    let mut inflater = Inflater::default();
    let mut ours = client("permessage-deflate; client_max_window_bits", 11);
    let mut finished = Vec::with_capacity(200);
    Compress::new(Compression::new(6), false)
        .compress_vec(b"hello, hello", &mut finished, FlushCompress::Finish)
        .expect("room");
    // RFC 7692, 7.2.3.4: a last block, and one byte of zeros so that the four bytes that were left off fit.
    let mut last = finished.clone();
    last.push(0);
    assert_eq!(
        inflater.inflate(&mut ours, &last, 1000).as_deref(),
        Ok(&b"hello, hello"[..])
    );
    // The sample of 7.2.3.3: no compression.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(inflater.inflate(&mut ours, &stored, 1000).as_deref(), Ok(&b"Hello"[..]));
    // The samples of 7.2.3.1 and 7.2.3.2: the second one refers to the first.
    let mut ours = client("permessage-deflate; client_max_window_bits", 11);
    let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(inflater.inflate(&mut ours, &first, 1000).as_deref(), Ok(&b"Hello"[..]));
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(inflater.inflate(&mut ours, &second, 1000).as_deref(), Ok(&b"Hello"[..]));
    // Several blocks, and one that says it is the last in the middle.
    let two = [&finished[..], &stored].concat();
    assert_eq!(
        inflater.inflate(&mut ours, &two, 1000).as_deref(),
        Ok(&b"hello, helloHello"[..])
    );
}

#[test]
fn what_is_no_deflate_stream_is_refused() {
    let mut random = Random::new(3);
    let mut inflater = Inflater::default();
    let mut refused = 0;
    for _ in 0..2000 {
        let mut ours = client("permessage-deflate; client_max_window_bits", 9);
        let noise: Vec<u8> = (0..random.below(60)).map(|_| random.next() as u8).collect();
        refused += usize::from(inflater.inflate(&mut ours, &noise, 1000).is_err());
    }
    assert!(refused > 1000, "{refused} of 2000");
    let mut ours = client("permessage-deflate; client_max_window_bits", 9);
    let refers_to_nothing = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(
        inflater.inflate(&mut ours, &refers_to_nothing, 1000),
        Err(WebSocketError::Deflate)
    );
}
