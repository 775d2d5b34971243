//! How a client gets in: the opening handshake, what the backend is asked, and what each of its answers means.
//! (The contract, section 3.)

mod support;

use support::{Backend, Gate, Handshake, Message, Proxy, Response, json, percent_encode};

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
    let mut http = proxy_http(&proxy);
    http.send(text.replacen("\r\n", "\n", 1));
    assert_eq!(http.any_reply().status, 400);
    http.expect_end();
    assert_backend_was_not_asked(&backend, &proxy);
}

fn proxy_http(proxy: &Proxy) -> support::Http {
    support::Http::connect(proxy.listen)
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
    let mut http = proxy_http(&proxy);
    for byte in Handshake::new("CP1").bytes() {
        http.send([byte]);
    }
    let mut client = support::Client::upgrade(http);
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
        "a/",
        "/a",
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
    assert_backend_was_not_asked(&backend, &proxy);
    assert_eq!(backend.seen("/disconnect").len(), 0);
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
fn each_answer_to_connect_has_its_status_for_the_client() {
    let retry = [("Retry-After", "7"), ("Content-Type", "text/plain")];
    let login = [("WWW-Authenticate", "Basic realm=\"api\"")];
    let with = Response::with_headers;
    let cases = [
        ("200 \"no\"", Response::json("\"no\""), 403),
        ("200 \"OK\"", Response::json("\"OK\""), 403),
        ("200 ok without quotes", Response::json("ok"), 403),
        ("200 object", Response::json("{\"status\":\"ok\"}"), 403),
        ("200 list", Response::json("[\"ok\"]"), 403),
        ("200 twice", Response::json("\"ok\"\"ok\""), 403),
        ("200 true", Response::json("true"), 403),
        ("200 empty", Response::json(""), 403),
        ("204", Response::new(204, ""), 403),
        ("401", with(401, &login, "\"ok\""), 401),
        ("403", Response::new(403, "\"ok\""), 403),
        ("404", Response::new(404, "\"ok\""), 404),
        ("429", with(429, &retry, ""), 429),
        ("503", with(503, &retry, ""), 503),
        ("400", Response::new(400, "\"ok\""), 403),
        ("402", Response::new(402, ""), 403),
        ("409", Response::new(409, ""), 403),
        ("418", Response::new(418, ""), 403),
        ("422", Response::new(422, "{\"code\":\"X\"}"), 403),
        ("500", Response::new(500, "\"ok\""), 502),
        ("501", Response::new(501, ""), 502),
        ("502", Response::new(502, ""), 502),
        ("504", Response::new(504, ""), 502),
        ("closed", Response::raw("").then_close(), 502),
        ("reset", Response::raw("").then_reset(), 502),
        (
            "cut off",
            Response::raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\"o").then_close(),
            502,
        ),
        ("not HTTP", Response::raw("\"ok\"\r\n\r\n").then_close(), 502),
    ];
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for (what, response, status) in cases {
        backend.on("/connect", move |_| response.clone());
        let reply = Handshake::new("CP1").refused(proxy.listen);
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        match what {
            "401" => assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"api\"")),
            "429" | "503" => assert_eq!(reply.header("retry-after"), Some("7")),
            _ => assert_eq!(reply.head.count("retry-after"), 0, "{what}"),
        }
        assert!(
            !reply.body.contains("ok"),
            "{what}: the backend's body is not the client's"
        );
    }
    assert_eq!(
        proxy.push("CP1", "Reset", "m1", "{}").status,
        404,
        "none of them is connected"
    );
    assert_eq!(backend.seen("/disconnect").len(), 0, "none of them was");
}

#[test]
fn the_word_ok_opens_the_connection_however_it_is_framed() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for response in [
        Response::json("\"ok\""),
        Response::json(" \"ok\"\n"),
        Response::chunked(&["\"o", "k\""]),
        Response::until_close("\"ok\""),
        Response::raw("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n\"ok\"").then_close(),
        Response::raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\"ok\""),
        Response::raw("HTTP/1.1 200\r\ncontent-length:4\r\n\r\n\"ok\""),
    ] {
        backend.on("/connect", move |_| response.clone());
        let mut client = proxy.client("CP1");
        client.send_call("m1", "Echo", "{}");
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn an_unreachable_backend_gives_502() {
    let backend = Backend::dead();
    let proxy = Proxy::start(&backend);
    assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 502);
}

