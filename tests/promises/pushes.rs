//! Pushes reach their client as frames, in order, within bounds, or are refused: `push-1` to `push-9`, `push-14`,
//! `call-2` to `call-4`.

use support::{Backend, PAYLOADS, Proxy, json};

#[test]
fn a_push_becomes_a_call_and_is_accepted_with_202() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    let connection_id = backend.take("/connect").header("x-connection-id").unwrap().to_owned();
    let reply = proxy.push("CP1", "Reset", "m1", "{\"type\":\"Hard\"}").expect(202);
    assert_eq!(
        reply.json(),
        json!({"status": "sent", "messageId": "m1", "connectionId": connection_id})
    );
    assert!(reply.header("content-type").unwrap().starts_with("application/json"));
    client.expect("[2,\"m1\",\"Reset\",{\"type\":\"Hard\"}]");
}

#[test]
fn a_clients_call_result_is_posted_as_result() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    client.send_result("m1", "{\"status\":\"Accepted\"}");
    let request = backend.take("/result");
    assert_eq!(request.target, "/result/Reset/CP1/m1");
    assert_eq!(request.text(), "{\"status\":\"Accepted\"}");
    assert!(!request.header("idempotency-key").unwrap().is_empty());
    assert_eq!(request.header("x-origin"), None);
}

#[test]
fn a_clients_call_error_is_posted_as_error() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for (frame, body) in [
        (
            "[4,\"m1\",\"NotSupported\",\"why \\u00e4\",{\"a\":1}]",
            json!({"code": "NotSupported", "description": "why ä", "details": {"a": 1}}),
        ),
        (
            "[4,\"m1\",\"X\",\"\",{}]",
            json!({"code": "X", "description": "", "details": {}}),
        ),
    ] {
        proxy.push("CP1", "Reset", "m1", "{}").expect(202);
        client.text();
        client.send(frame);
        let request = backend.take("/error");
        assert_eq!(request.target, "/error/Reset/CP1/m1");
        assert_eq!(request.json(), body);
        assert!(!request.header("idempotency-key").unwrap().is_empty());
        assert_eq!(request.header("x-origin"), None, "these are the client's words");
    }
}

#[test]
fn details_of_a_clients_error_pass_byte_for_byte() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    client.send("[4 , \"m1\", \"X\\u0041\" , \"\\ud83d\\ude00\", { \"n\" : 1e999 } ]");
    let request = backend.take("/error");
    let text = request.text();
    for part in ["\"X\\u0041\"", "\"\\ud83d\\ude00\"", "{ \"n\" : 1e999 }"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn payloads_of_pushes_and_results_pass_byte_for_byte() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.0.1", "CP1");
    let mut http = proxy.http();
    for payload in PAYLOADS {
        http.push("CP1", "Reset", "m1", payload).expect(202);
        client.expect(&format!("[2,\"m1\",\"Reset\",{payload}]"));
        client.send_result("m1", payload);
        assert_eq!(backend.take("/result").text(), *payload);
    }
}

#[test]
fn white_space_around_a_pushs_payload_is_no_part_of_it() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "\r\n {\"a\": 1}\n").expect(202);
    let text = client.text();
    assert_eq!(support::parse(&text), json!([2, "m1", "Reset", {"a": 1}]));
    assert!(text.contains("{\"a\": 1}"), "{text}");
}

#[test]
fn a_mebibyte_is_pushed_and_answered() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let payload = format!("{{\"s\":\"{}\"}}", "x".repeat(1024 * 1024 - 8));
    assert_eq!(payload.len(), 1024 * 1024);
    proxy.push("CP1", "Big", "m1", &payload).expect(202);
    client.expect(&format!("[2,\"m1\",\"Big\",{payload}]"));
    let answer = &payload[..payload.len() - 32];
    let answer = format!("{answer}\"}}");
    client.send_result("m1", &answer);
    assert_eq!(backend.take("/result").text(), answer);
    assert_eq!(proxy.push("CP1", "Big", "m2", &format!("{payload} ")).status, 413);
}

#[test]
fn the_names_in_a_pushs_path_are_decoded_for_the_frame_and_encoded_for_the_answer() {
    let cases = [
        (
            "/call/Reset/CP1/m1",
            "[2,\"m1\",\"Reset\",{}]",
            "m1",
            "/result/Reset/CP1/m1",
        ),
        (
            "/call/%52eset/%43P1/%6d1",
            "[2,\"m1\",\"Reset\",{}]",
            "m1",
            "/result/Reset/CP1/m1",
        ),
        (
            "/call/a%20b/CP1/m%231",
            "[2,\"m#1\",\"a b\",{}]",
            "m#1",
            "/result/a%20b/CP1/m%231",
        ),
        (
            "/call/a+b/CP1/m+1",
            "[2,\"m+1\",\"a+b\",{}]",
            "m+1",
            "/result/a%2Bb/CP1/m%2B1",
        ),
        (
            "/call/%C3%A4/CP1/%22q%22",
            "[2,\"\\\"q\\\"\",\"ä\",{}]",
            "\\\"q\\\"",
            "/result/%C3%A4/CP1/%22q%22",
        ),
    ];
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for (target, frame, message_id, answered) in cases {
        proxy.http().post(target, "{}").expect(202);
        client.expect(frame);
        client.send_result(message_id, "{}");
        assert_eq!(backend.take("/result").target, answered);
    }
    let mut odd = proxy.client("Säule 1");
    proxy.http().post("/call/Reset/S%C3%A4ule%201/m1", "{}").expect(202);
    odd.expect("[2,\"m1\",\"Reset\",{}]");
    odd.send_result("m1", "{}");
    assert_eq!(backend.take("/result").target, "/result/Reset/S%C3%A4ule%201/m1");
}

