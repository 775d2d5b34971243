//! A good opening handshake is taken, and every other one is refused before the backend is asked: `upgrade-1` to
//! `upgrade-14`.

use support::{Backend, Client, Handshake, Http, Proxy, json};

/// Connects one more client and asserts that `/connect` was asked for it alone.
#[track_caller]
fn assert_backend_was_not_asked(backend: &Backend, proxy: &Proxy) {
    drop(proxy.client("the-first-that-asks"));
    let asked: Vec<_> = backend
        .seen("/connect")
        .iter()
        .map(|request| request.text().to_owned())
        .collect();
    assert_eq!(asked, ["\"the-first-that-asks\""]);
}

#[test]
fn a_valid_handshake_opens_a_websocket_and_asks_the_backend_once() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let client = proxy.client("CP1");
    assert_eq!(client.subprotocol(), None);
    let request = backend.take("/connect");
    assert_eq!(request.target, "/connect");
    assert_eq!(request.text(), "\"CP1\"");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("host"), Some(&*backend.address().to_string()));
    assert_eq!(request.header("x-client-id"), Some("CP1"));
    assert!(!request.header("x-connection-id").unwrap().is_empty());
    assert_eq!(request.header("x-subprotocol"), None);
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(backend.seen("/connect").len(), 1);
}

#[test]
fn header_names_and_tokens_of_a_handshake_are_read_in_any_case_and_in_lists() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let handshake = Handshake::new("CP1")
        .without("Upgrade")
        .header("uPGRADE", "WebSocket")
        .replace("Connection", "keep-alive, upgrade");
    handshake.open(proxy.listen);
    backend.take("/connect");
}

#[test]
fn a_request_that_is_no_handshake_is_refused_and_the_backend_is_not_asked() {
    let good = || Handshake::new("CP1");
    let cases = [
        ("no Upgrade", good().without("Upgrade"), 400),
        ("another Upgrade", good().replace("Upgrade", "h2c"), 400),
        ("no Connection", good().without("Connection"), 400),
        ("another Connection", good().replace("Connection", "keep-alive"), 400),
        ("no key", good().without("Sec-WebSocket-Key"), 400),
        (
            "short key",
            good().replace("Sec-WebSocket-Key", "dGhlIHNhbXBsZQ=="),
            400,
        ),
        (
            "key not base64",
            good().replace("Sec-WebSocket-Key", "!!!!IHNhbXBsZSBub25jZQ=="),
            400,
        ),
        (
            "two keys",
            good().header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            400,
        ),
        ("HTTP/1.0", good().start("GET /CP1 HTTP/1.0"), 400),
        ("a body", good().header("Content-Length", "2").followed_by("hi"), 400),
        (
            "a chunked body",
            good().header("Transfer-Encoding", "chunked").followed_by("0\r\n\r\n"),
            400,
        ),
        ("no Host", good().without("Host"), 400),
        ("two Hosts", good().header("Host", "other"), 400),
        ("a header line folded", good().header("X-Folded", "a\r\n b"), 400),
        ("a space before the colon", good().header("X-Spaced ", "a"), 400),
        ("not HTTP", good().start("hello"), 400),
        ("POST", good().start("POST /CP1 HTTP/1.1"), 405),
        ("HEAD", good().start("HEAD /CP1 HTTP/1.1"), 405),
        ("OPTIONS", good().start("OPTIONS /CP1 HTTP/1.1"), 405),
        ("no version", good().without("Sec-WebSocket-Version"), 426),
        ("version 8", good().replace("Sec-WebSocket-Version", "8"), 426),
        ("two versions", good().replace("Sec-WebSocket-Version", "13, 8"), 426),
    ];
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for (what, handshake, status) in cases {
        let reply = handshake.refused(proxy.listen);
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        match status {
            405 => assert_eq!(reply.header("allow"), Some("GET"), "{what}"),
            426 => assert_eq!(reply.header("sec-websocket-version"), Some("13"), "{what}"),
            _ => {}
        }
    }
    assert_backend_was_not_asked(&backend, &proxy);
}

#[test]
fn a_bare_line_feed_in_the_handshake_is_refused() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let text = String::from_utf8(Handshake::new("CP1").bytes()).unwrap();
    let mut http = Http::connect(proxy.listen);
    http.send(text.replacen("\r\n", "\n", 1));
    assert_eq!(http.any_reply().status, 400);
    http.expect_end();
    assert_backend_was_not_asked(&backend, &proxy);
}

