//! Whatever JSON a client or the backend sends passes byte for byte, on every way that there is, up to the limits; and
//! what is beyond them has a written answer on each: `frame-5` to `frame-10`, `deferred-1`.

use support::http::call_target;
use support::{Backend, Client, Http, Message, PAYLOADS, Proxy, Reply, Response, json};

/// Payloads that are made rather than written, besides [`PAYLOADS`]. All are objects.
fn made() -> Vec<String> {
    let digits = "1234567890".repeat(6) + "1234";
    assert_eq!(digits.len(), 64);
    let mut payloads = vec![
        format!("{{\"n\":{digits},\"m\":-{digits},\"f\":{digits}.{digits},\"e\":{digits}e-{digits}}}"),
        format!("{{\"n\":0.{}1,\"m\":1{}}}", "0".repeat(1000), "0".repeat(1000)),
        "{\"n\":[1e999,-1e999,1E+999,1e-999,0e0,-0,-0.0,1.0,1.10,5e-324]}".to_owned(),
        // Escapes: every short one, every control character, upper and lower case digits, needless ones.
        "{\"s\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u00E9\\u0041\\u002f\"}".to_owned(),
        format!(
            "{{\"s\":\"{}\"}}",
            (0..0x20).map(|code| format!("\\u{code:04x}")).collect::<String>()
        ),
        // Surrogates: alone, in the wrong order, twice the same, before another escape, and as a pair.
        "{\"s\":\"\\ud800\",\"t\":\"\\udfff\\ud800\",\"u\":\"\\ud83d\\ud83d\",\"v\":\"\\ud800\\n\\u0041\",\"w\":\"\\uD83D\\uDE00\"}"
            .to_owned(),
        "{\"\\ud800\":1,\"\\u0000\":2,\"\":3,\"\\u0061\":4,\"a\":5,\"a\":6,\"A\":7}".to_owned(),
        // Characters that other software likes to escape, strip or refuse.
        "{\"s\":\"\u{7f}\u{80}\u{a0}\u{ad}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}\u{10ffff}\u{e000}<>&'\"}".to_owned(),
        "{\"s\":\"e\u{301} é 👩\u{200d}👩\u{200d}👧 \u{202e}abc\"}".to_owned(),
        // What looks like the end of a frame, and is not.
        "{\"a]\":\"}]\",\"b\":[\"[2,\\\"x\\\"\",{}],\"c\":\"\\\\\"}".to_owned(),
        // Each white space that JSON knows, everywhere that it may be.
        "{ \t\r\n\"a\" \t\r\n: \t\r\n[ \t\r\n1 \t\r\n, \t\r\n{ \t\r\n} \t\r\n, \t\r\n[ \t\r\n] \t\r\n] \t\r\n, \t\r\n\"b\" \t\r\n: \t\r\nnull \t\r\n}"
            .to_owned(),
        format!("{{{}}}", (0..2000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",")),
        format!("{{\"{}\":\"{}\"}}", "k".repeat(70_000), "\\u00e9".repeat(20_000)),
    ];
    payloads.extend(PAYLOADS.iter().map(|payload| (*payload).to_owned()));
    for payload in &payloads {
        assert!(
            serde_json::from_str::<Box<serde_json::value::RawValue>>(payload).is_ok(),
            "{payload}"
        );
    }
    payloads
}

/// The details in `{"code":…,"description":…,"details":…}`, as they were written.
#[track_caller]
fn details(body: &str) -> &str {
    let rest = body.strip_prefix("{\"code\":\"X\",\"description\":\"\",\"details\":");
    rest.and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or_else(|| panic!("{body}"))
}

