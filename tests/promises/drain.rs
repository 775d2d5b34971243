//! When the process ends, what is under way is finished or told, and nobody is dropped without a word: `end-1` to
//! `end-6`, `outcome-9`, `admin-1`.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use support::{Backend, Builder, Client, Http, Message, Proxy, Response, json};

/// With so much time to drain in that whoever waits for its end fails the test.
fn patient(backend: &Backend) -> Builder {
    Proxy::with(backend).set("drain_timeout", "1h")
}

/// Waits until the proxy has begun to drain.
fn wait_draining(proxy: &Proxy) {
    support::eventually("the drain", || {
        (Http::connect(proxy.admin).get("/readyz").status == 503).then_some(())
    });
    support::eventually("all shards to know of it", || {
        proxy
            .metric("draining")
            .iter()
            .all(|draining| *draining == 1.0)
            .then_some(())
    });
}

/// Each shard has looked up since it was told to drain.
fn settle(clients: &mut [Client]) {
    for _ in 0..4 {
        for client in &mut *clients {
            client.expect_nothing();
        }
    }
}

#[test]
fn an_idle_proxy_ends_with_0_on_sigterm_and_on_sigint() {
    for signal in [Signal::TERM, Signal::INT] {
        let backend = Backend::start();
        let mut proxy = Proxy::with(&backend).shards(2).start();
        proxy.signal(signal);
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

#[test]
fn clients_are_closed_with_1001_and_their_end_is_posted() {
    let backend = Backend::start();
    let mut proxy = patient(&backend).shards(2).start();
    let mut clients: Vec<Client> = (0..20).map(|number| proxy.client(&format!("CP{number}"))).collect();
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_close(1001);
    }
    assert_eq!(proxy.wait().code(), Some(0));
    let ended = backend.wait_seen("/disconnect", 20);
    assert!(ended.iter().all(|request| request.json()["code"] == json!(1001)));
}

#[test]
fn a_draining_proxy_is_not_ready_but_healthy() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let mut proxy = patient(&backend).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    backend.take("/call");
    let mut admin = Http::connect(proxy.admin);
    admin.get("/readyz").expect(200);
    admin.get("/healthz").expect(200);
    proxy.signal(Signal::TERM);
    wait_draining(&proxy);
    admin.get("/readyz").expect(503);
    admin.get("/healthz").expect(200);
    gate.open();
    client.expect("[3,\"m1\",{}]");
    client.expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn the_clients_listener_closes_when_the_drain_begins_and_the_ingress_stays() {
    let backend = Backend::start();
    backend.on("/call", |_| Response::with_headers(202, &[("X-Deferred", "1")], ""));
    let mut proxy = patient(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    backend.take("/call");
    proxy.signal(Signal::TERM);
    support::eventually("a refused connection", || match TcpStream::connect(proxy.listen) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(()),
        _ => None,
    });
    wait_draining(&proxy);
    // Each of these over a new connection, which either shard may take.
    for number in 0..6 {
        proxy.push("CP1", "Reset", &format!("p{number}"), "{}").expect(503);
        proxy.push("CP2", "Reset", &format!("p{number}"), "{}").expect(503);
        proxy.http().request("GET", "/clients", &[], "").expect(200);
    }
    proxy
        .http()
        .request("POST", "/result/Slow/CP1/m1", &[], "{\"late\":1}")
        .expect(204);
    client.expect("[3,\"m1\",{\"late\":1}]");
    client.expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn calls_in_flight_are_answered_before_their_clients_are_closed() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    let mut proxy = patient(&backend).shards(2).start();
    let mut clients: Vec<Client> = (0..6).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_call("m1", "Slow", "{\"a\":1}");
        client.send_call("m2", "Slow", "{\"a\":2}");
    }
    backend.wait_seen("/call", 6);
    proxy.signal(Signal::TERM);
    wait_draining(&proxy);
    settle(&mut clients);
    gate.open();
    for client in &mut clients {
        client.expect("[3,\"m1\",{\"a\":1}]");
        // The other one had not begun: the client sends it again where it goes.
        client.expect_close(1001);
    }
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn who_always_has_a_call_waiting_is_closed_in_its_turn() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    let mut proxy = patient(&backend).set("calls_queued", "4").start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{}]");
    for number in 0..3 {
        client.send_call(&format!("m{number}"), "Slow", "{}");
    }
    backend.take("/call");
    proxy.signal(Signal::TERM);
    wait_draining(&proxy);
    // What comes now is read, since the push is not answered: but none of it is begun.
    settle(std::slice::from_mut(&mut client));
    client.send_call("m3", "Slow", "{}");
    client.expect_nothing();
    gate.open();
    client.expect("[3,\"m0\",{}]");
    client.send_call("m4", "Slow", "{}");
    client.send_result("p1", "{\"done\":1}");
    client.expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(
        backend.seen("/call").len(),
        1,
        "nothing was begun after its turn had come"
    );
    assert_eq!(backend.take("/result/Reset/CP1/p1").text(), "{\"done\":1}");
}