#[test]
fn a_head_at_the_limit_is_read_and_one_byte_more_is_refused() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("head_max", "2KiB").start();
    let room = 2048 - Handshake::new("CP1").header("X-Long", "").bytes().len();
    Handshake::new("CP1")
        .header("X-Long", &"x".repeat(room))
        .open(proxy.listen);
    let reply = Handshake::new("CP2")
        .header("X-Long", &"x".repeat(room + 1))
        .refused(proxy.listen);
    assert_eq!(reply.status, 431);
    assert_eq!(backend.seen("/connect").len(), 1);
}

#[test]
fn a_handshake_that_comes_byte_by_byte_is_read() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut http = Http::connect(proxy.listen);
    for byte in Handshake::new("CP1").bytes() {
        http.send([byte]);
    }
    let mut client = Client::upgrade(http);
    client.send_call("m1", "Echo", "{\"a\":1}");
    client.expect("[3,\"m1\",{\"a\":1}]");
}

#[test]
fn client_ids_are_percent_decoded_for_the_body_and_encoded_for_the_header() {
    let long = "x".repeat(128);
    let cases = [
        ("CP1", "CP1", "CP1"),
        ("%43P1", "CP1", "CP1"),
        ("CP%201", "CP 1", "CP%201"),
        ("CP+1", "CP+1", "CP%2B1"),
        ("a-b._~", "a-b._~", "a-b._~"),
        ("A:B@C", "A:B@C", "A%3AB%40C"),
        ("Lades%C3%A4ule", "Ladesäule", "Lades%C3%A4ule"),
        ("%F0%9F%94%8C", "🔌", "%F0%9F%94%8C"),
        ("100%25", "100%", "100%25"),
        ("a%22b", "a\"b", "a%22b"),
        (".a", ".a", ".a"),
        ("...", "...", "..."),
        (&long, &long, &long),
    ];
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for (segment, id, header) in cases {
        let _client = Handshake::target(&format!("/{segment}")).open(proxy.listen);
        let request = backend.take("/connect");
        assert_eq!(request.json(), json!(id), "{segment}");
        assert_eq!(request.header("x-client-id"), Some(header), "{segment}");
    }
}

#[test]
fn a_bad_client_id_gets_404_and_the_backend_is_not_asked() {
    let too_long = "x".repeat(129);
    let too_long_decoded = "%C3%A4".repeat(65);
    let cases = [
        "",
        "a/b",
        ".",
        "..",
        "%2E",
        "%2e%2E",
        "a%2Fb",
        "a%2fb",
        "a%5Cb",
        "a%00",
        "%0A",
        "a%0D%0Ab",
        "%1F",
        "%7F",
        "%C2%85",
        "%FF",
        "a%C3",
        "%",
        "%4",
        "%zz",
        "%+1",
        &too_long,
        &too_long_decoded,
    ];
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for segment in cases {
        let reply = Handshake::target(&format!("/{segment}")).refused(proxy.listen);
        assert_eq!(reply.status, 404, "{segment}: {reply:?}");
    }
    assert_backend_was_not_asked(&backend, &proxy);
}

#[test]
fn the_client_id_follows_the_configured_prefix() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("path_prefix", "/ocpp/v1/").start();
    Handshake::target("/ocpp/v1/CP1").open(proxy.listen);
    assert_eq!(backend.take("/connect").text(), "\"CP1\"");
    for target in [
        "/CP1",
        "/ocpp/CP1",
        "/ocpp/v1/",
        "/ocpp/v1",
        "/ocpp/v1/a/b",
        "/ocpp/v2/CP1",
    ] {
        let reply = Handshake::target(target).refused(proxy.listen);
        assert_eq!(reply.status, 404, "{target}");
    }
    assert_eq!(backend.seen("/connect").len(), 1);
}

