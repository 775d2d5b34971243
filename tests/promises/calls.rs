//! Calls reach the backend under their paths, in order, within bounds, and once: `call-1`, `call-4`, `order-1` to
//! `order-12`.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::client::{PING, TEXT, frame_bytes};
use support::http::Stream;
use support::{Backend, Client, Message, Proxy, Response};

#[test]
fn a_call_becomes_a_post_and_its_answer_a_call_result() {
    let backend = Backend::start();
    backend.on("/call", |_| Response::json("{\"status\":\"Accepted\"}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    client.send("[2,\"m1\",\"BootNotification\",{\"chargePointModel\":\"X\"}]");
    client.expect("[3,\"m1\",{\"status\":\"Accepted\"}]");
    let request = backend.take("/call");
    assert_eq!(request.target, "/call/BootNotification/CP1/m1");
    assert_eq!(request.text(), "{\"chargePointModel\":\"X\"}");
}

#[test]
fn path_parts_are_percent_encoded() {
    let cases = [
        ("CP1", "Boot", "m1", "/call/Boot/CP1/m1"),
        ("CP 1", "a b", "m 1", "/call/a%20b/CP%201/m%201"),
        ("Säule", "Ä", "ü", "/call/%C3%84/S%C3%A4ule/%C3%BC"),
        ("a?b", "a#b", "a%b", "/call/a%23b/a%3Fb/a%25b"),
        ("a&b=c", "a+b", "a;b", "/call/a%2Bb/a%26b%3Dc/a%3Bb"),
        ("-._~", "-._~", "-._~", "/call/-._~/-._~/-._~"),
        (
            "x:y@z",
            "!$'()*,",
            "[]|{}",
            "/call/%21%24%27%28%29%2A%2C/x%3Ay%40z/%5B%5D%7C%7B%7D",
        ),
        ("...", "..a", "a..", "/call/..a/.../a.."),
    ];
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for (client_id, action, message_id, target) in cases {
        let mut client = proxy.client(client_id);
        client.send_call(message_id, action, "{}");
        client.expect(&format!("[3,\"{message_id}\",{{}}]"));
        assert_eq!(backend.take("/call").target, target);
    }
}

#[test]
fn calls_go_to_the_backend_one_at_a_time_in_the_order_of_arrival() {
    let backend = Backend::start();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (current, highest) = (now.clone(), most.clone());
    backend.on("/call", move |request| {
        highest.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        current.fetch_sub(1, Ordering::SeqCst);
        Response::json(&request.body)
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for number in 0..200 {
        client.send_call(&format!("m{number}"), "Count", &format!("{{\"n\":{number}}}"));
    }
    for number in 0..200 {
        client.expect(&format!("[3,\"m{number}\",{{\"n\":{number}}}]"));
    }
    let bodies: Vec<_> = backend
        .seen("/call")
        .iter()
        .map(|request| request.json()["n"].as_u64().unwrap())
        .collect();
    assert_eq!(bodies, (0..200).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn with_more_calls_in_flight_answers_go_out_as_they_come() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).set("calls_in_flight", "2").start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    for number in 2..6 {
        client.send_call(&format!("m{number}"), "Quick", "{}");
    }
    for number in 2..6 {
        client.expect(&format!("[3,\"m{number}\",{{}}]"));
    }
    gate.open();
    client.expect("[3,\"m1\",{}]");
}

#[test]
fn no_more_calls_than_configured_are_at_the_backend_at_once() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).set("calls_in_flight", "3").start();
    let mut client = proxy.client("CP1");
    for number in 0..8 {
        client.send_call(&format!("m{number}"), "Slow", "{}");
    }
    backend.wait_seen("/call", 3);
    // A ping that is answered was read after all of them.
    client.send_frame(true, PING, "x");
    assert_eq!(client.message(), Message::Pong(b"x".to_vec()));
    assert_eq!(backend.seen("/call").len(), 3);
    gate.open();
    for _ in 0..8 {
        assert!(client.text().starts_with("[3,"));
    }
}

#[test]
fn a_client_above_calls_per_second_max_is_not_read_until_it_may_go_on() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("calls_per_second_max", "5")
        .set("calls_queued", "100")
        .start();
    let mut fast = proxy.client("CP1");
    let mut other = proxy.client("CP2");
    let begun = std::time::Instant::now();
    for number in 0..15 {
        fast.send_call(&format!("f{number}"), "Echo", "{}");
    }
    // Others have a pace of their own.
    for number in 0..5 {
        other.send_call(&format!("o{number}"), "Echo", "{}");
        other.expect(&format!("[3,\"o{number}\",{{}}]"));
    }
    // It loses nothing, and gets all of it in order: the first five at once, each of the others a fifth of a second later.
    for number in 0..15 {
        fast.expect(&format!("[3,\"f{number}\",{{}}]"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    assert!(seconds >= 1.9, "15 Calls in {seconds} s, at 5 a second");
    assert_eq!(proxy.count("frames_bad"), 0);
}

#[test]
fn a_client_is_not_read_while_its_queue_of_calls_is_full() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).set("calls_queued", "2").start();
    let mut client = proxy.client("CP1");
    let payload = format!("{{\"s\":\"{}\"}}", "x".repeat(60_000));
    let mut bytes = Vec::new();
    for number in 0..1000 {
        let frame = format!("[2,\"m{number}\",\"Slow\",{payload}]");
        bytes.extend(frame_bytes(true, TEXT, frame.as_bytes()));
    }
    // 60 MB do not fit into the sockets between: sending gets stuck, for good.
    let Stream::Tcp(mut stream) = client.stream().try_clone().unwrap() else {
        panic!("a client is on TCP")
    };
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut stuck) = (0, 0);
    while stuck < 100 {
        assert!(sent < bytes.len(), "everything was read");
        match stream.write(&bytes[sent..]) {
            Ok(len) => (sent, stuck) = (sent + len, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stuck += 1;
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    assert_eq!(backend.seen("/call").len(), 1);
    // Once the backend goes on, everything that was sent is answered, in order.
    gate.open();
    let rest = std::thread::spawn(move || stream.write_all(&bytes[sent..]).unwrap());
    for number in 0..1000 {
        client.expect(&format!("[3,\"m{number}\",{{}}]"));
    }
    rest.join().unwrap();
}

#[test]
fn a_client_whose_queue_of_calls_is_full_is_not_taken_for_dead() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend)
        .set("calls_queued", "1")
        .set("ping_after", "200ms")
        .set("dead_after", "1500ms")
        .start();
    let mut full = proxy.client("CP1");
    for number in 0..3 {
        full.send_call(&format!("m{number}"), "Slow", "{}");
    }
    backend.take("/call/Slow");
    // Somebody else, who came later, is silent for as long as a client may be.
    let mut silent = proxy.client("CP2");
    silent.mute();
    while silent.message() != Message::End {}
    gate.open();
    for number in 0..3 {
        full.expect(&format!("[3,\"m{number}\",{{}}]"));
    }
}

#[test]
fn a_clients_answers_and_pongs_do_not_wait_behind_its_calls() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    client.send_call("m2", "Slow", "{}");
    backend.take("/call/Slow");
    client.send_frame(true, PING, "p");
    assert_eq!(client.message(), Message::Pong(b"p".to_vec()));
    for (message_id, answer, path) in [
        ("p1", "[3,\"p1\",{}]", "/result/Reset/CP1/p1"),
        ("p2", "[4,\"p2\",\"X\",\"\",{}]", "/error/Reset/CP1/p2"),
    ] {
        proxy.push("CP1", "Reset", message_id, "{}").expect(202);
        client.expect(&format!("[2,\"{message_id}\",\"Reset\",{{}}]"));
        client.send(answer);
        backend.take(path);
    }
    gate.open();
    client.expect("[3,\"m1\",{}]");
    client.expect("[3,\"m2\",{}]");
}

#[test]
fn a_slow_call_of_one_client_does_not_hold_up_another() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::start(&backend);
    let mut slow: Vec<Client> = (0..20).map(|number| proxy.client(&format!("slow{number}"))).collect();
    for client in &mut slow {
        client.send_call("m1", "Slow", "{}");
    }
    backend.wait_seen("/call/Slow", 20);
    let mut quick = proxy.client("quick");
    quick.send_call("m1", "Quick", "{}");
    quick.expect("[3,\"m1\",{}]");
    gate.open();
    for client in &mut slow {
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn the_request_of_a_client_that_has_gone_is_finished_and_its_answer_dropped() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{\"late\":true}"));
    let proxy = Proxy::with(&backend).set("backend_connections_max", "2").start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    client.send_call("m2", "Slow", "{}");
    let slow = backend.take("/call/Slow").connection;
    // A ping that is answered was read after both.
    client.send_frame(true, PING, "");
    assert_eq!(client.message(), Message::Pong(Vec::new()));
    client.vanish();
    backend.take("/disconnect");
    gate.open();
    // Had the request been broken off, its connection would be gone. It serves one of the next two.
    let gate = backend.hold("/call/Both", |_| Response::json("{}"));
    let mut again = [proxy.client("CP1"), proxy.client("CP2")];
    for client in &mut again {
        client.send_call("m1", "Both", "{}");
    }
    let both = backend.wait_seen("/call/Both", 2);
    assert!(both.iter().any(|request| request.connection == slow), "{both:?}");
    gate.open();
    for client in &mut again {
        client.expect("[3,\"m1\",{}]");
    }
    assert_eq!(backend.connections(), 2);
    assert_eq!(backend.seen("/call/Slow").len(), 1, "the one that waited was not sent");
    assert_eq!(
        (
            proxy.count("answers_dropped"),
            proxy.count_where("calls_not_started", "client_gone")
        ),
        (1, 1)
    );
}

