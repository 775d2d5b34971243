//! A new process takes over, or everything is as before: `takeover-1` to `takeover-4`, `takeover-6`, `takeover-7`, `takeover-9`,
//! `takeover-17`.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use rustix::process::Signal;
use support::{
    Authority, Backend, Builder, Handshake, Http, Proxy, Reply, Response, Successor, Tls, Until, eventually,
};

use super::installed::Installed;

/// Clients leave slowly enough to be looked at.
pub(crate) fn slow(backend: &Backend) -> Builder {
    Proxy::with(backend)
        .shards(2)
        .set("drain_timeout", "20s")
        .set("drain_spread", "0s")
}

pub(crate) fn ask(proxy: &Proxy, method: &str) -> Reply {
    Http::connect(proxy.admin).request(method, "/upgrade", &[], "")
}

#[test]
fn nobody_is_refused_while_a_new_process_takes_over_and_every_client_goes_on_there() {
    let backend = Backend::start();
    let mut proxy = slow(&backend).start();
    let mut old: Vec<_> = (0..8).map(|number| proxy.client(&format!("old{number}"))).collect();
    old.iter_mut().for_each(|client| client.call(1));
    let before = proxy.get("/metrics").expect(200).body;
    let until = Until::default();
    let (connected, new) = thread::scope(|scope| {
        let newcomers: Vec<_> = (0..2)
            .map(|thread| {
                let (until, proxy) = (&until, &proxy);
                scope.spawn(move || {
                    let mut count = 0;
                    while !until.is_over() {
                        // Each has its 101 and its answer.
                        proxy.client(&format!("new{thread}-{count}")).call(1);
                        proxy.http().get("/clients/old0").expect(200);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let end = until.end();
        let new = proxy.upgrade();
        wait_for_the_old_one(&proxy);
        drop(end);
        let connected: usize = newcomers.into_iter().map(|newcomer| newcomer.join().unwrap()).sum();
        (connected, new)
    });
    assert!(connected > 0);
    assert_eq!(proxy.wait().code(), Some(0));
    old.iter_mut().for_each(|client| client.call(2));
    let mut client = proxy.client("after");
    client.call(1);
    let after = proxy.get("/metrics").expect(200).body;
    let start = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with("process_start_time_seconds "));
        line.unwrap().to_owned()
    };
    assert_ne!(start(&before), start(&after));
    proxy.wait_log(&format!("upgrade: process {} (ws2api ", new.id()));
    proxy.wait_log("the process before this one has ended");
    new.terminate();
    assert_eq!(proxy.stderr().matches("drained in ").count(), 2);
}

/// Waits until the new process says that the old one is not there any more.
pub(crate) fn wait_for_the_old_one(proxy: &Proxy) {
    eventually("the old process's end", || {
        (proxy.metric_where("upgrade_phase", "\"predecessor\"") == [0.0]).then_some(())
    });
}

#[test]
fn who_is_in_the_middle_of_the_handshake_is_let_in() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let mut proxy = slow(&backend).start();
    let asked: Vec<Http> = (0..4)
        .map(|number| support::Handshake::new(&format!("CP{number}")).send(proxy.listen))
        .collect();
    backend.wait_seen("/connect", 4);
    let new = proxy.upgrade();
    gate.open();
    // The process that has asked for it lets it in, and it moves.
    let mut clients: Vec<_> = asked.into_iter().map(support::Client::upgrade).collect();
    assert_eq!(proxy.wait().code(), Some(0));
    clients.iter_mut().for_each(|client| client.call(1));
    assert_eq!(backend.seen("/connect").len(), 4);
    new.terminate();
}

#[test]
fn who_has_a_call_at_the_backend_stays_until_it_is_answered() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let mut proxy = slow(&backend).start();
    let mut client = proxy.client("CP1");
    client.send_call("1", "Heartbeat", "{}");
    backend.take("/call");
    let new = proxy.upgrade();
    // One upgrade at a time.
    assert!(ask(&proxy, "POST").expect(409).body.contains("has not ended"));
    gate.open();
    client.expect("[3,\"1\",{}]");
    assert_eq!(proxy.wait().code(), Some(0));
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{}]");
    proxy.push("CP2", "Reset", "p1", "{}").expect(404);
    new.terminate();
}

