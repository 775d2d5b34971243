//! Shakes hands with rustls, and with what is no TLS.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_suite_and_side_agrees_and_says_so() {
    let mut names = BTreeSet::new();
    for suite in Suite::ALL {
        for pair in [Pair::server(suite), Pair::client(suite)] {
            let facts = &pair.facts;
            assert_eq!((facts.suite, pair.ours.suite()), (suite, suite));
            assert_eq!(Suite::from_number(suite.number()), Some(suite));
            assert!(facts.has_alpn && !facts.is_resumed);
            names.insert((facts.version().name(), suite.name()));
        }
        let server = Pair::server(suite);
        assert_eq!(server.facts.server_name.as_deref(), Some("localhost"));
        assert_eq!(server.facts.peer_common_name(), None);
        assert_eq!(Pair::client(suite).facts.peer_common_name().as_deref(), Some("CP1"));
    }
    assert_eq!(names.len(), 9);
    assert!(names.contains(&("TLSv1.3", "TLS_AES_256_GCM_SHA384")));
    assert!(names.contains(&("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256")));
}

#[test]
fn a_handshake_in_pieces_of_any_length_is_the_same() {
    for suite in Suite::ALL {
        for len in [1, 2, 3, 5, 64, 500] {
            let theirs = ClientConnection::new(Arc::new(client_config(suite)), localhost()).unwrap();
            let mut pair = Pair::accepted(&server_config(suite), theirs.into(), len);
            assert_eq!(pair.send(&[b"x"]), b"x");
            let theirs = ServerConnection::new(Arc::new(server_config(suite))).unwrap();
            let mut pair = Pair::connected(&client_config(suite), theirs.into(), len);
            assert_eq!(pair.send(&[b"x"]), b"x");
        }
    }
}

#[test]
fn text_that_comes_with_the_end_of_the_handshake_is_not_lost() {
    for suite in Suite::ALL {
        let mut theirs: Connection = ClientConnection::new(Arc::new(client_config(suite)), localhost())
            .unwrap()
            .into();
        // Before the handshake is done, it keeps these.
        theirs.writer().write_all(b"GET /CP1 ").unwrap();
        theirs.writer().write_all(b"HTTP/1.1").unwrap();
        let mut handshake = ServerHandshake::new(&server_config(suite)).unwrap();
        let mut out = Vec::new();
        let mut received = Vec::new();
        while !handshake.advance(&std::mem::take(&mut received), &mut out).unwrap() {
            given(&mut theirs, &std::mem::take(&mut out)).unwrap();
            received = taken(&mut theirs);
        }
        let mut established = handshake.finish().unwrap();
        if suite.version() == Version::Tls12 {
            // Its own Finished comes first here: then the text behind it.
            given(&mut theirs, &out).unwrap();
            established.unopened.append(&mut taken(&mut theirs));
        }
        let opened = established.records.open(&mut established.unopened);
        assert_eq!(opened.end, None);
        assert_eq!(
            &established.unopened[..opened.plain_len],
            b"GET /CP1 HTTP/1.1",
            "{suite:?}"
        );
    }
}

#[test]
fn sessions_are_resumed_both_ways() {
    for suite in [
        Suite::Aes128GcmSha256,
        Suite::EcdheEcdsaAes256GcmSha384,
        Suite::EcdheRsaChacha20Poly1305,
    ] {
        let (server, client) = (server_config(suite), Arc::new(client_config(suite)));
        for is_resumed in [false, true, true] {
            let theirs = ClientConnection::new(client.clone(), localhost()).unwrap();
            let mut pair = Pair::accepted(&server, theirs.into(), usize::MAX);
            // Tickets come before the first text.
            assert_eq!(pair.send(&[b"x"]), b"x");
            assert_eq!(pair.facts.is_resumed, is_resumed, "{suite:?}, server");
            assert_eq!(pair.facts.server_name.as_deref(), Some("localhost"));
        }
        let (server, client) = (Arc::new(server), client_config(suite));
        for is_resumed in [false, true, true] {
            let theirs = ServerConnection::new(server.clone()).unwrap();
            let mut pair = Pair::connected(&client, theirs.into(), usize::MAX);
            assert_eq!(pair.send(&[b"x"]), b"x");
            assert_eq!(pair.facts.is_resumed, is_resumed, "{suite:?}, client");
        }
    }
}

#[test]
fn a_client_with_a_certificate_is_known_by_its_name_also_when_it_resumes() {
    for suite in [Suite::Aes128GcmSha256, Suite::EcdheRsaAes128GcmSha256] {
        let mut server = strict_server_config(suite);
        server.ticketer = ring::Ticketer::new().unwrap();
        let identity = Identity::of(suite);
        let client = ClientConfig::builder_with_provider(provider(suite))
            .with_protocol_versions(&[version(suite)])
            .unwrap()
            .with_root_certificates(roots(suite))
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
            .unwrap();
        let client = Arc::new(client);
        for is_resumed in [false, true] {
            let theirs = ClientConnection::new(client.clone(), localhost()).unwrap();
            let mut pair = Pair::accepted(&server, theirs.into(), usize::MAX);
            assert_eq!(pair.send(&[b"x"]), b"x");
            assert_eq!(pair.facts.is_resumed, is_resumed);
            assert_eq!(pair.facts.peer_common_name().as_deref(), Some("CP1"));
        }
    }
}

