//! Nobody's handshakes keep those of others out: what is silent makes room, what was refused has a place of its own, and one
//! ClientId has no more than its share of the questions (`bound-3`, `bound-14` to `bound-16`).

use std::time::{Duration, Instant};

use support::{Backend, Client, Handshake, Http, Message, Proxy, Response, eventually};

/// What has come before this is known to every shard: each has looked at all its sockets since.
fn settle(bystanders: &mut [Client]) {
    for _ in 0..3 {
        for bystander in &mut *bystanders {
            bystander.expect_nothing();
        }
    }
}

/// So many that each shard has some.
fn bystanders(proxy: &Proxy) -> Vec<Client> {
    let clients = (0..16).map(|number| proxy.client(&format!("bystander{number}")));
    let clients: Vec<Client> = clients.collect();
    assert!(proxy.metric("clients").iter().all(|count| *count > 0.0));
    clients
}

#[test]
fn handshakes_beyond_the_limit_wait_their_turn() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let proxy = Proxy::with(&backend).set("handshakes_max", "2").start();
    let sockets: Vec<Http> = (0..8)
        .map(|number| Handshake::new(&format!("CP{number}")).send(proxy.listen))
        .collect();
    backend.wait_seen("/connect", 2);
    assert_eq!(proxy.metric("handshakes"), [2.0]);
    gate.open();
    for mut client in sockets.into_iter().map(Client::upgrade) {
        client.send_call("m1", "Echo", "{}");
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn those_whose_sockets_are_handed_over_count_at_their_home() {
    const NEWCOMERS: usize = 60;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("handshakes_max", "4")
        .set("handshake_timeout", "10m")
        .start();
    let mut bystanders = bystanders(&proxy);
    let before = backend.seen("/connect").len();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let sockets: Vec<Http> = (0..NEWCOMERS)
        .map(|number| Handshake::new(&format!("CP{number}")).send(proxy.listen))
        .collect();
    // One shard may have read more that are at home at the other one than that one lets in at once.
    backend.wait_seen("/connect", before + 4);
    settle(&mut bystanders);
    let under_way = proxy.metric("handshakes");
    assert!(under_way.iter().all(|count| *count <= 4.0), "{under_way:?}");
    assert!(backend.seen("/connect").len() <= before + 2 * 4);
    gate.open();
    for mut client in sockets.into_iter().map(Client::upgrade) {
        client.send_call("m1", "Echo", "{}");
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn of_one_client_id_two_are_asked_about_at_a_time() {
    const STORM: usize = 40;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("handshake_timeout", "10m")
        .set("call_timeout", "10m")
        .set("backend_connections_max", "4")
        .start();
    let mut bystanders = bystanders(&proxy);
    let before = backend.seen("/connect").len();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let storm: Vec<Http> = (0..STORM).map(|_| Handshake::new("CP1").send(proxy.listen)).collect();
    backend.wait_seen("/connect", before + 2);
    // Of those that wait the newest counts; the others are told.
    proxy.wait_count_where("upgrades_refused", "superseded", STORM as u64 - 3);
    let other = Handshake::new("CP2").send(proxy.listen);
    backend.wait_seen("/connect", before + 3);
    let asked: Vec<_> = backend.seen("/connect")[before..]
        .iter()
        .map(|request| request.text().to_owned())
        .collect();
    assert_eq!(
        asked.iter().filter(|client| *client == "\"CP1\"").count(),
        2,
        "{asked:?}"
    );
    for bystander in &mut bystanders {
        bystander.send_call("m1", "Echo", "{}");
        bystander.expect("[3,\"m1\",{}]");
    }
    gate.open();
    Client::upgrade(other);
    let (mut opened, mut told) = (Vec::new(), 0);
    for mut http in storm {
        let reply = http.any_reply();
        match reply.status {
            101 => opened.push(Client::from_reply(http, reply)),
            503 => {
                assert!(reply.header("retry-after").is_some(), "{reply:?}");
                told += 1;
            }
            _ => panic!("{reply:?}"),
        }
    }
    assert_eq!((opened.len(), told), (3, STORM - 3));
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    let (stayed, replaced): (Vec<_>, Vec<_>) = opened
        .iter_mut()
        .map(Client::message)
        .partition(|message| matches!(message, Message::Text(_)));
    assert_eq!((stayed.len(), replaced.len()), (1, 2), "{replaced:?}");
}

#[test]
fn who_waits_for_its_question_is_asked_about_when_one_before_it_was_answered() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::new(403, ""));
    let proxy = Proxy::with(&backend).set("handshake_timeout", "10m").start();
    let mut first: Vec<Http> = (0..2).map(|_| Handshake::new("CP1").send(proxy.listen)).collect();
    backend.wait_seen("/connect", 2);
    let third = Handshake::new("CP1").send(proxy.listen);
    eventually("all of them", || (proxy.metric("handshakes") == [3.0]).then_some(()));
    backend.on("/connect", |_| Response::json("\"ok\""));
    assert_eq!(backend.seen("/connect").len(), 2);
    gate.pass();
    let mut third = Client::upgrade(third);
    third.send_call("m1", "Echo", "{}");
    third.expect("[3,\"m1\",{}]");
    gate.open();
    for http in &mut first {
        assert_eq!(http.any_reply().status, 403);
    }
}

#[test]
fn one_address_does_not_take_the_turn_of_another() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |request| match request.header("x-forwarded-for") {
        Some(addresses) if addresses.starts_with("203.0.113.7") => Response::json("\"ok\""),
        _ => Response::new(401, ""),
    });
    let proxy = Proxy::with(&backend)
        .set("handshake_timeout", "10m")
        .set("trusted_proxies", "127.0.0.1")
        .start();
    let from = |address: &str| {
        Handshake::new("CP1")
            .header("X-Forwarded-For", address)
            .send(proxy.listen)
    };
    let mut storm: Vec<Http> = (0..2).map(|_| from("198.51.100.1")).collect();
    backend.wait_seen("/connect", 2);
    // Whoever the name belongs to comes in the midst of them.
    storm.push(from("198.51.100.1"));
    let owner = from("203.0.113.7");
    eventually("both", || (proxy.metric("handshakes") == [4.0]).then_some(()));
    for number in 1..=20 {
        storm.push(from("198.51.100.1"));
        proxy.wait_count_where("upgrades_refused", "superseded", number);
    }
    gate.open();
    Client::upgrade(owner);
}