#[test]
fn who_waits_in_the_queue_of_the_listener_is_told() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let mut proxy = patient(&backend)
        .set("handshakes_max", "2")
        .set("handshake_timeout", "10m")
        .start();
    let under_way: Vec<Http> = (0..2)
        .map(|number| support::Handshake::new(&format!("CP{number}")).send(proxy.listen))
        .collect();
    backend.wait_seen("/connect", 2);
    let waiting: Vec<Http> = (0..8)
        .map(|number| support::Handshake::new(&format!("late{number}")).send(proxy.listen))
        .collect();
    proxy.wait_count_where("accept_pauses", "handshakes_max", 1);
    proxy.signal(Signal::TERM);
    for mut http in waiting {
        let reply = http.any_reply();
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        http.expect_end();
    }
    gate.open();
    for http in under_way {
        Client::upgrade(http).expect_close(1001);
    }
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn handshakes_that_the_backend_was_not_asked_about_yet_are_told() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let mut proxy = patient(&backend)
        .set("backend_connections_max", "1")
        .set("handshake_timeout", "10m")
        .start();
    let first = support::Handshake::new("CP0").send(proxy.listen);
    backend.wait_seen("/connect", 1);
    let waiting: Vec<Http> = (1..8)
        .map(|number| support::Handshake::new(&format!("CP{}", number / 2)).send(proxy.listen))
        .collect();
    support::eventually("all of them", || (proxy.metric("handshakes") == [8.0]).then_some(()));
    proxy.signal(Signal::TERM);
    for mut http in waiting {
        assert_eq!(http.any_reply().status, 503);
    }
    gate.open();
    Client::upgrade(first).expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(backend.seen("/connect").len(), 1);
}

