//! Shows that records that are wrong are refused.

use super::*;

#[test]
fn a_record_with_one_changed_bit_is_nobodys_text() {
    for suite in Suite::ALL {
        let (mut client, server) = both(suite);
        let mut out = Vec::new();
        client.seal(&[b"[2,\"1\",\"Heartbeat\",{}]"], &mut out).unwrap();
        for at in 0..out.len() {
            for bit in [0, 4, 7] {
                let mut changed = out.clone();
                changed[at] ^= 1 << bit;
                let mut server = moving::moved(&server);
                let opened = server.open(&mut changed);
                assert_eq!(opened.plain_len, 0, "{suite:?}, byte {at}");
                // A record that is said to be longer has not come whole.
                match opened.end {
                    None => assert!(at == 3 || at == 4, "{suite:?}, byte {at}"),
                    Some(end) => assert!(matches!(end, End::Fault(_)), "{suite:?}, byte {at}: {end:?}"),
                }
                if at >= 5 {
                    assert_eq!(opened.end, Some(End::Fault(Fault::BadMac)), "{suite:?}, byte {at}");
                }
            }
        }
    }
}

#[test]
fn records_left_out_repeated_or_in_another_order_are_nobodys_text() {
    for suite in Suite::ALL {
        let (mut client, server) = both(suite);
        let records: Vec<Vec<u8>> = (0..3)
            .map(|number| {
                let mut out = Vec::new();
                client.seal(&[&[number; 40]], &mut out).unwrap();
                out
            })
            .collect();
        for (order, good) in [
            (&[0, 1, 2][..], 3),
            (&[1], 0),
            (&[0, 0], 1),
            (&[0, 2], 1),
            (&[0, 1, 0], 2),
        ] {
            let mut server = moving::moved(&server);
            let mut received: Vec<u8> = order.iter().flat_map(|number| records[*number].clone()).collect();
            let opened = server.open(&mut received);
            assert_eq!(opened.plain_len, good * 40, "{suite:?}, {order:?}");
            let end = (good < order.len()).then_some(End::Fault(Fault::BadMac));
            assert_eq!(opened.end, end, "{suite:?}, {order:?}");
        }
        // What the other side has sealed is not what this one has.
        let mut client = moving::moved(&client);
        assert_eq!(
            client.open(&mut records[0].clone()).end,
            Some(End::Fault(Fault::BadMac))
        );
    }
}

#[test]
fn headers_that_cannot_be_are_refused_before_their_record_has_come() {
    let (tls13, tls12) = (both(Suite::Aes128GcmSha256).1, both(Suite::EcdheEcdsaAes128GcmSha256).1);
    for (header, fault) in [
        ([23, 3, 3, 0x41, 0x01], Fault::Overflow),
        ([23, 3, 3, 0xff, 0xff], Fault::Overflow),
        ([23, 3, 3, 0, 0], Fault::Malformed),
        ([23, 3, 4, 0, 40], Fault::Version),
        ([23, 3, 1, 0, 40], Fault::Version),
        ([23, 2, 0, 0, 40], Fault::Version),
        (*b"GET /", Fault::Unexpected),
        ([24, 3, 3, 0, 40], Fault::Unexpected),
        ([19, 3, 3, 0, 40], Fault::Unexpected),
    ] {
        for records in [&tls13, &tls12] {
            let opened = moving::moved(records).open(&mut header.clone());
            assert_eq!(opened.end, Some(End::Fault(fault)), "{header:?}");
        }
    }
    for header in [[23, 3, 3, 0x41, 0x00], [23, 3, 3, 0, 1]] {
        let opened = moving::moved(&tls13).open(&mut header.clone());
        assert_eq!(opened.end, None, "{header:?}");
    }
    // Too short for a tag.
    for records in [&tls13, &tls12] {
        let opened = moving::moved(records).open(&mut [23, 3, 3, 0, 2, 7, 7]);
        assert_eq!(opened.end, Some(End::Fault(Fault::BadMac)));
    }
    // In the open, behind a handshake of TLS 1.3.
    for kind in [20, 21, 22] {
        let opened = moving::moved(&tls13).open(&mut [kind, 3, 3, 0, 1, 1]);
        assert_eq!(opened.end, Some(End::Fault(Fault::Unexpected)), "{kind}");
    }
}