#[test]
fn identical_calls_in_flight_are_answered_once() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{\"a\":1}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for _ in 0..5 {
        client.send_call("m1", "Slow", "{}");
    }
    client.send_call("m2", "Slow", "{}");
    for _ in 0..5 {
        client.send_call("m2", "Slow", "{}");
    }
    // An m1 that came after the answer would be a Call of its own.
    support::eventually("all repetitions to be there", || {
        (proxy.count_where("calls_not_started", "coalesced") == 4 + 5).then_some(())
    });
    gate.open();
    client.expect("[3,\"m1\",{\"a\":1}]");
    client.expect("[3,\"m2\",{\"a\":1}]");
    client.send_frame(true, PING, "");
    assert_eq!(client.message(), Message::Pong(Vec::new()), "nothing else came");
    assert_eq!(backend.seen("/call").len(), 2);
}

#[test]
fn another_call_with_a_message_id_in_flight_is_refused() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{\"a\":1}"));
    let proxy = Proxy::start(&backend);
    for (subprotocol, code) in [
        ("ocpp1.6", "GenericError"),
        ("ocpp2.0.1", "RpcFrameworkError"),
        ("ocpp2.1", "RpcFrameworkError"),
    ] {
        let mut client = proxy.client_of(subprotocol, "CP1");
        client.send_call("m1", "Slow", "{}");
        backend.take("/call");
        client.send_call("m2", "Slow", "{}");
        for (message_id, action, payload) in [
            ("m1", "Slow", "{ }"),
            ("m1", "Other", "{}"),
            ("m1", "Slow", "{\"a\":1}"),
            ("m2", "Slow", "{ }"),
        ] {
            client.send_call(message_id, action, payload);
            client.expect_error(message_id, code);
        }
        gate.pass();
        client.expect("[3,\"m1\",{\"a\":1}]");
        backend.take("/call");
        gate.pass();
        client.expect("[3,\"m2\",{\"a\":1}]");
        // Once answered, an id is free.
        client.send_call("m1", "Other", "{}");
        backend.take("/call");
        gate.pass();
        client.expect("[3,\"m1\",{\"a\":1}]");
    }
}

