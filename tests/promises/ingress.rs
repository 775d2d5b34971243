//! The ingress speaks HTTP/1.1 strictly, and takes pushes only from who may push: `http-1` to `http-11`, `http-18`, `push-9` to
//! `push-12`. Pushes themselves are in pushes.rs.

use std::path::PathBuf;

use support::http::{call_target, request_bytes};
use support::{Backend, Client, Proxy, json};

/// A push for CP1, as raw bytes.
fn push(message_id: &str) -> Vec<u8> {
    request_bytes("POST", &call_target("CP1", "Reset", message_id), &[], b"{}")
}

/// Asserts that the client has got nothing so far and that the proxy still works.
#[track_caller]
fn assert_untouched(proxy: &Proxy, client: &mut Client) {
    proxy.push("CP1", "Reset", "fence", "{}").expect(202);
    client.expect("[2,\"fence\",\"Reset\",{}]");
    client.send_result("fence", "{}");
}

fn temporary_file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn one_connection_carries_many_requests() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for number in 0..50 {
        let reply = http.push("CP1", "Reset", &format!("m{number}"), "{}").expect(202);
        assert_ne!(reply.header("connection"), Some("close"));
        client.text();
        client.send_result(&format!("m{number}"), "{}");
        backend.take("/result");
        http.get("/clients/CP1").expect(200);
        http.get("/nowhere").expect(404);
    }
    assert_eq!(proxy.metric("ingress_connections"), [1.0]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("pushes_queued", "100").start();
    let mut clients: Vec<Client> = (0..4).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let mut bytes = Vec::new();
    for number in 0..40 {
        let target = call_target(&format!("CP{}", number % 4), "Reset", &format!("m{number}"));
        bytes.extend(request_bytes("POST", &target, &[], b"{}"));
        if number % 10 == 0 {
            bytes.extend(request_bytes("GET", "/nowhere", &[], b""));
        }
    }
    let mut http = proxy.http();
    http.send(bytes);
    for number in 0..40 {
        assert_eq!(
            http.reply().expect(202).json()["messageId"],
            json!(format!("m{number}"))
        );
        if number % 10 == 0 {
            http.reply().expect(404);
        }
    }
    for number in 0..40 {
        let client = &mut clients[number % 4];
        client.expect(&format!("[2,\"m{number}\",\"Reset\",{{}}]"));
        client.send_result(&format!("m{number}"), "{}");
    }
}

#[test]
fn a_waiting_push_holds_back_the_pipelined_ones_behind_it() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    let waiting = request_bytes(
        "POST",
        &call_target("CP1", "Reset", "m1"),
        &[("Prefer", "wait=30")],
        b"{}",
    );
    http.send([waiting, push("m2")].concat());
    client.expect("[2,\"m1\",\"Reset\",{}]");
    client.send_result("m1", "{\"a\":1}");
    assert_eq!(http.reply().expect(200).body, "{\"a\":1}");
    http.reply().expect(202);
    client.expect("[2,\"m2\",\"Reset\",{}]");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for byte in push("m1").into_iter().chain(push("m2")) {
        http.send([byte]);
    }
    http.reply().expect(202);
    http.reply().expect(202);
    client.expect("[2,\"m1\",\"Reset\",{}]");
}

#[test]
fn chunked_bodies_are_taken() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for (number, chunks) in [
        "7\r\n{\"a\":1}\r\n0\r\n\r\n",
        "1\r\n{\r\n5\r\n\"a\":1\r\n1\r\n}\r\n0\r\n\r\n",
        "007\r\n{\"a\":1}\r\n000\r\n\r\n",
        "7;name=value\r\n{\"a\":1}\r\n0;last\r\n\r\n",
        "7\r\n{\"a\":1}\r\n0\r\nX-Trailer: x\r\n\r\n",
    ]
    .iter()
    .enumerate()
    {
        let target = call_target("CP1", "Reset", &format!("m{number}"));
        let head = format!("POST {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        http.send(format!("{head}{chunks}"));
        http.reply().expect(202);
        client.expect(&format!("[2,\"m{number}\",\"Reset\",{{\"a\":1}}]"));
        client.send_result(&format!("m{number}"), "{}");
        backend.take("/result");
    }
}