#[test]
fn contents_that_cannot_be_are_refused() {
    for (kind, content, fault) in [
        (20, &[1][..], Fault::Unexpected),
        (0, &[], Fault::Unexpected),
        (24, &[1], Fault::Unexpected),
        (21, &[], Fault::Malformed),
        (21, &[2], Fault::Malformed),
        (21, &[2, 40, 0], Fault::Malformed),
        (22, &[], Fault::Unexpected),
        (22, &[24, 0, 0, 1, 2], Fault::Illegal),
        (22, &[24, 0, 0, 0], Fault::Malformed),
        (22, &[24, 0, 0, 2, 0, 0], Fault::Malformed),
        (22, &[24, 0, 0, 1, 0, 24], Fault::Unexpected),
        (22, &[1, 0, 0, 0], Fault::Unexpected),
        // A ticket, from a client.
        (22, &[4, 0, 0, 1, 0], Fault::Unexpected),
    ] {
        let (mut client, mut server) = both(Suite::Chacha20Poly1305Sha256);
        let mut record = client.any_record(kind, content);
        assert_eq!(
            server.open(&mut record).end,
            Some(End::Fault(fault)),
            "{kind}, {content:?}"
        );
        let mut out = Vec::new();
        server.alert(fault, &mut out);
        assert_eq!(
            open(&mut client, &out, &mut Vec::new()).end,
            Some(End::Alert(fault.alert()))
        );
    }
    for (kind, content, end) in [
        (20, &[1][..], End::Fault(Fault::Unexpected)),
        (21, &[2], End::Fault(Fault::Malformed)),
        (21, &[3, 40], End::Fault(Fault::Illegal)),
        (21, &[2, 40], End::Alert(40)),
        (21, &[1, 0], End::CloseNotify),
        (22, &[1, 0, 0, 0], End::Fault(Fault::Renegotiation)),
        (22, &[24, 0, 0, 1, 0], End::Fault(Fault::Unexpected)),
        (22, &[], End::Fault(Fault::Unexpected)),
    ] {
        let (mut client, mut server) = both(Suite::EcdheEcdsaChacha20Poly1305);
        let mut record = client.any_record(kind, content);
        assert_eq!(server.open(&mut record).end, Some(end), "{kind}, {content:?}");
    }
}

#[test]
fn warnings_end_nothing_where_the_version_has_them() {
    for (suite, alert, end) in [
        (Suite::Aes128GcmSha256, [1, 90], None),
        (Suite::Aes128GcmSha256, [1, 41], Some(End::Alert(41))),
        (Suite::EcdheEcdsaAes128GcmSha256, [1, 41], None),
        (Suite::EcdheEcdsaAes128GcmSha256, [1, 90], None),
    ] {
        let (mut client, mut server) = both(suite);
        let mut received = client.any_record(21, &alert);
        received.append(&mut client.any_record(23, b"text"));
        let mut plain = Vec::new();
        assert_eq!(
            open(&mut server, &received, &mut plain).end,
            end,
            "{suite:?}, {alert:?}"
        );
        assert_eq!(plain.is_empty(), end.is_some());
    }
}

#[test]
fn a_message_in_pieces_is_put_together_and_nothing_comes_between() {
    let (mut client, mut server) = both(Suite::Aes128GcmSha256);
    let mut received = client.any_record(22, &[24, 0]);
    received.append(&mut client.any_record(22, &[0, 1, 1]));
    let opened = open(&mut server, &received, &mut Vec::new());
    assert_eq!((opened.end, server.held_len()), (None, 0));

    let (mut client, mut server) = both(Suite::Aes128GcmSha256);
    let mut received = client.any_record(22, &[24, 0]);
    assert_eq!(open(&mut server, &received, &mut Vec::new()).end, None);
    let mut server = moving::moved(&server);
    received = client.any_record(23, b"text");
    let mut plain = Vec::new();
    assert_eq!(
        open(&mut server, &received, &mut plain).end,
        Some(End::Fault(Fault::Unexpected))
    );
    assert_eq!(plain, b"");
}

#[test]
fn records_without_content_end_somewhere() {
    for suite in [Suite::Aes128GcmSha256, Suite::EcdheEcdsaAes128GcmSha256] {
        let (mut client, mut server) = both(suite);
        for round in 0..3 {
            let mut received: Vec<u8> = (0..32).flat_map(|_| client.any_record(23, &[])).collect();
            received.append(&mut client.any_record(23, b"x"));
            assert_eq!(open(&mut server, &received, &mut Vec::new()).end, None, "round {round}");
        }
        let received: Vec<u8> = (0..33).flat_map(|_| client.any_record(23, &[])).collect();
        let opened = open(&mut server, &received, &mut Vec::new());
        assert_eq!(opened.end, Some(End::Fault(Fault::Fruitless)));
    }
}

#[test]
fn padding_is_no_text_and_too_much_of_it_is_refused() {
    let (mut client, mut server) = both(Suite::Aes128GcmSha256);
    for padding in [0, 1, 100, 16_380] {
        let received = client.padded_record(23, b"text", padding);
        let mut plain = Vec::new();
        assert_eq!(open(&mut server, &received, &mut plain).end, None);
        assert_eq!(plain, b"text");
    }
    let received = client.padded_record(23, b"text", 16_381);
    assert_eq!(
        open(&mut server, &received, &mut Vec::new()).end,
        Some(End::Fault(Fault::Overflow))
    );
    let (mut client, mut server) = both(Suite::EcdheEcdsaAes128GcmSha256);
    let received = client.any_record(23, &text(16_385));
    assert_eq!(
        open(&mut server, &received, &mut Vec::new()).end,
        Some(End::Fault(Fault::Overflow))
    );
}

#[test]
fn no_bytes_panic() {
    let mut random = crate::random::Random::new(crate::random::Random::seed());
    let records: Vec<Records> = Suite::ALL.into_iter().map(|suite| both(suite).1).collect();
    for _ in 0..2_000 {
        let mut records = moving::moved(&records[random.below(records.len())]);
        for _ in 0..random.below(4) {
            let mut bytes: Vec<u8> = (0..random.below(60)).map(|_| random.next() as u8).collect();
            if random.percent(70) {
                for (byte, good) in bytes.iter_mut().zip([23, 3, 3, 0, 20]) {
                    *byte = good;
                }
            }
            assert_eq!(open(&mut records, &bytes, &mut Vec::new()).plain_len, 0);
        }
    }
}