#[test]
fn the_first_subprotocol_of_the_client_that_is_configured_wins() {
    let cases = [
        ("ocpp1.6", "ocpp1.6"),
        ("ocpp2.0.1", "ocpp2.0.1"),
        ("ocpp2.1", "ocpp2.1"),
        ("ocpp1.6, ocpp2.0.1", "ocpp1.6"),
        ("ocpp2.0.1,ocpp1.6", "ocpp2.0.1"),
        ("ocpp1.5, soap ,ocpp2.1", "ocpp2.1"),
        ("OCPP1.6, ocpp2.0.1", "ocpp2.0.1"),
    ];
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for (offer, chosen) in cases {
        let client = Handshake::new("CP1").subprotocols(offer).open(proxy.listen);
        assert_eq!(client.subprotocol(), Some(chosen), "{offer}");
        let request = backend.take("/connect");
        assert_eq!(request.header("x-subprotocol"), Some(chosen), "{offer}");
        assert!(request.head.count("sec-websocket-protocol") > 0, "the offer is carried");
    }
    let in_two_lines = Handshake::new("CP1").subprotocols("ocpp1.5").subprotocols("ocpp1.6");
    assert_eq!(in_two_lines.open(proxy.listen).subprotocol(), Some("ocpp1.6"));
}

#[test]
fn configured_subprotocols_take_the_place_of_the_usual_ones() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("subprotocols", "chat.v2").start();
    let client = Handshake::new("CP1")
        .subprotocols("ocpp1.6, chat.v2")
        .open(proxy.listen);
    assert_eq!(client.subprotocol(), Some("chat.v2"));
}

#[test]
fn a_client_that_offers_no_subprotocol_is_accepted_without_one() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    assert_eq!(proxy.client("CP1").subprotocol(), None);
}

#[test]
fn a_client_without_subprotocol_is_refused_where_one_is_required() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("subprotocol_required", "true").start();
    let reply = Handshake::new("CP1").refused(proxy.listen);
    assert!((400..500).contains(&reply.status), "{reply:?}");
    proxy.client_of("ocpp1.6", "CP2");
    assert_eq!(backend.seen("/connect").len(), 1);
}

#[test]
fn with_no_subprotocol_in_common_the_handshake_is_finished_and_closed_with_1002() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for offer in ["ocpp1.5", "OCPP1.6", "ocpp1.6x, soap", "ocpp"] {
        let mut client = Handshake::new("CP1").subprotocols(offer).open(proxy.listen);
        assert_eq!(client.subprotocol(), None, "{offer}");
        client.expect_close(1002);
    }
    assert_eq!(backend.seen("/disconnect").len(), 0);
    assert_backend_was_not_asked(&backend, &proxy);
}

#[test]
fn an_origin_that_is_not_listed_gets_403_and_the_backend_is_not_asked() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("origins", "https://example.org").start();
    for origin in [
        "https://evil.example",
        "https://example.org.evil.example",
        "http://example.org",
        "null",
    ] {
        let reply = Handshake::new("CP1").header("Origin", origin).refused(proxy.listen);
        assert_eq!(reply.status, 403, "{origin}");
    }
    assert_backend_was_not_asked(&backend, &proxy);
}

#[test]
fn a_listed_origin_and_a_client_without_origin_get_in() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("origins", "https://example.org").start();
    Handshake::new("CP1")
        .header("Origin", "https://example.org")
        .open(proxy.listen);
    assert_eq!(backend.take("/connect").header("origin"), Some("https://example.org"));
    proxy.client("CP2");
}

#[test]
fn without_a_list_every_origin_gets_in() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    Handshake::new("CP1")
        .header("Origin", "https://anybody.example")
        .open(proxy.listen);
}

#[test]
fn a_basic_user_that_is_the_client_id_gets_in() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for (id, user, password) in [
        ("CP1", "CP1", "secret"),
        ("CP1", "CP1", "with:colon"),
        ("CP1", "CP1", ""),
        ("AA:BB:CC", "AA:BB:CC", "secret"),
        ("CP 1", "CP 1", "secret"),
    ] {
        let handshake = Handshake::new(id).basic(user, password);
        handshake.open(proxy.listen);
        let request = backend.take("/connect");
        assert!(
            request.header("authorization").unwrap().starts_with("Basic "),
            "{id}: it is carried"
        );
    }
}