#[test]
fn who_expects_100_continue_gets_it_before_the_body() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    let head = request_bytes(
        "POST",
        &call_target("CP1", "Reset", "m1"),
        &[("Expect", "100-continue"), ("X", "")],
        b"{}",
    );
    let head = &head[..head.len() - 2];
    http.send(head);
    assert_eq!(http.any_reply().status, 100);
    http.send("{}");
    http.any_reply().expect(202);
    client.expect("[2,\"m1\",\"Reset\",{}]");
    // The connection goes on.
    http.get("/clients/CP1").expect(200);
}

#[test]
fn who_expects_100_continue_for_a_bad_request_is_told_at_once() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("message_max", "1KiB").start();
    let cases = [
        ("POST /nowhere HTTP/1.1", "Content-Length: 2", 404),
        ("GET /call/A/B/C HTTP/1.1", "Content-Length: 2", 405),
        ("POST /call/A/B/C HTTP/1.1", "Content-Length: 1025", 413),
        (
            "POST /call/A/B/C HTTP/1.1",
            "Content-Length: 2\r\nContent-Type: text/plain",
            415,
        ),
    ];
    for (line, headers, status) in cases {
        let mut http = proxy.http();
        http.send(format!(
            "{line}\r\nHost: test\r\nExpect: 100-continue\r\n{headers}\r\n\r\n"
        ));
        assert_eq!(http.any_reply().status, status, "{line} {headers}");
        http.expect_end();
    }
}

#[test]
fn a_connection_closes_when_the_request_says_so() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    http.push("CP1", "Reset", "m1", "{}").expect(202);
    let target = call_target("CP1", "Reset", "m2");
    let reply = http
        .request("POST", &target, &[("Connection", "close")], "{}")
        .expect(202);
    assert_eq!(reply.header("connection"), Some("close"));
    http.expect_end();

    let mut http = proxy.http();
    http.send(String::from_utf8(push("m3")).unwrap().replace("HTTP/1.1", "HTTP/1.0"));
    http.reply().expect(202);
    http.expect_end();
    for message_id in ["m1", "m2", "m3"] {
        client.expect(&format!("[2,\"{message_id}\",\"Reset\",{{}}]"));
        client.send_result(message_id, "{}");
    }
}

