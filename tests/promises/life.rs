//! A connection lives as long as its client is heard and reads, and its handshake ends: `life-1` to `life-8`.

use support::client::{PING, PONG, frame_bytes};
use support::{Backend, Handshake, Http, Message, Proxy, Response, json};

#[test]
fn a_ping_is_answered_with_its_payload() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let longest = "x".repeat(125);
    for payload in ["", "now", &longest] {
        client.send_frame(true, PING, payload);
        assert_eq!(client.message(), Message::Pong(payload.as_bytes().to_vec()));
    }
}

#[test]
fn an_unasked_pong_is_taken_in_silence() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_frame(true, PONG, "unasked");
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
}

#[test]
fn a_silent_client_is_pinged_and_lives_as_long_as_it_says_something() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("ping_after", "250ms")
        .set("dead_after", "2s")
        .start();
    let mut client = proxy.client("CP1");
    client.mute();
    // A ping comes after 3/4 of `ping_after` at the earliest: together they take longer than `dead_after`.
    for number in 0..14 {
        assert_eq!(client.message(), Message::Ping(Vec::new()));
        match number % 3 {
            0 => client.send_frame(true, PONG, ""),
            1 => client.send("[9]"),
            _ => {
                client.send_frame(true, PING, "me too");
                assert_eq!(client.message(), Message::Pong(b"me too".to_vec()));
            }
        }
    }
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
}

#[test]
fn a_client_that_stays_silent_is_dropped() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("ping_after", "100ms")
        .set("dead_after", "300ms")
        .start();
    let mut client = proxy.client("CP1");
    client.mute();
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    assert_eq!(client.message(), Message::Ping(Vec::new()), "it is asked before");
    while client.message() != Message::End {}
    assert_eq!(backend.take("/disconnect").json()["code"], json!(1006));
    let outcome = backend.take("/error").json();
    assert_eq!(
        (&outcome["code"], &outcome["details"]),
        (&json!("Disconnected"), &json!({"sent": true}))
    );
    proxy.push("CP1", "Reset", "m2", "{}").expect(404);
    assert_eq!(proxy.count_where("clients_closed", "silent"), 1);
}

#[test]
fn a_client_that_does_not_read_is_closed_when_too_much_waits_for_it() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("pushes_in_flight", "64")
        .set("send_queue_bytes", "64KiB")
        .start();
    let deaf = proxy.client("CP1");
    let mut other = proxy.client("CP2");
    let payload = format!("\"{}\"", "x".repeat(900_000));
    let mut http = proxy.http();
    let mut accepted = 0;
    // 58 MB are more than the sockets between hold.
    for number in 0..64 {
        match http.push("CP1", "Big", &format!("m{number}"), &payload).status {
            202 => accepted += 1,
            404 => break,
            status => panic!("{status}"),
        }
    }
    assert!(accepted < 64, "it was never closed");
    let disconnect = backend.take("/disconnect").json();
    assert_eq!(disconnect["clientId"], json!("CP1"));
    let outcomes = backend.wait_seen("/error", accepted);
    assert_eq!(outcomes.len(), accepted);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.json()["code"] == json!("Disconnected"))
    );
    assert_eq!(proxy.count_where("clients_closed", "not_reading"), 1);
    other.send_call("m1", "Echo", "{}");
    other.expect("[3,\"m1\",{}]");
    drop(deaf);
}

#[test]
fn one_frame_alone_may_be_larger_than_the_queue() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("message_max", "24MiB")
        .set("send_queue_bytes", "4KiB")
        .start();
    let mut client = proxy.client("CP1");
    let payload = format!("\"{}\"", "x".repeat(20_000_000));
    proxy.push("CP1", "Big", "m1", &payload).expect(202);
    // A small one may wait behind it.
    client.send_frame(true, PING, "here");
    assert_eq!(client.text().len(), payload.len() + "[2,\"m1\",\"Big\",]".len());
    assert_eq!(client.message(), Message::Pong(b"here".to_vec()));
    client.send_result("m1", "{}");
    backend.take("/result");
}

