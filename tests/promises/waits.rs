//! Answers come at another time: to requests that wait for the client, and to Calls that the backend answers later
//! (`wait-1` to `wait-9`, `deferred-1` to `deferred-7`).

use support::http::call_target;
use support::{Backend, Http, PAYLOADS, Proxy, Response, json};

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
    support::eventually("the second push to wait", || {
        let found = proxy.http().get("/clients/CP1").expect(200).json();
        (found["pending"]["pushesQueued"] == json!(1)).then_some(())
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
    for shards in [1, 2] {
        let backend = Backend::start();
        let proxy = Proxy::with(&backend).shards(shards).start();
        let mut client = proxy.client("CP1");
        for number in 0..40 {
            let message_id = format!("m{number}");
            let mut http = proxy.http();
            let target = call_target("CP1", "Reset", &message_id);
            http.send_request("POST", &target, &[("Prefer", "wait=30")], "{}");
            client.expect(&format!("[2,\"{message_id}\",\"Reset\",{{}}]"));
            if number % 2 == 0 {
                http.connection.stream.reset_on_close();
            }
            drop(http);
            // Its end is at the proxy before the client's answer is under way. A child that another test starts just now may hold
            // the socket open for a moment longer.
            support::eventually("the end of the request", || {
                (proxy.metric("ingress_connections").iter().sum::<f64>() == 0.0).then_some(())
            });
            client.send_result(&message_id, &format!("{{\"n\":{number}}}"));
            let request = backend.take(&format!("/result/Reset/CP1/{message_id}"));
            assert_eq!(request.text(), format!("{{\"n\":{number}}}"));
        }
    }
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
            let target = call_target(&client, "Confirm", "p1");
            let mut http = Http::connect(ingress);
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
    client.expect_nothing();
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
    client.expect_nothing();
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

#[test]
fn a_push_that_was_not_sent_in_the_preferred_time_is_withdrawn() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.expect("[2,\"m1\",\"Reset\",{}]");
    let mut http = proxy.http();
    let reply = http
        .request("POST", "/call/Reset/CP1/m2", &[("Prefer", "wait=1")], "{}")
        .expect(504);
    assert_eq!(
        (&reply.json()["code"], &reply.json()["details"]),
        (&json!("Timeout"), &json!({"sent": false}))
    );
    // Its MessageId is free at once, and it never comes.
    http.push("CP1", "Reset", "m2", "{\"again\":1}").expect(202);
    client.send_result("m1", "{}");
    client.expect("[2,\"m2\",\"Reset\",{\"again\":1}]");
    client.send_result("m2", "{}");
    backend.take("/result/Reset/CP1/m2");
    // One that was sent says so; what comes after is dropped, and then its MessageId is free.
    let reply = http
        .request("POST", "/call/Reset/CP1/m3", &[("Prefer", "wait=1")], "{}")
        .expect(504);
    assert_eq!(reply.json()["details"], json!({"sent": true}));
    client.text();
    http.push("CP1", "Reset", "m3", "{}").expect(409);
    client.send_result("m3", "{\"late\":1}");
    client.expect_nothing();
    http.push("CP1", "Reset", "m3", "{}").expect(202);
    client.text();
    client.send_result("m3", "{\"new\":1}");
    assert_eq!(backend.take("/result/Reset/CP1/m3").text(), "{\"new\":1}");
    assert_eq!((backend.seen("/result").len(), backend.seen("/error").len()), (3, 0));
    // All that was accepted has its outcome, what was withdrawn among it.
    assert_eq!(proxy.count_where("pushes", "withdrawn"), 1);
    assert_eq!(proxy.count("pushes"), proxy.count("pushes_accepted"));
}

#[test]
fn a_waiting_push_that_is_replaced_is_told_or_moves_over() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut old = proxy.client("CP1");
    let mut waiting: Vec<Http> = (1..=2)
        .map(|number| {
            let mut http = proxy.http();
            let target = format!("/call/Reset/CP1/m{number}");
            http.send_request("POST", &target, &[("Prefer", "wait=60")], "{}");
            support::eventually("the push", || {
                let pending = &proxy.http().get("/clients/CP1").expect(200).json()["pending"];
                let count = pending["pushesInFlight"].as_u64()? + pending["pushesQueued"].as_u64()?;
                (count == number).then_some(())
            });
            http
        })
        .collect();
    old.expect("[2,\"m1\",\"Reset\",{}]");
    let mut new = proxy.client("CP1");
    let reply = waiting[0].reply().expect(502);
    assert_eq!(
        (&reply.json()["code"], &reply.json()["details"]),
        (&json!("Replaced"), &json!({"sent": true}))
    );
    new.expect("[2,\"m2\",\"Reset\",{}]");
    new.send_result("m2", "{\"a\":1}");
    assert_eq!(waiting[1].reply().expect(200).body, "{\"a\":1}");
    new.expect_nothing();
    assert_eq!(
        backend.seen("/result").len() + backend.seen("/error").len(),
        0,
        "each was told once"
    );
}

