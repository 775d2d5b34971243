//! From the backend to the client: pushes, their one outcome each, and answers that come later.
//! (The contract, sections 4 and 6.)

mod support;

use std::collections::{HashMap, HashSet};

use support::client::PING;
use support::{Backend, Client, Message, Proxy, Request, Response, json};

/// The `/error` that the proxy made itself.
#[track_caller]
fn assert_made_here(request: &Request, code: &str, sent: bool) {
    assert!(request.target.starts_with("/error/"), "{request:?}");
    assert_eq!(request.header("x-origin"), Some("ws2api"), "{request:?}");
    let body = request.json();
    assert_eq!(body["code"], json!(code), "{body}");
    assert_eq!(body["details"], json!({"sent": sent}), "{body}");
    assert!(body["description"].is_string(), "{body}");
}

/// A ping comes back and nothing before it.
#[track_caller]
fn assert_nothing_came(client: &mut Client) {
    client.send_frame(true, PING, "nothing?");
    assert_eq!(client.message(), Message::Pong(b"nothing?".to_vec()));
}

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

const PAYLOADS: &[&str] = &[
    "{}",
    "{ }",
    "{\n\t\"a\" :\r\n [ 1 , 2 ] }",
    "{\"z\":1,\"a\":2,\"z\":3}",
    "{\"n\":1e999,\"m\":-0.0,\"k\":1E+2}",
    "{\"n\":1234567890123456789012345678901234567890123456789012345678901234}",
    "{\"s\":\"\\u0041\\/\\\"\\\\ \\b\\f\\n\\r\\t lone \\ud800 😀 \\ud83d\\ude00\"}",
    "{\"s\":\"]}[{,:\\\\\\\"\"}",
];

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
        assert_nothing_came(&mut client);
        match number % 2 {
            0 => client.send_result(&format!("m{number}"), "{}"),
            _ => client.send(format!("[4,\"m{number}\",\"X\",\"\",{{}}]")),
        }
    }
    for number in 0..10 {
        let path = if number % 2 == 0 { "/result" } else { "/error" };
        assert_eq!(backend.take(path).segment(3), format!("m{number}"));
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
    assert_nothing_came(&mut client);
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
    let results = backend.wait_seen("/result", 4);
    let mut ids: Vec<_> = results.iter().map(|request| request.segment(3)).collect();
    // They travel over several connections: the order of their arrival is not promised.
    ids.sort();
    assert_eq!(ids, ["m1", "m2", "m3", "m5"]);
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
fn a_push_that_is_not_answered_in_time_ends_as_timeout() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("push_timeout", "200ms").start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    let outcome = backend.take("/error");
    assert_eq!(outcome.target, "/error/Reset/CP1/m1");
    assert_made_here(&outcome, "Timeout", true);
    assert!(!outcome.header("idempotency-key").unwrap().is_empty());
}

#[test]
fn the_pushs_time_counts_from_its_own_frame_not_from_its_acceptance() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("push_timeout", "300ms").start();
    let mut client = proxy.client("CP1");
    for number in 0..4 {
        proxy.push("CP1", "Reset", &format!("m{number}"), "{}").expect(202);
    }
    // Each is sent only when the one before has timed out: had it been counting, it would never get here.
    for number in 0..4 {
        client.expect(&format!("[2,\"m{number}\",\"Reset\",{{}}]"));
        let outcome = backend.take("/error");
        assert_eq!(outcome.segment(3), format!("m{number}"));
        assert_made_here(&outcome, "Timeout", true);
    }
}

#[test]
fn an_answer_that_comes_late_is_dropped_and_counted() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("push_timeout", "200ms").start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    assert_made_here(&backend.take("/error"), "Timeout", true);
    client.send_result("m1", "{}");
    client.send("[4,\"m1\",\"X\",\"\",{}]");
    client.send_call("c1", "Echo", "{}");
    client.expect("[3,\"c1\",{}]");
    assert_eq!((backend.seen("/result").len(), backend.seen("/error").len()), (0, 1));
    assert_eq!(proxy.count("answers_unmatched"), 2);
}