#[test]
fn what_a_client_says_reaches_the_backend_byte_for_byte() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    backend.on("/call", |_| Response::json("{}"));
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    let mut http = proxy.http();
    for payload in made() {
        client.send_call("c1", "Boot", &payload);
        client.expect("[3,\"c1\",{}]");
        assert_eq!(backend.take("/call").text(), payload, "a Call");
        client.send(format!("[5,\"c1\",\"X\",\"\",{payload}]"));
        assert_eq!(
            details(backend.take("/resulterror").text()),
            payload,
            "a CallResultError"
        );
        client.send(format!("[6,\"s1\",\"Notify\",{payload}]"));
        assert_eq!(backend.take("/send").text(), payload, "a SEND");
        let mut pushed = |answer: String| {
            http.push("CP1", "Reset", "p1", "{}").expect(202);
            client.expect("[2,\"p1\",\"Reset\",{}]");
            client.send(answer);
        };
        pushed(format!("[3,\"p1\",{payload}]"));
        assert_eq!(backend.take("/result").text(), payload, "a CallResult");
        pushed(format!("[4,\"p1\",\"X\",\"\",{payload}]"));
        assert_eq!(details(backend.take("/error").text()), payload, "a CallError");
        let mut waited = |answer: String| {
            http.send_request("POST", "/call/Reset/CP1/p2", &[("Prefer", "wait=60")], "{}");
            client.expect("[2,\"p2\",\"Reset\",{}]");
            client.send(answer);
            http.reply()
        };
        let reply = waited(format!("[3,\"p2\",{payload}]"));
        assert_eq!(reply.expect(200).body, payload, "a CallResult that is waited for");
        let reply = waited(format!("[4,\"p2\",\"X\",\"\",{payload}]")).expect(422);
        assert_eq!(details(&reply.body), payload, "a CallError that is waited for");
    }
}

#[test]
fn what_the_backend_says_reaches_the_client_byte_for_byte() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client_of("ocpp2.0.1", "CP1");
    let mut http = proxy.http();
    let error = |payload: &str| format!("{{\"code\":\"X\",\"details\":{payload}}}");
    for payload in made() {
        http.push("CP1", "Reset", "p1", &payload).expect(202);
        client.expect(&format!("[2,\"p1\",\"Reset\",{payload}]"));
        client.send_result("p1", "{}");
        backend.take("/result");
        for answer in [
            Response::json(&payload),
            Response::until_close(&payload),
            Response::chunked(&payload.split_inclusive(['"', 'e', ' ', '0']).collect::<Vec<_>>()),
        ] {
            backend.on("/call", move |_| answer.clone());
            client.send_call("c1", "Boot", "{}");
            client.expect(&format!("[3,\"c1\",{payload}]"));
        }
        let body = error(&payload);
        backend.on("/call", move |_| Response::new(500, &body));
        client.send_call("c2", "Boot", "{}");
        client.expect(&format!("[4,\"c2\",\"X\",\"\",{payload}]"));
        for (path, body, frame) in [
            ("result", payload.clone(), format!("[3,\"c3\",{payload}]")),
            ("error", error(&payload), format!("[4,\"c3\",\"X\",\"\",{payload}]")),
        ] {
            defer(&backend, &proxy, &mut client);
            http.post(&format!("/{path}/Boot/CP1/c3"), &body).expect(204);
            client.expect(&frame);
        }
    }
}

/// Leaves a deferred Call `c3` of CP1 behind.
fn defer(backend: &Backend, proxy: &Proxy, client: &mut Client) {
    backend.on("/call", |_| Response::with_headers(202, &[("X-Deferred", "1")], ""));
    client.send_call("c3", "Boot", "{}");
    support::eventually("the deferral", || {
        let found = proxy.http().get("/clients/CP1").expect(200).json();
        (found["pending"]["callsDeferred"] == json!(1)).then_some(())
    });
}