#[test]
fn whoever_has_not_sent_a_request_is_told() {
    let backend = Backend::start();
    let mut proxy = patient(&backend).set("handshake_timeout", "10m").start();
    let mut silent = Http::connect(proxy.listen);
    let mut half = Http::connect(proxy.listen);
    half.send(&support::Handshake::new("CP1").bytes()[..40]);
    support::eventually("both", || (proxy.metric("handshakes") == [2.0]).then_some(()));
    proxy.signal(Signal::TERM);
    for http in [&mut silent, &mut half] {
        assert_eq!(http.any_reply().status, 503);
        http.expect_end();
    }
    drop((silent, half));
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_kept_connection_to_the_ingress_ends_with_an_answer() {
    const ROUNDS: usize = 8;
    let backend = Backend::start();
    for _ in 0..ROUNDS {
        let mut proxy = patient(&backend).shards(2).start();
        let address = proxy.ingress;
        let pushers: Vec<_> = (0..8)
            .map(|number| {
                std::thread::spawn(move || {
                    let mut http = Http::connect(address);
                    let target = support::http::call_target(&format!("CP{number}"), "Reset", "p1");
                    // One push after the other, as a balancer sends those of many over one connection.
                    loop {
                        http.send_request("POST", &target, &[], "{}");
                        match http.try_reply() {
                            Ok(Some(reply)) if reply.header("connection") == Some("close") => return true,
                            Ok(Some(reply)) => assert!(matches!(reply.status, 404 | 503), "{reply:?}"),
                            _ => return false,
                        }
                    }
                })
            })
            .collect();
        proxy.wait_count("ingress_requests", 100);
        proxy.signal(Signal::TERM);
        let answered: Vec<bool> = pushers.into_iter().map(|pusher| pusher.join().unwrap()).collect();
        assert!(answered.iter().all(|answered| *answered), "{answered:?}");
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

#[test]
fn during_the_drain_an_answer_at_the_ingress_is_the_last_of_its_connection() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let mut proxy = patient(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    backend.take("/call");
    let mut kept: Vec<Http> = (0..8).map(|_| proxy.http()).collect();
    for http in &mut kept {
        http.request("GET", "/clients", &[], "").expect(200);
    }
    proxy.signal(Signal::TERM);
    wait_draining(&proxy);
    for http in &mut kept {
        let reply = http.push("CP1", "Reset", "p1", "{}").expect(503);
        assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
        http.expect_end();
    }
    gate.open();
    client.expect("[3,\"m1\",{}]");
    client.expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn the_ends_of_clients_are_not_waited_for_while_nothing_can_be_delivered() {
    let mut backend = Backend::start();
    let mut proxy = patient(&backend).shards(2).set("result_ttl", "1h").start();
    let mut clients: Vec<Client> = (0..4).map(|number| proxy.client(&format!("CP{number}"))).collect();
    backend.stop();
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_close(1001);
    }
    assert_eq!(proxy.wait().code(), Some(0));
    let line = proxy.wait_log("drained in ");
    assert!(line.contains("4 /disconnect"), "{line}");
}

#[test]
fn outcomes_are_waited_for_also_while_the_backend_is_away() {
    let mut backend = Backend::start();
    let mut proxy = patient(&backend).set("result_ttl", "1h").start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{}]");
    backend.stop();
    client.send_result("p1", "{\"done\":1}");
    client.expect_nothing();
    proxy.signal(Signal::TERM);
    client.expect_close(1001);
    backend.restart();
    assert_eq!(backend.take("/result/Reset/CP1/p1").text(), "{\"done\":1}");
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn what_was_lost_is_told_by_its_kind() {
    let mut backend = Backend::start();
    let mut proxy = Proxy::with(&backend).set("drain_timeout", "1s").start();
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    for message_id in ["p1", "p2"] {
        proxy.push("CP1", "Reset", message_id, "{}").expect(202);
    }
    client.expect("[2,\"p1\",\"Reset\",{}]");
    backend.stop();
    client.send("[6,\"s1\",\"Notify\",{}]");
    client.send_result("p1", "{}");
    client.expect("[2,\"p2\",\"Reset\",{}]");
    proxy.signal(Signal::TERM);
    client.expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
    let line = proxy.wait_log("drained in ");
    assert!(
        line.contains("not delivered: 2 outcomes of pushes, 1 SENDs, 1 /disconnect"),
        "{line}"
    );
}

#[test]
fn pushes_that_wait_end_as_shutdown_and_the_sent_one_may_be_answered() {
    let backend = Backend::start();
    let mut proxy = patient(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    for message_id in ["m1", "m2", "m3"] {
        proxy.push("CP1", "Reset", message_id, "{}").expect(202);
    }
    client.expect("[2,\"m1\",\"Reset\",{}]");
    proxy.signal(Signal::TERM);
    for message_id in ["m2", "m3"] {
        let outcome = backend.take(&format!("/error/Reset/CP1/{message_id}"));
        assert_eq!(outcome.header("x-origin"), Some("ws2api"));
        let body = outcome.json();
        assert_eq!(
            (&body["code"], &body["details"]),
            (&json!("Shutdown"), &json!({"sent": false}))
        );
    }
    client.send_result("m1", "{\"done\":1}");
    client.expect_close(1001);
    assert_eq!(backend.take("/result/Reset/CP1/m1").text(), "{\"done\":1}");
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!((backend.seen("/result").len(), backend.seen("/error").len()), (1, 2));
}

#[test]
fn a_sent_push_that_is_not_answered_ends_as_shutdown_too() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).set("drain_timeout", "1s").start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "m1", "{}").expect(202);
    client.text();
    proxy.signal(Signal::TERM);
    client.expect_close(1001);
    let outcome = backend.take("/error").json();
    assert_eq!(
        (&outcome["code"], &outcome["details"]),
        (&json!("Shutdown"), &json!({"sent": true}))
    );
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_push_to_a_draining_proxy_gets_503() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let mut proxy = patient(&backend).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    backend.take("/call");
    // A connection that is in the middle of a request when the drain begins is served to its end.
    let mut http = proxy.http();
    let request = support::http::request_bytes("POST", "/call/Reset/CP1/p1", &[], b"{}");
    http.send(&request[..request.len() - 1]);
    support::eventually("the request to have begun", || {
        (proxy.count("ingress_requests") == 1).then_some(())
    });
    proxy.signal(Signal::TERM);
    wait_draining(&proxy);
    http.send(&request[request.len() - 1..]);
    let reply = http.reply().expect(503);
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    gate.open();
    client.expect("[3,\"m1\",{}]");
    client.expect_close(1001);
    http.expect_end();
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(backend.seen("/error").len(), 0);
}

#[test]
fn a_waiting_request_is_told_of_the_shutdown() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).set("drain_timeout", "1s").start();
    let mut client = proxy.client("CP1");
    let mut http = proxy.http();
    http.send_request("POST", "/call/Reset/CP1/m1", &[("Prefer", "wait=60")], "{}");
    client.text();
    proxy.signal(Signal::TERM);
    http.reply().expect(502);
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(backend.seen("/error").len(), 0, "it was told once");
}