#[test]
fn pushes_to_one_client_go_one_at_a_time_in_order() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for number in 0..10 {
        let reply = http
            .push("CP1", "Count", &format!("m{number}"), format!("{{\"n\":{number}}}"))
            .expect(202);
        assert_eq!(
            reply.json()["status"],
            json!(if number == 0 { "sent" } else { "queued" })
        );
    }
    for number in 0..10 {
        client.expect(&format!("[2,\"m{number}\",\"Count\",{{\"n\":{number}}}]"));
        client.expect_nothing();
        match number % 2 {
            0 => client.send_result(&format!("m{number}"), "{}"),
            _ => client.send(format!("[4,\"m{number}\",\"X\",\"\",{{}}]")),
        }
    }
    for number in 0..10 {
        let kind = if number % 2 == 0 { "result" } else { "error" };
        backend.take(&format!("/{kind}/Count/CP1/m{number}"));
    }
}

#[test]
fn no_more_pushes_than_configured_are_in_flight_at_once() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("pushes_in_flight", "3").start();
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for number in 0..5 {
        let reply = http.push("CP1", "Count", &format!("m{number}"), "{}").expect(202);
        assert_eq!(
            reply.json()["status"],
            json!(if number < 3 { "sent" } else { "queued" })
        );
    }
    for number in 0..3 {
        client.expect(&format!("[2,\"m{number}\",\"Count\",{{}}]"));
    }
    client.expect_nothing();
    // Answers may come in any order.
    client.send_result("m1", "{}");
    client.expect("[2,\"m3\",\"Count\",{}]");
    client.send_result("m0", "{}");
    client.expect("[2,\"m4\",\"Count\",{}]");
    for message_id in ["m4", "m3", "m2"] {
        client.send_result(message_id, "{}");
    }
    backend.wait_seen("/result", 5);
}

#[test]
fn a_push_beyond_the_queue_gets_429_and_no_outcome() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("pushes_queued", "2").start();
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for message_id in ["m1", "m2", "m3"] {
        http.push("CP1", "Reset", message_id, "{}").expect(202);
    }
    let reply = http.push("CP1", "Reset", "m4", "{}").expect(429);
    assert!(reply.header("retry-after").unwrap().parse::<u64>().is_ok(), "{reply:?}");
    client.text();
    client.send_result("m1", "{}");
    client.text();
    // There is room again.
    http.push("CP1", "Reset", "m5", "{}").expect(202);
    for message_id in ["m2", "m3", "m5"] {
        client.send_result(message_id, "{}");
        if message_id != "m5" {
            client.text();
        }
    }
    for message_id in ["m1", "m2", "m3", "m5"] {
        backend.take(&format!("/result/Reset/CP1/{message_id}"));
    }
    assert_eq!((backend.seen("/result").len(), backend.seen("/error").len()), (4, 0));
}

#[test]
fn without_a_queue_a_second_push_gets_429() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("pushes_queued", "0").start();
    let _client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    proxy.push("CP1", "Reset", "m2", "{}").expect(429);
}

#[test]
fn a_message_id_that_is_pending_gets_409() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    let mut other = proxy.client("CP2");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    proxy.push("CP1", "Reset", "m2", "{}").expect(202);
    for message_id in ["m1", "m2"] {
        proxy.push("CP1", "Reset", message_id, "{}").expect(409);
        proxy.push("CP1", "Other", message_id, "{\"a\":1}").expect(409);
    }
    // Another client's ids are its own, and so are the client's.
    proxy.push("CP2", "Reset", "m1", "{}").expect(202);
    other.expect("[2,\"m1\",\"Reset\",{}]");
    client.expect("[2,\"m1\",\"Reset\",{}]");
    client.send_call("m1", "Echo", "{\"mine\":1}");
    client.expect("[3,\"m1\",{\"mine\":1}]");
    client.send_result("m1", "{}");
    client.expect("[2,\"m2\",\"Reset\",{}]");
    // With its outcome an id is free.
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.send_result("m2", "{}");
    client.expect("[2,\"m1\",\"Reset\",{}]");
}