#[test]
fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let target = call_target("CP1", "Reset", "m1");
    let with = |headers: &str, body: &str| format!("POST {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n\r\n{body}");
    let line = |line: &str| format!("{line}\r\nHost: test\r\nContent-Length: 2\r\n\r\n{{}}");
    let chunked = |body: &str| with("Transfer-Encoding: chunked", body);
    let cases = [
        (
            "both lengths",
            with(
                "Content-Length: 2\r\nTransfer-Encoding: chunked",
                "2\r\n{}\r\n0\r\n\r\n",
            ),
            400,
        ),
        (
            "both lengths, other order",
            with(
                "Transfer-Encoding: chunked\r\nContent-Length: 2",
                "2\r\n{}\r\n0\r\n\r\n",
            ),
            400,
        ),
        (
            "two lengths that agree",
            with("Content-Length: 2\r\nContent-Length: 2", "{}"),
            400,
        ),
        (
            "two lengths that differ",
            with("Content-Length: 2\r\nContent-Length: 0", "{}"),
            400,
        ),
        ("a list of lengths", with("Content-Length: 2, 2", "{}"), 400),
        ("a signed length", with("Content-Length: +2", "{}"), 400),
        ("a negative length", with("Content-Length: -2", "{}"), 400),
        ("a hexadecimal length", with("Content-Length: 0x2", "{}"), 400),
        ("a length with a fraction", with("Content-Length: 2.0", "{}"), 400),
        ("an empty length", with("Content-Length: ", "{}"), 400),
        (
            "a length beyond 64 bits",
            with("Content-Length: 18446744073709551618", "{}"),
            400,
        ),
        ("a space before the colon", with("Content-Length : 2", "{}"), 400),
        (
            "a tab before the colon",
            with("Transfer-Encoding\t: chunked", "2\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        ("a space before the name", with(" Content-Length: 2", "{}"), 400),
        ("a folded header", with("Content-Length:\r\n 2", "{}"), 400),
        (
            "a folded coding",
            with("Transfer-Encoding:\r\n\tchunked", "2\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        ("a bare LF after a header", with("Content-Length: 2\nX: y", "{}"), 400),
        (
            "a bare LF in the request line",
            format!("POST {target} HTTP/1.1\nHost: test\r\nContent-Length: 2\r\n\r\n{{}}"),
            400,
        ),
        (
            "a bare LF as blank line",
            format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\n{{}}"),
            400,
        ),
        (
            "a bare CR in a value",
            with("X: a\rContent-Length: 0\r\nContent-Length: 2", "{}"),
            400,
        ),
        ("NUL in a value", with("X: a\0b\r\nContent-Length: 2", "{}"), 400),
        ("a header without colon", with("Content-Length 2", "{}"), 400),
        ("an empty name", with(": x\r\nContent-Length: 2", "{}"), 400),
        (
            "chunked twice",
            with("Transfer-Encoding: chunked, chunked", "2\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        (
            "two codings lines",
            with(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "2\r\n{}\r\n0\r\n\r\n",
            ),
            400,
        ),
        (
            "chunked not last",
            with("Transfer-Encoding: chunked, gzip", "2\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        (
            "an unknown coding",
            with("Transfer-Encoding: gzip, chunked", "2\r\n{}\r\n0\r\n\r\n"),
            501,
        ),
        (
            "identity",
            with("Transfer-Encoding: identity\r\nContent-Length: 2", "{}"),
            400,
        ),
        (
            "an odd coding",
            with("Transfer-Encoding: xchunked", "2\r\n{}\r\n0\r\n\r\n"),
            501,
        ),
        (
            "chunked in HTTP/1.0",
            chunked("2\r\n{}\r\n0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            400,
        ),
        (
            "no Host",
            format!("POST {target} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}"),
            400,
        ),
        ("two Hosts", with("Host: other\r\nContent-Length: 2", "{}"), 400),
        (
            "an odd Host",
            format!("POST {target} HTTP/1.1\r\nHost: a b\r\nContent-Length: 2\r\n\r\n{{}}"),
            400,
        ),
        (
            "an empty line first",
            format!("\r\n{}", with("Content-Length: 2", "{}")),
            400,
        ),
        ("two spaces", line(&format!("POST  {target} HTTP/1.1")), 400),
        ("a tab in the line", line(&format!("POST\t{target} HTTP/1.1")), 400),
        ("no version", line(&format!("POST {target}")), 400),
        (
            "a user name before the host of an absolute target",
            line(&format!("POST http://me@test{target} HTTP/1.1")),
            400,
        ),
        ("a fragment", line(&format!("POST {target}#x HTTP/1.1")), 400),
        ("a backslash", line("POST /call\\Reset/CP1/m1 HTTP/1.1"), 400),
        ("HTTP/2.0", line(&format!("POST {target} HTTP/2.0")), 505),
        ("http/1.1", line(&format!("POST {target} http/1.1")), 400),
        ("TLS", "\x16\x03\x01\x02".to_owned(), 400),
        ("a chunk size that is none", chunked("x\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk size with 0x", chunked("0x2\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk size with a space", chunked("2 \r\n{}\r\n0\r\n\r\n"), 400),
        ("a signed chunk size", chunked("+2\r\n{}\r\n0\r\n\r\n"), 400),
        (
            "an endless chunk size",
            chunked("00000000000000002\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        (
            "a chunk size that overflows",
            chunked("FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        ("an empty chunk size", chunked("\r\n{}\r\n0\r\n\r\n"), 400),
        ("a bare LF after the chunk size", chunked("2\n{}\r\n0\r\n\r\n"), 400),
        ("a bare LF after the chunk", chunked("2\r\n{}\n0\r\n\r\n"), 400),
        ("a chunk longer than its size", chunked("2\r\n{}x\r\n0\r\n\r\n"), 400),
        ("an odd trailer", chunked("2\r\n{}\r\n0\r\nX : y\r\n\r\n"), 400),
    ];
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for (what, bytes, status) in &cases {
        let mut http = proxy.http();
        // What is smuggled behind it must not be seen either.
        http.send([bytes.as_bytes(), &push("smuggled")].concat());
        let reply = http.any_reply();
        assert_eq!(reply.status, *status, "{what}: {reply:?}");
        assert_eq!(reply.header("connection"), Some("close"), "{what}");
        http.expect_end();
    }
    assert_untouched(&proxy, &mut client);
}

#[test]
fn a_head_at_the_limit_is_read_and_one_byte_more_gets_431() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("head_max", "1KiB").start();
    let mut client = proxy.client("CP1");
    let target = call_target("CP1", "Reset", "m1");
    let room = 1024 - (request_bytes("POST", &target, &[("X", "")], b"{}").len() - 2);
    let mut http = proxy.http();
    http.request("POST", &target, &[("X", &"x".repeat(room))], "{}")
        .expect(202);
    http.send_request("POST", &target, &[("X", &"x".repeat(room + 1))], "{}");
    http.reply().expect(431);
    http.expect_end();
    client.expect("[2,\"m1\",\"Reset\",{}]");
}

#[test]
fn a_body_at_the_limit_is_taken_and_one_byte_more_gets_413() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("message_max", "2KiB").start();
    let mut client = proxy.client("CP1");
    let body = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    let target = call_target("CP1", "Reset", "m1");
    let chunked = |body: &str| {
        let (first, rest) = body.split_at(100);
        format!(
            "POST {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
            first.len(),
            rest.len(),
        )
    };
    for _ in 0..2 {
        proxy.http().post(&target, body(2048)).expect(202);
        client.text();
        client.send_result("m1", "{}");
        backend.take("/result");
        let mut http = proxy.http();
        http.send(chunked(&body(2048)));
        http.reply().expect(202);
        client.text();
        client.send_result("m1", "{}");
        backend.take("/result");
    }
    for bytes in [
        request_bytes("POST", &target, &[], body(2049).as_bytes()),
        chunked(&body(2049)).into_bytes(),
        format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 999999999999\r\n\r\n").into_bytes(),
    ] {
        let mut http = proxy.http();
        http.send(bytes);
        http.reply().expect(413);
        http.expect_end();
    }
    assert_untouched(&proxy, &mut client);
}

#[test]
fn a_path_that_is_no_push_is_refused() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let cases = [
        ("/", 404),
        ("/call", 404),
        ("/call/Reset/CP1", 404),
        ("/call/Reset/CP1/m1/more", 404),
        ("/Call/Reset/CP1/m1", 404),
        ("/other/Reset/CP1/m1", 404),
        ("/call//CP1/m1", 400),
        ("/call/Reset//m1", 400),
        ("/call/Reset/CP1/", 400),
        ("/call/../CP1/m1", 400),
        ("/call/Reset/../m1", 400),
        ("/call/Reset/CP1/%2e%2E", 400),
        ("/call/Reset/CP1/.", 400),
        ("/call/a%2Fb/CP1/m1", 400),
        ("/call/Reset/CP1/a%2Fb", 400),
        ("/call/Reset/CP1/a%5Cb", 400),
        ("/call/Reset/CP1/a%00", 400),
        ("/call/Reset/CP1/%0d%0a", 400),
        ("/call/Reset/CP1/%FF", 400),
        ("/call/Reset/CP1/%4", 400),
        ("/call/Reset/CP1/%", 400),
        ("/call/Reset/CP1/%zz", 400),
    ];
    let mut http = proxy.http();
    for (target, status) in cases {
        let reply = http.post(target, "{}");
        assert_eq!(reply.status, status, "{target}: {reply:?}");
    }
    let long = "x".repeat(300);
    for target in [
        call_target(&long, "Reset", "m1"),
        call_target("CP1", &long, "m1"),
        call_target("CP1", "Reset", &long),
    ] {
        http.post(&target, "{}").expect(400);
    }
    assert_untouched(&proxy, &mut client);
}

#[test]
fn a_body_that_is_not_one_json_value_gets_400() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("json_depth_max", "10").start();
    let mut client = proxy.client("CP1");
    let deep = format!("{}1{}", "[".repeat(11), "]".repeat(11));
    let bodies: [&[u8]; 14] = [
        b"",
        b" ",
        b"hello",
        b"{",
        b"{}{}",
        b"{},",
        b"[1,]",
        b"{\"a\":}",
        b"{'a':1}",
        b"{\"a\":01}",
        b"\"\n\"",
        b"\"\xFF\"",
        b"NaN",
        deep.as_bytes(),
    ];
    let mut http = proxy.http();
    for body in bodies {
        let reply = http.push("CP1", "Reset", "m1", body);
        assert_eq!(reply.status, 400, "{:?}: {reply:?}", String::from_utf8_lossy(body));
    }
    assert_untouched(&proxy, &mut client);
}

#[test]
fn another_method_gets_405() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "post"] {
        let reply = http
            .request(method, &call_target("CP1", "Reset", "m1"), &[], "")
            .expect(405);
        assert_eq!(reply.header("allow"), Some("POST"), "{method}");
    }
    assert_untouched(&proxy, &mut client);
}

#[test]
fn head_is_get_without_the_body() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let _client = proxy.client("CP1");
    let mut http = proxy.http();
    for target in [
        "/clients",
        "/clients/CP1",
        "/clients/nobody",
        "/clients?limit=0",
        "/nowhere",
    ] {
        let got = http.get(target);
        // What follows it on the connection is understood: there was no body.
        let head = http.head(target, &[]);
        assert_eq!(head.status, got.status, "{target}");
        assert_eq!(head.header("content-length"), got.header("content-length"), "{target}");
    }
    let head = http.head("/call/Reset/CP1/m1", &[]);
    assert_eq!((head.status, head.header("allow")), (405, Some("POST")));
    http.get("/clients").expect(200);
}

#[test]
fn a_body_that_says_it_is_not_json_gets_415() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let target = call_target("CP1", "Reset", "m1");
    let mut http = proxy.http();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/xjson",
        "application/on",
        "application/",
        "text/json",
        "json",
    ] {
        let reply = http.request("POST", &target, &[("Content-Type", kind)], "{}");
        assert_eq!(reply.status, 415, "{kind}");
    }
    for kind in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/vnd.charging+JSON",
    ] {
        http.request("POST", &target, &[("Content-Type", kind)], "{}")
            .expect(202);
        client.text();
        client.send_result("m1", "{}");
        backend.take("/result");
    }
    assert_untouched(&proxy, &mut client);
}

#[test]
fn a_refused_request_leaves_the_connection_usable() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for (target, body, status) in [
        ("/nowhere", "{\"a\":1}", 404),
        ("/call/Reset/nobody/m1", "{\"a\":1}", 404),
        (
            "/call/Reset/CP1/%00",
            "POST /call/Reset/CP1/smuggled HTTP/1.1\r\n\r\n",
            400,
        ),
        ("/call/Reset/CP1/m1", "{", 400),
    ] {
        http.post(target, body).expect(status);
    }
    http.push("CP1", "Reset", "m1", "{}").expect(202);
    client.expect("[2,\"m1\",\"Reset\",{}]");
}