#[test]
fn a_backend_that_does_not_answer_connect_in_time_gives_504() {
    let backend = Backend::start();
    backend.on("/connect", |_| Response::never());
    let proxy = Proxy::with(&backend)
        .set("handshake_timeout", "300ms")
        .set("call_timeout", "300ms")
        .start();
    assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 504);
}

#[test]
fn the_newest_connection_of_a_client_id_replaces_the_old_one() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut old = proxy.client("CP1");
    let old_id = backend.take("/connect").header("x-connection-id").unwrap().to_owned();
    let mut new = proxy.client("CP1");
    let new_id = backend.take("/connect").header("x-connection-id").unwrap().to_owned();
    assert_ne!(old_id, new_id);
    assert_eq!(old.expect_close(4001), "replaced");
    let disconnect = backend.take("/disconnect").json();
    assert_eq!(disconnect["connectionId"], json!(old_id));
    assert_eq!(disconnect["replacedBy"], json!(new_id));
    assert_eq!(disconnect["code"], json!(4001));
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    new.expect("[2,\"m1\",\"Reset\",{}]");
}

#[test]
fn the_old_connection_serves_until_the_backend_has_let_the_new_one_in() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut old = proxy.client("CP1");
    backend.take("/connect");
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let waiting = Handshake::new("CP1").send(proxy.listen);
    backend.take("/connect");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    old.expect("[2,\"m1\",\"Reset\",{}]");
    old.send_result("m1", "{}");
    backend.take("/result");
    gate.open();
    let mut new = support::Client::upgrade(waiting);
    old.expect_close(4001);
    new.send_call("m2", "Echo", "{}");
    new.expect("[3,\"m2\",{}]");
}

#[test]
fn a_second_connection_that_the_backend_refuses_leaves_the_first_alone() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut first = proxy.client("CP1");
    backend.on("/connect", |_| Response::new(401, ""));
    assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 401);
    first.send_call("m1", "Echo", "{}");
    first.expect("[3,\"m1\",{}]");
    proxy.push("CP1", "Reset", "m2", "{}").expect(202);
    first.expect("[2,\"m2\",\"Reset\",{}]");
}

#[test]
fn the_late_end_of_a_replaced_connection_never_touches_the_new_one() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for round in 0..12 {
        let id = format!("CP{round}");
        let mut old = proxy.client(&id);
        let mut new = proxy.client(&id);
        assert_eq!(old.message(), Message::Close(Some(4001), "replaced".into()));
        // Now the old one's stream ends in one of the ways that there are.
        match round % 3 {
            0 => old.reset(),
            1 => old.vanish(),
            _ => old.send_close(4001, ""),
        }
        for message_id in ["m1", "m2", "m3"] {
            proxy.push(&id, "Reset", message_id, "{}").expect(202);
            new.expect(&format!("[2,\"{message_id}\",\"Reset\",{{}}]"));
            new.send_result(message_id, "{}");
            backend.take("/result");
        }
        assert_eq!(backend.take("/disconnect").json()["code"], json!(4001));
        new.vanish();
        assert_eq!(backend.take("/disconnect").json()["code"], json!(1006));
        assert_eq!(proxy.push(&id, "Reset", "m4", "{}").status, 404, "its own end does");
    }
    assert_eq!(backend.seen("/disconnect").len(), 24, "each end was told once");
}

#[test]
fn the_end_of_a_connection_is_posted_with_what_is_known_of_it() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let client = proxy.client_of("ocpp1.6", "CP 1");
    let connection_id = backend.take("/connect").header("x-connection-id").unwrap().to_owned();
    client.close(1000, "bye");
    let request = backend.take("/disconnect");
    assert_eq!(request.target, "/disconnect");
    assert_eq!(request.header("x-client-id"), Some("CP%201"));
    assert_eq!(request.header("x-connection-id"), Some(&*connection_id));
    assert_eq!(request.header("x-subprotocol"), Some("ocpp1.6"));
    let body = request.json();
    assert_eq!(body["clientId"], json!("CP 1"));
    assert_eq!(body["connectionId"], json!(connection_id));
    assert_eq!(body["code"], json!(1000));
    assert_eq!(body["reason"], json!("bye"));
    assert!(body["seconds"].is_number(), "{body}");
    assert!(body["replacedBy"].is_null(), "{body}");
}