#[test]
fn a_second_answer_to_a_push_is_dropped() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    for _ in 0..3 {
        client.send_result("m1", "{\"a\":1}");
        client.send("[4,\"m1\",\"X\",\"\",{}]");
    }
    client.send_call("c1", "Echo", "{}");
    client.expect("[3,\"c1\",{}]");
    backend.take("/result");
    assert_eq!((backend.seen("/result").len(), backend.seen("/error").len()), (1, 0));
}

#[test]
fn an_answer_to_a_push_that_still_waits_is_dropped() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    proxy.push("CP1", "Reset", "m2", "{}").expect(202);
    client.text();
    client.send_result("m2", "{\"guessed\":1}");
    client.send_result("m1", "{}");
    client.expect("[2,\"m2\",\"Reset\",{}]");
    client.send_result("m2", "{\"honest\":1}");
    let results = backend.wait_seen("/result", 2);
    let bodies: Vec<_> = results.iter().map(|request| request.text()).collect();
    assert_eq!(bodies, ["{}", "{\"honest\":1}"]);
}

#[test]
fn pushes_of_a_client_that_leaves_end_as_disconnected_and_say_whether_they_were_sent() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for (index, how) in ["vanish", "reset", "close"].into_iter().enumerate() {
        let mut client = proxy.client("CP1");
        for message_id in ["m1", "m2", "m3"] {
            proxy.push("CP1", "Reset", message_id, "{}").expect(202);
        }
        client.text();
        match how {
            "vanish" => client.vanish(),
            "reset" => client.reset(),
            _ => client.close(1000, ""),
        }
        backend.wait_seen("/error", 3 * (index + 1));
        for message_id in ["m1", "m2", "m3"] {
            let path = format!("/error/Reset/CP1/{message_id}");
            assert_made_here(&backend.take(&path), "Disconnected", message_id == "m1");
        }
        backend.take("/disconnect");
    }
}

#[test]
fn when_a_client_is_replaced_its_sent_push_ends_as_replaced_and_the_others_move_over() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut old = proxy.client("CP1");
    for message_id in ["m1", "m2", "m3"] {
        proxy.push("CP1", "Reset", message_id, "{}").expect(202);
    }
    old.expect("[2,\"m1\",\"Reset\",{}]");
    let mut new = proxy.client("CP1");
    let outcome = backend.take("/error");
    assert_eq!(outcome.segment(3), "m1");
    assert_made_here(&outcome, "Replaced", true);
    for message_id in ["m2", "m3"] {
        new.expect(&format!("[2,\"{message_id}\",\"Reset\",{{}}]"));
        new.send_result(message_id, "{}");
        assert_eq!(backend.take("/result").segment(3), message_id);
    }
    // The old one's late answer is nobody's.
    old.send_result("m1", "{}");
    old.expect_close(4001);
    new.send_result("m1", "{}");
    new.send_call("c1", "Echo", "{}");
    new.expect("[3,\"c1\",{}]");
    assert_eq!((backend.seen("/result").len(), backend.seen("/error").len()), (2, 1));
}

#[test]
fn a_push_that_does_not_fit_the_new_connection_ends_as_replaced() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut old = proxy.client("CP1");
    let long = "x".repeat(60);
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    proxy.push("CP1", "Reset", &long, "{}").expect(202);
    old.text();
    let _new = proxy.client_of("ocpp1.6", "CP1");
    backend.wait_seen("/error", 2);
    assert_made_here(&backend.take("/error/Reset/CP1/m1"), "Replaced", true);
    assert_made_here(&backend.take("/error/Reset/CP1/xxx"), "Replaced", false);
}

