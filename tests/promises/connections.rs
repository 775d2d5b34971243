//! A connection begins and ends among others of the same ClientId: `upgrade-19` to `upgrade-27`, `header-3`.

use support::{Backend, Client, Gate, Handshake, Message, Proxy, Response, eventually, json};

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
    let mut new = Client::upgrade(waiting);
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
fn of_two_that_are_let_in_in_the_other_order_the_newer_stays() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let first_gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let first = Handshake::new("CP1").send(proxy.listen);
    let first_id = backend.take("/connect").header("x-connection-id").unwrap().to_owned();
    // Which gate a request waits for is settled when it is taken.
    let second_gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let second = Handshake::new("CP1").send(proxy.listen);
    let second_id = backend.take("/connect").header("x-connection-id").unwrap().to_owned();
    second_gate.pass();
    let mut newer = Client::upgrade(second);
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    newer.expect("[2,\"m1\",\"Reset\",{}]");
    first_gate.pass();
    let mut older = Client::upgrade(first);
    assert_eq!(older.expect_close(4001), "replaced");
    let disconnect = backend.take("/disconnect").json();
    assert_eq!(disconnect["connectionId"], json!(first_id));
    assert_eq!(disconnect["replacedBy"], json!(second_id));
    newer.send_result("m1", "{}");
    backend.take("/result");
    proxy.push("CP1", "Reset", "m2", "{}").expect(202);
    newer.expect("[2,\"m2\",\"Reset\",{}]");
    assert_eq!(backend.seen("/disconnect").len(), 1);
}

#[test]
fn a_disconnect_that_fails_is_repeated_with_its_key_and_those_of_one_client_keep_their_order() {
    let mut backend = Backend::start();
    backend.on("/disconnect", |_| Response::new(503, ""));
    let proxy = Proxy::start(&backend);
    proxy.client("CP1").vanish();
    let tries = backend.wait_seen("/disconnect", 2);
    let key = tries[0].header("idempotency-key").expect("a key").to_owned();
    assert_eq!(tries[1].header("idempotency-key"), Some(&*key));
    // The second end comes behind the first.
    proxy.client("CP1").vanish();
    let leaving = proxy.client("CP2");
    backend.stop();
    leaving.vanish();
    backend.restart();
    backend.on("/disconnect", |_| Response::new(204, ""));
    let told = |client: &str| -> Vec<String> {
        let of_client = |request: &support::Request| request.json()["clientId"] == json!(client);
        let ends = backend.seen("/disconnect").into_iter().filter(of_client);
        let mut ends: Vec<_> = ends
            .map(|end| end.json()["connectionId"].as_str().expect("an id").to_owned())
            .collect();
        ends.dedup();
        ends
    };
    eventually("all ends", || {
        (told("CP1").len() == 2 && told("CP2").len() == 1).then_some(())
    });
    assert!(told("CP1").is_sorted(), "in order");
    assert_eq!(proxy.count("disconnects_lost"), 0);
}

#[test]
fn a_disconnect_is_given_up_after_its_time_and_counted() {
    let backend = Backend::start();
    backend.on("/disconnect", |_| Response::new(503, ""));
    let proxy = Proxy::with(&backend).set("result_ttl", "300ms").start();
    proxy.client("CP1").vanish();
    proxy.wait_count("disconnects_lost", 1);
    assert!(backend.seen("/disconnect").len() > 1, "it was tried again before");
    // One that the backend does not want is not repeated.
    backend.on("/disconnect", |_| Response::new(400, ""));
    let tries = backend.seen("/disconnect").len();
    proxy.client("CP2").vanish();
    proxy.wait_count("disconnects_lost", 2);
    assert_eq!(backend.seen("/disconnect").len(), tries + 1);
}

#[test]
fn pushes_that_waited_over_a_reconnect_wait_for_the_first_message() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("push_hold", "10s").start();
    let mut old = proxy.client("CP1");
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    old.expect("[2,\"p1\",\"Reset\",{}]");
    assert_eq!(
        proxy.push("CP1", "Reset", "p2", "{}").expect(202).json()["status"],
        "queued"
    );
    let mut new = proxy.client("CP1");
    old.expect_close(4001);
    new.expect_nothing();
    new.send_call("m1", "Echo", "{}");
    new.expect("[2,\"p2\",\"Reset\",{}]");
    new.expect("[3,\"m1\",{}]");
}

#[test]
fn pushes_that_waited_over_a_reconnect_are_sent_to_a_silent_client_all_the_same() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("push_hold", "100ms").start();
    let mut old = proxy.client("CP1");
    for message_id in ["p1", "p2"] {
        proxy.push("CP1", "Reset", message_id, "{}").expect(202);
    }
    old.expect("[2,\"p1\",\"Reset\",{}]");
    proxy.client("CP1").expect("[2,\"p2\",\"Reset\",{}]");
}
