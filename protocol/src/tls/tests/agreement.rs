//! Shows that what rustls seals is opened, and the other way round.

use super::*;
use crate::random::Random;

#[test]
fn texts_of_every_length_arrive_whole_whichever_the_suite_and_side() {
    let lens = [1, 2, 15, 16, 17, 255, 256, 1_000, 16_383, 16_384, 16_385, 40_000];
    for mut pair in Pair::all() {
        for len in lens {
            let text = text(len);
            assert_eq!(pair.send(&[&text]), text, "{:?}, {len} bytes sent", pair.facts.suite);
            let sent = sealed(&mut pair.theirs, &text);
            assert_eq!(
                pair.open(&sent, usize::MAX),
                text,
                "{:?}, {len} bytes",
                pair.facts.suite
            );
        }
        assert_eq!(pair.ours.held_len(), 0);
    }
}

#[test]
fn a_text_in_parts_is_one_record() {
    for suite in Suite::ALL {
        let mut pair = Pair::server(suite);
        let mut out = b"before".to_vec();
        pair.ours
            .seal(&[b"head", b"", b"er ", b"and payload", b""], &mut out)
            .unwrap();
        let record = out.split_off(6);
        assert_eq!((&out[..], record.len()), (&b"before"[..], pair.ours.sealed_len(18)));
        assert_eq!(usize::from(record[3]) << 8 | usize::from(record[4]), record.len() - 5);
        assert_eq!(given(&mut pair.theirs, &record).unwrap(), b"header and payload");
        assert_eq!(pair.send(&[]), b"");
        let mut out = Vec::new();
        pair.ours.seal(&[&text(40_000), &text(9_152)], &mut out).unwrap();
        assert_eq!(out.len(), pair.ours.sealed_len(3 << 14));
        assert_eq!(
            given(&mut pair.theirs, &out).unwrap(),
            [text(40_000), text(9_152)].concat()
        );
    }
}

/// rustls and we count on from the same number; OpenSSL counts from another one, and who chose at random would be right, too.
#[test]
fn in_tls_1_2_a_peer_chooses_the_nonces_of_aes_gcm() {
    for suite in [Suite::EcdheEcdsaAes128GcmSha256, Suite::EcdheRsaAes256GcmSha384] {
        let (client, mut server) = both(suite);
        let mut client = moving::with_keys(&client, moving::SENDING, |writer, field| {
            let mut bytes = field.bytes().to_vec();
            if field.number == moving::IV {
                bytes[4..].fill(0xee);
            }
            writer.bytes(field.number, &bytes);
        });
        let (mut out, mut plain) = (Vec::new(), Vec::new());
        client.seal(&[b"one"], &mut out).unwrap();
        client.seal(&[b", two"], &mut out).unwrap();
        assert_eq!(out[5..12], [0xee; 7]);
        assert_eq!(open(&mut server, &out, &mut plain).end, None);
        assert_eq!(plain, b"one, two");
    }
}

#[test]
fn records_arrive_whole_wherever_they_are_cut() {
    for mut pair in Pair::all() {
        let texts = [text(1), text(70), text(300), text(17)];
        for cut in 1..388 {
            let sent: Vec<u8> = texts.iter().flat_map(|text| sealed(&mut pair.theirs, text)).collect();
            let (front, rest) = sent.split_at(cut);
            let mut plain = pair.open(front, usize::MAX);
            plain.append(&mut pair.open(rest, usize::MAX));
            assert_eq!(plain, texts.concat(), "{:?}, cut at {cut}", pair.facts.suite);
        }
        for len in 1..8 {
            let sent: Vec<u8> = texts.iter().flat_map(|text| sealed(&mut pair.theirs, text)).collect();
            assert_eq!(
                pair.open(&sent, len),
                texts.concat(),
                "{:?}, {len} bytes at a time",
                pair.facts.suite
            );
        }
    }
}

#[test]
fn the_largest_record_arrives_byte_by_byte() {
    for suite in [Suite::Aes128GcmSha256, Suite::EcdheRsaAes256GcmSha384] {
        let mut pair = Pair::server(suite);
        let sent = sealed(&mut pair.theirs, &text(16_384));
        assert!(sent.len() <= RECORD_LEN_MAX);
        let (front, rest) = sent.split_at(16_300);
        assert_eq!(pair.open(front, 500), b"");
        assert!(pair.ours.held_len() >= 16_300);
        assert_eq!(pair.open(rest, 1), text(16_384));
        assert_eq!(pair.ours.held_len(), 0);
    }
}

#[test]
fn close_notify_goes_both_ways_and_ends_what_it_ends() {
    for mut pair in Pair::all() {
        let mut out = Vec::new();
        pair.ours.seal(&[b"last"], &mut out).unwrap();
        pair.ours.close(&mut out);
        let len = out.len();
        pair.ours.close(&mut out);
        pair.ours.alert(Fault::BadMac, &mut out);
        assert_eq!(out.len(), len, "once");
        assert_eq!(pair.ours.seal(&[b"more"], &mut out), Err(SealError::Closed));
        pair.theirs.read_tls(&mut &out[..]).unwrap();
        assert!(pair.theirs.process_new_packets().unwrap().peer_has_closed());

        pair.theirs.writer().write_all(b"bye").unwrap();
        pair.theirs.send_close_notify();
        let mut sent = taken(&mut pair.theirs);
        sent.extend_from_slice(b"whatever");
        let opened = pair.ours.open(&mut sent);
        assert_eq!(
            (&sent[..opened.plain_len], opened.end),
            (&b"bye"[..], Some(End::CloseNotify))
        );
        let opened = pair.ours.open(&mut [1, 2, 3, 4, 5, 6]);
        assert_eq!((opened.plain_len, opened.end, pair.ours.held_len()), (0, None, 0));
    }
}

/// Both talk at random, in texts and pieces of any length, change keys, and go on in another process now and then.
#[test]
fn whatever_two_sides_say_arrives_in_order() {
    let seed = Random::seed();
    for (number, mut pair) in (0..).zip(Pair::all()) {
        let mut random = Random::new(seed ^ number);
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        let mut wire = Vec::new();
        for step in 0..300 {
            let len = [0, 1, 40, 700, 20_000][random.below(5)] + random.below(30);
            match random.below(8) {
                0..=2 => {
                    said.append(&mut text(len));
                    wire.append(&mut sealed(&mut pair.theirs, &text(len)));
                }
                3 | 4 => assert_eq!(
                    pair.send(&[&text(len)]),
                    text(len),
                    "SIMULATION_SEED={seed}, step {step}"
                ),
                5 if pair.facts.version() == Version::Tls13 && wire.is_empty() => {
                    pair.theirs.refresh_traffic_keys().unwrap();
                    wire.append(&mut taken(&mut pair.theirs));
                }
                6 => pair.ours = moving::moved(&pair.ours),
                _ => {
                    let piece: Vec<u8> = wire.drain(..random.below(wire.len() + 1)).collect();
                    heard.append(&mut pair.open(&piece, 1 + random.below(3_000)));
                    assert!(said.starts_with(&heard), "SIMULATION_SEED={seed}, step {step}");
                }
            }
        }
        heard.append(&mut pair.open(&wire, usize::MAX));
        assert_eq!(heard.len(), said.len(), "SIMULATION_SEED={seed}");
        assert!(heard == said, "SIMULATION_SEED={seed}");
    }
}
