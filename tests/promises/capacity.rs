//! A backend gets as many requests at once as `backend_concurrency` says, from all shards together: `retry-20` to `retry-22`.
//! How a limit that adapts finds its number is shown without sockets, in protocol/src/capacity/simulation.rs.

use support::{Backend, Client, Proxy, Response, eventually};

fn call_all(proxy: &Proxy, count: usize, action: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_call("m1", action, "{}");
    }
    clients
}

fn sum(proxy: &Proxy, name: &str) -> f64 {
    proxy.metric(name).iter().sum()
}

#[test]
fn all_shards_together_have_no_more_requests_at_a_backend_than_backend_concurrency() {
    const CLIENTS: usize = 24;
    for shards in [1, 4] {
        let backend = Backend::start();
        let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
        let proxy = Proxy::with(&backend)
            .shards(shards)
            .set("backend_concurrency", "3")
            .start();
        let mut clients = call_all(&proxy, CLIENTS, "Slow");
        // Also those of shards that have no place of their own.
        backend.wait_seen("/call/Slow", 3);
        eventually("the others to wait", || {
            (sum(&proxy, "backend_waiting") == (CLIENTS - 3) as f64).then_some(())
        });
        assert_eq!(backend.seen("/call/Slow").len(), 3, "{shards} shards");
        assert_eq!(sum(&proxy, "backend_limit"), 3.0);
        assert_eq!(sum(&proxy, "backend_places_in_use"), 3.0);
        gate.open();
        for client in &mut clients {
            client.expect("[3,\"m1\",{}]");
        }
        assert_eq!(backend.seen("/call/Slow").len(), CLIENTS, "each once");
        assert_eq!(sum(&proxy, "backend_waiting"), 0.0);
    }
}

#[test]
fn a_shard_without_a_place_of_its_own_is_served_where_there_are_fewer_places_than_shards() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(4).set("backend_concurrency", "1").start();
    for _ in 0..20 {
        let mut clients = call_all(&proxy, 16, "Echo");
        for client in &mut clients {
            client.expect("[3,\"m1\",{}]");
        }
    }
    assert_eq!(proxy.count("backend_shed"), 0);
}

#[test]
fn a_limit_that_adapts_lets_requests_in_that_only_others_can_end() {
    // Each Call waits for the last one.
    const CLIENTS: usize = 64;
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut clients = call_all(&proxy, CLIENTS, "Slow");
    backend.wait_seen("/call/Slow", CLIENTS);
    gate.open();
    for client in &mut clients {
        client.expect("[3,\"m1\",{}]");
    }
}
