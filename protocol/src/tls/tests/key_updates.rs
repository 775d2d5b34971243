//! Shows that keys may change on either side (RFC 8446, 4.6.3 and 5.5).

use super::*;

fn of_tls13() -> impl Iterator<Item = Suite> {
    Suite::ALL.into_iter().filter(|suite| suite.version() == Version::Tls13)
}

#[test]
fn the_peer_changes_its_key_and_gets_ours() {
    for suite in of_tls13() {
        for mut pair in [Pair::server(suite), Pair::client(suite)] {
            for _ in 0..5 {
                let mut sent = sealed(&mut pair.theirs, b"before");
                pair.theirs.refresh_traffic_keys().unwrap();
                sent.append(&mut taken(&mut pair.theirs));
                sent.append(&mut sealed(&mut pair.theirs, b", behind"));
                assert_eq!(pair.open(&sent, 7), b"before, behind");
                let mut out = Vec::new();
                pair.ours.seal(&[b"answer"], &mut out).unwrap();
                assert_eq!(
                    out.len(),
                    pair.ours.sealed_len(6) + pair.ours.sealed_len(5),
                    "with our key update"
                );
                assert_eq!(given(&mut pair.theirs, &out).unwrap(), b"answer");
                out.clear();
                pair.ours.seal(&[b"and more"], &mut out).unwrap();
                assert_eq!(out.len(), pair.ours.sealed_len(8), "once");
                assert_eq!(given(&mut pair.theirs, &out).unwrap(), b"and more");
            }
        }
    }
}

#[test]
fn our_key_changes_when_it_has_sealed_enough() {
    for suite in of_tls13().filter(|suite| *suite != Suite::Chacha20Poly1305Sha256) {
        let (client, server) = both(suite);
        let (mut client, mut server) = (
            near_the_end(&client, moving::RECEIVING),
            near_the_end(&server, moving::SENDING),
        );
        for number in 0..5 {
            let (mut out, mut plain) = (Vec::new(), Vec::new());
            server.seal(&[b"text"], &mut out).unwrap();
            let has_update = out.len() > server.sealed_len(4);
            assert_eq!(has_update, number == 1, "{number}");
            assert_eq!(open(&mut client, &out, &mut plain).end, None);
            assert_eq!(plain, b"text");
        }
    }
}

#[test]
fn tls_1_2_has_no_next_key_and_closes() {
    for suite in [Suite::EcdheRsaAes128GcmSha256, Suite::EcdheEcdsaAes256GcmSha384] {
        let (client, server) = both(suite);
        let (mut client, mut server) = (
            near_the_end(&client, moving::RECEIVING),
            near_the_end(&server, moving::SENDING),
        );
        let (mut out, mut plain) = (Vec::new(), Vec::new());
        server.seal(&[b"last"], &mut out).unwrap();
        assert_eq!(server.seal(&[b"more"], &mut out), Err(SealError::Exhausted));
        server.close(&mut out);
        assert_eq!(open(&mut client, &out, &mut plain).end, Some(End::CloseNotify));
        assert_eq!(plain, b"last");
    }
}

/// The same, but that this direction has come to the last record but one of its key.
fn near_the_end(records: &Records, direction: u32) -> Records {
    moving::with_keys(records, direction, |writer, field| match field.number {
        moving::SEQUENCE => writer.number(field.number, (1 << 24) - 2),
        _ => writer.bytes(field.number, field.bytes()),
    })
}