/// What TLS keeps of it goes along, and so does the listener.
#[test]
fn a_client_with_tls_goes_on_in_the_new_process() {
    let backend = Backend::start();
    let (authority, installed) = (Authority::new("authority"), Installed::new());
    let certificate = authority.server(&["localhost"]).save(&installed.0, "own");
    let mut proxy = slow(&backend)
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &certificate)
        .start();
    let address = proxy.listen_tls.unwrap();
    let clients = [&rustls::version::TLS12, &rustls::version::TLS13]
        .into_iter()
        .enumerate();
    let mut clients: Vec<_> = clients
        .flat_map(|(number, version)| {
            let tls = Tls::version(&authority, version);
            [0, 1, 2, 3].map(|client| tls.open(&Handshake::new(&format!("CP{}", 4 * number + client)), address))
        })
        .collect();
    clients.iter_mut().for_each(|client| client.call(1));
    let mut last: Option<Successor> = None;
    for round in 2..5 {
        let new = proxy.upgrade();
        match last.replace(new) {
            None => assert_eq!(proxy.wait().code(), Some(0)),
            Some(before) => before.wait(),
        }
        wait_for_the_old_one(&proxy);
        clients.iter_mut().for_each(|client| client.call(round));
        proxy.push("CP7", "Reset", &format!("p{round}"), "{}").expect(202);
        clients[7].expect(&format!("[2,\"p{round}\",\"Reset\",{{}}]"));
        clients[7].send_result(&format!("p{round}"), "{}");
        backend.take(&format!("/result/Reset/CP7/p{round}"));
        let newcomer = Tls::trusting(&authority).open(&Handshake::new(&format!("N{round}")), address);
        newcomer.close(1000, "");
    }
    assert_eq!(backend.seen("/connect").len(), 8 + 3);
    last.unwrap().terminate();
}

#[test]
fn nothing_of_a_client_changes_over_three_upgrades_and_its_pushes_and_deferred_calls_go_on() {
    let backend = Backend::start();
    let mut proxy = slow(&backend).start();
    let mut clients: Vec<_> = (0..32)
        .map(|number| proxy.client_of("ocpp1.6", &format!("CP{number}")))
        .collect();
    let described = |proxy: &Proxy| {
        let list = proxy.http().get("/clients?limit=100").expect(200).json();
        let mut list: Vec<_> = list["clients"]
            .as_array()
            .unwrap()
            .iter()
            .map(|client| {
                ["clientId", "connectionId", "since", "address", "subprotocol"].map(|key| client[key].clone())
            })
            .collect();
        list.sort_by_key(|client| client[0].to_string());
        list
    };
    let before = described(&proxy);
    assert_eq!(before.len(), 32);
    let mut last: Option<Successor> = None;
    for round in 0..3 {
        // One has a push in flight, and another one behind it; another has a Call that the backend has deferred.
        let (first, second) = (format!("a{round}"), format!("b{round}"));
        proxy.push("CP1", "Reset", &first, "{}").expect(202);
        clients[1].expect(&format!("[2,\"{first}\",\"Reset\",{{}}]"));
        proxy.push("CP1", "Reset", &second, "{}").expect(202);
        backend.on("/call/Later", |_| {
            Response::with_headers(202, &[("X-Deferred", "1")], "")
        });
        let id = format!("d{round}");
        clients[2].send_call(&id, "Later", "{}");
        eventually("the Call to be deferred", || {
            let client = proxy.http().get("/clients/CP2").expect(200).json();
            (client["pending"]["callsDeferred"] == 1).then_some(())
        });
        let new = proxy.upgrade();
        match last.replace(new) {
            None => assert_eq!(proxy.wait().code(), Some(0)),
            Some(before) => before.wait(),
        }
        wait_for_the_old_one(&proxy);
        assert_eq!(described(&proxy), before, "round {round}");
        clients[1].send_result(&first, "{}");
        clients[1].expect(&format!("[2,\"{second}\",\"Reset\",{{}}]"));
        clients[1].send_result(&second, "{}");
        for id in [&first, &second] {
            backend.take(&format!("/result/Reset/CP1/{id}"));
        }
        let answered = proxy.http().post(&format!("/result/Later/CP2/{id}"), "{\"n\":1}");
        assert_eq!(answered.status, 204, "{answered:?}");
        clients[2].expect(&format!("[3,\"{id}\",{{\"n\":1}}]"));
        clients.iter_mut().for_each(|client| client.call(round + 10));
    }
    assert_eq!(backend.seen("/connect").len(), 32);
    assert_eq!(backend.seen("/disconnect").len(), 0);
    assert_eq!(backend.seen("/error").len(), 0);
    last.unwrap().terminate();
}

