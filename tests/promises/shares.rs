//! Nobody takes more than a share of the way to the backend: what one client floods, and what newcomers ask, stands before
//! nobody else's Calls and outcomes (`bound-8` to `bound-13`).

use std::sync::{Arc, Mutex};

use support::{Backend, Client, Gate, Handshake, Http, Proxy, Response, eventually};

/// Lets requests through the gate, one at a time, until one of that path comes. What is under way is always more than the
/// backend's connections, so each that is let through is followed by another.
#[track_caller]
fn pass_until(backend: &Backend, gate: &Gate, path: &str) {
    for _ in 0..=OTHERS_MAX {
        if !backend.seen(path).is_empty() {
            return;
        }
        let seen_count = backend.seen("/").len();
        gate.pass();
        backend.wait_seen("/", seen_count + 1);
    }
    assert!(
        !backend.seen(path).is_empty(),
        "more than {OTHERS_MAX} requests of others went before {path}"
    );
}

/// SENDs s0, s1, … in as few bytes as can be.
fn sends(count: usize) -> Vec<u8> {
    let frame = |number| {
        let text = format!("[6,\"s{number}\",\"N\",{{}}]");
        support::client::frame_bytes(true, support::client::TEXT, text.as_bytes())
    };
    (0..count).flat_map(frame).collect()
}

/// What has come before this is known to the shard: it has looked at all its sockets since.
fn settle(bystander: &mut Client) {
    for _ in 0..3 {
        bystander.expect_nothing();
    }
}

#[test]
fn a_flood_of_sends_does_not_hold_up_another_clients_calls() {
    let backend = Backend::start();
    let gate = backend.hold("/send", |_| Response::new(204, ""));
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "1")
        .set("call_timeout", "10m")
        .start();
    let mut victim = proxy.client("CP1");
    let mut flooder = proxy.client_of("ocpp2.1", "CP2");
    flooder.send_raw(sends(2_000));
    // They keep their order: one is there at a time.
    backend.wait_seen("/send", 1);
    settle(&mut victim);
    victim.send_call("m1", "Echo", "{\"a\":1}");
    settle(&mut victim);
    pass_until(&backend, &gate, "/call/Echo");
    victim.expect("[3,\"m1\",{\"a\":1}]");
    gate.open();
    backend.wait_seen("/send", 2_000);
}

#[test]
fn a_flood_of_sends_does_not_keep_newcomers_out() {
    let backend = Backend::start();
    let gate = backend.hold("/send", |_| Response::new(204, ""));
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "1")
        .set("call_timeout", "10m")
        .set("handshake_timeout", "10m")
        .start();
    let mut bystander = proxy.client("CP1");
    let mut flooder = proxy.client_of("ocpp2.1", "CP2");
    flooder.send_raw(sends(2_000));
    // They keep their order: one is there at a time.
    backend.wait_seen("/send", 1);
    settle(&mut bystander);
    let newcomer = Handshake::new("CP3").send(proxy.listen);
    settle(&mut bystander);
    let is_newcomer = |request: &support::Request| request.target == "/connect" && request.text() == "\"CP3\"";
    for _ in 0..OTHERS_MAX {
        let seen_count = backend.seen("/").len();
        gate.pass();
        if backend.wait_seen("/", seen_count + 1).iter().any(is_newcomer) {
            break;
        }
    }
    assert!(backend.seen("/connect").iter().any(is_newcomer), "CP3 is not asked for");
    Client::upgrade(newcomer);
    gate.open();
}

#[test]
fn a_flood_of_sends_does_not_cost_another_client_its_outcome() {
    let backend = Backend::start();
    let gate = backend.hold("/send", |_| Response::new(204, ""));
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "1")
        .set("backend_waiters_max", "4")
        .set("results_queued_max", "16")
        .set("result_ttl", "1h")
        .set("call_timeout", "10m")
        .start();
    let mut victim = proxy.client("CP1");
    let mut flooder = proxy.client_of("ocpp2.1", "CP2");
    // The only connection is taken, and so is the room behind it.
    flooder.send_raw(sends(20));
    backend.wait_seen("/send", 1);
    settle(&mut victim);
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    victim.expect("[2,\"p1\",\"Reset\",{}]");
    victim.send_result("p1", "{\"status\":\"Accepted\"}");
    settle(&mut victim);
    flooder.send_raw(sends(500));
    settle(&mut victim);
    gate.open();
    assert_eq!(backend.take("/result").target, "/result/Reset/CP1/p1");
    assert_eq!(proxy.count("posts_dropped"), 0, "nothing is dropped");
}

