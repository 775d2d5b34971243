//! A process out of descriptors serves whoever is connected, does not spin, and recovers: `bound-4`.

use std::time::Duration;

use support::{Backend, Client, Http, Proxy, Response, eventually};

/// What the process may open, in each shard.
const OPEN_FILES: usize = 256;

/// A shard that has not one descriptor left: the clients that are in, and who waits in vain.
fn crowded(proxy: &Proxy) -> (Vec<Client>, Vec<Http>) {
    let clients: Vec<Client> = (0..60).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let flood: Vec<Http> = (0..OPEN_FILES + 50).map(|_| Http::connect(proxy.listen)).collect();
    proxy.wait_count("accept_pauses", 1);
    let open = proxy.descriptors();
    assert!(open.iter().any(|count| *count >= OPEN_FILES - 1), "{open:?}");
    (clients, flood)
}

#[test]
fn who_is_connected_is_served_and_the_rest_wait() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .open_files(OPEN_FILES)
        .set("handshake_timeout", "60s")
        .start();
    let (mut clients, flood) = crowded(&proxy);
    for round in 0..3 {
        // All at once: more than there are connections to the backend, and there can be no more of these.
        for client in &mut clients {
            client.send_call(&format!("m{round}"), "Echo", "{\"a\":1}");
        }
        for client in &mut clients {
            client.expect(&format!("[3,\"m{round}\",{{\"a\":1}}]"));
        }
    }
    assert!(proxy.count("accept_pauses") > 0);
    drop(flood);
    let mut late = proxy.client("late");
    late.send_call("m1", "Echo", "{}");
    late.expect("[3,\"m1\",{}]");
    for client in &mut clients {
        client.send_call("last", "Echo", "{}");
        client.expect("[3,\"last\",{}]");
    }
}

#[test]
fn nobody_spins_meanwhile() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .open_files(OPEN_FILES)
        .set("handshake_timeout", "60s")
        .start();
    let (_clients, _flood) = crowded(&proxy);
    // Each pause takes 100 ms. What is asked to learn of them costs something, too.
    let (pauses, before) = (proxy.count("accept_pauses"), proxy.processor_time());
    let mut asked = 0;
    eventually("twenty pauses", || {
        asked += 1;
        std::thread::sleep(Duration::from_millis(50));
        (proxy.count("accept_pauses") >= pauses + 20).then_some(())
    });
    let used = proxy.processor_time() - before;
    println!("{used:?} of processor time in 20 pauses of 100 ms, with {asked} scrapes");
    assert!(
        used < Duration::from_millis(20 * 100 / 4),
        "{used:?} in twenty pauses of 100 ms"
    );
}

#[test]
fn pushes_reach_who_is_connected() {
    let backend = Backend::start();
    backend.on("/result", |_| Response::new(204, ""));
    let proxy = Proxy::with(&backend)
        .open_files(OPEN_FILES)
        .set("handshake_timeout", "60s")
        .start();
    // The backend's connection was there before.
    let mut ingress = proxy.http();
    ingress.get("/clients/nobody").expect(404);
    let (mut clients, _flood) = crowded(&proxy);
    for (number, client) in clients.iter_mut().enumerate() {
        let id = format!("p{number}");
        ingress.push(&format!("CP{number}"), "Reset", &id, "{}").expect(202);
        client.expect(&format!("[2,\"{id}\",\"Reset\",{{}}]"));
        client.send_result(&id, "{}");
    }
    backend.wait_seen("/result", clients.len());
}