#[test]
fn every_accepted_push_has_exactly_one_outcome() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("push_timeout", "150ms")
        .set("pushes_in_flight", "2")
        .start();
    let mut http = proxy.http();
    let mut accepted = HashMap::new();
    for round in 0..12 {
        let mut clients: Vec<Client> = (0..8).map(|number| proxy.client(&format!("CP{number}"))).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            for push in 0..6 {
                let message_id = format!("r{round}p{push}");
                let reply = http
                    .push(&format!("CP{number}"), "Reset", &message_id, "{}")
                    .expect(202);
                accepted.insert((number, message_id), reply.json()["status"].clone());
            }
            // Some answer, some answer wrongly, some are silent, some go, some are replaced in the next round.
            let fate = (number + round) % 8;
            for _ in 0..fate.min(2) {
                let text = client.text();
                let message_id = support::parse(&text)[1].as_str().unwrap().to_owned();
                match fate % 3 {
                    0 => client.send_result(&message_id, "{}"),
                    1 => client.send(format!("[4,\"{message_id}\",\"X\",\"\",{{}}]")),
                    _ => client.send_result(&format!("{message_id}?"), "{}"),
                }
            }
        }
        for (number, mut client) in clients.into_iter().enumerate() {
            match (number + round) % 4 {
                0 => client.vanish(),
                1 => client.send_close(1000, ""),
                2 => client.reset(),
                _ => drop(client),
            }
        }
    }
    let outcomes = support::eventually("an outcome for each", || {
        let outcomes: Vec<_> = [backend.seen("/result"), backend.seen("/error")].concat();
        (outcomes.len() >= accepted.len()).then_some(outcomes)
    });
    let mut counts: HashMap<_, usize> = HashMap::new();
    for outcome in &outcomes {
        let number: usize = outcome.segment(2).trim_start_matches("CP").parse().unwrap();
        *counts.entry((number, outcome.segment(3))).or_default() += 1;
    }
    assert_eq!(accepted.len(), 12 * 8 * 6);
    for key in accepted.keys() {
        assert_eq!(counts.get(key), Some(&1), "{key:?}");
    }
    assert_eq!(counts.len(), accepted.len());
}

#[test]
fn with_prefer_wait_the_clients_answer_is_the_answer() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for payload in PAYLOADS {
        http.send_request("POST", "/call/Reset/CP1/m1", &[("Prefer", "wait=30")], "{}");
        client.expect("[2,\"m1\",\"Reset\",{}]");
        client.send_result("m1", payload);
        assert_eq!(http.reply().expect(200).body, *payload);
    }
    http.send_request(
        "POST",
        "/call/Reset/CP1/m2",
        &[("Prefer", "respond-async, wait=30")],
        "{}",
    );
    client.expect("[2,\"m2\",\"Reset\",{}]");
    client.send("[4,\"m2\",\"NotSupported\",\"why\",{\"a\":1}]");
    let reply = http.reply().expect(422);
    assert_eq!(
        reply.json(),
        json!({"code": "NotSupported", "description": "why", "details": {"a": 1}})
    );
    client.send_call("c1", "Echo", "{}");
    client.expect("[3,\"c1\",{}]");
    assert_eq!(
        backend.seen("/result").len() + backend.seen("/error").len(),
        0,
        "it was told once"
    );
}

#[test]
fn with_prefer_wait_a_client_that_does_not_answer_gives_504() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("push_timeout", "200ms").start();
    let mut client = proxy.client("CP1");
    let reply = proxy
        .http()
        .request("POST", "/call/Reset/CP1/m1", &[("Prefer", "wait=30")], "{}");
    reply.expect(504);
    client.text();
    client.send_call("c1", "Echo", "{}");
    client.expect("[3,\"c1\",{}]");
    assert_eq!(backend.seen("/error").len(), 0);
}

#[test]
fn the_wait_itself_is_limited_by_what_the_request_prefers() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let _client = proxy.client("CP1");
    let reply = proxy
        .http()
        .request("POST", "/call/Reset/CP1/m1", &[("Prefer", "wait=1")], "{}");
    reply.expect(504);
}