#[test]
fn the_same_message_id_of_another_client_is_another_call() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    let proxy = Proxy::start(&backend);
    let mut clients: Vec<Client> = (0..3).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_call("m1", "Slow", &format!("{{\"n\":{number}}}"));
    }
    backend.wait_seen("/call", 3);
    gate.open();
    for (number, client) in clients.iter_mut().enumerate() {
        client.expect(&format!("[3,\"m1\",{{\"n\":{number}}}]"));
    }
}

#[test]
fn a_steady_stream_of_calls_never_stalls() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let mut client = proxy.client(&format!("CP{number}"));
            std::thread::spawn(move || {
                for call in 0..1500 {
                    let payload = format!("{{\"n\":{call}}}");
                    client.send_call(&format!("m{call}"), "Echo", &payload);
                    client.expect(&format!("[3,\"m{call}\",{payload}]"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(backend.seen("/call").len(), 8 * 1500);
}

#[test]
fn a_payload_that_is_null_or_left_out_is_an_empty_object() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for subprotocol in ["ocpp1.6", "ocpp2.1"] {
        let mut client = proxy.client_of(subprotocol, "CP1");
        for frame in [
            "[2,\"m1\",\"Heartbeat\",null]",
            "[2,\"m1\",\"Heartbeat\"]",
            "\u{feff}[2,\"m1\",\"Heartbeat\",{}]",
        ] {
            client.send(frame);
            client.expect("[3,\"m1\",{}]");
            assert_eq!(backend.take("/call").text(), "{}", "{frame}");
        }
        if subprotocol == "ocpp2.1" {
            for frame in ["[6,\"m1\",\"Notify\",null]", "[6,\"m1\",\"Notify\"]"] {
                client.send(frame);
                assert_eq!(backend.take("/send").text(), "{}", "{frame}");
            }
        }
    }
}
