//! Connections to the backend are kept, bounded, found dead and tried again: `listener-2` to `listener-4`, `retry-1` to
//! `retry-3`, `retry-9` to `retry-12`, `bound-5`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use support::client::PING;
use support::{Backend, Client, Handshake, Message, Proxy, Response, eventually, open_to_all};

#[test]
fn the_path_of_the_backends_url_comes_first() {
    let backend = Backend::start();
    backend.on("/api/v1/connect", |_| Response::json("\"ok\""));
    let url = format!("{}/api/v1", backend.url());
    // The latest --set wins over the flag of the same key.
    let proxy = Proxy::with(&backend).set("backend", &url).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Boot", "{}");
    client.expect("[3,\"m1\",{}]");
    assert_eq!(backend.take("/api/v1/call").target, "/api/v1/call/Boot/CP1/m1");
}

#[test]
fn a_backend_on_a_unix_socket_works() {
    let backend = Backend::start_unix();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Echo", "{\"a\":[1]}");
    client.expect("[3,\"m1\",{\"a\":[1]}]");
    proxy.push("CP1", "Reset", "m2", "{}").expect(202);
    client.text();
    client.send_result("m2", "{\"b\":2}");
    assert_eq!(backend.take("/result").text(), "{\"b\":2}");
}

#[test]
fn with_several_backends_each_gets_some() {
    let backends = [Backend::start(), Backend::start()];
    let gates = [0, 1].map(|index: usize| backends[index].hold("/call", |_| Response::json("{}")));
    let proxy = Proxy::with(&backends[0]).backend(&backends[1]).start();
    let mut clients: Vec<Client> = (0..8).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_call("m1", "Slow", "{}");
    }
    for backend in &backends {
        backend.take("/call");
    }
    for gate in gates {
        gate.open();
    }
    for client in &mut clients {
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn the_least_busy_backend_is_asked_first() {
    let backends = [Backend::start(), Backend::start()];
    let gate = backends[0].hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::with(&backends[0]).backend(&backends[1]).start();
    let mut clients: Vec<Client> = (0..12).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let answered = |backends: &[Backend; 2]| backends[1].seen("/call/Slow").len();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_call("m1", "Slow", "{}");
        // Whoever got it, the next one comes when this has arrived.
        support::eventually("the call's arrival", || {
            let seen = backends[0].seen("/call/Slow").len() + answered(&backends);
            (seen > number).then_some(())
        });
        if backends[1]
            .seen("/call/Slow")
            .iter()
            .any(|request| request.segment(2) == format!("CP{number}"))
        {
            client.expect("[3,\"m1\",{}]");
            client.send_call("m2", "Echo", "{}");
            client.expect("[3,\"m2\",{}]");
        }
    }
    // One that is stuck is enough; the second may have come before there was a connection to the other backend.
    let stuck = backends[0].seen("/call/Slow").len();
    assert!(
        (1..=2).contains(&stuck),
        "{stuck} of 12 went to the backend that does not answer"
    );
    gate.open();
    for number in backends[0].seen("/call/Slow").iter().map(|request| request.segment(2)) {
        let number: usize = number[2..].parse().unwrap();
        clients[number].expect("[3,\"m1\",{}]");
    }
}

#[test]
fn a_backend_that_refuses_is_left_alone_until_it_is_back() {
    let working = Backend::start();
    let mut other = Backend::start();
    other.stop();
    // Once as the first and once as the second of the two.
    for backends in [[&other, &working], [&working, &other]] {
        let proxy = Proxy::with(backends[0]).backend(backends[1]).start();
        let mut clients: Vec<Client> = (0..8).map(|number| proxy.client(&format!("CP{number}"))).collect();
        for round in 0..20 {
            for client in &mut clients {
                client.send_call(&format!("m{round}"), "Echo", "{}");
            }
            for client in &mut clients {
                client.expect(&format!("[3,\"m{round}\",{{}}]"));
            }
        }
        assert_eq!(proxy.count("backend_failures"), 0, "nobody felt it");
    }
    let proxy = Proxy::with(&working).backend(&other).start();
    let mut clients: Vec<Client> = (0..8).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let connections = other.connections();
    for client in &mut clients {
        client.send_call("m1", "Echo", "{}");
    }
    for client in &mut clients {
        client.expect("[3,\"m1\",{}]");
    }
    other.restart();
    // It is probed when it has been left alone for long enough, by the way of other requests.
    support::eventually("the probe", || {
        clients[0].send_call("probe", "Echo", "{}");
        clients[0].expect("[3,\"probe\",{}]");
        (other.connections() > connections).then_some(())
    });
    let gate = working.hold("/call/Slow", |_| Response::json("{}"));
    other.on("/call/Slow", |_| Response::json("{}"));
    for client in &mut clients {
        client.send_call("m2", "Slow", "{}");
    }
    other.take("/call/Slow");
    gate.open();
    for client in &mut clients {
        client.expect("[3,\"m2\",{}]");
    }
}