#[test]
fn with_prefer_wait_a_lost_connection_gives_502() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    let (mut first, mut second) = (proxy.http(), proxy.http());
    first.send_request("POST", "/call/Reset/CP1/m1", &[("Prefer", "wait=30")], "{}");
    client.expect("[2,\"m1\",\"Reset\",{}]");
    second.send_request("POST", "/call/Reset/CP1/m2", &[("Prefer", "wait=30")], "{}");
    support::eventually("both requests to wait", || {
        let waits: f64 = proxy.metric("push_waits").iter().sum();
        (waits == 2.0).then_some(())
    });
    client.vanish();
    first.reply().expect(502);
    second.reply().expect(502);
    backend.take("/disconnect");
    assert_eq!(
        backend
            .seen("/error")
            .iter()
            .filter(|request| request.segment(3) == "m1")
            .count(),
        0
    );
}

#[test]
fn with_prefer_wait_refusals_are_the_same() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("pushes_queued", "0").start();
    let wait = [("Prefer", "wait=30")];
    proxy
        .http()
        .request("POST", "/call/Reset/CP1/m1", &wait, "{}")
        .expect(404);
    let _client = proxy.client("CP1");
    proxy
        .http()
        .request("POST", "/call/Reset/CP1/m1", &wait, "{")
        .expect(400);
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    proxy
        .http()
        .request("POST", "/call/Reset/CP1/m1", &wait, "{}")
        .expect(409);
    proxy
        .http()
        .request("POST", "/call/Reset/CP1/m2", &wait, "{}")
        .expect(429);
}

#[test]
fn the_outcome_is_posted_when_the_waiting_request_has_gone() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    let gone = {
        let mut http = proxy.http();
        http.send_request("POST", "/call/Reset/CP1/m1", &[("Prefer", "wait=30")], "{}");
        client.expect("[2,\"m1\",\"Reset\",{}]");
        http
    };
    drop(gone);
    // The answer comes a whole round trip later.
    client.send_call("c1", "Echo", "{}");
    client.expect("[3,\"c1\",{}]");
    client.send_result("m1", "{\"a\":1}");
    let request = backend.take("/result");
    assert_eq!(
        (request.target.as_str(), request.text()),
        ("/result/Reset/CP1/m1", "{\"a\":1}")
    );
}

#[test]
fn a_result_is_posted_again_with_the_same_key_until_the_backend_takes_it() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let failures = [
        Response::new(503, ""),
        Response::new(500, ""),
        Response::raw("").then_close(),
        Response::raw("").then_reset(),
    ];
    let count = failures.len();
    let left = std::sync::Mutex::new(failures.to_vec());
    backend.on("/result", move |_| {
        left.lock().unwrap().pop().unwrap_or(Response::new(204, ""))
    });
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    client.send_result("m1", "{\"a\":1}");
    let tries = backend.wait_seen("/result", count + 1);
    let key = tries[0].header("idempotency-key").unwrap();
    for request in &tries {
        assert_eq!(request.header("idempotency-key"), Some(key));
        assert_eq!(
            (request.target.as_str(), request.text()),
            ("/result/Reset/CP1/m1", "{\"a\":1}")
        );
    }
    // Another one has its own, also for the same id.
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    client.send_result("m1", "{}");
    let tries = backend.wait_seen("/result", count + 2);
    assert_ne!(tries[count + 1].header("idempotency-key"), Some(key));
    assert_eq!(tries.len(), count + 2, "what was taken is not posted again");
}