#[test]
fn whoever_shows_no_certificate_is_told_so() {
    for suite in [Suite::Aes128GcmSha256, Suite::EcdheRsaAes128GcmSha256] {
        let mut theirs: Connection = ClientConnection::new(Arc::new(client_config(suite)), localhost())
            .unwrap()
            .into();
        let mut handshake = ServerHandshake::new(&strict_server_config(suite)).unwrap();
        let mut out = Vec::new();
        let error = loop {
            given(&mut theirs, &std::mem::take(&mut out)).unwrap();
            match handshake.advance(&taken(&mut theirs), &mut out) {
                Ok(is_done) => assert!(!is_done),
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), "certificate", "{error}");
        let told = given(&mut theirs, &out);
        assert!(matches!(told, Err(rustls::Error::AlertReceived(_))), "{told:?}");
        let again = handshake.advance(b"", &mut out);
        assert!(matches!(again, Err(HandshakeError::Ended)));
    }
}

#[test]
fn a_certificate_that_is_not_believed_ends_it_with_an_alert() {
    let suite = Suite::Aes128GcmSha256;
    let mut theirs: Connection = ServerConnection::new(Arc::new(server_config(suite))).unwrap().into();
    let mut config = client_config(suite);
    let nobody = Identity::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(nobody.certificate.clone()).unwrap();
    config = ClientConfig::builder_with_provider(config.crypto_provider().clone())
        .with_protocol_versions(&[version(suite)])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut out = Vec::new();
    let mut handshake = ClientHandshake::new(&config, localhost(), &mut out).unwrap();
    given(&mut theirs, &std::mem::take(&mut out)).unwrap();
    let error = handshake.advance(&taken(&mut theirs), &mut out).unwrap_err();
    assert_eq!(error.reason(), "certificate", "{error}");
    assert!(given(&mut theirs, &out).is_err());
}

#[test]
fn what_is_no_tls_is_known_by_its_first_byte() {
    let config = server_config(Suite::Aes128GcmSha256);
    for (first, reason) in [
        (&b"GET / HTTP/1.1\r\n"[..], "plain_http"),
        (b"P", "plain_http"),
        (b"\x80\x2e\x01", "not_tls"),
        (b"\0", "not_tls"),
        (b"\r\n", "not_tls"),
    ] {
        let mut handshake = ServerHandshake::new(&config).unwrap();
        let mut out = Vec::new();
        assert!(!handshake.advance(b"", &mut out).unwrap());
        let error = handshake.advance(first, &mut out).unwrap_err();
        assert_eq!((error.reason(), out.len()), (reason, 0), "{first:?}");
    }
}

#[test]
fn nonsense_behind_a_good_first_byte_gets_an_alert() {
    let config = server_config(Suite::Aes128GcmSha256);
    for bytes in [
        &[22, 3, 1, 0, 4, 1, 0, 0, 0][..],
        &[22, 3, 1, 0, 5, 2, 0, 0, 1, 0],
        &[22, 3, 1, 0xff, 0xff],
        &[22, 9, 9, 0, 1, 0],
        &[23, 3, 3, 0, 1, 0],
        &[20, 3, 3, 0, 1, 2],
    ] {
        let mut handshake = ServerHandshake::new(&config).unwrap();
        let mut out = Vec::new();
        let error = handshake.advance(bytes, &mut out).unwrap_err();
        assert_eq!(error.reason(), "protocol", "{bytes:?}: {error}");
        assert!(out.first() == Some(&21) || out.is_empty(), "{bytes:?}: {out:?}");
    }
}

#[test]
fn a_version_or_suite_that_nobody_shares_is_told_so() {
    for (ours, theirs) in [
        (Suite::Aes128GcmSha256, Suite::EcdheEcdsaAes128GcmSha256),
        (Suite::EcdheEcdsaAes128GcmSha256, Suite::Aes128GcmSha256),
        (Suite::Aes128GcmSha256, Suite::Aes256GcmSha384),
    ] {
        let mut theirs: Connection = ClientConnection::new(Arc::new(client_config(theirs)), localhost())
            .unwrap()
            .into();
        let mut handshake = ServerHandshake::new(&server_config(ours)).unwrap();
        let mut out = Vec::new();
        let error = handshake.advance(&taken(&mut theirs), &mut out).unwrap_err();
        assert_eq!(error.reason(), "incompatible", "{error}");
        assert!(matches!(given(&mut theirs, &out), Err(rustls::Error::AlertReceived(_))));
    }
}

#[test]
fn a_handshake_is_bounded() {
    let config = server_config(Suite::Aes128GcmSha256);
    // A ClientHello of 60,000 bytes, in records as long as they may be.
    let mut handshake = ServerHandshake::new(&config).unwrap();
    let mut out = Vec::new();
    let mut hello = vec![1, 0, 0xea, 0x60];
    hello.resize(60_000, 0);
    let mut taken = 0;
    let error = loop {
        let piece = &hello[taken..taken + 16_000];
        let record = [&[22, 3, 1, 0x3e, 0x80][..], piece].concat();
        taken += piece.len();
        match handshake.advance(&record, &mut out) {
            Ok(is_done) => assert!(!is_done),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "too_long");
    assert!(taken <= HANDSHAKE_LEN_MAX + 16_000);
    assert!(handshake.held_len() <= 2 * HANDSHAKE_LEN_MAX);
}