#[test]
fn a_push_to_nobody_gets_404() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    proxy.push("CP1", "Reset", "m1", "{}").expect(404);
    let client = proxy.client("CP1");
    proxy.push("CP1 ", "Reset", "m1", "{}").expect(404);
    proxy.push("cp1", "Reset", "m1", "{}").expect(404);
    client.vanish();
    backend.take("/disconnect");
    proxy.push("CP1", "Reset", "m1", "{}").expect(404);
    assert_eq!(backend.seen("/error").len(), 0, "what was not accepted has no outcome");
}

#[test]
fn a_push_right_after_the_upgrade_finds_the_client() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut http = proxy.http();
    for number in 0..50 {
        let id = format!("CP{number}");
        let mut client = proxy.client(&id);
        http.push(&id, "Reset", "m1", "{}").expect(202);
        client.expect("[2,\"m1\",\"Reset\",{}]");
    }
}

#[test]
fn a_message_id_too_long_for_the_clients_subprotocol_gets_400() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    let mut free = proxy.client("CP2");
    let (at_limit, above) = ("x".repeat(36), "x".repeat(37));
    proxy.push("CP1", "Reset", &above, "{}").expect(400);
    proxy.push("CP1", "Reset", &at_limit, "{}").expect(202);
    client.expect(&format!("[2,\"{at_limit}\",\"Reset\",{{}}]"));
    proxy.push("CP2", "Reset", &above, "{}").expect(202);
    free.expect(&format!("[2,\"{above}\",\"Reset\",{{}}]"));
}

#[test]
fn what_a_call_error_leaves_out_is_empty() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    for (frame, description) in [("[4,\"m1\",\"X\"]", ""), ("[4,\"m1\",\"X\",\"why\"]", "why")] {
        proxy.push("CP1", "Reset", "m1", "{}").expect(202);
        client.text();
        client.send(frame);
        let body = backend.take("/error").json();
        assert_eq!(
            body,
            json!({"code": "X", "description": description, "details": {}}),
            "{frame}"
        );
    }
}

#[test]
fn what_was_refused_never_comes() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("pushes_queued", "0").start();
    proxy.push("CP1", "Reset", "m1", "{}").expect(404);
    let mut client = proxy.client("CP1");
    client.expect_nothing();
    proxy.push("CP1", "Reset", "m2", "{}").expect(202);
    for (message_id, payload, status) in [("m3", "{}", 429), ("m2", "{}", 409), ("m4", "{", 400)] {
        proxy.push("CP1", "Reset", message_id, payload).expect(status);
    }
    client.expect("[2,\"m2\",\"Reset\",{}]");
    client.send_result("m2", "{}");
    backend.take("/result");
    client.expect_nothing();
    client.vanish();
    backend.take("/disconnect");
    proxy.push("CP1", "Reset", "m5", "{}").expect(404);
    proxy.client("CP1").expect_nothing();
    assert_eq!((backend.seen("/result").len(), backend.seen("/error").len()), (1, 0));
}

#[test]
fn an_answer_that_cannot_be_read_ends_its_push_at_once() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    for (number, bad) in ["[3,\"ID\",{", "[3,\"ID\",{}]]", "[4,\"ID\",5,\"\",{}]", "[4,\"ID\"]"]
        .into_iter()
        .enumerate()
    {
        let message_id = format!("m{number}");
        proxy.push("CP1", "Reset", &message_id, "{}").expect(202);
        client.expect(&format!("[2,\"{message_id}\",\"Reset\",{{}}]"));
        client.send(bad.replace("ID", &message_id));
        let outcome = backend.take("/error");
        assert_eq!(outcome.segment(3), message_id, "{bad}");
        assert_eq!(outcome.header("x-origin"), Some("ws2api"));
        assert_eq!(outcome.json()["code"], "BadAnswer");
        assert_eq!(outcome.json()["details"]["sent"], true);
    }
    assert_eq!(proxy.count_where("pushes", "bad_answer"), 4);
}

#[test]
fn what_can_be_told_of_an_answer_is_forgiven() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    for (number, (answer, path, body)) in [
        ("[3,\"ID\"]", "/result", "{}"),
        ("[3,\"ID\",null]", "/result", "{}"),
        ("[3,\"ID\",{\"a\": 1},\"surplus\"]", "/result", "{\"a\": 1}"),
        ("\u{feff}[3,\"ID\",{}]", "/result", "{}"),
        (
            "[4,\"ID\",\"X\",null,{}]",
            "/error",
            "{\"code\":\"X\",\"description\":\"\",\"details\":{}}",
        ),
        (
            "[4,\"ID\",\"X\",7]",
            "/error",
            "{\"code\":\"X\",\"description\":\"\",\"details\":{}}",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let message_id = format!("m{number}");
        proxy.push("CP1", "Reset", &message_id, "{}").expect(202);
        client.expect(&format!("[2,\"{message_id}\",\"Reset\",{{}}]"));
        client.send(answer.replace("ID", &message_id));
        let outcome = backend.take(path);
        assert_eq!((outcome.segment(3), outcome.text()), (message_id, body), "{answer}");
    }
}