#[test]
fn connection_ids_begin_with_the_same_digits_over_upgrades_and_none_comes_twice() {
    let backend = Backend::start();
    let mut proxy = slow(&backend).start();
    let mut clients = Vec::new();
    let mut last: Option<Successor> = None;
    for round in 0..3 {
        if round > 0 {
            match last.replace(proxy.upgrade()) {
                None => assert_eq!(proxy.wait().code(), Some(0)),
                Some(before) => before.wait(),
            }
            wait_for_the_old_one(&proxy);
        }
        clients.extend((0..8).map(|number| proxy.client(&format!("CP{round}-{number}"))));
    }
    let ids = |requests: Vec<support::Request>| -> Vec<String> {
        let ids = requests
            .iter()
            .map(|asked| asked.header("x-connection-id").unwrap().to_owned());
        ids.collect()
    };
    let of_line = ids(backend.seen("/connect"));
    assert_eq!(BTreeSet::from_iter(&of_line).len(), 24, "{of_line:?}");
    let first = &of_line[0][..8];
    assert!(of_line.iter().all(|id| id.starts_with(first)), "{of_line:?}");
    // Another start draws others.
    let other_backend = Backend::start();
    let other = Proxy::start(&other_backend);
    let _client = other.client("CP");
    let of_other = ids(other_backend.seen("/connect"));
    assert!(!of_other[0].starts_with(first), "{of_other:?}");
    last.unwrap().terminate();
}

#[test]
fn calls_and_pushes_go_on_while_their_clients_move() {
    let backend = Backend::start();
    let mut proxy = slow(&backend).start();
    let mut groups: Vec<Vec<_>> = (0..3)
        .map(|group| {
            (0..40)
                .map(|number| proxy.client(&format!("CP{group}-{number}")))
                .collect()
        })
        .collect();
    let mut pushed: Vec<_> = (0..10).map(|number| proxy.client(&format!("pushed{number}"))).collect();
    let until = Until::default();
    let last = thread::scope(|scope| {
        let end = until.end();
        let callers: Vec<_> = groups
            .iter_mut()
            .map(|clients| {
                let until = &until;
                scope.spawn(move || {
                    let mut round = 0;
                    while !until.is_over() || round < 3 {
                        // Each has its own answer, and no other comes.
                        clients.iter_mut().for_each(|client| client.call(round));
                        round += 1;
                    }
                    round
                })
            })
            .collect();
        let pusher = scope.spawn(|| {
            let mut count = 0;
            while !until.is_over() || count < 30 {
                let (name, id) = (format!("pushed{}", count % 10), format!("p{count}"));
                proxy.push(&name, "Reset", &id, "{}").expect(202);
                let client = &mut pushed[count % 10];
                client.expect(&format!("[2,\"{id}\",\"Reset\",{{}}]"));
                client.send_result(&id, &format!("{{\"n\":{count}}}"));
                let outcome = backend.take(&format!("/result/Reset/{name}/{id}"));
                assert_eq!(outcome.text(), format!("{{\"n\":{count}}}"));
                count += 1;
            }
            count
        });
        let mut last: Option<Successor> = None;
        for _ in 0..3 {
            let new = proxy.upgrade();
            if let Some(before) = last.replace(new) {
                before.wait();
            }
            wait_for_the_old_one(&proxy);
        }
        drop(end);
        let rounds: Vec<usize> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        let pushes = pusher.join().unwrap();
        assert!(
            rounds.iter().all(|rounds| *rounds >= 3) && pushes >= 30,
            "{rounds:?} {pushes}"
        );
        last.unwrap()
    });
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(backend.seen("/connect").len(), 130);
    for path in ["/disconnect", "/error"] {
        assert_eq!(backend.seen(path).len(), 0, "{path}");
    }
    last.terminate();
}

