//! Whatever shard takes a connection or a push, the client's home shard serves it, within its own bounds: `shard-1` to
//! `shard-4`, `bound-1`, `bound-2`, `bound-4`, `bound-12`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::thread;

use support::{Backend, Client, Handshake, Http, Message, Proxy, Response, json};

#[test]
fn both_directions_work_with_any_number_of_shards() {
    for shards in [1, 2, 5] {
        let backend = Backend::start();
        let proxy = Proxy::with(&backend).shards(shards).start();
        let mut clients: Vec<Client> = (0..40).map(|number| proxy.client(&format!("CP{number}"))).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send_call("m1", "Echo", &format!("{{\"n\":{number}}}"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.expect(&format!("[3,\"m1\",{{\"n\":{number}}}]"));
            proxy.push(&format!("CP{number}"), "Reset", "p1", "{}").expect(202);
        }
        for client in &mut clients {
            client.expect("[2,\"p1\",\"Reset\",{}]");
            client.send_result("p1", "{}");
        }
        let results = backend.wait_seen("/result", 40);
        let ids: HashSet<_> = results.iter().map(|request| request.segment(2)).collect();
        assert_eq!(ids.len(), 40);
        assert_eq!(proxy.metric("clients").len(), shards);
        assert_eq!(proxy.metric("clients").iter().sum::<f64>(), 40.0);
    }
}

#[test]
fn the_kernel_spreads_connections_and_each_client_goes_to_its_home_shard() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(5).start();
    // That a shard of five gets none of 200 happens once in 10^19.
    let clients: Vec<Client> = (0..200).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let found = |name: &str| proxy.metric(name);
    assert!(found("connections_accepted_total").iter().all(|count| *count > 0.0));
    assert!(
        found("clients").iter().all(|count| *count > 0.0),
        "{:?}",
        found("clients")
    );
    let sent = proxy.count_where("handovers", "sent");
    assert!(sent > 0);
    assert_eq!(proxy.count_where("handovers", "received"), sent);
    drop(clients);
}

#[test]
fn a_push_taken_by_each_shard_reaches_clients_of_every_shard() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(5).start();
    let mut clients: Vec<Client> = (0..64).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for number in 0..64 {
        // The kernel spreads connections over the shards. One that asks nothing for ten seconds is closed.
        let mut http = proxy.http();
        for client in 0..64 {
            http.send_request(
                "POST",
                &support::http::call_target(&format!("CP{client}"), "Reset", &format!("m{number}")),
                &[],
                "{}",
            );
        }
        for (index, client) in clients.iter_mut().enumerate() {
            http.reply().expect(202);
            client.expect(&format!("[2,\"m{number}\",\"Reset\",{{}}]"));
            client.send_result(&format!("m{number}"), &format!("{{\"from\":{index}}}"));
        }
        backend.wait_seen("/result", 64 * (number + 1));
    }
    assert!(proxy.metric("ingress_requests_total").iter().all(|count| *count > 0.0));
    assert!(proxy.metric("clients").iter().all(|count| *count > 0.0));
    for result in backend.seen("/result") {
        assert_eq!(format!("CP{}", result.json()["from"]), result.segment(2));
    }
}