#[test]
fn silent_connections_make_room_for_newcomers() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("handshakes_max", "16")
        .set("handshake_timeout", "10m")
        .start();
    let mut silent: Vec<Http> = (0..64).map(|_| Http::connect(proxy.listen)).collect();
    // Half of a request is none.
    for http in &mut silent[32..] {
        http.send(&Handshake::new("CP9").bytes()[..40]);
    }
    for number in 0..8 {
        let mut client = proxy.client(&format!("CP{number}"));
        client.send_call("m1", "Echo", "{}");
        client.expect("[3,\"m1\",{}]");
    }
    assert!(proxy.count_where("upgrades_refused", "made_room") >= 32);
    // The youngest are there still: nobody needed their places.
    let mut youngest = silent.pop().unwrap();
    youngest.send(&Handshake::new("CP9").bytes()[40..]);
    Client::upgrade(youngest);
}

#[test]
fn a_handshake_that_the_backend_is_asked_about_makes_no_room() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let proxy = Proxy::with(&backend)
        .set("handshakes_max", "2")
        .set("handshake_timeout", "10m")
        .start();
    let asked: Vec<Http> = (0..2)
        .map(|number| Handshake::new(&format!("CP{number}")).send(proxy.listen))
        .collect();
    backend.wait_seen("/connect", 2);
    let silent: Vec<Http> = (0..8).map(|_| Http::connect(proxy.listen)).collect();
    proxy.wait_count("accept_pauses", 1);
    gate.open();
    for http in asked {
        Client::upgrade(http);
    }
    drop(silent);
}

#[test]
fn who_was_refused_and_lingers_does_not_keep_newcomers_out() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("handshakes_max", "1").start();
    // They have their answer and do not go: each may for a while, but in nobody's place.
    let mut refused: Vec<Http> = (0..64)
        .map(|number| match number % 2 {
            0 => Handshake::target("/a/b/c").send(proxy.listen),
            _ => Handshake::new("CP1").subprotocols("soap").send(proxy.listen),
        })
        .collect();
    proxy.client("CP2");
    for (number, http) in refused.iter_mut().enumerate() {
        let expected = [404, 101][number % 2];
        assert_eq!(http.any_reply().status, expected);
    }
}

#[test]
fn the_end_of_a_refused_client_is_noticed_at_once() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let sockets = || proxy.metric("sockets")[0];
    let before = sockets();
    // It is given 2 s. One that is not used up is enough: a busy machine takes its time.
    let is_quick = |handshake: &Handshake| {
        let mut http = handshake.send(proxy.listen);
        http.any_reply();
        let begun = Instant::now();
        drop(http);
        eventually("the socket to be gone", || (sockets() <= before).then_some(()));
        begun.elapsed() < Duration::from_secs(2)
    };
    for handshake in [Handshake::target("/a/b/c"), Handshake::new("CP1").subprotocols("soap")] {
        assert!((0..8).any(|_| is_quick(&handshake)));
    }
}