#[test]
fn different_outcomes_of_one_connection_have_different_keys() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("pushes_in_flight", "64").start();
    let mut client = proxy.client("CP1");
    // Half of these requests are on the client's home shard, half are not; some wait and go.
    for number in 0..24 {
        let target = support::http::call_target("CP1", "Reset", &format!("m{number}"));
        let mut http = proxy.http();
        let headers: &[_] = if number % 2 == 0 { &[] } else { &[("Prefer", "wait=30")] };
        http.send_request("POST", &target, headers, "{}");
        client.text();
    }
    proxy.push("CP1", "Reset", "fence", "{}").expect(202);
    client.text();
    support::eventually("the requests to be gone", || {
        let open: f64 = proxy.metric("ingress_connections").iter().sum();
        (open == 0.0).then_some(())
    });
    for number in 0..24 {
        client.send_result(&format!("m{number}"), "{}");
    }
    let results = backend.wait_seen("/result", 24);
    let keys: HashSet<_> = results
        .iter()
        .map(|request| request.header("idempotency-key").unwrap())
        .collect();
    assert_eq!(keys.len(), 24, "{keys:?}");
}

#[test]
fn an_error_is_posted_again_with_the_same_key_until_the_backend_takes_it() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("push_timeout", "100ms").start();
    let mut client = proxy.client("CP1");
    for (message_id, code) in [("m1", "X"), ("m2", "Timeout")] {
        let left = std::sync::Mutex::new(2);
        backend.on("/error", move |_| {
            let mut left = left.lock().unwrap();
            *left -= 1;
            Response::new(if *left >= 0 { 503 } else { 204 }, "")
        });
        proxy.push("CP1", "Reset", message_id, "{}").expect(202);
        client.text();
        if code == "X" {
            client.send("[4,\"m1\",\"X\",\"\",{}]");
        }
        let tries = backend.wait_seen(&format!("/error/Reset/CP1/{message_id}"), 3);
        for request in &tries {
            assert_eq!(request.header("idempotency-key"), tries[0].header("idempotency-key"));
            assert_eq!(request.json()["code"], json!(code));
        }
    }
}

#[test]
fn results_wait_for_a_backend_that_returns() {
    let mut backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut clients: Vec<Client> = (0..5).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for number in 0..5 {
        proxy.push(&format!("CP{number}"), "Reset", "m1", "{}").expect(202);
    }
    backend.stop();
    for client in &mut clients {
        client.text();
        client.send_result("m1", "{}");
        // Behind it this fails: the answer was handled while the backend was away.
        client.send_call("c1", "Echo", "{}");
        client.expect_error("c1", "InternalError");
    }
    backend.restart();
    let results = backend.wait_seen("/result", 5);
    let mut ids: Vec<_> = results.iter().map(|request| request.segment(2)).collect();
    ids.sort();
    assert_eq!(ids, ["CP0", "CP1", "CP2", "CP3", "CP4"]);
}

#[test]
fn of_more_results_than_may_wait_the_oldest_are_dropped_and_counted() {
    let mut backend = Backend::start();
    let proxy = Proxy::with(&backend).set("results_queued_max", "2").start();
    let mut client = proxy.client("CP1");
    for number in 0..5 {
        proxy.push("CP1", "Reset", &format!("m{number}"), "{}").expect(202);
    }
    backend.stop();
    for number in 0..5 {
        client.text();
        client.send_result(&format!("m{number}"), "{}");
    }
    proxy.wait_count("posts_dropped", 3);
    backend.restart();
    backend.wait_seen("/result", 2);
    proxy.wait_count("posts_delivered", 2);
    assert_eq!(proxy.count("posts_dropped"), 3);
}

#[test]
fn a_result_is_given_up_after_its_time() {
    let backend = Backend::start();
    backend.on("/result", |_| Response::new(503, ""));
    let proxy = Proxy::with(&backend).set("result_ttl", "300ms").start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    client.send_result("m1", "{}");
    proxy.wait_count("posts_dropped", 1);
    let tries = backend.seen("/result").len();
    assert!(tries > 1, "it was tried again before");
    // The next one is delivered.
    backend.on("/result", |_| Response::new(204, ""));
    proxy.push("CP1", "Reset", "m2", "{}").expect(202);
    client.text();
    client.send_result("m2", "{}");
    backend.take_where("the second", |request| request.target == "/result/Reset/CP1/m2");
    assert_eq!(backend.seen("/result/Reset/CP1/m1").len(), tries);
}