#[test]
fn a_payload_at_the_size_limit_passes_in_every_direction() {
    const LIMIT: usize = 1024 * 1024;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let object = |len: usize| format!("{{\"s\":\"{}\"}}", "x".repeat(len - "{\"s\":\"\"}".len()));
    let framed = |head: &str, len: usize| format!("{head}{}]", object(len - head.len() - 1));
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    let mut http = proxy.http();

    // What a client sends: the whole message counts.
    backend.on("/call", |_| Response::json("{}"));
    client.send(framed("[2,\"c1\",\"Big\",", LIMIT));
    client.expect("[3,\"c1\",{}]");
    assert_eq!(backend.take("/call").body.len(), LIMIT - "[2,\"c1\",\"Big\",]".len());
    http.push("CP1", "Big", "p1", "{}").expect(202);
    client.text();
    client.send(framed("[3,\"p1\",", LIMIT));
    assert_eq!(backend.take("/result").body.len(), LIMIT - "[3,\"p1\",]".len());

    // What the backend sends: the body counts.
    let body = object(LIMIT);
    http.push("CP1", "Big", "p2", &body).expect(202);
    client.expect(&format!("[2,\"p2\",\"Big\",{body}]"));
    client.send_result("p2", "{}");
    backend.take("/result");
    let answer = Response::json(&body);
    backend.on("/call", move |_| answer.clone());
    client.send_call("c2", "Big", "{}");
    client.expect(&format!("[3,\"c2\",{body}]"));
    defer(&backend, &proxy, &mut client);
    http.post("/result/Boot/CP1/c3", &body).expect(204);
    client.expect(&format!("[3,\"c3\",{body}]"));

    // One byte more.
    let body = object(LIMIT + 1);
    let answer = Response::json(&body);
    backend.on("/call", move |_| answer.clone());
    client.send_call("c4", "Big", "{}");
    assert!(client.expect_error("c4", "InternalError").contains("too large"));
    assert_eq!(proxy.push("CP1", "Big", "p3", &body).status, 413);
    assert_eq!(proxy.http().post("/result/Boot/CP1/c5", &body).status, 413);
    proxy.push("CP1", "Big", "p4", "{}").expect(202);
    client.text();
    client.send(framed("[3,\"p4\",", LIMIT + 1));
    client.expect_close(1009);
    assert_eq!(backend.take("/error").json()["code"], json!("Disconnected"));
}

#[test]
fn nesting_at_the_limit_passes_and_one_level_more_is_answered() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    // Arrays and objects in turn; `levels` of them, the outermost an object.
    let nested = |levels: usize| {
        let (open, close): (Vec<_>, Vec<_>) = (0..levels)
            .map(|level| if level % 2 == 0 { ("{\"a\":", "}") } else { ("[", "]") })
            .unzip();
        format!("{}1{}", open.concat(), close.into_iter().rev().collect::<String>())
    };
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    let mut http = proxy.http();
    backend.on("/call", |_| Response::json("{}"));
    // A message's own array is its first level, so that 127 are left of the 128; a body has all of them.
    let (frame_most, body_most) = (nested(127), nested(128));
    let (frame_more, body_more) = (nested(128), nested(129));

    client.send_call("c1", "Deep", &frame_most);
    client.expect("[3,\"c1\",{}]");
    assert_eq!(backend.take("/call").text(), frame_most);
    client.send_call("c2", "Deep", &frame_more);
    client.expect_error("c2", "FormatViolation");

    client.send(format!("[6,\"s1\",\"Deep\",{frame_more}]"));
    client.send(format!("[6,\"s2\",\"Deep\",{frame_most}]"));
    assert_eq!(
        backend.take("/send").segment(3),
        "s2",
        "the other one is dropped and counted"
    );

    // An answer that is nested too deep can't be read, and ends its push.
    for (message_id, bad) in [
        ("p1", format!("[3,\"p1\",{frame_more}]")),
        ("p0", format!("[4,\"p0\",\"X\",\"\",{frame_more}]")),
    ] {
        http.push("CP1", "Deep", message_id, &body_most).expect(202);
        client.expect(&format!("[2,\"{message_id}\",\"Deep\",{body_most}]"));
        client.send(bad);
        let outcome = backend.take("/error");
        assert_eq!(outcome.segment(3), message_id);
        assert_eq!(outcome.json()["code"], "BadAnswer");
    }
    http.push("CP1", "Deep", "p3", &body_most).expect(202);
    client.expect(&format!("[2,\"p3\",\"Deep\",{body_most}]"));
    client.send_result("p3", &frame_most);
    assert_eq!(backend.take("/result").text(), frame_most);
    assert_eq!(proxy.count_where("frames_bad", "malformed_answer"), 3);
    http.push("CP1", "Deep", "p2", &body_more).expect(400);

    let answer = Response::json(&body_most);
    backend.on("/call", move |_| answer.clone());
    client.send_call("c3", "Deep", "{}");
    client.expect(&format!("[3,\"c3\",{body_most}]"));
    for (status, body) in [
        (200, body_more.clone()),
        (400, format!("{{\"code\":\"X\",\"details\":{body_most}}}")),
    ] {
        backend.on("/call", move |_| Response::new(status, &body));
        client.send_call("c4", "Deep", "{}");
        client.expect_error(
            "c4",
            if status == 200 {
                "InternalError"
            } else {
                "FormatViolation"
            },
        );
    }

    defer(&backend, &proxy, &mut client);
    http.post("/result/Boot/CP1/c3", &body_more).expect(400);
    http.post(
        "/error/Boot/CP1/c3",
        format!("{{\"code\":\"X\",\"details\":{body_most}}}"),
    )
    .expect(400);
    http.post("/result/Boot/CP1/c3", &body_most).expect(204);
    client.expect(&format!("[3,\"c3\",{body_most}]"));
    assert_eq!(backend.seen("/error").len(), 2, "those above and no others");
}