#[test]
fn a_connection_that_ends_without_a_close_is_posted_as_1006() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    proxy.client("CP1").vanish();
    assert_eq!(backend.take("/disconnect").json()["code"], json!(1006));
    proxy.client("CP2").reset();
    assert_eq!(backend.take("/disconnect").json()["code"], json!(1006));
}

#[test]
fn the_end_of_a_connection_is_not_posted_where_so_configured() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("notify_disconnect", "false").start();
    let mut old = proxy.client("CP1");
    proxy.client("CP1").close(1000, "");
    old.expect_close(4001);
    support::eventually("the client to be gone", || {
        (proxy.push("CP1", "Reset", "m1", "{}").status == 404).then_some(())
    });
    let mut other = proxy.client("CP2");
    other.send_call("m1", "Echo", "{}");
    other.text();
    assert_eq!(backend.seen("/disconnect").len(), 0);
}

#[test]
fn the_end_is_never_posted_before_the_connect_that_it_undoes_was_answered() {
    let backend = Backend::start();
    let gate = Gate::new();
    let held = gate.clone();
    backend.on("/connect", move |request| {
        let response = Response::json("\"ok\"");
        match request.text() {
            "\"CP1\"" => response.after(&held),
            _ => response,
        }
    });
    let proxy = Proxy::start(&backend);
    let waiting = Handshake::new("CP1").send(proxy.listen);
    let connect = backend.take("/connect");
    waiting.connection.stream.shutdown(std::net::Shutdown::Both);
    // Somebody else's whole life passes meanwhile.
    proxy.client("CP2").vanish();
    assert_eq!(backend.take("/disconnect").json()["clientId"], json!("CP2"));
    assert_eq!(backend.seen("/disconnect").len(), 1, "CP1 is not connected yet");
    gate.open();
    let disconnect = backend.take("/disconnect").json();
    assert_eq!(disconnect["clientId"], json!("CP1"));
    assert_eq!(disconnect["connectionId"], json!(connect.header("x-connection-id")));
    assert_eq!(proxy.push("CP1", "Reset", "m1", "{}").status, 404);
}

#[test]
fn connect_carries_the_clients_headers_that_are_named_and_no_others() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let handshake = Handshake::new("CP1")
        .subprotocols("ocpp9, ocpp1.6")
        .header("User-Agent", "charger/1.0 (\"x\")")
        .header("Origin", "https://example.org")
        .header("Cookie", "session=1")
        .header("X-Serial", "42");
    handshake.open(proxy.listen);
    let request = backend.take("/connect");
    assert_eq!(request.header("user-agent"), Some("charger/1.0 (\"x\")"));
    assert_eq!(request.header("origin"), Some("https://example.org"));
    assert_eq!(request.header("sec-websocket-protocol"), Some("ocpp9, ocpp1.6"));
    for name in ["cookie", "x-serial", "sec-websocket-key", "upgrade"] {
        assert_eq!(request.head.count(name), 0, "{name}");
    }
}

#[test]
fn the_headers_that_connect_carries_can_be_configured() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("forward_headers", "x-serial").start();
    let handshake = Handshake::new("CP1")
        .header("User-Agent", "charger")
        .header("X-SERIAL", "42");
    handshake.open(proxy.listen);
    let request = backend.take("/connect");
    assert_eq!(request.header("x-serial"), Some("42"));
    assert_eq!(request.head.count("user-agent"), 0);
}