#[test]
fn a_backend_that_takes_no_connection_holds_nobody_up() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let hole = Hole::new();
    let proxy = Proxy::with(&backend)
        .arg("--backend")
        .arg(&hole.url())
        // A connect to it takes as long as the test.
        .set("connect_timeout", "1h")
        .set("call_timeout", "1h")
        .start();
    let mut clients: Vec<Client> = (0..20).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_call("m1", "Slow", "{}");
    }
    // None of them ends, so that none can be served by a connection that another one has given back.
    backend.wait_seen("/call/Slow", 20);
    for client in &mut clients {
        client.send_frame(true, PING, "");
        assert_eq!(client.message(), Message::Pong(Vec::new()));
    }
    gate.open();
    for client in &mut clients {
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn a_backend_that_breaks_connections_off_is_left_alone() {
    let (broken, working) = (Backend::start(), Backend::start());
    broken.on("/call", |_| Response::raw("").then_close());
    let proxy = Proxy::with(&broken).backend(&working).start();
    let mut clients: Vec<Client> = (0..4).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let mut failed = 0;
    for round in 0..40 {
        for client in &mut clients {
            client.send_call(&format!("m{round}"), "Echo", "{}");
        }
        for client in &mut clients {
            let answer = client.json();
            failed += usize::from(answer[0] == 4);
        }
    }
    // Each time that it is probed costs one request; at first, as many as were on their way to it.
    assert!((1..=12).contains(&failed), "{failed} of 160 failed");
    assert_eq!(broken.seen("/call").len(), failed);
}

#[test]
fn a_backend_that_hangs_is_left_alone() {
    const ROUNDS: usize = 20;
    let (hung, working) = (Backend::start(), Backend::start());
    let proxy = Proxy::with(&hung)
        .backend(&working)
        .set("call_timeout", "300ms")
        .start();
    let mut clients: Vec<Client> = (0..10).map(|number| proxy.client(&format!("CP{number}"))).collect();
    hung.on("/", |_| Response::never());
    let mut failed = 0;
    for round in 0..ROUNDS {
        for client in &mut clients {
            client.send_call(&format!("m{round}"), "Echo", "{}");
        }
        for client in &mut clients {
            let answer = client.json();
            failed += usize::from(answer[0] == 4);
        }
    }
    // At first, as many as were on their way to it; then one each time that it is probed.
    assert!((1..=14).contains(&failed), "{failed} of {} failed", 10 * ROUNDS);
}

#[test]
fn a_backend_that_comes_back_gets_its_share_of_connections_that_are_all_in_use() {
    let working = Backend::start();
    let mut other = Backend::start();
    other.stop();
    let proxy = Proxy::with(&working)
        .backend(&other)
        .set("backend_connections_max", "4")
        .start();
    let mut clients: Vec<Client> = (0..12).map(|number| proxy.client(&format!("CP{number}"))).collect();
    // There is always somebody waiting, so that no connection is ever idle.
    let mut round = |until: &dyn Fn() -> bool| {
        for client in &mut clients {
            client.send_call("m0", "Echo", "{}");
        }
        support::eventually("the other backend's share", || {
            for client in &mut clients {
                client.expect("[3,\"m0\",{}]");
                client.send_call("m0", "Echo", "{}");
            }
            until().then_some(())
        });
        for client in &mut clients {
            client.expect("[3,\"m0\",{}]");
        }
    };
    round(&|| working.connections() >= 4);
    other.restart();
    round(&|| other.seen("/call").len() >= 10);
    assert_eq!(proxy.count("backend_failures"), 0);
}

#[test]
fn a_unix_socket_whose_queue_is_full_is_waited_for() {
    let path = std::env::temp_dir().join(format!("ws2api-full-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    open_to_all(&path);
    rustix::net::listen(&listener, 0).unwrap();
    let fillers = fill_unix(&path);
    let backend = Backend::dead();
    let proxy = Proxy::with(&backend)
        .set("backend", &format!("unix:{}", path.display()))
        .start();
    let http = Handshake::new("CP1").send(proxy.listen);
    support::eventually("the request that waits", || {
        (proxy.metric("backend_waiting")[0] > 0.0).then_some(())
    });
    assert!(!fillers.is_empty());
    let server = std::thread::spawn(move || {
        for _ in &fillers {
            listener.accept().unwrap();
        }
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\"CP1\"") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\"ok\"")
            .unwrap();
        (listener, stream)
    });
    Client::upgrade(http);
    drop(server.join().unwrap());
    std::fs::remove_file(&path).unwrap();
}

/// Connections that nobody has accepted, as many as the listener's queue takes.
fn fill_unix(path: &Path) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(path).unwrap();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let mut fillers = Vec::new();
    loop {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => fillers.push(socket),
            Err(rustix::io::Errno::AGAIN) => return fillers,
            Err(error) => panic!("{error}"),
        }
    }
}