#[test]
fn a_refusal_says_why_in_json() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for reply in [
        proxy.push("CP1", "Reset", "m1", "{}"),
        proxy.push("CP1", "Reset", "m1", "{"),
        proxy.http().get("/x"),
    ] {
        assert!(
            reply.header("content-type").unwrap().starts_with("application/json"),
            "{reply:?}"
        );
        assert!(reply.json().is_object(), "{reply:?}");
    }
}

#[test]
fn with_a_token_every_request_needs_it() {
    let backend = Backend::start();
    let file = temporary_file("token", "s3cret-token\n");
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("ingress_token_file", file.to_str().unwrap())
        .start();
    let mut client = proxy.client("CP1");
    let target = call_target("CP1", "Reset", "m1");
    let wrong = [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer s3cret-toke"),
        Some("Bearer s3cret-tokens"),
        Some("Bearer S3CRET-TOKEN"),
        Some("Bearer wrong"),
        Some("Basic s3cret-token"),
        Some("s3cret-token"),
    ];
    let mut http = proxy.http();
    for authorization in wrong {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", *value)).collect();
        for (method, target) in [
            ("POST", &*target),
            ("POST", "/result/A/CP1/m1"),
            ("GET", "/clients"),
            ("GET", "/clients/CP1"),
            ("DELETE", "/clients/CP1"),
        ] {
            let reply = http.request(method, target, &headers, if method == "POST" { "{}" } else { "" });
            assert_eq!(reply.status, 401, "{method} {target} {authorization:?}: {reply:?}");
            assert!(
                reply.header("www-authenticate").unwrap().starts_with("Bearer"),
                "{reply:?}"
            );
        }
    }
    let right = [("Authorization", "Bearer s3cret-token")];
    http.request("GET", "/clients/CP1", &right, "").expect(200);
    http.request("POST", &target, &right, "{}").expect(202);
    client.expect("[2,\"m1\",\"Reset\",{}]");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_request_that_does_not_arrive_in_time_is_ended() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("handshake_timeout", "200ms").start();
    let mut client = proxy.client("CP1");
    let bytes = push("m1");
    for len in [1, 20, bytes.len() - 1] {
        let mut http = proxy.http();
        http.send(&bytes[..len]);
        if let Ok(Some(reply)) = http.try_reply() {
            assert_eq!(reply.status, 408);
        }
        http.expect_end();
    }
    assert_untouched(&proxy, &mut client);
}