#[test]
fn a_client_cannot_forge_the_headers_that_the_proxy_sets() {
    let names = [
        "X-Client-Id",
        "X-Connection-Id",
        "X-Subprotocol",
        "X-Forwarded-For",
        "Idempotency-Key",
        "X-Origin",
        "Forwarded",
    ];
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let forged = names.iter().fold(Handshake::new("CP1"), |handshake, name| {
        handshake.header(name, "forged")
    });
    let mut client = forged.open(proxy.listen);
    client.send_call("m1", "Echo", "{}");
    client.text();
    drop(client);
    for request in [
        backend.take("/connect"),
        backend.take("/call"),
        backend.take("/disconnect"),
    ] {
        assert!(
            request.head.headers.iter().all(|(_, value)| value != "forged"),
            "{request:?}"
        );
        assert_eq!(request.header("x-client-id"), Some("CP1"));
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[test]
fn every_request_to_the_backend_carries_the_clients_names() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let id = "Ladesäule 1";
    let mut client = proxy.client_of("ocpp1.6", id);
    client.send_call("c1", "Boot", "{}");
    client.text();
    for message_id in ["p1", "p2"] {
        proxy.push(id, "Reset", message_id, "{}").expect(202);
        client.text();
        match message_id {
            "p1" => client.send_result("p1", "{}"),
            _ => client.send("[4,\"p2\",\"GenericError\",\"\",{}]"),
        }
    }
    let requests = ["/connect", "/call", "/result", "/error"].map(|path| backend.take(path));
    client.vanish();
    let connection_id = requests[0].header("x-connection-id").unwrap().to_owned();
    for request in requests.into_iter().chain([backend.take("/disconnect")]) {
        assert_eq!(request.header("x-client-id"), Some(&*percent_encode(id)), "{request:?}");
        assert_eq!(request.header("x-connection-id"), Some(&*connection_id), "{request:?}");
        assert_eq!(request.header("x-subprotocol"), Some("ocpp1.6"), "{request:?}");
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"), "{request:?}");
        assert_eq!(
            request.header("host"),
            Some(&*backend.address().to_string()),
            "{request:?}"
        );
    }
}

#[test]
fn the_address_of_a_client_behind_a_trusted_proxy_is_what_that_proxy_says() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("trusted_proxies", "127.0.0.0/8").start();
    Handshake::new("CP1")
        .header("X-Forwarded-For", "203.0.113.7")
        .open(proxy.listen);
    let chain = backend.take("/connect").header("x-forwarded-for").unwrap().to_owned();
    assert_eq!(chain.split(',').next(), Some("203.0.113.7"), "{chain}");
    // One who is not behind it says nothing of the kind.
    proxy.client("CP2");
    assert_eq!(backend.take("/connect").header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn trusted_headers_pass_from_a_trusted_proxy_alone() {
    let backend = Backend::start();
    let trusting = Proxy::with(&backend)
        .set("trusted_proxies", "127.0.0.1/32")
        .set("trusted_headers", "x-ssl-client-cn")
        .start();
    let handshake = Handshake::new("CP1").header("X-SSL-Client-CN", "CP1");
    handshake.open(trusting.listen);
    assert_eq!(backend.take("/connect").header("x-ssl-client-cn"), Some("CP1"));
    let wary = Proxy::with(&backend)
        .set("trusted_proxies", "192.0.2.0/24")
        .set("trusted_headers", "x-ssl-client-cn")
        .start();
    handshake.open(wary.listen);
    assert_eq!(backend.take("/connect").head.count("x-ssl-client-cn"), 0);
}

/// PROXY protocol v2: a TCP over IPv4 connection from that address.
fn proxy_header(from: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x21, 0x11, 0, 12]);
    header.extend(from);
    header.extend([127, 0, 0, 1]);
    header.extend([0x30, 0x39, 0x0F, 0xA0]);
    header
}

#[test]
fn the_proxy_protocol_gives_the_clients_address() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("proxy_protocol", "true").start();
    let mut http = proxy_http(&proxy);
    http.send([proxy_header([203, 0, 113, 8]), Handshake::new("CP1").bytes()].concat());
    let mut client = support::Client::upgrade(http);
    assert_eq!(backend.take("/connect").header("x-forwarded-for"), Some("203.0.113.8"));
    client.send_call("m1", "Echo", "{}");
    client.text();
    assert_eq!(backend.take("/call").header("x-forwarded-for"), Some("203.0.113.8"));
}

#[test]
fn a_connection_without_the_configured_proxy_header_is_closed() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("proxy_protocol", "true").start();
    for bytes in [
        Handshake::new("CP1").bytes(),
        [b"PROXY TCP4 203.0.113.8\r\n", &*Handshake::new("CP1").bytes()].concat(),
        [
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
            &[0; 12][..],
            &*Handshake::new("CP1").bytes(),
        ]
        .concat(),
    ] {
        let mut http = proxy_http(&proxy);
        http.send(bytes);
        if let Ok(Some(reply)) = http.try_reply() {
            assert_eq!(reply.status, 400);
        }
        http.expect_end();
    }
    assert_eq!(backend.seen("/connect").len(), 0);
}