#[test]
fn a_client_whose_oldest_frame_waits_too_long_is_closed() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("message_max", "24MiB")
        .set("send_timeout", "300ms")
        .start();
    let deaf = proxy.client("CP1");
    let payload = format!("\"{}\"", "x".repeat(20_000_000));
    proxy.push("CP1", "Big", "m1", &payload).expect(202);
    assert_eq!(backend.take("/disconnect").json()["clientId"], json!("CP1"));
    assert_eq!(backend.take("/error").json()["code"], json!("Disconnected"));
    proxy.push("CP1", "Big", "m2", "{}").expect(404);
    drop(deaf);
}

#[test]
fn a_handshake_that_is_not_finished_in_time_is_closed() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("handshake_timeout", "200ms").start();
    let bytes = Handshake::new("CP1").bytes();
    for len in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        let mut http = Http::connect(proxy.listen);
        http.send(&bytes[..len]);
        if let Ok(Some(reply)) = http.try_reply() {
            assert!(reply.status >= 400, "{reply:?}");
        }
        http.expect_end();
    }
    assert_eq!(backend.seen("/connect").len(), 0);
    proxy.client("CP1");
}

#[test]
fn a_client_that_does_not_answer_our_close_is_dropped_all_the_same() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    proxy.http().request("DELETE", "/clients/CP1", &[], "");
    assert!(matches!(client.message(), Message::Close(Some(1000), _)));
    // It says nothing to that.
    assert_eq!(client.message(), Message::End);
    support::eventually("its socket to be closed", || {
        (proxy.metric("clients") == [0.0]).then_some(())
    });
}

#[test]
fn a_client_that_pings_and_never_reads_is_closed() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("send_timeout", "300ms").start();
    let mut deaf = proxy.client("CP1");
    let pings = frame_bytes(true, PING, &[b'x'; 125]).repeat(1000);
    // Until the sockets between are full of pongs, and one has waited.
    support::eventually("its end", || {
        deaf.send_raw(&pings);
        (proxy.count_where("clients_closed", "not_reading") == 1).then_some(())
    });
    assert_eq!(backend.take("/disconnect").json()["reason"], json!("not reading"));
    let mut other = proxy.client("CP2");
    other.send_frame(true, PING, "x");
    assert_eq!(other.message(), Message::Pong(b"x".to_vec()));
}

#[test]
fn the_end_of_a_client_that_is_not_read_is_noticed_at_once() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend)
        .set("calls_queued", "1")
        .set("call_timeout", "10m")
        .start();
    // Of what comes behind the second Call nothing is read.
    for (number, calls_count, resets) in [(1, 2, false), (2, 2, true), (3, 40, true)] {
        let name = format!("CP{number}");
        let mut client = proxy.client(&name);
        for call in 0..calls_count {
            client.send_call(&format!("m{call}"), "Echo", "{}");
        }
        backend.wait_seen("/call", number);
        if resets {
            client.reset();
        } else {
            client.vanish();
        }
        let end = backend.take("/disconnect").json();
        assert_eq!((&end["clientId"], &end["code"]), (&json!(name), &json!(1006)));
        assert_eq!(backend.seen("/call").len(), number, "nothing of it is begun any more");
    }
    gate.open();
}

#[test]
fn what_a_client_has_sent_before_it_closed_is_taken_though_it_waits() {
    let backend = Backend::start();
    let gate = backend.hold("/send", |_| Response::new(204, ""));
    let proxy = Proxy::with(&backend).set("posts_queued", "2").start();
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    for number in 0..20 {
        client.send(format!("[6,\"s{number}\",\"N\",{{}}]"));
    }
    backend.wait_seen("/send", 1);
    client.vanish();
    gate.open();
    backend.wait_seen("/send", 20);
    assert_eq!(backend.take("/disconnect").json()["clientId"], json!("CP1"));
}
