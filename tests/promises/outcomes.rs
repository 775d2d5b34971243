//! Every accepted push has exactly one outcome, and the backend learns it: `outcome-1` to `outcome-8`, `retry-4` to
//! `retry-8`.

use std::collections::{HashMap, HashSet};

use support::{Backend, Client, Proxy, Request, Response, json};

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
        let outcome = backend.take(&format!("/error/Reset/CP1/m{number}"));
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
    assert_eq!(proxy.count_where("frames_bad", "unmatched_answer"), 2);
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
    assert_eq!(backend.take("/result/Reset/CP1/m1").text(), "{}");
    assert_eq!(backend.take("/result/Reset/CP1/m2").text(), "{\"honest\":1}");
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
    assert_made_here(&backend.take(&format!("/error/Reset/CP1/{long}")), "Replaced", false);
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
    let proxy = Proxy::with(&backend).set("result_ttl", "2s").start();
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
fn a_send_and_a_result_error_are_posted_again_with_the_same_key() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    client.send_call("c1", "Boot", "{}");
    client.text();
    for (path, frame) in [
        ("/send", "[6,\"s1\",\"Notify\",{\"a\":1}]"),
        ("/resulterror", "[5,\"c1\",\"X\",\"\",{}]"),
    ] {
        let left = std::sync::Mutex::new(vec![
            Response::new(429, ""),
            Response::new(408, ""),
            Response::raw("").then_close(),
        ]);
        backend.on(path, move |_| {
            left.lock().unwrap().pop().unwrap_or(Response::new(204, ""))
        });
        client.send(frame);
        let tries = backend.wait_seen(path, 4);
        for request in &tries {
            assert_eq!(request.header("idempotency-key"), tries[0].header("idempotency-key"));
            assert_eq!((&request.target, request.text()), (&tries[0].target, tries[0].text()));
        }
    }
    proxy.wait_count("posts_delivered", 2);
    client.expect_nothing();
}

#[test]
fn a_post_that_the_backend_does_not_want_is_not_repeated() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for (count, status) in [400, 401, 403, 404, 409, 410, 422].into_iter().enumerate() {
        backend.on("/result", move |_| Response::new(status, "{\"code\":\"X\"}"));
        proxy.push("CP1", "Reset", "m1", "{}").expect(202);
        client.text();
        client.send_result("m1", "{}");
        support::eventually("its refusal to be counted", || {
            (proxy.count_where("posts_dropped", "refused") == count as u64 + 1).then_some(())
        });
    }
    assert_eq!(backend.seen("/result").len(), 7);
    assert_eq!(proxy.count("posts_retried"), 0);
}