#[test]
fn a_new_process_that_dies_while_clients_move_costs_none_of_them_a_word_and_the_old_one_serves_again() {
    let installed = Installed::new();
    let backend = Backend::start();
    let mut proxy = slow(&backend).program(installed.program()).start();
    let mut clients: Vec<_> = (0..20).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for round in 0..2 {
        installed.exchange_for_step("takes-clients-and-dies");
        ask(&proxy, "POST").expect(200);
        // Operators are the old one's again, too.
        eventually("the old process to serve again", || {
            let told = ask(&proxy, "GET").expect(200).json();
            (told["failed"] == round + 1 && told["isTakenOver"] == false).then_some(())
        });
        // Those on the way are here again, and the others have not gone.
        clients.iter_mut().for_each(|client| client.call(round));
        goes_on(&proxy, &mut clients[0]);
        proxy.push("CP1", "Reset", "p1", "{}").expect(202);
        clients[1].expect("[2,\"p1\",\"Reset\",{}]");
        clients[1].send_result("p1", "{}");
        backend.take("/result/Reset/CP1/p1");
    }
    proxy.wait_log("undone, this process serves again: the process that had taken over has ended");
    installed.restore();
    let new = proxy.upgrade();
    assert_eq!(proxy.wait().code(), Some(0));
    clients.iter_mut().for_each(|client| client.call(7));
    // Only newcomers have come and gone meanwhile.
    let ends = backend.seen("/disconnect");
    assert!(
        ends.iter().all(|end| end.header("x-client-id") == Some("CP-new")),
        "{ends:?}"
    );
    new.terminate();
}

#[test]
fn one_that_the_new_process_cannot_have_stays_and_the_others_move() {
    let installed = Installed::new();
    let backend = Backend::start();
    let mut proxy = slow(&backend)
        .program(installed.program())
        .set("upgrade_timeout", "2s")
        .start();
    let _clients: Vec<_> = (0..20).map(|number| proxy.client(&format!("CP{number}"))).collect();
    installed.exchange_for_step("refuses-a-client");
    ask(&proxy, "POST").expect(200);
    proxy.wait_log("can't have a client, which stays here");
    assert_eq!(proxy.wait().code(), Some(0));
    // It leaves as at the end.
    assert!(
        proxy.stderr().contains("upgrade: 19 clients have moved"),
        "{}",
        proxy.stderr()
    );
    assert_eq!(backend.seen("/disconnect").len(), 1);
}

#[test]
fn who_is_not_quiet_in_time_leaves_as_at_the_end() {
    let backend = Backend::start();
    let _gate = backend.hold("/call", |_| Response::json("{}"));
    let mut proxy = Proxy::with(&backend)
        .shards(2)
        .set("upgrade_timeout", "3s")
        .set("drain_timeout", "1s")
        .start();
    let mut quiet = proxy.client("CP1");
    let mut busy = proxy.client("CP2");
    busy.send_call("1", "Heartbeat", "{}");
    backend.take("/call");
    let new = proxy.upgrade();
    assert!(busy.text().starts_with("[4,\"1\",\"InternalError\","));
    busy.expect_close(1001);
    assert_eq!(proxy.wait().code(), Some(0));
    quiet.send("[2,\"x\"]");
    assert!(!quiet.text().is_empty());
    new.terminate();
}

#[test]
fn a_configuration_that_is_refused_leaves_everything_as_it_was_and_its_words_come_back() {
    let installed = Installed::new();
    let file = installed.write("ws2api.toml", "drain_timeout = \"20s\"\n");
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).arg("--config").arg(&file).start();
    let mut client = proxy.client("CP1");
    client.call(1);
    fs::write(&file, "drain_timeuot = \"20s\"\n").unwrap();
    let words = ask(&proxy, "POST").expect(500).body;
    assert!(
        words.starts_with("undone, this process goes on: ") && words.contains("drain_timeuot"),
        "{words}"
    );
    proxy.wait_log("upgrade: undone, this process goes on: ");
    goes_on(&proxy, &mut client);
    let told = ask(&proxy, "GET").expect(200).json();
    assert_eq!((&told["failed"], &told["underWay"]), (&1.into(), &false.into()));
    assert!(
        told["last"]["error"].as_str().unwrap().contains("drain_timeuot"),
        "{told}"
    );
    assert_eq!(proxy.count_sum("upgrades_failed"), 1);
}

/// The client stays, and newcomers come.
pub(crate) fn goes_on(proxy: &Proxy, client: &mut support::Client) {
    client.call(7);
    proxy.client("CP-new").call(1);
    proxy.get("/readyz").expect(200);
}

