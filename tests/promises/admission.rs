//! The backend lets a client in or not, and is told who asks: `upgrade-15` to `upgrade-18`, `header-1` to `header-8`.

use support::{Backend, Client, Handshake, Http, Proxy, Response, percent_encode, proxy_protocol};

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
        ("300", Response::new(300, "\"ok\""), 502),
        ("302", with(302, &[("Location", "/connect")], "\"ok\""), 502),
        ("304", Response::new(304, ""), 502),
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
fn a_refusal_passes_with_its_two_headers_and_nothing_else() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for status in [401, 403, 404, 429, 503] {
        let headers = [
            ("WWW-Authenticate", "Basic realm=\"api\", charset=\"UTF-8\""),
            ("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"),
            ("Set-Cookie", "a=b"),
            ("X-Powered-By", "PHP"),
            ("Content-Type", "text/html"),
        ];
        backend.on("/connect", move |_| {
            Response::with_headers(status, &headers, "<h1>secret</h1>")
        });
        let reply = Handshake::new("CP1").refused(proxy.listen);
        assert_eq!(reply.status, status);
        for (name, value) in &headers[..2] {
            assert_eq!(reply.header(name), Some(*value), "{status}");
        }
        for (name, _) in &headers[2..4] {
            assert_eq!(reply.head.count(name), 0, "{status}: {reply:?}");
        }
        assert!(!reply.body.contains("secret"), "{reply:?}");
        // Without them, none are made up.
        backend.on("/connect", move |_| Response::new(status, ""));
        let reply = Handshake::new("CP1").refused(proxy.listen);
        assert_eq!(reply.status, status);
        assert_eq!(
            reply.head.count("www-authenticate") + reply.head.count("retry-after"),
            0,
            "{reply:?}"
        );
    }
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
    let proxy = Proxy::with(&backend).set("backend_retry", "0s").start();
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
        "X-Tls-Version",
        "X-Tls-Cipher",
        "X-Client-Cert-Cn",
        "X-Client-Cert-Verified",
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
    let mut client = proxy.client_of("ocpp2.1", id);
    client.send_call("c1", "Boot", "{}");
    client.text();
    client.send("[5,\"c1\",\"X\",\"\",{}]");
    client.send("[6,\"s1\",\"Notify\",{}]");
    for message_id in ["p1", "p2"] {
        proxy.push(id, "Reset", message_id, "{}").expect(202);
        client.text();
        match message_id {
            "p1" => client.send_result("p1", "{}"),
            _ => client.send("[4,\"p2\",\"GenericError\",\"\",{}]"),
        }
    }
    let requests = ["/connect", "/call", "/resulterror", "/send", "/result/", "/error"].map(|path| backend.take(path));
    client.vanish();
    let connection_id = requests[0].header("x-connection-id").unwrap().to_owned();
    for request in requests.into_iter().chain([backend.take("/disconnect")]) {
        assert_eq!(request.header("x-client-id"), Some(&*percent_encode(id)), "{request:?}");
        assert_eq!(request.header("x-connection-id"), Some(&*connection_id), "{request:?}");
        assert_eq!(request.header("x-subprotocol"), Some("ocpp2.1"), "{request:?}");
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

#[test]
fn what_others_say_of_the_address_is_dropped() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("trusted_proxies", "192.0.2.0/24,::1").start();
    for said in ["203.0.113.7", "192.0.2.1", "127.0.0.1, 192.0.2.1"] {
        Handshake::new("CP1").header("X-Forwarded-For", said).open(proxy.listen);
        assert_eq!(
            backend.take("/connect").header("x-forwarded-for"),
            Some("127.0.0.1"),
            "{said}"
        );
    }
}

fn proxy_header(from: [u8; 4]) -> Vec<u8> {
    proxy_protocol::header(from, &[])
}

#[test]
fn the_proxy_protocol_gives_the_clients_address() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("proxy_protocol", "true").start();
    let mut http = Http::connect(proxy.listen);
    http.send([proxy_header([203, 0, 113, 8]), Handshake::new("CP1").bytes()].concat());
    let mut client = Client::upgrade(http);
    assert_eq!(backend.take("/connect").header("x-forwarded-for"), Some("203.0.113.8"));
    client.send_call("m1", "Echo", "{}");
    client.text();
    assert_eq!(backend.take("/call").header("x-forwarded-for"), Some("203.0.113.8"));
}

#[test]
fn a_proxy_protocol_header_counts_only_from_whom_it_is_expected() {
    let backend = Backend::start();
    for (from, is_believed) in [("127.0.0.0/8", true), ("192.0.2.0/24, ::1", false), ("", true)] {
        let proxy = Proxy::with(&backend)
            .shards(2)
            .set("proxy_protocol", "true")
            .set("ingress_proxy_protocol", "true")
            .set("proxy_protocol_from", from)
            .start();
        // Also one that tells nothing of the client, and one that lies about where it comes from.
        let mut local = proxy_header([0; 4]);
        local[12] = 0x20;
        for header in [proxy_header([203, 0, 113, 8]), proxy_header([192, 0, 2, 1]), local] {
            let mut http = Http::connect(proxy.listen);
            http.send([&*header, &*Handshake::new("CP1").bytes()].concat());
            let mut ingress = proxy.http();
            ingress.send([&header, &b"GET /clients HTTP/1.1\r\nHost: h\r\n\r\n"[..]].concat());
            if is_believed {
                assert_eq!(http.any_reply().status, 101, "{from}");
                ingress.reply().expect(200);
            } else {
                http.expect_end();
                ingress.expect_end();
            }
        }
        if !is_believed {
            assert_eq!(proxy.count_where("proxy_headers_bad", "listen_untrusted"), 3);
            assert_eq!(proxy.count_where("proxy_headers_bad", "ingress_untrusted"), 3);
        }
    }
}

