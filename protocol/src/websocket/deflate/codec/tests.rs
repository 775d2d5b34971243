//! Sends streams of many messages to and from a peer that keeps one stream for ever.

use super::*;
use crate::random::Random;
use crate::websocket::deflate::{DeflateConfig, negotiate};

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
    let mut codec = Codec::default();
    for bits in [9, 10, 11, 12, 15] {
        let mut ours = client("permessage-deflate; client_max_window_bits", bits);
        let mut peer = Peer::new(bits, bits);
        let (mut plain_len, mut deflated_len) = (0, 0);
        for _ in 0..600 {
            let sent = message(&mut random);
            let received = codec
                .inflate(&mut ours, &peer.deflate(&sent), 1 << 20)
                .expect("a good message");
            assert_eq!(received, sent, "{bits} bits, from the peer");
            let sent = message(&mut random);
            if let Some(deflated) = codec.deflate(&mut ours, &sent) {
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
    let mut codec = Codec::default();
    let mut ours = client("permessage-deflate; server_no_context_takeover", 11);
    for _ in 0..50 {
        let sent = message(&mut random);
        let mut peer = Peer::new(15, 15);
        let deflated = peer.deflate(&sent);
        assert_eq!(codec.inflate(&mut ours, &deflated, 1 << 20), Ok(sent.clone()));
        if let Some(deflated) = codec.deflate(&mut ours, &sent) {
            assert_eq!(peer.inflate(deflated), sent);
        }
    }
    assert_eq!(ours.held_len(), 0);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let mut codec = Codec::default();
    let mut ours = client("permessage-deflate", 11);
    let bomb = Peer::new(15, 15).deflate(&vec![b' '; 4 << 20]);
    assert!(bomb.len() < 8192, "{}", bomb.len());
    assert_eq!(codec.inflate(&mut ours, &bomb, 100_000), Err(InflateError::TooLong));
    let at_the_limit = Peer::new(15, 15).deflate(&[b' '; 100_000]);
    let plain = codec.inflate(&mut ours, &at_the_limit, 100_000).expect("at the limit");
    assert_eq!(plain.len(), 100_000);
    assert!(plain.capacity() <= 100_001);
    let above = Peer::new(15, 15).deflate(&[b' '; 100_001]);
    assert_eq!(codec.inflate(&mut ours, &above, 100_000), Err(InflateError::TooLong));
    // Stored blocks of no bytes, without end: nothing comes of them.
    let empty = [0, 0, 0, 0xff, 0xff].repeat(20_000);
    assert_eq!(codec.inflate(&mut ours, &empty, 100_000), Ok(Vec::new()));
    // Empty blocks that each say they are the last one: more than a few are refused.
    let finals = [0x03, 0x00].repeat(15);
    assert_eq!(codec.inflate(&mut ours, &finals, 1000), Ok(Vec::new()));
    let finals = [0x03, 0x00].repeat(500_000);
    assert_eq!(codec.inflate(&mut ours, &finals, 1000), Err(InflateError::Malformed));
}

#[test]
fn a_stream_that_ends_in_the_middle_goes_on() {
    let mut codec = Codec::default();
    let mut ours = client("permessage-deflate; client_max_window_bits", 11);
    let mut finished = Vec::with_capacity(200);
    Compress::new(Compression::new(6), false)
        .compress_vec(b"hello, hello", &mut finished, flate2::FlushCompress::Finish)
        .expect("room");
    // RFC 7692, 7.2.3.4: a last block, and one byte of zeros so that the four bytes that were left off fit.
    let mut last = finished.clone();
    last.push(0);
    assert_eq!(
        codec.inflate(&mut ours, &last, 1000).as_deref(),
        Ok(&b"hello, hello"[..])
    );
    // The sample of 7.2.3.3: no compression.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(codec.inflate(&mut ours, &stored, 1000).as_deref(), Ok(&b"Hello"[..]));
    // The samples of 7.2.3.1 and 7.2.3.2: the second one refers to the first.
    let mut ours = client("permessage-deflate; client_max_window_bits", 11);
    let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(codec.inflate(&mut ours, &first, 1000).as_deref(), Ok(&b"Hello"[..]));
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(codec.inflate(&mut ours, &second, 1000).as_deref(), Ok(&b"Hello"[..]));
    // Several blocks, and one that says it is the last in the middle.
    let two = [&finished[..], &stored].concat();
    assert_eq!(
        codec.inflate(&mut ours, &two, 1000).as_deref(),
        Ok(&b"hello, helloHello"[..])
    );
}

#[test]
fn what_is_no_deflate_stream_is_refused() {
    let mut random = Random::new(3);
    let mut codec = Codec::default();
    let mut refused = 0;
    for _ in 0..2000 {
        let mut ours = client("permessage-deflate; client_max_window_bits", 9);
        let noise: Vec<u8> = (0..random.below(60)).map(|_| random.next() as u8).collect();
        refused += usize::from(codec.inflate(&mut ours, &noise, 1000).is_err());
    }
    assert!(refused > 1000, "{refused} of 2000");
    let mut ours = client("permessage-deflate; client_max_window_bits", 9);
    let refers_to_nothing = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(
        codec.inflate(&mut ours, &refers_to_nothing, 1000),
        Err(InflateError::Malformed)
    );
}