#[test]
fn a_program_that_is_none_that_ends_and_that_hangs_leave_everything_as_it_was() {
    let installed = Installed::new();
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .program(installed.program())
        .set("upgrade_timeout", "300ms")
        .start();
    let mut client = proxy.client("CP1");
    let cases = [
        ("#!/no/such/interpreter\n", "No such file or directory"),
        ("#!/bin/sh\nexit 3\n", "exit status: 3"),
        ("#!/bin/sh\nkill -9 $$\n", "signal: 9"),
        (
            "#!/bin/sh\nexec sleep 1000\n",
            "had not said who it is when its time was up",
        ),
        ("#!/bin/sh\nexec sleep 1000 < /dev/null\n", "closed the channel"),
    ];
    for (script, words) in cases {
        installed.exchange(script);
        let said = ask(&proxy, "POST").expect(500).body;
        assert!(said.contains(words), "{words}: {said}");
        goes_on(&proxy, &mut client);
        assert_eq!(children(&proxy), Vec::<String>::new(), "{script}");
    }
    fs::remove_file(installed.program()).unwrap();
    let said = ask(&proxy, "POST").expect(500).body;
    assert!(said.contains("ws2api: No such file or directory"), "{said}");
    goes_on(&proxy, &mut client);
    // With a program that is one it goes well after all.
    fs::hard_link(support::program::path(), installed.program()).unwrap();
    let new = proxy_without_clients(&proxy, client);
    new.terminate();
}

fn proxy_without_clients(proxy: &Proxy, client: support::Client) -> Successor {
    drop(client);
    // The time is for a new process that starts, and not for scripts.
    eventually("an upgrade", || {
        let reply = ask(proxy, "POST");
        let pid = (reply.status == 200).then(|| reply.json()["pid"].as_i64())?;
        pid.map(Successor::new)
    })
}

/// The processes that this one has started and not buried.
pub(crate) fn children(proxy: &Proxy) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.id())).unwrap();
    let children = tasks.flat_map(|task| {
        let text = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    children.collect()
}

#[test]
fn wherever_a_new_process_fails_everything_is_as_it_was() {
    let installed = Installed::new();
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .program(installed.program())
        .set("upgrade_timeout", "500ms")
        .start();
    let mut client = proxy.client("CP1");
    for (step, words) in [
        ("dies-at-once", "has ended before it served"),
        ("is-of-a-version-that-is-not-known", "takes over by rules 7 to 9"),
        ("talks-nonsense", "it said something that can't be read"),
        ("dies-with-the-listeners", "has ended before it served"),
        (
            "hangs-with-the-listeners",
            "was not ready to serve when its time was up",
        ),
        ("says-that-it-serves-before-it-may", "which nobody had asked"),
        ("fails", "the words of the new process"),
        ("dies-when-ready", "has ended before it served"),
        ("dies-when-it-may", "has ended before it served"),
        ("hangs-when-it-may", "though it was ready"),
    ] {
        installed.exchange_for_step(step);
        let said = ask(&proxy, "POST").expect(500).body;
        assert!(said.contains(words), "{step}: {said}");
        goes_on(&proxy, &mut client);
        assert_eq!(children(&proxy), Vec::<String>::new(), "{step}");
    }
}

#[test]
fn the_number_of_shards_may_be_another_one_each_time() {
    let installed = Installed::new();
    let cpu = support::program::usable_cpus()[0];
    let config = |shards: usize| format!("[[core]]\ncpu = {cpu}\n").repeat(shards);
    let file = installed.write("ws2api.toml", &config(2));
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend)
        .expect_shards(2)
        .arg("--config")
        .arg(&file)
        .start();
    let mut before: Option<Successor> = None;
    let mut all = Vec::new();
    for shards in [5, 1, 3] {
        fs::write(&file, config(shards)).unwrap();
        let new = eventually("the process before to be gone", || {
            let reply = ask(&proxy, "POST");
            (reply.status == 200).then(|| Successor::new(reply.json()["pid"].as_i64().unwrap()))
        });
        match before {
            None => assert_eq!(proxy.wait().code(), Some(0)),
            Some(before) => before.wait(),
        }
        before = Some(new);
        // Whichever listener the kernel chooses, somebody accepts from it.
        all.extend((0..32).map(|number| proxy.client(&format!("CP{shards}-{number}"))));
        // And those that were there before have a home.
        all.iter_mut().for_each(|client| client.call(shards));
        for _ in 0..32 {
            proxy.http().get(&format!("/clients/CP{shards}-1")).expect(200);
        }
        assert_eq!(proxy.metric("clients").len(), shards);
    }
    before.unwrap().terminate();
}