#[test]
fn another_basic_user_gets_401_and_the_backend_is_not_asked() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let broken = |word: &str| Handshake::new("CP1").header("Authorization", word);
    for handshake in [
        Handshake::new("CP1").basic("CP2", "secret"),
        Handshake::new("CP1").basic("CP10", "secret"),
        Handshake::new("CP1").basic("CP", "secret"),
        Handshake::new("CP1").basic("cp1", "secret"),
        Handshake::new("CP1").basic("", "secret"),
        Handshake::new("AA:BB").basic("AA", "secret"),
        broken("Basic !!!"),
        broken("Basic"),
        broken("Basic\tQ1AyOng="),
        broken("basic Q1AyOng="),
    ] {
        let reply = handshake.refused(proxy.listen);
        assert_eq!(reply.status, 401, "{reply:?}");
        assert!(
            reply.header("www-authenticate").unwrap().starts_with("Basic"),
            "{reply:?}"
        );
    }
    assert_backend_was_not_asked(&backend, &proxy);
}

#[test]
fn the_basic_user_is_the_backends_business_where_so_configured() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("basic_user_is_client_id", "false").start();
    Handshake::new("CP1").basic("somebody", "else").open(proxy.listen);
    assert!(backend.take("/connect").header("authorization").is_some());
}

#[test]
fn another_authorization_scheme_is_the_backends_business() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    Handshake::new("CP1")
        .header("Authorization", "Bearer abc")
        .open(proxy.listen);
    assert_eq!(backend.take("/connect").header("authorization"), Some("Bearer abc"));
}

#[test]
fn a_query_is_no_part_of_the_client_id() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for target in ["/CP1?token=a/b", "/CP1?", "/CP1??x#".trim_end_matches('#')] {
        Handshake::target(target).open(proxy.listen);
        assert_eq!(backend.take("/connect").text(), "\"CP1\"", "{target}");
    }
    assert_eq!(Handshake::target("/?CP1").refused(proxy.listen).status, 404);
}

#[test]
fn a_frame_before_the_101_is_refused() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let early = support::client::frame_bytes(true, support::client::TEXT, b"[2,\"m1\",\"Boot\",{}]");
    let handshake = Handshake::new("CP1").followed_by(early);
    assert_eq!(handshake.refused(proxy.listen).status, 400);
    assert_backend_was_not_asked(&backend, &proxy);
    assert_eq!(backend.seen("/call").len(), 0);
}

#[test]
fn a_target_in_absolute_form_is_its_path() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for (number, start) in ["ws://host:80", "http://host", "https://[::1]:4000", "WSS://other"]
        .into_iter()
        .enumerate()
    {
        let bytes = Handshake::new(&format!("CP{number}")).bytes();
        let bytes = String::from_utf8(bytes)
            .unwrap()
            .replacen("GET /", &format!("GET {start}/"), 1);
        let mut http = Http::connect(proxy.listen);
        http.send(bytes);
        Client::upgrade(http);
        assert_eq!(backend.take("/connect").text(), format!("\"CP{number}\""));
    }
}

#[test]
fn empty_segments_around_the_client_id_are_ignored() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("path_prefix", "/,/ocpp/v16")
        .start();
    for target in ["//CP1", "/CP1/", "/ocpp/v16/CP1", "/ocpp/v16//CP1/"] {
        Handshake::target(target).open(proxy.listen);
        assert_eq!(backend.take("/connect").text(), "\"CP1\"", "{target}");
    }
    for target in ["/", "//", "/ocpp/v16/", "/a/CP1", "/ocpp/v16/a/CP1"] {
        assert_eq!(Handshake::target(target).refused(proxy.listen).status, 404, "{target}");
    }
}

#[test]
fn the_last_segment_is_the_client_id_where_so_configured() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("client_id", "last-segment").start();
    for target in ["/CP1", "/steve/websocket/CentralSystemService/CP1", "/a/CP1/"] {
        Handshake::target(target).open(proxy.listen);
        assert_eq!(backend.take("/connect").text(), "\"CP1\"", "{target}");
    }
}

#[test]
fn the_query_reaches_the_backend_with_connect() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    Handshake::target("/CP1?token=a%20b&c")
        .header("X-Query", "forged")
        .open(proxy.listen);
    let request = backend.take("/connect");
    assert_eq!(request.header("x-query"), Some("token=a%20b&c"));
    assert_eq!(request.head.count("x-query"), 1);
    proxy.client("CP2");
    assert_eq!(backend.take("/connect").head.count("x-query"), 0);
}