/// An address whose host drops what comes: its queue of connections is full, and nobody accepts.
struct Hole {
    listener: TcpListener,
    _fillers: Vec<TcpStream>,
}

impl Hole {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fillers = Vec::new();
        while let Ok(filler) = TcpStream::connect_timeout(&address, std::time::Duration::from_millis(500)) {
            fillers.push(filler);
            assert!(fillers.len() < 100, "it takes everybody");
        }
        Hole {
            listener,
            _fillers: fillers,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }
}

#[test]
fn a_dead_backend_gives_internal_error_and_a_returning_one_serves_without_our_restart() {
    let mut backend = Backend::start();
    let proxy = Proxy::with(&backend).set("backend_retry", "0s").shards(2).start();
    let mut clients: Vec<Client> = (0..6).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.send_call("up", "Echo", "{}");
            client.expect("[3,\"up\",{}]");
        }
        backend.stop();
        for client in &mut clients {
            client.send_call("down", "Echo", "{}");
            client.expect_error("down", "InternalError");
        }
        assert_eq!(Handshake::new("new").refused(proxy.listen).status, 502, "round {round}");
        backend.restart();
    }
    for client in &mut clients {
        client.send_call("back", "Echo", "{}");
        client.expect("[3,\"back\",{}]");
    }
    assert_eq!(backend.seen("/disconnect").len(), 0, "all stayed connected");
}

#[test]
fn a_refused_connection_is_said_in_the_description() {
    let mut backend = Backend::start();
    let proxy = Proxy::with(&backend).set("backend_retry", "0s").start();
    let mut client = proxy.client("CP1");
    backend.stop();
    client.send_call("m1", "Echo", "{}");
    assert!(client.expect_error("m1", "InternalError").contains("refused"));
}

#[test]
fn a_refused_connection_is_tried_again_for_backend_retry() {
    let backend = Backend::dead();
    let proxy = Proxy::with(&backend).set("backend_retry", "300ms").start();
    assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 502);
    assert!(proxy.count_where("backend_connects", "failed") >= 2);
    assert!(proxy.count_where("backend_retries", "refused") >= 1);
}

#[test]
fn a_pooled_connection_found_closed_is_replaced_unseen() {
    let backend = Backend::start();
    // It says nothing of closing, and closes.
    backend.on("/call", |request| Response::json(&request.body).then_close());
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for number in 0..10 {
        client.send_call(&format!("m{number}"), "Echo", "{}");
        client.expect(&format!("[3,\"m{number}\",{{}}]"));
        backend.wait_ended(number + 1);
    }
    assert_eq!(backend.seen("/call").len(), 10, "none was sent twice");
}

#[test]
fn pooled_connections_that_were_reset_meanwhile_are_replaced_unseen() {
    let mut backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for number in 0..10 {
        client.send_call(&format!("m{number}"), "Echo", "{}");
        client.expect(&format!("[3,\"m{number}\",{{}}]"));
        let connections = backend.connections();
        backend.stop();
        backend.wait_ended(connections);
        backend.restart();
    }
    assert_eq!(backend.seen("/call").len(), 10);
}