#[test]
fn sends_of_one_client_arrive_in_order_also_when_one_is_repeated() {
    let backend = Backend::start();
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let tries = Mutex::new(0);
    let of_backend = taken.clone();
    backend.on("/send", move |request| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        // The first is not taken at once.
        if *tries == 1 {
            return Response::new(503, "");
        }
        of_backend.lock().unwrap().push(request.segment(3));
        Response::new(204, "")
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    client.send_raw(sends(10));
    eventually("all of them", || (taken.lock().unwrap().len() == 10).then_some(()));
    let expected: Vec<_> = (0..10).map(|number| format!("s{number}")).collect();
    assert_eq!(*taken.lock().unwrap(), expected);
}

#[test]
fn a_call_does_not_wait_for_the_handshakes_of_others() {
    const NEWCOMERS: usize = 600;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "2")
        .set("call_timeout", "10m")
        .set("handshake_timeout", "10m")
        .start();
    let mut client = proxy.client("CP1");
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let storm: Vec<Http> = (0..NEWCOMERS)
        .map(|number| Handshake::new(&format!("new{number}")).send(proxy.listen))
        .collect();
    eventually("all of them to be under way", || {
        (proxy.metric("handshakes") == [NEWCOMERS as f64]).then_some(())
    });
    backend.wait_seen("/connect", 1 + 2);
    client.send_call("m1", "Echo", "{\"a\":1}");
    settle(&mut client);
    pass_until(&backend, &gate, "/call/Echo");
    client.expect("[3,\"m1\",{\"a\":1}]");
    gate.open();
    // And nobody is left out.
    for http in storm {
        Client::upgrade(http);
    }
}

#[test]
fn whoever_has_given_up_its_handshake_is_not_asked_for() {
    const GIVEN_UP: usize = 100;
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "2")
        .set("call_timeout", "10m")
        .set("handshake_timeout", "10m")
        .start();
    let storm: Vec<Http> = (0..GIVEN_UP)
        .map(|number| Handshake::new(&format!("gone{number}")).send(proxy.listen))
        .collect();
    eventually("all of them to be under way", || {
        (proxy.metric("handshakes") == [GIVEN_UP as f64]).then_some(())
    });
    backend.wait_seen("/connect", 2);
    for (number, http) in storm.into_iter().enumerate() {
        // An end, or a reset: a process that was killed, or one that does not wait.
        if number % 2 == 0 {
            http.connection.stream.reset_on_close();
        }
    }
    let newcomer = Handshake::new("CP1").send(proxy.listen);
    eventually("the end of all but those who are asked for", || {
        (proxy.metric("handshakes") == [2.0 + 1.0]).then_some(())
    });
    gate.open();
    Client::upgrade(newcomer);
    let asked: Vec<_> = backend
        .seen("/connect")
        .iter()
        .map(|request| request.text().to_owned())
        .collect();
    assert_eq!(
        asked.len(),
        2 + 1,
        "asked before they gave up, and the newcomer: {asked:?}"
    );
}

#[test]
fn a_call_does_not_wait_for_the_disconnects_of_others_and_none_is_lost() {
    const CLIENTS: usize = 200;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "2")
        .set("backend_waiters_max", "64")
        .set("call_timeout", "10m")
        .start();
    let mut client = proxy.client("CP1");
    let leaving: Vec<Client> = (0..CLIENTS)
        .map(|number| proxy.client(&format!("leaving{number}")))
        .collect();
    let gate = backend.hold("/disconnect", |_| Response::new(204, ""));
    drop(leaving);
    eventually("their end", || (proxy.metric("clients") == [1.0]).then_some(()));
    backend.wait_seen("/disconnect", 2);
    client.send_call("m1", "Echo", "{\"a\":1}");
    settle(&mut client);
    pass_until(&backend, &gate, "/call/Echo");
    client.expect("[3,\"m1\",{\"a\":1}]");
    gate.open();
    backend.wait_seen("/disconnect", CLIENTS);
}

#[test]
fn a_client_that_reconnects_holds_no_more_of_the_backend() {
    const RECONNECTS: usize = 8;
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", &RECONNECTS.to_string())
        .set("call_timeout", "10m")
        .start();
    let mut bystander = proxy.client("CP2");
    let mut connections = Vec::new();
    for number in 0..RECONNECTS {
        let mut client = proxy.client("CP1");
        client.send_call(&format!("m{number}"), "Slow", "{}");
        settle(&mut client);
        connections.push(client);
    }
    backend.wait_seen("/call/Slow", 1);
    bystander.send_call("m1", "Echo", "{}");
    bystander.expect("[3,\"m1\",{}]");
    assert_eq!(
        backend.seen("/call/Slow").len(),
        1,
        "`calls_in_flight` counts per ClientId"
    );
    // The first is answered, to nobody: what waits on the connection that there is now is asked then, and nothing of the others.
    gate.pass();
    assert_eq!(
        backend.wait_seen("/call/Slow", 2)[1].segment(3),
        format!("m{}", RECONNECTS - 1)
    );
    gate.open();
    let mut last = connections.pop().unwrap();
    last.expect(&format!("[3,\"m{}\",{{}}]", RECONNECTS - 1));
    assert_eq!(backend.seen("/call/Slow").len(), 2);
}

/// Of two kinds that wait, each goes in its turn; the rest is room for how the turns are counted.
const OTHERS_MAX: usize = 16;