#[test]
fn an_alias_of_a_subprotocol_is_echoed_and_means_its_name() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("subprotocols", "ocpp2.0.1,ocpp1.6,ocpp1.6j=ocpp1.6,OCPP1.6=ocpp1.6")
        .start();
    for offer in ["ocpp1.6j", "OCPP1.6", "x, ocpp1.6j"] {
        let mut client = Handshake::new("CP1").subprotocols(offer).open(proxy.listen);
        assert_eq!(client.subprotocol(), offer.rsplit(", ").next(), "{offer}");
        assert_eq!(backend.take("/connect").header("x-subprotocol"), Some("ocpp1.6"));
        client.send_call("m1", "..", "{}");
        client.expect_error("m1", "FormationViolation");
        assert_eq!(
            proxy.http().get("/clients/CP1").expect(200).json()["subprotocol"],
            "ocpp1.6"
        );
    }
}

#[test]
fn what_is_tolerated_is_let_in_and_nothing_else() {
    let backend = Backend::start();
    let strict = Proxy::start(&backend);
    let mild = Proxy::with(&backend)
        .set("tolerate", "no-connection-header,any-key")
        .start();
    let cases = [
        (Handshake::new("CP1").without("Connection"), true),
        (Handshake::new("CP1").replace("Sec-WebSocket-Key", "c2hvcnQ="), true),
        (Handshake::new("CP1").replace("Sec-WebSocket-Key", "x"), true),
        (Handshake::new("CP1").replace("Connection", "keep-alive"), false),
        (Handshake::new("CP1").without("Upgrade"), false),
        (Handshake::new("CP1").without("Sec-WebSocket-Key"), false),
        (Handshake::new("CP1").replace("Sec-WebSocket-Key", "a b"), false),
    ];
    for (handshake, is_tolerated) in cases {
        assert_eq!(handshake.refused(strict.listen).status, 400);
        if is_tolerated {
            let reply = handshake.send(mild.listen).any_reply();
            assert_eq!(reply.status, 101, "{reply:?}");
            backend.take("/connect");
        } else {
            assert_eq!(handshake.refused(mild.listen).status, 400);
        }
    }
}

#[test]
fn an_origin_of_firmware_can_be_let_in() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("origins", "https://example.org,file://")
        .start();
    Handshake::new("CP1").header("Origin", "file://").open(proxy.listen);
    assert_eq!(
        Handshake::new("CP2")
            .header("Origin", "https://evil.example")
            .refused(proxy.listen)
            .status,
        403
    );
}

#[test]
fn a_refusal_says_why_in_its_body_and_is_counted_by_its_reason() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("origins", "https://example.org")
        .set("subprotocol_required", "true")
        .start();
    for (handshake, reason, word) in [
        (
            Handshake::new("CP1").without("Connection"),
            "no_connection",
            "Connection",
        ),
        (Handshake::new("CP1").without("Upgrade"), "no_upgrade", "Upgrade"),
        (
            Handshake::new("CP1").replace("Sec-WebSocket-Key", "x"),
            "key",
            "Sec-WebSocket-Key",
        ),
        (
            Handshake::new("CP1").replace("Sec-WebSocket-Version", "8"),
            "version",
            "13",
        ),
        (
            Handshake::new("CP1").followed_by("x"),
            "early_bytes",
            "nothing may follow",
        ),
        (Handshake::target("/a/b"), "client_id", "ClientId"),
        (Handshake::new("CP1").header("Origin", "file://"), "origin", "Origin"),
        (Handshake::new("CP1").basic("CP2", "x"), "user", "Basic"),
        (
            Handshake::new("CP1").header("Origin", "https://example.org"),
            "subprotocol",
            "subprotocol",
        ),
        (
            Handshake::new("CP1")
                .header("User-Agent", "a")
                .header("User-Agent", "b"),
            "header_repeated",
            "repeated",
        ),
    ] {
        let reply = handshake.refused(proxy.listen);
        assert!(
            reply.json()["error"].as_str().unwrap().contains(word),
            "{reason}: {reply:?}"
        );
        assert_eq!(proxy.count_where("upgrades_refused", reason), 1, "{reason}");
    }
}