#[test]
fn an_outcome_that_comes_together_with_the_end_of_its_request_is_posted() {
    for shards in [1, 2] {
        let backend = Backend::start();
        let proxy = Proxy::with(&backend).shards(shards).start();
        let mut client = proxy.client("CP1");
        for number in 0..10 {
            let mut http = proxy.http();
            let target = call_target("CP1", "Reset", &format!("m{number}"));
            http.send_request("POST", &target, &[("Prefer", "wait=60")], "{}");
            client.text();
            // The proxy sees both at once when it wakes up, the answer first.
            proxy.freeze();
            client.send_result(&format!("m{number}"), &format!("{{\"n\":{number}}}"));
            if number % 2 == 0 {
                http.connection.stream.reset_on_close();
            }
            drop(http);
            proxy.thaw();
            let request = backend.take(&format!("/result/Reset/CP1/m{number}"));
            assert_eq!(request.text(), format!("{{\"n\":{number}}}"));
        }
        assert_eq!(backend.seen("/result").len(), 10, "each once");
    }
}

#[test]
fn every_kind_of_outcome_is_posted_when_the_waiting_request_has_gone() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("push_timeout", "1s").start();
    let (mut client, mut other) = (proxy.client("CP1"), proxy.client("CP2"));
    let gone = |client: &str, message_id: &str| {
        let mut http = proxy.http();
        let target = call_target(client, "Reset", message_id);
        http.send_request("POST", &target, &[("Prefer", "wait=60")], "{}");
        http
    };
    // The client's CallError, and a time-out.
    let http = gone("CP1", "m1");
    client.text();
    drop(http);
    client.send("[4,\"m1\",\"NotSupported\",\"why\",{\"a\":1}]");
    let request = backend.take("/error/Reset/CP1/m1");
    assert_eq!(
        request.json(),
        json!({"code": "NotSupported", "description": "why", "details": {"a": 1}})
    );
    assert_eq!(request.header("x-origin"), None);
    let http = gone("CP1", "m2");
    client.text();
    drop(http);
    let request = backend.take("/error/Reset/CP1/m2");
    assert_eq!(
        (&request.json()["code"], request.header("x-origin")),
        (&json!("Timeout"), Some("ws2api"))
    );
    assert!(!request.header("idempotency-key").unwrap().is_empty());
    // The end of the connection, of one that was sent and of one that was not.
    let (first, second) = (gone("CP2", "m3"), gone("CP2", "m4"));
    let text = other.text();
    support::eventually("both pushes", || {
        let found = proxy.http().get("/clients/CP2").expect(200).json();
        (found["pending"]["pushesQueued"] == json!(1)).then_some(())
    });
    drop((first, second));
    support::eventually("the requests to be gone", || {
        (proxy.metric("ingress_connections").iter().sum::<f64>() == 0.0).then_some(())
    });
    other.vanish();
    for message_id in ["m3", "m4"] {
        let body = backend.take(&format!("/error/Reset/CP2/{message_id}")).json();
        let sent = text.contains(message_id);
        assert_eq!(
            (&body["code"], &body["details"]),
            (&json!("Disconnected"), &json!({"sent": sent}))
        );
    }
    assert_eq!((backend.seen("/result").len(), backend.seen("/error").len()), (0, 4));
}