#[test]
fn ten_thousand_pushes_over_five_hundred_clients_arrive_once_and_in_order() {
    const THREADS: usize = 10;
    const CLIENTS: usize = 50;
    const PUSHES: usize = 20;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(5).start();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let mut clients: Vec<(String, Client)> = (0..CLIENTS)
                .map(|number| format!("CP{thread}-{number}"))
                .map(|id| (id.clone(), proxy.client(&id)))
                .collect();
            let mut ingresses: Vec<Http> = (0..6).map(|_| proxy.http()).collect();
            thread::spawn(move || {
                let half = PUSHES / 2;
                for round in 0..2 {
                    for push in half * round..half * (round + 1) {
                        for (number, (id, _)) in clients.iter().enumerate() {
                            // A client's pushes come over one connection after the other, hence over several shards.
                            let http = &mut ingresses[(number + push) % 6];
                            http.push(id, "Count", &format!("m{push}"), format!("{{\"n\":{push}}}"))
                                .expect(202);
                        }
                    }
                    for (_, client) in &mut clients {
                        for push in half * round..half * (round + 1) {
                            client.expect(&format!("[2,\"m{push}\",\"Count\",{{\"n\":{push}}}]"));
                            client.send_result(&format!("m{push}"), &format!("{{\"n\":{push}}}"));
                        }
                    }
                }
                // Nothing more has come.
                for (_, client) in &mut clients {
                    client.send_frame(true, support::client::PING, "end");
                    assert_eq!(client.message(), Message::Pong(b"end".to_vec()));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let results = backend.wait_seen("/result", THREADS * CLIENTS * PUSHES);
    let mut counts: HashMap<_, usize> = HashMap::new();
    for result in &results {
        assert_eq!(format!("m{}", result.json()["n"]), result.segment(3));
        *counts.entry((result.segment(2), result.segment(3))).or_default() += 1;
    }
    assert_eq!(
        (counts.len(), results.len()),
        (THREADS * CLIENTS * PUSHES, THREADS * CLIENTS * PUSHES)
    );
    assert_eq!(backend.seen("/error").len(), 0);
}

#[test]
fn replacement_finds_the_old_connection_wherever_the_new_one_was_taken() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(5).start();
    let mut old = proxy.client("CP1");
    for number in 0..30 {
        let mut new = proxy.client("CP1");
        old.expect_close(4001);
        proxy.push("CP1", "Reset", "m1", "{}").expect(202);
        new.expect("[2,\"m1\",\"Reset\",{}]");
        new.send_result("m1", "{}");
        backend.wait_seen("/result", number + 1);
        old = new;
    }
    assert_eq!(proxy.metric("clients").iter().sum::<f64>(), 1.0);
    assert_eq!(backend.wait_seen("/disconnect", 30).len(), 30);
}

#[test]
fn of_many_connections_at_once_exactly_one_stays() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(5).start();
    for round in 0..5 {
        let id = format!("CP{round}");
        let sockets: Vec<Http> = (0..16).map(|_| Handshake::new(&id).send(proxy.listen)).collect();
        let mut clients = Vec::new();
        for mut http in sockets {
            let reply = http.any_reply();
            // Others came after it while it waited for its question.
            if reply.status != 503 {
                clients.push(Client::from_reply(http, reply));
            }
        }
        let mut ended = HashSet::new();
        for _ in 1..clients.len() {
            let disconnect = backend.take("/disconnect").json();
            assert_eq!(
                (&disconnect["clientId"], &disconnect["code"]),
                (&json!(id), &json!(4001))
            );
            ended.insert(disconnect["connectionId"].to_string());
        }
        assert_eq!(ended.len() + 1, clients.len(), "each of the others ended once");
        let left = proxy.http().get(&format!("/clients/{id}")).expect(200).json();
        assert!(!ended.contains(&left["connectionId"].to_string()));
        proxy.push(&id, "Reset", "m1", "{}").expect(202);
        let mut stayed = 0;
        for client in &mut clients {
            match client.message() {
                Message::Text(text) => {
                    assert_eq!(text, "[2,\"m1\",\"Reset\",{}]");
                    stayed += 1;
                }
                other => assert_eq!(other, Message::Close(Some(4001), "replaced".into())),
            }
        }
        assert_eq!(stayed, 1);
        drop(clients);
        assert_eq!(backend.take("/disconnect").json()["connectionId"], left["connectionId"]);
    }
}

/// The home shard of each id, seen by where the number of clients grows.
fn homes(proxy: &Proxy, ids: &[String]) -> (Vec<usize>, Vec<Client>) {
    let mut homes = Vec::new();
    let mut clients = Vec::new();
    let mut before = proxy.metric("clients");
    for id in ids {
        clients.push(proxy.client(id));
        let after = proxy.metric("clients");
        homes.push(
            before
                .iter()
                .zip(&after)
                .position(|(before, after)| before != after)
                .unwrap(),
        );
        before = after;
    }
    (homes, clients)
}

#[test]
fn nobody_can_know_a_clients_home_before_the_start() {
    let ids: Vec<String> = (0..32).map(|number| format!("CP{number}")).collect();
    let backend = Backend::start();
    let first = Proxy::with(&backend).shards(5).start();
    let second = Proxy::with(&backend).shards(5).start();
    let (first_homes, _first_clients) = homes(&first, &ids);
    let (second_homes, _second_clients) = homes(&second, &ids);
    // They would agree by chance once in 5^32 starts.
    assert_ne!(first_homes, second_homes);
}

#[test]
fn a_client_comes_home_to_the_same_shard_again_and_again() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(5).start();
    let ids = vec!["CP1".to_owned()];
    let (first, clients) = homes(&proxy, &ids);
    drop(clients);
    backend.take("/disconnect");
    for _ in 0..10 {
        let (again, clients) = homes(&proxy, &ids);
        assert_eq!(again, first);
        drop(clients);
        backend.take("/disconnect");
    }
}