#[test]
fn a_million_brackets_from_any_side_hurt_nobody() {
    const COUNT: usize = 1_000_000;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut bystander = proxy.client("CP2");
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    let storms = [
        "[".repeat(COUNT),
        "{\"a\":".repeat(COUNT / 5),
        "[{\"\":".repeat(COUNT / 5),
        "]".repeat(COUNT),
    ];
    for storm in &storms {
        client.send(storm);
        client.expect_error("-1", "RpcFrameworkError");
        client.send(format!("[2,\"c1\",\"Deep\",{storm}]"));
        client.expect_error("c1", "FormatViolation");
        client.send(format!("[2,\"c1\",{storm}"));
        client.expect_error("c1", "FormatViolation");
        client.send(format!("[6,\"s1\",\"Deep\",{storm}]"));
        client.send(format!("[5,\"c1\",\"X\",\"\",{storm}]"));
        // An answer that can't be read ends its push, and only once.
        proxy.push("CP1", "Reset", "p1", "{}").expect(202);
        client.expect("[2,\"p1\",\"Reset\",{}]");
        client.send(format!("[3,\"p1\",{storm}]"));
        client.send(format!("[4,\"p1\",\"X\",\"\",{storm}]"));
        client.send_result("p1", "{\"a\":1}");
        assert_eq!(backend.take("/error").json()["code"], "BadAnswer");

        for (status, code) in [(200, "InternalError"), (400, "FormatViolation")] {
            let body = storm.clone();
            backend.on("/call", move |_| Response::new(status, &body));
            client.send_call("c2", "Deep", "{}");
            client.expect_error("c2", code);
        }
        let body = storm.clone();
        backend.on("/connect", move |_| Response::json(&body));
        assert_eq!(support::Handshake::new("CP3").refused(proxy.listen).status, 403);
        assert_eq!(proxy.push("CP1", "Reset", "p1", storm).status, 400);
        defer(&backend, &proxy, &mut client);
        let post = |path: &str, body: &str| -> Reply { Http::connect(proxy.ingress).post(path, body) };
        post("/result/Boot/CP1/c3", storm).expect(400);
        post("/error/Boot/CP1/c3", storm).expect(400);
        post("/result/Boot/CP1/c3", "{}").expect(204);
        client.expect("[3,\"c3\",{}]");
        backend.on("/call", |_| Response::json("{}"));
        bystander.send_call("m1", "Echo", "{}");
        bystander.expect("[3,\"m1\",{}]");
    }
    assert_eq!(backend.seen("/send").len() + backend.seen("/resulterror").len(), 0);
    assert_eq!(backend.seen("/error").len(), storms.len(), "one outcome for each push");
    let target = call_target("CP1", "Reset", "end");
    proxy.http().post(&target, "{}").expect(202);
    assert_eq!(client.message(), Message::Text("[2,\"end\",\"Reset\",{}]".into()));
}