#[test]
fn a_call_that_was_written_is_never_sent_twice() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for (number, response) in [
        Response::raw("").then_close(),
        Response::raw("").then_reset(),
        Response::raw("HTTP/1.1 2").then_close(),
    ]
    .into_iter()
    .enumerate()
    {
        // First one that fills the pool, so that the next goes over a reused connection.
        client.send_call("warm", "Echo", "{}");
        client.expect("[3,\"warm\",{}]");
        let pooled = backend.take("/call/Echo").connection;
        let action = format!("Lost{number}");
        backend.on(&format!("/call/{action}"), move |_| response.clone());
        client.send_call("m1", &action, "{}");
        client.expect_error("m1", "InternalError");
        assert_eq!(backend.take(&format!("/call/{action}")).connection, pooled);
        client.send_call("m2", "Echo", "{}");
        client.expect("[3,\"m2\",{}]");
        backend.take("/call/Echo");
        assert_eq!(backend.seen(&format!("/call/{action}")).len(), 1);
    }
}

#[test]
fn backend_connections_are_kept_and_used_again() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for number in 0..50 {
        client.send_call(&format!("m{number}"), "Echo", "{}");
        client.text();
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_backend_connection_with_surplus_bytes_is_not_used_again() {
    let backend = Backend::start();
    backend.on("/call/Odd", |_| {
        Response::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{\"stolen\":1}")
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Odd", "{}");
    client.expect("[3,\"m1\",{}]");
    let odd = backend.take("/call/Odd").connection;
    client.send_call("m2", "Echo", "{\"a\":1}");
    client.expect("[3,\"m2\",{\"a\":1}]");
    assert_ne!(backend.take("/call/Echo").connection, odd);
}

#[test]
fn a_connection_that_the_backend_announces_to_close_is_not_used_again() {
    let backend = Backend::start();
    backend.on("/call/Close", |_| {
        Response::with_headers(200, &[("Connection", "close")], "{}")
    });
    backend.on("/call/Old", |_| {
        Response::raw("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for action in ["Close", "Old"] {
        client.send_call("m1", action, "{}");
        client.expect("[3,\"m1\",{}]");
        let announced = backend.take(&format!("/call/{action}")).connection;
        client.send_call("m2", "Echo", "{}");
        client.expect("[3,\"m2\",{}]");
        assert_ne!(backend.take("/call/Echo").connection, announced, "{action}");
    }
}

#[test]
fn a_connection_is_not_kept_longer_than_the_backend_keeps_it() {
    let backend = Backend::start();
    backend.on("/connect", |_| {
        Response::with_headers(200, &[("Keep-Alive", "timeout=1, max=100")], "\"ok\"")
    });
    let proxy = Proxy::with(&backend).set("backend_idle_timeout", "1h").start();
    let _client = proxy.client("CP1");
    // The proxy ends it: the backend only says when it would.
    backend.wait_ended(1);
}

#[test]
fn a_request_for_which_the_backend_had_no_worker_is_tried_again() {
    for status in [500, 503] {
        let backend = Backend::start();
        let tries = std::sync::atomic::AtomicUsize::new(0);
        backend.on("/call", move |request| {
            match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 | 1 => Response::with_headers(status, &[("No-Workers", "true")], "no free workers"),
                _ => Response::json(&request.body),
            }
        });
        let proxy = Proxy::start(&backend);
        let mut client = proxy.client("CP1");
        client.send_call("m1", "Echo", "{\"a\":1}");
        client.expect("[3,\"m1\",{\"a\":1}]");
        assert_eq!(backend.seen("/call").len(), 3);
        assert_eq!(proxy.count_where("backend_retries", "no_workers"), 2);
        assert_eq!(proxy.count_where("backend_answers", "5xx"), 0, "it was no answer");
    }
}

#[test]
fn a_backend_that_has_no_worker_for_long_is_asked_no_longer_than_backend_retry() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("backend_retry", "300ms").start();
    let mut client = proxy.client("CP1");
    backend.on("/", |_| Response::with_headers(500, &[("No-Workers", "true")], ""));
    client.send_call("m1", "Echo", "{}");
    assert!(client.expect_error("m1", "InternalError").contains("500"));
    assert!(backend.seen("/call").len() > 1);
    let refusal = Handshake::new("CP2").refused(proxy.listen);
    assert_eq!(refusal.status, 503);
    assert!(refusal.header("retry-after").is_some());
}

#[test]
fn a_backend_that_restarts_within_backend_retry_costs_nobody_an_error() {
    let mut backend = Backend::start();
    let proxy = Proxy::with(&backend).set("backend_retry", "50s").start();
    let mut clients: Vec<Client> = (0..20).map(|number| proxy.client(&format!("CP{number}"))).collect();
    backend.stop();
    for client in &mut clients {
        client.send_call("m1", "Echo", "{}");
    }
    let newcomer = Handshake::new("new").send(proxy.listen);
    eventually("some refused connects", || {
        (proxy.count_where("backend_connects", "failed") >= 3).then_some(())
    });
    backend.restart();
    for client in &mut clients {
        client.expect("[3,\"m1\",{}]");
    }
    Client::upgrade(newcomer);
    assert_eq!(backend.seen("/call").len(), 20, "each once");
    assert!(proxy.count_where("backend_retries", "refused") >= 2);
}

#[test]
fn a_storm_of_handshakes_does_not_stand_before_a_call() {
    const HANDSHAKES: usize = 40;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("backend_connections_max", "1").start();
    let (mut slow, mut client) = (proxy.client("slow"), proxy.client("CP1"));
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    slow.send_call("m1", "Slow", "{}");
    backend.take("/call/Slow");
    let waiting = |count: usize| {
        eventually("requests that wait", || {
            (proxy.metric("backend_waiting")[0] >= count as f64).then_some(())
        });
    };
    let storm: Vec<_> = (0..HANDSHAKES)
        .map(|number| Handshake::new(&format!("N{number}")).send(proxy.listen))
        .collect();
    waiting(HANDSHAKES);
    client.send_call("m1", "Echo", "{}");
    waiting(HANDSHAKES + 1);
    gate.open();
    client.expect("[3,\"m1\",{}]");
    storm.into_iter().for_each(|http| drop(Client::upgrade(http)));
    let order = backend.seen("/");
    let before = order
        .iter()
        .take_while(|request| !request.target.starts_with("/call/Echo"));
    let before = before.filter(|request| request.target == "/connect").count() - 2;
    assert!(before <= 8, "{before} of {HANDSHAKES} handshakes before the Call");
}

#[test]
fn requests_of_one_kind_take_no_place_of_another() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "1")
        .set("backend_waiters_max", "2")
        .start();
    let (mut slow, mut client) = (proxy.client("slow"), proxy.client("CP1"));
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    slow.send_call("m1", "Slow", "{}");
    backend.take("/call/Slow");
    let waiting: Vec<_> = (0..2)
        .map(|number| Handshake::new(&format!("N{number}")).send(proxy.listen))
        .collect();
    eventually("handshakes that wait", || {
        (proxy.metric("backend_waiting")[0] >= 2.0).then_some(())
    });
    assert_eq!(Handshake::new("N2").refused(proxy.listen).status, 503);
    client.send_call("m1", "Echo", "{}");
    client.expect_nothing();
    gate.open();
    client.expect("[3,\"m1\",{}]");
    waiting.into_iter().for_each(|http| drop(Client::upgrade(http)));
}

#[test]
fn calls_beyond_the_backends_connections_wait_for_one() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    let proxy = Proxy::with(&backend).set("backend_connections_max", "2").start();
    let mut clients: Vec<Client> = (0..10).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_call("m1", "Slow", "{\"a\":1}");
    }
    backend.wait_seen("/call", 2);
    for client in &mut clients {
        client.send_frame(true, PING, "");
        assert_eq!(client.message(), Message::Pong(Vec::new()));
    }
    assert_eq!(backend.seen("/call").len(), 2);
    gate.open();
    for client in &mut clients {
        client.expect("[3,\"m1\",{\"a\":1}]");
    }
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_refused_connect_does_not_hurt_calls_while_another_connection_works() {
    let mut backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let (mut first, mut second) = (proxy.client("CP1"), proxy.client("CP2"));
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    first.send_call("m1", "Slow", "{}");
    backend.take("/call");
    backend.stop_listening();
    second.send_call("m2", "Slow", "{\"b\":2}");
    eventually("two refused connects", || {
        (proxy.count_where("backend_connects", "failed") >= 2).then_some(())
    });
    gate.open();
    first.expect("[3,\"m1\",{}]");
    second.expect("[3,\"m2\",{\"b\":2}]");
}

#[test]
fn calls_beyond_those_that_may_wait_get_internal_error_at_once() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "1")
        .set("backend_waiters_max", "1")
        .start();
    let mut clients: Vec<Client> = (0..3).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    clients[0].send_call("m1", "Slow", "{}");
    backend.take("/call");
    clients[1].send_call("m1", "Slow", "{}");
    clients[1].send_frame(true, PING, "");
    assert_eq!(clients[1].message(), Message::Pong(Vec::new()));
    clients[2].send_call("m1", "Slow", "{}");
    clients[2].expect_error("m1", "InternalError");
    gate.open();
    for client in &mut clients[..2] {
        client.expect("[3,\"m1\",{}]");
    }
}