#[test]
fn a_backend_may_push_to_a_client_whose_call_it_is_answering() {
    for shards in [1, 2, 5] {
        let backend = Backend::start();
        let proxy = Proxy::with(&backend).shards(shards).start();
        let ingress = proxy.ingress;
        backend.on("/call/Start", move |request| {
            // The handler waits for the client's answer before it answers itself.
            let client = request.segment(2);
            let target = support::http::call_target(&client, "Confirm", "p1");
            let mut http = support::Http::connect(ingress);
            let reply = http.request("POST", &target, &[("Prefer", "wait=30")], "{\"sure\":true}");
            Response::json(reply.expect(200).body)
        });
        let mut client = proxy.client("CP1");
        client.send_call("m1", "Start", "{}");
        client.expect("[2,\"p1\",\"Confirm\",{\"sure\":true}]");
        client.send_result("p1", "{\"yes\":1}");
        client.expect("[3,\"m1\",{\"yes\":1}]");
    }
}

#[test]
fn a_deferred_call_is_answered_at_the_ingress() {
    let backend = Backend::start();
    backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    client.send_call("m1", "Later", "{}");
    client.send_call("m2", "Echo", "{}");
    backend.take("/call/Later");
    assert_nothing_came(&mut client);
    let mut http = proxy.http();
    let status = support::eventually("the deferral", || {
        let reply = http.post("/result/Later/CP1/m1", "{ \"n\": 1e999 }");
        (reply.status != 404).then_some(reply.status)
    });
    assert!((200..300).contains(&status), "{status}");
    client.expect("[3,\"m1\",{ \"n\": 1e999 }]");
    client.expect("[3,\"m2\",{}]");
    http.post("/result/Later/CP1/m1", "{}").expect(409);
    http.post("/error/Later/CP1/m1", "{\"code\":\"X\"}").expect(409);
}

#[test]
fn a_deferred_call_may_end_as_an_error() {
    let backend = Backend::start();
    backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Later", "{}");
    backend.take("/call/Later");
    let reply = proxy.http().post(
        "/error/Later/CP1/m1",
        "{\"code\":\"X\",\"description\":\"why\",\"details\":{\"a\":1}}",
    );
    assert!((200..300).contains(&reply.status), "{reply:?}");
    client.expect("[4,\"m1\",\"X\",\"why\",{\"a\":1}]");
}

#[test]
fn an_answer_to_a_call_that_was_not_deferred_gets_404() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    proxy.http().post("/result/Later/CP1/m1", "{}").expect(404);
    let mut client = proxy.client("CP1");
    proxy.http().post("/result/Later/CP1/m1", "{}").expect(404);
    proxy.http().post("/error/Later/CP1/m1", "{\"code\":\"X\"}").expect(404);
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
    proxy.http().post("/result/Echo/CP1/m1", "{}").expect(404);
    assert_nothing_came(&mut client);
}

#[test]
fn a_deferred_call_that_is_never_answered_gets_internal_error_in_time() {
    let backend = Backend::start();
    backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::with(&backend).set("call_timeout", "200ms").start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Later", "{}");
    client.expect_error("m1", "InternalError");
    proxy.http().post("/result/Later/CP1/m1", "{}").expect(409);
    client.send_call("m2", "Echo", "{}");
    client.expect("[3,\"m2\",{}]");
}

#[test]
fn a_deferred_call_of_a_client_that_has_gone_gets_404() {
    let backend = Backend::start();
    backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Later", "{}");
    backend.take("/call/Later");
    client.vanish();
    backend.take("/disconnect");
    proxy.http().post("/result/Later/CP1/m1", "{}").expect(404);
}
