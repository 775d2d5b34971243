//! Answers at another time: requests that wait for the client, and CALLs that the backend answers later.
//! (The contract, sections 4 and 6.)

mod support;

use rustix::process::Signal;
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
            // Its end is at the proxy before the client's answer is under way.
            if number % 2 == 0 {
                http.connection.stream.reset_on_close();
            }
            drop(http);
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
            proxy.signal(Signal::STOP);
            client.send_result(&format!("m{number}"), &format!("{{\"n\":{number}}}"));
            if number % 2 == 0 {
                http.connection.stream.reset_on_close();
            }
            drop(http);
            proxy.signal(Signal::CONT);
            let request = backend.take(&format!("/result/Reset/CP1/m{number}"));
            assert_eq!(request.text(), format!("{{\"n\":{number}}}"));
        }
        assert_eq!(backend.seen("/result").len(), 10, "each once");
    }
}
