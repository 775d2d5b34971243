//! A process out of descriptors serves whoever is connected, does not spin, and recovers: `bound-4`.

use std::time::Duration;

use support::{Backend, Client, Handshake, Http, Proxy, Response, eventually};

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

/// Connections that say nothing and are on this shard, until it has not one descriptor left; the others have some.
fn fill(proxy: &Proxy, shard: usize) -> Vec<Http> {
    let mut silent = Vec::new();
    let mut open = proxy.descriptors();
    while open[shard] < FEW_FILES - 10 {
        let newcomer = Http::connect(proxy.listen);
        let now = eventually("a shard to take it", || {
            Some(proxy.descriptors()).filter(|now| now.iter().sum::<usize>() > open.iter().sum())
        });
        if now[shard] > open[shard] {
            silent.push(newcomer);
            open = now;
        } else {
            drop(newcomer);
            open = eventually("its end", || {
                Some(proxy.descriptors()).filter(|now| now.iter().sum::<usize>() <= open.iter().sum())
            });
        }
    }
    silent.extend((0..40).map(|_| Http::connect(proxy.listen)));
    proxy.wait_count("accept_pauses", 1);
    silent
}

fn newcomers(proxy: &Proxy) -> Vec<Http> {
    (0..64)
        .map(|number| Handshake::new(&format!("N{number}")).send(proxy.listen))
        .collect()
}

/// How many of them are clients, and how many were closed without a byte.
fn count_let_in(newcomers: Vec<Http>) -> (u64, u64) {
    let (mut let_in, mut cut) = (0, 0);
    for mut newcomer in newcomers {
        match newcomer.try_reply() {
            Ok(Some(reply)) if reply.status == 101 => let_in += 1,
            Ok(Some(reply)) => panic!("{reply:?}"),
            // The end, or a reset.
            Ok(None) | Err(_) => cut += 1,
        }
    }
    (let_in, cut)
}

#[test]
fn sockets_that_the_home_shard_has_no_descriptor_for_are_counted_and_told() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .open_files(FEW_FILES)
        .set("handshake_timeout", "60s")
        .start();
    let silent = fill(&proxy, 1);
    let newcomers = newcomers(&proxy);
    proxy.wait_count_where("handovers", "lost", 1);
    let log = proxy.wait_log("no descriptor was left");
    let line = log
        .lines()
        .find(|line| line.contains("no descriptor was left"))
        .unwrap();
    assert!(
        line.contains("127.0.0.1:") && line.contains("N"),
        "whose it was: {line}"
    );
    drop(silent);
    let (let_in, cut) = count_let_in(newcomers);
    assert_eq!(let_in + cut, 64);
    assert_eq!(proxy.count_where("handovers", "lost"), cut);
    assert_eq!(proxy.count_where("upgrades_refused", "lost"), cut);
    let refused = proxy.get("/refused").body;
    assert!(refused.contains("no descriptor was left"), "{refused}");
}

/// The number travels, not the socket: nothing is needed to receive it. Who finds no descriptor at the listener waits there.
#[test]
fn where_all_shards_share_one_table_no_socket_is_lost_between_them() {
    let confined = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/confined");
    let tried = std::process::Command::new(confined).arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return eprintln!("not checked: {confined} does not run here");
    }
    let backend = Backend::start();
    let command = format!("ulimit -n {OPEN_FILES}; exec {confined} \"$0\" \"$@\"");
    let proxy = Proxy::with(&backend)
        .shards(2)
        .under(&["sh", "-c", &command])
        .set("handshake_timeout", "60s")
        .start();
    proxy.wait_log("all shards share one table");
    let silent: Vec<Http> = (0..OPEN_FILES + 50).map(|_| Http::connect(proxy.listen)).collect();
    // The admin address has no descriptor either.
    eventually("a table that is full", || {
        proxy
            .descriptors()
            .iter()
            .any(|count| *count >= OPEN_FILES - 1)
            .then_some(())
    });
    let newcomers = newcomers(&proxy);
    drop(silent);
    assert_eq!(count_let_in(newcomers), (64, 0));
    assert!(proxy.count_where("handovers", "sent") > 0);
    assert_eq!(proxy.count_where("handovers", "lost"), 0);
}

/// For tests that fill the table of one shard alone.
const FEW_FILES: usize = 128;
