//! A process that was killed is started again: nothing is in its way, and the clients come back.

use std::io::ErrorKind;
use std::net::TcpStream;

use rustix::process::Signal;

use support::{Backend, Builder, Client, Handshake, Message, Proxy};

/// On the addresses of one that has ended.
fn again(backend: &Backend, old: &Proxy) -> Builder {
    Proxy::with(backend)
        .shards(2)
        .set("listen", &old.listen.to_string())
        .set("ingress", &old.ingress.to_string())
        .set("admin", &old.admin.to_string())
}

#[test]
fn killed_in_mid_traffic_and_started_again_it_listens_at_once_and_the_clients_are_back() {
    const CLIENTS: usize = 40;
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).start();
    for round in 0..3 {
        let mut clients: Vec<Client> = (0..CLIENTS)
            .map(|number| proxy.client(&format!("CP{number}")))
            .collect();
        // Some have a Call at the backend, some a push, when it happens.
        let gate = backend.hold("/call/Slow", |_| support::Response::json("{}"));
        for (number, client) in clients.iter_mut().enumerate() {
            match number % 3 {
                0 => client.send_call("m1", "Slow", "{}"),
                1 => drop(proxy.push(&format!("CP{number}"), "Reset", "p1", "{}").expect(202)),
                _ => {}
            }
        }
        backend.take("/call/Slow");
        proxy.signal(Signal::KILL);
        assert!(!proxy.wait().success());
        let refused = TcpStream::connect(proxy.listen).map_err(|error| error.kind());
        assert!(matches!(refused, Err(ErrorKind::ConnectionRefused)), "{refused:?}");
        gate.open();
        // No port is taken by what the dead one left in the kernel: one try.
        proxy = again(&backend, &proxy).start();
        for client in &mut clients {
            while client.message() != Message::End {}
        }
        let mut back: Vec<Client> = (0..CLIENTS)
            .map(|number| Handshake::new(&format!("CP{number}")).open(proxy.listen))
            .collect();
        for (number, client) in back.iter_mut().enumerate() {
            client.send_call("m2", "Echo", "{\"a\":1}");
            client.expect("[3,\"m2\",{\"a\":1}]");
            proxy.push(&format!("CP{number}"), "Reset", "p1", "{}").expect(202);
            client.expect("[2,\"p1\",\"Reset\",{}]");
        }
        println!("round {round}: {CLIENTS} clients are back");
    }
}

#[test]
fn connection_ids_of_two_lives_differ() {
    let backend = Backend::start();
    let mut proxy = Proxy::start(&backend);
    let mut ids = Vec::new();
    for _ in 0..3 {
        drop(proxy.client("CP1"));
        ids.push(backend.take("/connect").header("x-connection-id").unwrap().to_owned());
        proxy.signal(Signal::KILL);
        proxy.wait();
        proxy = again(&backend, &proxy).start();
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}