/// The threads of the shards: of each name the oldest, since the executor's helpers are called like their shard.
fn shard_threads(proxy: &Proxy, shards: usize) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.id())).unwrap();
    let mut threads: HashMap<String, usize> = HashMap::new();
    for task in tasks {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let id: usize = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        if name.starts_with("shard") {
            let oldest = threads.entry(name).or_insert(id);
            *oldest = id.min(*oldest);
        }
    }
    assert_eq!(threads.len(), shards, "{threads:?}");
    let path = |id: &usize| PathBuf::from(format!("/proc/{}/task/{id}", proxy.id()));
    threads.values().map(path).collect()
}

#[test]
fn each_shard_is_pinned_to_its_cpu() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(5).start();
    let cpus = support::program::usable_cpus();
    let mut pinned: Vec<usize> = shard_threads(&proxy, 5)
        .iter()
        .map(|thread| {
            let status = std::fs::read_to_string(thread.join("status")).unwrap();
            let line = status
                .lines()
                .find(|line| line.starts_with("Cpus_allowed_list:"))
                .unwrap();
            line.split_whitespace().nth(1).unwrap().parse().expect("one CPU alone")
        })
        .collect();
    pinned.sort();
    let mut expected: Vec<usize> = (0..5).map(|shard| cpus[shard % cpus.len()]).collect();
    expected.sort();
    assert_eq!(pinned, expected);
}

#[test]
fn each_shard_has_a_table_of_file_descriptors_of_its_own() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).open_files(400).start();
    // Together they are more than one table may hold.
    let clients: Vec<Client> = (0..500).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let held = proxy.metric("clients");
    assert_eq!(held.iter().sum::<f64>(), 500.0);
    let mut open: Vec<usize> = shard_threads(&proxy, 2)
        .iter()
        .map(|thread| std::fs::read_dir(thread.join("fd")).unwrap().count())
        .collect();
    open.sort();
    let mut expected = held.clone();
    expected.sort_by(f64::total_cmp);
    for (open, clients) in open.iter().zip(expected) {
        // A shard's own are few.
        assert!(
            (clients as usize..clients as usize + 100).contains(open),
            "{open} for {clients} clients"
        );
    }
    drop(clients);
}