#[test]
fn a_handshake_under_way_gets_an_answer() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let mut proxy = patient(&backend).start();
    let mut http = support::Handshake::new("CP1").send(proxy.listen);
    backend.take("/connect");
    proxy.signal(Signal::TERM);
    wait_draining(&proxy);
    gate.open();
    // Let in, and asked to go, or not let in any more: but told.
    let reply = http.any_reply();
    match reply.status {
        101 => {
            let mut client = Client::from_reply(http, reply);
            client.expect_close(1001);
            backend.take("/disconnect");
        }
        status => assert_eq!(status, 503),
    }
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_stuck_backend_does_not_hold_up_the_end() {
    let backend = Backend::start();
    backend.on("/call", |_| Response::never());
    backend.on("/result", |_| Response::never());
    let mut proxy = Proxy::with(&backend).shards(2).set("drain_timeout", "1s").start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.text();
    client.send_result("p1", "{}");
    backend.take("/result");
    client.send_call("m1", "Slow", "{}");
    backend.take("/call");
    proxy.signal(Signal::TERM);
    client.expect_error("m1", "InternalError");
    client.expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn who_owes_an_answer_is_not_waited_for_but_what_is_at_the_backend_is() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    // What is at the backend has a tenth of it.
    let mut proxy = Proxy::with(&backend).set("drain_timeout", "20s").start();
    let mut clients: Vec<Client> = (0..2).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        proxy.push(&format!("CP{number}"), "Reset", "p1", "{}").expect(202);
        client.expect("[2,\"p1\",\"Reset\",{}]");
    }
    clients[0].send_call("m1", "Slow", "{}");
    backend.take("/call");
    proxy.signal(Signal::TERM);
    // Whose time is over leaves. The other one has an answer under way.
    clients[1].expect_close(1001);
    gate.open();
    clients[0].expect("[3,\"m1\",{}]");
    clients[0].expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
    let outcomes = backend.wait_seen("/error", 2);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.json()["code"] == json!("Shutdown"))
    );
}

#[test]
fn a_client_that_does_not_answer_the_close_does_not_hold_up_the_end() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).set("drain_timeout", "1s").start();
    let mut client = proxy.client("CP1");
    proxy.signal(Signal::TERM);
    assert!(matches!(client.message(), Message::Close(Some(1001), _)));
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(client.message(), Message::End);
}

#[test]
fn idle_connections_to_the_backend_do_not_hold_up_the_end() {
    let backend = Backend::start();
    // Were they waited for, each of these would take 2 s at least. One that does not is enough: a busy machine takes its time.
    let is_quick = |_| {
        let mut proxy = patient(&backend).start();
        let mut client = proxy.client("CP1");
        client.send_call("m1", "Echo", "{}");
        client.expect("[3,\"m1\",{}]");
        proxy.signal(Signal::TERM);
        client.expect_close(1001);
        drop(client);
        assert_eq!(proxy.wait().code(), Some(0));
        let line = proxy.wait_log("drained in ");
        let seconds = line.split("drained in ").nth(1).unwrap().split(' ').next().unwrap();
        seconds.parse::<f64>().unwrap() < 2.0
    };
    assert!((0..8).any(is_quick));
}

#[test]
fn the_closes_are_spread() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend)
        .set("drain_timeout", "60s")
        .set("drain_spread", "20s")
        .start();
    let mut clients: Vec<Client> = (0..2).map(|number| proxy.client(&format!("CP{number}"))).collect();
    proxy.signal(Signal::TERM);
    // Whoever comes first: the other one is still served when it has gone.
    let first = backend.take("/disconnect").json()["clientId"].clone();
    let (gone, stays) = if first == json!("CP0") { (0, 1) } else { (1, 0) };
    clients[gone].expect_close(1001);
    clients[stays].send_call("m1", "Echo", "{}");
    clients[stays].expect("[3,\"m1\",{}]");
    proxy.signal(Signal::TERM);
    proxy.wait();
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::INT),
    ] {
        let backend = Backend::start();
        backend.on("/call", |_| Response::never());
        // Were it to wait for either of these, the test would not end.
        let mut proxy = Proxy::with(&backend)
            .set("drain_timeout", "1h")
            .set("call_timeout", "1h")
            .start();
        let mut client = proxy.client("CP1");
        client.send_call("m1", "Slow", "{}");
        backend.take("/call");
        proxy.signal(first);
        wait_draining(&proxy);
        proxy.signal(second);
        proxy.wait();
        assert_eq!(client.message(), Message::End);
    }
}