#[test]
fn the_proxy_protocol_is_understood_in_both_versions_and_for_both_families() {
    let mut v6 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    v6.extend("2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend([0x30, 0x39, 0x0F, 0xA0]);
    // With a TLV that nobody here knows (its type is for experiments).
    let with_tlv = proxy_protocol::header([203, 0, 113, 9], &proxy_protocol::value(0xF0, &[1, 2]));
    // The balancer's own connection: it is the client then.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    let cases = [
        (
            b"PROXY TCP4 203.0.113.8 127.0.0.1 12345 4000\r\n".to_vec(),
            "203.0.113.8",
        ),
        (
            b"PROXY TCP6 2001:db8::8 2001:db8::1 12345 4000\r\n".to_vec(),
            "2001:db8::8",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v6, "2001:db8::7"),
        (with_tlv, "203.0.113.9"),
        (local, "127.0.0.1"),
    ];
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("proxy_protocol", "true").start();
    for (number, (header, address)) in cases.into_iter().enumerate() {
        let mut http = Http::connect(proxy.listen);
        // In two pieces, cut within the header.
        http.send(&header[..header.len() / 2]);
        http.send(
            [
                &header[header.len() / 2..],
                &Handshake::new(&format!("CP{number}")).bytes(),
            ]
            .concat(),
        );
        Client::upgrade(http);
        let request = backend.take("/connect");
        assert_eq!(
            request.header("x-forwarded-for"),
            Some(address),
            "{}",
            header.escape_ascii()
        );
    }
}

#[test]
fn trusted_headers_pass_from_a_load_balancer_that_speaks_the_proxy_protocol() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("proxy_protocol", "true")
        .set("trusted_proxies", "127.0.0.1")
        .set("trusted_headers", "x-ssl-client-cn")
        .start();
    // Some of them are handed over to the other shard.
    for number in 0..8 {
        let name = format!("CP{number}");
        let mut http = Http::connect(proxy.listen);
        let handshake = Handshake::new(&name).header("X-SSL-Client-CN", &name);
        http.send([proxy_header([203, 0, 113, 8]), handshake.bytes()].concat());
        Client::upgrade(http);
        assert_eq!(backend.take("/connect").header("x-ssl-client-cn"), Some(&*name));
    }
}

#[test]
fn a_balancer_that_only_announces_addresses_vouches_for_no_header() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("proxy_protocol", "true")
        .set("trusted_proxies", "192.0.2.1")
        .set("trusted_headers", "x-ssl-client-cn")
        .start();
    for number in 0..8 {
        let mut http = Http::connect(proxy.listen);
        let handshake = Handshake::new(&format!("CP{number}"))
            .header("X-SSL-Client-CN", "CP1")
            .header("X-Forwarded-For", "198.51.100.1");
        http.send([proxy_header([203, 0, 113, 8]), handshake.bytes()].concat());
        Client::upgrade(http);
        let request = backend.take("/connect");
        assert_eq!(request.head.count("x-ssl-client-cn"), 0);
        assert_eq!(request.header("x-forwarded-for"), Some("203.0.113.8"));
    }
}

#[test]
fn headers_for_the_backend_are_refused_rather_than_left_out() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("trusted_proxies", "127.0.0.1")
        .set("trusted_headers", "x-ssl-client-cn")
        .set("forward_headers", "authorization,user-agent,origin,x-list")
        .start();
    let refused = |name: &str, count: usize| {
        let mut handshake = Handshake::new("CP1").header("X-SSL-Client-CN", "CP1");
        for _ in 0..count {
            handshake = handshake.header(name, "x");
        }
        handshake.refused(proxy.listen).status
    };
    assert_eq!(refused("Authorization", 2), 400);
    assert_eq!(refused("Origin", 2), 400);
    assert_eq!(
        refused("X-SSL-Client-CN", 1),
        400,
        "the client's own beside the proxy's"
    );
    assert_eq!(refused("X-List", 41), 431);
    assert_eq!(backend.seen("/connect").len(), 0);
}

#[test]
fn a_client_behind_a_proxy_cannot_forge_its_address() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("trusted_proxies", "127.0.0.1").start();
    let long = "198.51.100.7, ".repeat(200) + "198.51.100.7";
    for (number, forged) in [&*long, "\u{e4}", "<b>", "198.51.100.7"].into_iter().enumerate() {
        let name = format!("CP{number}");
        let _client = Handshake::new(&name)
            .header("X-Forwarded-For", forged)
            .header("X-Forwarded-For", "203.0.113.9:5678")
            .open(proxy.listen);
        let chain = backend.take("/connect").header("x-forwarded-for").unwrap().to_owned();
        assert_eq!(chain, "203.0.113.9, 127.0.0.1", "{forged}");
        let description = proxy.http().get(&format!("/clients/{name}")).expect(200).json();
        assert_eq!(description["address"], "203.0.113.9");
    }
}

#[test]
fn a_proxy_header_that_is_not_configured_is_no_request() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for header in [
        proxy_header([203, 0, 113, 8]),
        b"PROXY TCP4 203.0.113.8 127.0.0.1 12345 4000\r\n".to_vec(),
    ] {
        let mut http = Http::connect(proxy.listen);
        http.send([header, Handshake::new("CP1").bytes()].concat());
        assert_eq!(http.any_reply().status, 400);
        http.expect_end();
    }
    assert_eq!(backend.seen("/connect").len(), 0);
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
        let mut http = Http::connect(proxy.listen);
        http.send(bytes);
        if let Ok(Some(reply)) = http.try_reply() {
            assert_eq!(reply.status, 400);
        }
        http.expect_end();
    }
    assert_eq!(backend.seen("/connect").len(), 0);
}