#[test]
fn a_deferred_call_is_still_open_to_its_repeats() {
    let backend = Backend::start();
    backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.0.1", "CP1");
    client.send_call("m1", "Later", "{}");
    support::eventually("the deferral", || {
        let found = proxy.http().get("/clients/CP1").expect(200).json();
        (found["pending"]["callsDeferred"] == json!(1)).then_some(())
    });
    client.send_call("m1", "Later", "{}");
    client.send_call("m1", "Later", "{\"a\":1}");
    client.expect_error("m1", "RpcFrameworkError");
    proxy.http().post("/result/Later/CP1/m1", "{\"b\":1}").expect(204);
    client.expect("[3,\"m1\",{\"b\":1}]");
    client.expect_nothing();
    assert_eq!(backend.seen("/call").len(), 1);
}

#[test]
fn a_deferred_answer_that_is_none_leaves_the_call_open() {
    let backend = Backend::start();
    backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Later", "{}");
    backend.take("/call/Later");
    let mut http = proxy.http();
    for (path, body) in [
        ("result", "{"),
        ("result", "{}{}"),
        ("result", "<html>"),
        ("error", "{"),
        ("error", ""),
        ("error", "[]"),
        ("error", "{}"),
        ("error", "{\"code\":5}"),
        ("error", "{\"code\":\"\"}"),
    ] {
        let reply = http.post(&format!("/{path}/Later/CP1/m1"), body);
        assert_eq!(reply.status, 400, "{path} {body}: {reply:?}");
    }
    client.expect_nothing();
    // What is nothing to PHP is an empty object here, too.
    http.post("/result/Later/CP1/m1", "[]").expect(204);
    client.expect("[3,\"m1\",{}]");
}

#[test]
fn a_deferred_answer_with_another_action_is_for_another_call() {
    let backend = Backend::start();
    backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Later", "{}");
    backend.take("/call/Later");
    let mut http = proxy.http();
    for action in ["Earlier", "later", "Later%20", "Late"] {
        http.post(&format!("/result/{action}/CP1/m1"), "{}").expect(404);
        http.post(&format!("/error/{action}/CP1/m1"), "{\"code\":\"X\"}")
            .expect(404);
    }
    client.expect_nothing();
    http.post("/result/%4Cater/CP1/m1", "{\"a\":1}").expect(204);
    client.expect("[3,\"m1\",{\"a\":1}]");
}

#[test]
fn a_deferred_answer_may_be_faster_than_its_202() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Later", "{}");
    client.send_call("m2", "Echo", "{\"a\":1}");
    backend.take("/call/Later");
    proxy.http().post("/result/Later/CP1/m1", "{\"b\":1}").expect(204);
    client.expect("[3,\"m1\",{\"b\":1}]");
    proxy.http().post("/result/Later/CP1/m1", "{}").expect(409);
    client.expect_nothing();
    gate.open();
    client.expect("[3,\"m2\",{\"a\":1}]");
}

#[test]
fn who_prefers_no_wait_gets_202() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    for (number, preference) in [
        "wait=0",
        "wait",
        "wait=",
        "wait=soon",
        "wait=-1",
        "wait=1.5",
        "respond-async",
        "await=9",
    ]
    .into_iter()
    .enumerate()
    {
        let target = call_target("CP1", "Reset", &format!("m{number}"));
        http.request("POST", &target, &[("Prefer", preference)], "{}")
            .expect(202);
        client.text();
        client.send_result(&format!("m{number}"), "{}");
        backend.take(&format!("/result/Reset/CP1/m{number}"));
    }
    for preference in [
        "wait=60",
        "WAIT=60",
        "wait=\"60\"",
        "wait = 60 ; x=y",
        "respond-async, wait=60",
        // Longer than an hour is an hour.
        "wait=99999",
    ] {
        http.send_request("POST", "/call/Reset/CP1/w", &[("Prefer", preference)], "{}");
        client.text();
        client.send_result("w", "{\"a\":1}");
        assert_eq!(http.reply().expect(200).body, "{\"a\":1}", "{preference}");
    }
}