#[test]
fn a_cpu_may_be_named_twice() {
    let backend = Backend::start();
    let cpu = support::program::usable_cpus()[0];
    let proxy = Proxy::with(&backend)
        .arg("--cores")
        .arg(&format!("{cpu},{cpu},{cpu}"))
        .expect_shards(3)
        .start();
    assert_eq!(proxy.metric("clients").len(), 3);
    let mut clients: Vec<Client> = (0..20).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_call("m1", "Echo", "{}");
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn each_shard_has_its_own_bounds() {
    let backend = Backend::start();
    let cpu = support::program::usable_cpus()[0];
    let config = format!(
        "[defaults]\nclients_max = 1000\n[[core]]\ncpu = {cpu}\nclients_max = 3\n[[core]]\ncpu = {cpu}\nclients_max = 5\n"
    );
    let file =
        std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bounds-{}.toml", std::process::id()));
    std::fs::write(&file, config).unwrap();
    let proxy = Proxy::with(&backend)
        .arg("--config")
        .arg(file.to_str().unwrap())
        .expect_shards(2)
        .start();
    assert_eq!(proxy.metric("clients_max"), [3.0, 5.0]);
    let mut clients = Vec::new();
    let mut refused = 0;
    for number in 0..100 {
        let mut http = Handshake::new(&format!("CP{number}")).send(proxy.listen);
        let reply = http.any_reply();
        match reply.status {
            101 => clients.push(http),
            503 => {
                refused += 1;
                assert!(reply.header("retry-after").is_some(), "{reply:?}");
            }
            _ => panic!("{reply:?}"),
        }
    }
    assert_eq!((clients.len(), refused), (8, 92));
    assert_eq!(proxy.metric("clients"), [3.0, 5.0]);
    assert_eq!(
        backend.seen("/connect").len(),
        8,
        "the backend is not asked about the others"
    );
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_full_shard_takes_another_client_when_one_has_left() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("clients_max", "2").start();
    let first = proxy.client("CP1");
    let mut second = proxy.client("CP2");
    assert_eq!(Handshake::new("CP3").refused(proxy.listen).status, 503);
    drop(first);
    backend.take("/disconnect");
    let mut third = proxy.client("CP3");
    for client in [&mut second, &mut third] {
        client.send_call("m1", "Echo", "{}");
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn a_full_shard_takes_a_client_that_replaces_its_own_connection() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("clients_max", "2").start();
    let mut old = proxy.client("CP1");
    let mut other = proxy.client("CP2");
    // Again and again: nothing is left over of a place that was taken twice.
    for _ in 0..3 {
        let mut new = proxy.client("CP1");
        assert_eq!(old.expect_close(4001), "replaced");
        new.send_call("m1", "Echo", "{}");
        new.expect("[3,\"m1\",{}]");
        assert_eq!(Handshake::new("CP3").refused(proxy.listen).status, 503);
        assert_eq!(proxy.metric("clients"), [2.0]);
        old = new;
    }
    // The backend's no leaves the old one where it is.
    backend.on("/connect", |_| Response::new(403, ""));
    assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 403);
    for client in [&mut old, &mut other] {
        client.send_call("m2", "Echo", "{}");
        client.expect("[3,\"m2\",{}]");
    }
}

#[test]
fn upgrades_beyond_the_rate_get_503() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("upgrades_per_second_max", "5").start();
    // More at once than there is room for in any second; none of them waits for the other.
    let sockets: Vec<Http> = (0..60)
        .map(|number| Handshake::new(&format!("CP{number}")).send(proxy.listen))
        .collect();
    let mut shed = 0;
    for mut http in sockets {
        let reply = http.any_reply();
        if reply.status == 503 {
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
            shed += 1;
        } else {
            assert_eq!(reply.status, 101);
        }
    }
    assert!(shed > 0, "sixty at once are more than five per second");
    assert_eq!(backend.seen("/connect").len(), 60 - shed);
}

#[test]
fn out_of_descriptors_only_accepting_pauses() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).open_files(120).start();
    let mut clients: Vec<Client> = (0..20).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let flood: Vec<Http> = (0..200).map(|_| Http::connect(proxy.listen)).collect();
    proxy.wait_count("accept_pauses", 1);
    for client in &mut clients {
        client.send_call("m1", "Echo", "{}");
        client.expect("[3,\"m1\",{}]");
    }
    drop(flood);
    let mut late = proxy.client("late");
    late.send_call("m1", "Echo", "{}");
    late.expect("[3,\"m1\",{}]");
    assert!(proxy.is_running());
}

#[test]
fn a_full_mesh_sheds_pushes_with_503_and_loses_no_outcome() {
    const CLIENTS: usize = 40;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("mesh_queue", "16")
        .set("pushes_in_flight", "64")
        .start();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| proxy.client(&format!("CP{number}")))
        .collect();
    let mut ingresses: Vec<Http> = (0..240).map(|_| proxy.http()).collect();
    support::eventually("a full mesh", || {
        // All of them are there when the shards wake up: about 60 for the other one on each.
        proxy.freeze();
        for (number, http) in ingresses.iter_mut().enumerate() {
            let target = support::http::call_target(&format!("CP{}", number % CLIENTS), "Reset", &format!("m{number}"));
            http.send_request("POST", &target, &[], "{}");
        }
        proxy.thaw();
        let mut accepted = Vec::new();
        for (number, http) in ingresses.iter_mut().enumerate() {
            let reply = http.reply();
            match reply.status {
                202 => accepted.push((number % CLIENTS, format!("m{number}"))),
                503 => assert!(reply.header("retry-after").is_some(), "{reply:?}"),
                _ => panic!("{reply:?}"),
            }
        }
        for (number, _) in &accepted {
            // In any order: they came over several connections.
            let id = support::parse(&clients[*number].text())[1].as_str().unwrap().to_owned();
            clients[*number].send_result(&id, "{}");
        }
        for (number, message_id) in &accepted {
            let path = format!("/result/Reset/CP{number}/{message_id}");
            backend.take_where(&path, |request| request.target == path);
        }
        (accepted.len() < ingresses.len()).then_some(())
    });
    assert!(proxy.count("mesh_full") > 0);
    for client in &mut clients {
        client.expect_nothing();
    }
    assert_eq!(backend.seen("/error").len(), 0);
}