#[test]
fn an_address_that_has_changed_is_opened_anew_and_one_that_is_taken_is_refused() {
    let installed = Installed::new();
    // Nobody else has anything at these addresses of this machine.
    let free = |host: u8| {
        let listener = TcpListener::bind(SocketAddr::from(([127, 9, 9, host], 0))).unwrap();
        listener.local_addr().unwrap()
    };
    let [listen, ingress, admin, other] = [1, 2, 3, 4].map(free);
    let config = |ingress| format!("listen = \"{listen}\"\ningress = \"{ingress}\"\nadmin = \"{admin}\"\n");
    let file = installed.write("ws2api.toml", &config(ingress));
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend)
        .shards(2)
        .addresses_of_its_own()
        .arg("--config")
        .arg(&file)
        .start();
    let mut client = proxy.client("CP1");
    let taken = TcpListener::bind(other).unwrap();
    fs::write(&file, config(other)).unwrap();
    let said = ask(&proxy, "POST").expect(500).body;
    assert!(
        said.contains(&format!("ingress = {other}: ")) && said.contains("another program"),
        "{said}"
    );
    goes_on(&proxy, &mut client);
    drop(taken);
    let new = proxy.upgrade();
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(
        TcpStream::connect(ingress).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    Http::connect(other).get("/clients/CP1").expect(200);
    proxy.client("CP2").call(1);
    new.terminate();
}

#[test]
fn sigusr2_is_an_upgrade_and_a_link_is_followed_to_where_it_leads_now() {
    let installed = Installed::new();
    let link = installed.0.join("current");
    std::os::unix::fs::symlink(installed.program(), &link).unwrap();
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).program(&link).start();
    let other = installed.0.join("other");
    fs::hard_link(support::program::path(), &other).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    fs::remove_file(installed.program()).unwrap();
    proxy.signal(Signal::USR2);
    let line = proxy.wait_log(") has taken over");
    let pid = line.split("process ").nth(1).unwrap().split(' ').next().unwrap();
    let new = Successor::new(pid.parse().unwrap());
    let runs = fs::read_link(format!("/proc/{}/exe", new.id())).unwrap();
    assert_eq!(runs.file_name(), other.file_name(), "{runs:?}");
    assert_eq!(proxy.wait().code(), Some(0));
    new.terminate();
}

#[test]
fn the_command_says_who_has_taken_over_and_why_nobody_has() {
    let installed = Installed::new();
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).program(installed.program()).start();
    let admin = proxy.admin.to_string();
    let upgrade = || support::program::run(&["upgrade", "--admin", &admin]);
    installed.exchange("#!/bin/sh\nexit 3\n");
    let (code, told, said) = upgrade();
    assert_eq!((code, &*told), (1, ""));
    assert!(
        said.contains("undone, this process goes on: ") && said.contains("exit status: 3"),
        "{said}"
    );
    installed.restore();
    let (code, told, said) = upgrade();
    assert_eq!(code, 0, "{said}");
    let pid = told.strip_prefix("process ").unwrap().split(' ').next().unwrap();
    let new = Successor::new(pid.parse().unwrap());
    assert!(
        told.ends_with(&format!("(ws2api {}) has taken over\n", env!("CARGO_PKG_VERSION"))),
        "{told}"
    );
    assert_eq!(proxy.wait().code(), Some(0));
    new.terminate();
}

#[test]
fn the_end_undoes_what_is_under_way() {
    let installed = Installed::new();
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).program(installed.program()).start();
    installed.exchange("#!/bin/sh\nexec sleep 1000\n");
    proxy.signal(Signal::USR2);
    let child: i64 = eventually("the new process", || children(&proxy).first()?.parse().ok());
    assert!(ask(&proxy, "POST").expect(409).body.contains("an upgrade is under way"));
    let child = Successor::new(child);
    assert_eq!(proxy.terminate().code(), Some(0));
    child.wait();
    assert!(
        proxy
            .stderr()
            .contains("undone, this process goes on: this process ends")
    );
}