#[test]
fn in_mid_traffic_every_call_is_answered_and_every_push_has_its_outcome() {
    let backend = Backend::start();
    let mut proxy = patient(&backend).shards(2).start();
    let clients: Vec<Client> = (0..12).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let ingress = proxy.ingress;
    let callers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                // One Call after the other until the close; pushes are answered.
                let (mut sent, mut answered) = (0, 0);
                client.send_call("m0", "Echo", "{}");
                loop {
                    match client.message() {
                        Message::Text(text) if text.starts_with("[2,") => {
                            let id = support::parse(&text)[1].as_str().unwrap().to_owned();
                            client.send_result(&id, "{}");
                        }
                        Message::Text(text) => {
                            assert_eq!(text, format!("[3,\"m{sent}\",{{}}]"));
                            answered += 1;
                            if answered < 100_000 {
                                sent += 1;
                                client.send_call(&format!("m{sent}"), "Echo", "{}");
                            }
                        }
                        Message::Close(Some(1001), _) => return answered,
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    let pusher = std::thread::spawn(move || {
        let mut accepted = Vec::new();
        let mut http = Http::connect(ingress);
        for number in 0.. {
            let (client, message_id) = (format!("CP{}", number % 12), format!("p{number}"));
            http.send_request(
                "POST",
                &support::http::call_target(&client, "Reset", &message_id),
                &[],
                "{}",
            );
            match http.try_reply() {
                Ok(Some(reply)) if reply.status == 202 => accepted.push((client, message_id)),
                Ok(Some(reply)) if matches!(reply.status, 429 | 503 | 404) => {}
                Ok(Some(reply)) => panic!("{reply:?}"),
                Ok(None) | Err(_) => break,
            }
        }
        accepted
    });
    backend.wait_seen("/call", 500);
    backend.wait_seen("/result", 100);
    proxy.signal(Signal::TERM);
    let answered: Vec<usize> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    let accepted = pusher.join().unwrap();
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(answered.iter().sum::<usize>() >= 500);
    let mut outcomes: Vec<_> = [backend.seen("/result"), backend.seen("/error")]
        .concat()
        .iter()
        .map(|request| (request.segment(2), request.segment(3)))
        .collect();
    let mut accepted = accepted;
    outcomes.sort();
    accepted.sort();
    assert_eq!(outcomes, accepted, "one outcome for each that was accepted");
}

#[test]
fn in_mid_traffic_with_a_stuck_backend_it_ends_in_time_and_everybody_is_told() {
    const CLIENTS: usize = 12;
    let backend = Backend::start();
    backend.on("/call/Stuck", |_| Response::never());
    let mut proxy = Proxy::with(&backend)
        .shards(2)
        .set("drain_timeout", "6s")
        .set("drain_spread", "1s")
        .set("call_timeout", "1h")
        .start();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| proxy.client(&format!("CP{number}")))
        .collect();
    // Of each client one push is with it and one waits; half of them have a Call that is never answered.
    let mut accepted = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        for message_id in ["p1", "p2"] {
            let name = format!("CP{number}");
            proxy.push(&name, "Reset", message_id, "{}").expect(202);
            accepted.push((name, message_id.to_owned()));
        }
        client.expect("[2,\"p1\",\"Reset\",{}]");
        client.send_call("m1", if number % 2 == 0 { "Stuck" } else { "Echo" }, "{}");
    }
    backend.wait_seen("/call/Stuck", CLIENTS / 2);
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    for (number, client) in clients.iter_mut().enumerate() {
        if number % 2 == 0 {
            client.expect_error("m1", "InternalError");
        } else {
            client.expect("[3,\"m1\",{}]");
        }
        client.expect_close(1001);
    }
    assert_eq!(proxy.wait().code(), Some(0));
    // Its own time, and what a busy machine takes to notice.
    assert!(begun.elapsed() < Duration::from_secs(6 + 15), "{:?}", begun.elapsed());
    let mut outcomes: Vec<_> = backend
        .seen("/error")
        .iter()
        .map(|request| (request.segment(2), request.segment(3)))
        .collect();
    outcomes.sort();
    accepted.sort();
    assert_eq!(outcomes, accepted);
}

#[test]
fn clients_are_sent_away_without_a_close_frame_where_so_configured() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).set("drain_close", "fin").start();
    let mut client = proxy.client("CP1");
    proxy.signal(Signal::TERM);
    assert_eq!(client.message(), Message::End);
    assert_eq!(backend.take("/disconnect").json()["code"], 1006);
    drop(client);
    assert_eq!(proxy.wait().code(), Some(0));
}