#[test]
fn the_ingress_takes_the_proxy_protocol_where_configured() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("ingress_proxy_protocol", "true").start();
    let mut client = proxy.client("CP1");
    let headers = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xCB\0\x71\x08\x7F\0\0\x01\x30\x39\x0F\xA0"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"PROXY TCP4 203.0.113.8 127.0.0.1 12345 4001\r\n",
    ];
    for (number, header) in headers.into_iter().enumerate() {
        let id = format!("m{number}");
        let mut http = proxy.http();
        http.send([header, &push(&id)].concat());
        http.reply().expect(202);
        client.expect(&format!("[2,\"{id}\",\"Reset\",{{}}]"));
        client.send_result(&id, "{}");
        backend.take("/result");
        // It comes once, before the first request.
        http.send(push("again"));
        http.reply().expect(202);
        client.expect("[2,\"again\",\"Reset\",{}]");
        client.send_result("again", "{}");
        backend.take("/result");
    }
    let mut http = proxy.http();
    http.send(push("m9"));
    if let Ok(Some(reply)) = http.try_reply() {
        assert_eq!(reply.status, 400);
    }
    http.expect_end();
    client.expect_nothing();
}

#[test]
fn the_ingress_takes_no_proxy_header_where_none_is_configured() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    http.send([b"PROXY TCP4 203.0.113.8 127.0.0.1 12345 4001\r\n", &*push("m1")].concat());
    assert_eq!(http.any_reply().status, 400);
    http.expect_end();
    client.expect_nothing();
}

#[test]
fn a_target_in_absolute_form_is_its_path() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for (number, scheme) in ["http", "https", "ws", "WSS"].into_iter().enumerate() {
        http.send(format!(
            "POST {scheme}://elsewhere:80/call/Reset/CP1/m{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}"
        ));
        assert_eq!(http.any_reply().status, 202, "{scheme}");
        client.expect(&format!("[2,\"m{number}\",\"Reset\",{{}}]"));
        client.send_result(&format!("m{number}"), "{}");
        backend.take("/result");
    }
}
