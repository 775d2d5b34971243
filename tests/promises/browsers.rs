//! A page of a stranger commands nobody through the browser of somebody who reaches the ingress: `http-15` to `http-17`.
//! What holds at the admin address is in tests/operators/strangers.rs.

use support::http::{call_target, request_bytes};
use support::{Backend, Client, Http, Proxy};

/// What a browser sends for a page, and whether the ingress lets it in.
const HEADERS: &[(&[(&str, &str)], u16)] = &[
    (
        &[("Origin", "http://attacker.example"), ("Sec-Fetch-Site", "cross-site")],
        403,
    ),
    (
        &[("Origin", "http://127.0.0.1:4001"), ("Sec-Fetch-Site", "same-origin")],
        403,
    ),
    (&[("Origin", "null")], 403),
    (&[("Origin", "")], 403),
    (&[("Sec-Fetch-Site", "cross-site")], 403),
    (&[("Sec-Fetch-Site", "same-site")], 403),
    (&[("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")], 403),
    (&[("Sec-Fetch-Site", "")], 403),
    (&[("Sec-Fetch-Site", "none")], 202),
    (&[("Sec-Fetch-Site", "same-origin")], 202),
    (&[("Sec-Fetch-Mode", "cors"), ("User-Agent", "node")], 202),
];

/// Hosts, and whether the ingress lets them in where no token is asked for.
const HOSTS: &[(&str, bool)] = &[
    ("attacker.example", false),
    ("attacker.example:4001", false),
    ("localhost.attacker.example", false),
    ("127.0.0.1.attacker.example", false),
    ("127.0.0.1.nip.io:4001", false),
    ("0x7f.1", false),
    ("[::1].attacker.example", false),
    ("localhost", true),
    ("localhost:4001", true),
    ("ws2api:4001", true),
    ("127.0.0.1", true),
    ("10.1.2.3:4001", true),
    ("[::1]:4001", true),
    ("[2001:db8::7]", true),
];

#[track_caller]
fn assert_untouched(proxy: &Proxy, client: &mut Client) {
    proxy.push("CP1", "Reset", "fence", "{}").expect(202);
    client.expect("[2,\"fence\",\"Reset\",{}]");
    client.send_result("fence", "{}");
}

#[test]
fn a_page_in_a_browser_cannot_ask_the_ingress() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for (headers, status) in HEADERS {
        let reply = http.request("POST", &call_target("CP1", "Reset", "m1"), headers, "{}");
        assert_eq!(reply.status, *status, "{headers:?}: {reply:?}");
        if *status == 202 {
            client.expect("[2,\"m1\",\"Reset\",{}]");
            client.send_result("m1", "{}");
            backend.take("/result");
            continue;
        }
        assert!(reply.json()["error"].as_str().unwrap().contains("browser"), "{reply:?}");
        for (method, target) in [
            ("GET", "/clients"),
            ("GET", "/clients/CP1"),
            ("DELETE", "/clients/CP1"),
            ("POST", "/result/A/CP1/m1"),
            ("OPTIONS", "/call/Reset/CP1/m1"),
            ("GET", "/nowhere"),
        ] {
            let reply = http.request(method, target, headers, "");
            assert_eq!(reply.status, 403, "{method} {target} {headers:?}: {reply:?}");
        }
    }
    assert_untouched(&proxy, &mut client);
}

#[test]
fn a_host_that_a_strangers_page_can_have_is_refused_where_no_token_is_asked_for() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for (host, is_good) in HOSTS {
        let reply = get_clients(&proxy, "/clients", host);
        assert_eq!(reply.status, if *is_good { 200 } else { 403 }, "{host}: {reply:?}");
        if !is_good {
            assert!(reply.body.contains("ingress_hosts"), "{reply:?}");
        }
        // The target's authority is the host that counts, whatever `Host` says (RFC 9112, 3.2.2).
        let reply = get_clients(&proxy, &format!("http://{host}/clients"), "localhost");
        assert_eq!(reply.status, if *is_good { 200 } else { 403 }, "{host}: {reply:?}");
    }
    assert_untouched(&proxy, &mut client);

    let named = Proxy::with(&backend)
        .set("ingress_hosts", "attacker.example, B.example")
        .start();
    for (host, status) in [
        ("attacker.example", 200),
        ("Attacker.Example:4001", 200),
        ("attacker.example.", 200),
        ("b.example:1", 200),
        ("c.example", 403),
        ("x.attacker.example", 403),
    ] {
        assert_eq!(get_clients(&named, "/clients", host).status, status, "{host}");
    }
}

#[test]
fn where_a_token_is_asked_for_any_host_is_good_and_a_browser_is_none_the_less_refused() {
    let backend = Backend::start();
    let file = std::env::temp_dir().join(format!("ws2api-browsers-{}", std::process::id()));
    std::fs::write(&file, "s3cret\n").unwrap();
    let proxy = Proxy::with(&backend)
        .set("ingress_token_file", file.to_str().unwrap())
        .start();
    std::fs::remove_file(&file).unwrap();
    let token = ("Authorization", "Bearer s3cret");
    for (host, _) in HOSTS {
        let mut http = proxy.http();
        http.send(format!(
            "GET /clients HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer s3cret\r\n\r\n"
        ));
        http.reply().expect(200);
    }
    let mut http = proxy.http();
    for (headers, status) in HEADERS.iter().filter(|(_, status)| *status == 403) {
        let headers = [&[token], *headers].concat();
        let reply = http.request("GET", "/clients", &headers, "");
        assert_eq!(reply.status, *status, "{headers:?}");
    }
}

/// What follows such a request could be meant in another protocol: it is not taken for a request.
#[test]
fn what_follows_a_request_for_another_protocol_is_not_executed() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let smuggled = request_bytes("POST", &call_target("CP1", "Reset", "smuggled"), &[], b"{}");
    let cases = [
        (
            "CONNECT /call/A/CP1/m HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}",
            400,
        ),
        ("CONNECT /call/A/CP1/m HTTP/1.1\r\nHost: test\r\n\r\n", 400),
        ("CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n", 400),
        ("CONNECT http://test/call/A/CP1/m HTTP/1.1\r\nHost: test\r\n\r\n", 400),
        (
            "TRACE /clients HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}",
            400,
        ),
        (
            "TRACE /clients HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n", 400),
        (
            "GET /clients HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            200,
        ),
        (
            "GET /nowhere HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
            404,
        ),
        ("GET /clients HTTP/1.1\r\nHost: test\r\nUpgrade: x\r\n\r\n", 200),
        (
            "GET http://attacker.example/clients HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n\r\n",
            403,
        ),
    ];
    for (request, status) in cases {
        for listener in [proxy.ingress, proxy.admin] {
            let mut http = Http::connect(listener);
            http.send([request.as_bytes(), &smuggled].concat());
            let reply = http.any_reply();
            if listener == proxy.ingress {
                assert_eq!(reply.status, status, "{request:?}: {reply:?}");
            }
            assert_eq!(reply.header("connection"), Some("close"), "{request:?}: {reply:?}");
            http.expect_end();
        }
    }
    assert_untouched(&proxy, &mut client);
}

#[track_caller]
fn get_clients(proxy: &Proxy, target: &str, host: &str) -> support::Reply {
    let mut http = proxy.http();
    http.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    http.reply()
}
