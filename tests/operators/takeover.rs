//! While the old and the new process both live, whoever asks either of them finds every client: `takeover-5`, `takeover-10` to
//! `takeover-13`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::{Backend, Builder, Client, Gate, Http, Proxy, Reply, Response, Successor, Until, Value, eventually};

use super::upgrade::{slow, wait_for_the_old_one};

/// An old process that has a client whose Call is at the backend, and a new one.
struct Both {
    backend: Backend,
    proxy: Proxy,
    new: Successor,
    /// Its Call is at the backend.
    busy: Client,
    /// It moves at once.
    quiet: Client,
    /// Connections to the old process's ingress, which a first byte of a request keeps there.
    old: Vec<(u8, Http)>,
    gate: Gate,
    /// The first page of the old one's list, of one client.
    page_before: Value,
}

impl Both {
    fn start(configure: impl FnOnce(Builder) -> Builder) -> Self {
        let backend = Backend::start();
        let gate = backend.hold("/call/Hold", |_| Response::json("{}"));
        let proxy = Proxy::with(&backend)
            .shards(2)
            .set("drain_timeout", "20s")
            .set("drain_spread", "0s")
            .set("handshake_timeout", "60s");
        let proxy = configure(proxy).start();
        let mut busy = proxy.client("busy");
        let quiet = proxy.client("quiet");
        busy.send_call("1", "Hold", "{}");
        backend.take("/call/Hold");
        let old = b"PPPPPPGGGDD".iter().map(|first| {
            let mut http = proxy.http();
            http.get("/clients?limit=1").expect(200);
            http.send([*first]);
            (*first, http)
        });
        let old: Vec<_> = old.collect();
        // What was sent first has been read when what was sent last is answered.
        (0..8).for_each(|_| drop(proxy.http().get("/clients?limit=1").expect(200)));
        let page_before = proxy.http().get("/clients?limit=1").expect(200).json();
        let new = proxy.upgrade();
        eventually("the quiet one to move", || {
            (proxy.count_where("clients_moved", "in") == 1).then_some(())
        });
        Self {
            backend,
            proxy,
            new,
            busy,
            quiet,
            old,
            gate,
            page_before,
        }
    }

    /// Asks the old process.
    fn old(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Http {
        let request = support::http::request_bytes(method, target, headers, body.as_bytes());
        let index = self.old.iter().position(|(first, _)| *first == request[0]);
        let (_, mut http) = self.old.remove(index.expect("one is left"));
        http.send(&request[1..]);
        http
    }

    /// Asks either.
    fn ask(&mut self, which: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Http {
        if which == "old" {
            return self.old(method, target, headers, body);
        }
        let mut http = self.proxy.http();
        http.send_request(method, target, headers, body);
        http
    }

    fn client(&mut self, name: &str) -> &mut Client {
        if name == "busy" {
            &mut self.busy
        } else {
            &mut self.quiet
        }
    }

    /// The Call is answered, the client moves, the old process ends.
    fn finish(mut self) {
        self.gate.open();
        self.busy.expect("[3,\"1\",{}]");
        assert_eq!(self.proxy.wait().code(), Some(0));
        self.busy.call(7);
        self.new.terminate();
    }
}

#[test]
fn a_push_to_either_process_finds_the_client_whether_its_outcome_is_waited_for_or_not() {
    let mut both = Both::start(|builder| builder);
    for (asked, name) in [("old", "quiet"), ("new", "busy"), ("new", "quiet"), ("old", "busy")] {
        let id = format!("{asked}-{name}");
        let target = support::http::call_target(name, "Reset", &id);
        both.ask(asked, "POST", &target, &[], "{}").reply().expect(202);
        both.client(name).expect(&format!("[2,\"{id}\",\"Reset\",{{}}]"));
        both.client(name).send_result(&id, "{\"n\":1}");
        assert_eq!(
            both.backend.take(&format!("/result/Reset/{name}/{id}")).text(),
            "{\"n\":1}"
        );
        let target = format!("{target}-w");
        let mut waiting = both.ask(asked, "POST", &target, &[("Prefer", "wait=60")], "{}");
        both.client(name).expect(&format!("[2,\"{id}-w\",\"Reset\",{{}}]"));
        both.client(name).send_result(&format!("{id}-w"), "{\"n\":2}");
        assert_eq!(waiting.reply().expect(200).body, "{\"n\":2}");
    }
    // Both know that nobody of that name is anywhere.
    for asked in ["old", "new"] {
        both.ask(asked, "POST", "/call/Reset/nobody/p1", &[], "{}")
            .reply()
            .expect(404);
    }
    assert_eq!(both.backend.seen("/error").len(), 0);
    assert_eq!(both.backend.seen("/result").len(), 4);
    both.finish();
}

#[test]
fn a_wait_that_is_over_is_told_once_wherever_the_client_is() {
    let mut both = Both::start(|builder| builder.set("push_timeout", "60s"));
    let wait = |both: &mut Both, id: &str| {
        let target = support::http::call_target("quiet", "Reset", id);
        let mut http = both.old("POST", &target, &[("Prefer", "wait=1")], "{}");
        http.reply().expect(504).body
    };
    assert!(wait(&mut both, "p1").contains("\"sent\":true"));
    both.quiet.expect("[2,\"p1\",\"Reset\",{}]");
    // It waits for the one before, and is withdrawn.
    assert!(wait(&mut both, "p2").contains("\"sent\":false"));
    // The first one's outcome has been told; the next one's is posted.
    both.quiet.send_result("p1", "{}");
    both.old("POST", "/call/Reset/quiet/p3", &[], "{}").reply().expect(202);
    both.quiet.expect("[2,\"p3\",\"Reset\",{}]");
    both.quiet.send_result("p3", "{}");
    both.backend.take("/result/Reset/quiet/p3");
    let told = both.backend.seen("/result").len() + both.backend.seen("/error").len();
    assert_eq!(told, 1);
    both.finish();
}

#[test]
fn deferred_answers_descriptions_and_closes_find_the_client_wherever_it_is() {
    let mut both = Both::start(|builder| builder);
    both.backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    both.quiet.send_call("d1", "Later", "{}");
    eventually("the Call to be deferred", || {
        let client = both.proxy.http().get("/clients/quiet").expect(200).json();
        (client["pending"]["callsDeferred"] == 1).then_some(())
    });
    let described = both.old("GET", "/clients/quiet", &[], "").reply().expect(200).json();
    assert_eq!(described["clientId"], "quiet");
    for (client, status) in [("quiet", 204), ("quiet", 409), ("nobody", 404)] {
        let target = format!("/result/Later/{client}/d1");
        both.old("POST", &target, &[], "{\"n\":1}").reply().expect(status);
    }
    both.quiet.expect("[3,\"d1\",{\"n\":1}]");
    let described = both.proxy.http().get("/clients/busy").expect(200).json();
    assert_eq!(described["pending"]["callsInFlight"], 1);
    both.proxy.http().get("/clients/nobody").expect(404);
    both.proxy
        .http()
        .request("DELETE", "/clients/nobody", &[], "")
        .expect(404);
    let target = "/clients/quiet?code=4100&reason=over";
    both.old("DELETE", target, &[], "").reply().expect(204);
    assert_eq!(both.quiet.expect_close(4100), "over");
    assert_eq!(both.backend.take("/disconnect").json()["code"], 4100);
    both.finish();
}

/// The ids on a page, and where the next one begins.
fn page(reply: &Reply) -> (Vec<String>, Option<String>) {
    let page = reply.json();
    let ids = page["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|client| client["clientId"].as_str().unwrap().to_owned());
    (ids.collect(), page["next"].as_str().map(str::to_owned))
}

#[test]
fn the_list_of_clients_is_that_of_both_processes_and_goes_on_behind_the_end_of_the_upgrade() {
    let mut both = Both::start(|builder| builder);
    let before = both.page_before["next"].as_str().unwrap().to_owned();
    for asked in ["old", "new"] {
        let list = both.ask(asked, "GET", "/clients", &[], "").reply().expect(200);
        assert_eq!(page(&list), (vec!["busy".to_owned(), "quiet".to_owned()], None));
        let list = list.json();
        assert_eq!(list["clients"][0]["pending"]["callsInFlight"], 1);
        // Who moved once has moved to no other place among the slots.
        let target = format!("/clients?after={before}");
        let refused = both.ask(asked, "GET", &target, &[], "").reply().expect(400);
        assert!(refused.body.contains("from before an upgrade"), "{}", refused.body);
    }
    let answered = both.proxy.count_where("forwarded", "answered");
    assert!(answered >= 1, "{answered}");
    let (first, next) = page(&both.proxy.http().get("/clients?limit=1").expect(200));
    both.gate.open();
    both.busy.expect("[3,\"1\",{}]");
    assert_eq!(both.proxy.wait().code(), Some(0));
    wait_for_the_old_one(&both.proxy);
    let target = format!("/clients?limit=1&after={}", next.unwrap());
    let (second, next) = page(&both.proxy.http().get(&target).expect(200));
    assert_eq!([first, second].concat(), ["busy", "quiet"]);
    assert_eq!(next, None);
    both.proxy.http().get(&format!("/clients?after={before}")).expect(400);
    // What is begun now is a list like any other.
    let (_, next) = page(&both.proxy.http().get("/clients?limit=1").expect(200));
    assert!(!next.unwrap().starts_with('~'));
    both.new.terminate();
}

#[test]
fn who_stays_is_listed_once_while_all_clients_move() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Hold", |_| Response::json("{}"));
    let mut proxy = slow(&backend).start();
    let mut clients: Vec<_> = (0..90).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let expected: BTreeSet<String> = (0..90).map(|number| format!("CP{number}")).collect();
    // These stay in the old process for now.
    for client in clients.iter_mut().step_by(3) {
        client.send_call("1", "Hold", "{}");
    }
    backend.take("/call/Hold");
    let (until, by_name) = (Until::default(), AtomicUsize::new(0));
    let new = thread::scope(|scope| {
        let end = until.end();
        for limit in [1, 7, 1000] {
            let (until, by_name, proxy, expected) = (&until, &by_name, &proxy, &expected);
            scope.spawn(move || {
                while !until.is_over() {
                    let mut http = proxy.http();
                    let (mut found, mut target) = (Vec::new(), format!("/clients?limit={limit}"));
                    let is_by_name = loop {
                        let reply = http.get(&target);
                        if reply.status == 400 {
                            // It was begun before.
                            break None;
                        }
                        let (ids, next) = page(&reply.expect(200));
                        found.extend(ids);
                        match next {
                            None => break Some(target.contains('~')),
                            Some(next) => target = format!("/clients?limit={limit}&after={next}"),
                        }
                    };
                    let Some(is_by_name) = is_by_name else { continue };
                    assert_eq!(found.len(), 90, "{found:?}");
                    assert_eq!(BTreeSet::from_iter(found), *expected);
                    by_name.fetch_add(is_by_name.into(), Ordering::Relaxed);
                }
            });
        }
        let new = proxy.upgrade();
        eventually("lists of both processes", || {
            (by_name.load(Ordering::Relaxed) >= 4).then_some(())
        });
        gate.open();
        wait_for_the_old_one(&proxy);
        drop(end);
        new
    });
    for client in clients.iter_mut().step_by(3) {
        client.expect("[3,\"1\",{}]");
    }
    assert_eq!(proxy.wait().code(), Some(0));
    new.terminate();
}

#[test]
fn connections_of_the_backend_between_two_requests_go_on_in_the_new_process() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    let mut kept: Vec<_> = (0..8).map(|_| proxy.http()).collect();
    kept.iter_mut()
        .for_each(|http| drop(http.get("/clients/CP1").expect(200)));
    let gate = backend.hold("/call/Hold", |_| Response::json("{}"));
    client.send_call("1", "Hold", "{}");
    backend.take("/call/Hold");
    let mut waiting = proxy.http();
    let target = support::http::call_target("CP1", "Reset", "w");
    waiting.send_request("POST", &target, &[("Prefer", "wait=60")], "{}");
    client.expect("[2,\"w\",\"Reset\",{}]");
    let new = proxy.upgrade();
    // The one that waits is answered by the old process, and goes on in the new one after that.
    client.send_result("w", "{}");
    waiting.reply().expect(200);
    gate.open();
    client.expect("[3,\"1\",{}]");
    assert_eq!(proxy.wait().code(), Some(0));
    kept.push(waiting);
    for (number, http) in kept.iter_mut().enumerate() {
        let id = format!("p{number}");
        http.push("CP1", "Reset", &id, "{}").expect(202);
        client.expect(&format!("[2,\"{id}\",\"Reset\",{{}}]"));
        client.send_result(&id, "{}");
        backend.take(&format!("/result/Reset/CP1/{id}"));
    }
    new.terminate();
}

#[test]
fn who_comes_back_takes_the_place_of_its_connection_in_the_other_process() {
    let mut both = Both::start(|builder| builder);
    // One push is in flight, another one waits for it.
    for id in ["p1", "p2"] {
        both.proxy.push("busy", "Reset", id, "{}").expect(202);
    }
    both.busy.expect("[2,\"p1\",\"Reset\",{}]");
    let before = both.proxy.http().get("/clients/busy").expect(200).json()["connectionId"].clone();
    let mut back = both.proxy.client("busy");
    both.busy.expect_close(4001);
    // What was not sent goes to the newer connection; what was sent has its outcome.
    back.expect("[2,\"p2\",\"Reset\",{}]");
    back.send_result("p2", "{}");
    both.backend.take("/result/Reset/busy/p2");
    let replaced = both.backend.take("/error/Reset/busy/p1");
    assert!(replaced.text().contains("\"Replaced\""), "{}", replaced.text());
    let after = both.proxy.http().get("/clients/busy").expect(200).json()["connectionId"].clone();
    back.close(1000, "");
    let ends = both.backend.wait_seen("/disconnect", 2);
    let connections: Vec<_> = ends.iter().map(|end| end.header("x-connection-id").unwrap()).collect();
    assert_eq!(connections, [before.as_str().unwrap(), after.as_str().unwrap()]);
    assert_eq!(ends[0].json()["replacedBy"], after);
    both.gate.open();
    assert_eq!(both.proxy.wait().code(), Some(0));
    both.new.terminate();
}

#[test]
fn what_the_backend_has_not_taken_moves_and_holds_up_nobodys_end() {
    let backend = Backend::start();
    backend.on("/disconnect", |_| Response::new(500, ""));
    let mut proxy = Proxy::with(&backend)
        .shards(2)
        .set("drain_timeout", "300s")
        .set("upgrade_timeout", "300s")
        .start();
    for number in 0..5 {
        proxy.client(&format!("gone{number}")).close(1000, "");
    }
    let keys = |from: usize| -> BTreeSet<String> {
        let seen = backend.seen("/disconnect");
        let keys = seen[from..]
            .iter()
            .map(|end| end.header("idempotency-key").unwrap().to_owned());
        keys.collect()
    };
    eventually("the ends to be tried", || (keys(0).len() == 5).then_some(()));
    let new = proxy.upgrade();
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(proxy.stderr().contains("SENDs, 0 /disconnect"), "{}", proxy.stderr());
    let tried = backend.seen("/disconnect").len();
    backend.on("/disconnect", |_| Response::json("{}"));
    // The new one tries each again, as the same.
    eventually("the ends to be delivered", || (keys(tried) == keys(0)).then_some(()));
    assert_eq!(keys(0).len(), 5);
    new.terminate();
}

#[test]
fn a_client_with_much_under_way_moves_like_any_other() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).start();
    let mut client = proxy.client("CP1");
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{}]");
    let large = format!("{{\"pad\":\"{}\"}}", "x".repeat(400_000));
    for id in ["p2", "p3"] {
        proxy.push("CP1", "Reset", id, &large).expect(202);
    }
    let new = proxy.upgrade();
    assert_eq!(proxy.wait().code(), Some(0));
    client.send_result("p1", "{}");
    for id in ["p2", "p3"] {
        client.expect(&format!("[2,\"{id}\",\"Reset\",{large}]"));
        client.send_result(id, "{}");
        backend.take(&format!("/result/Reset/CP1/{id}"));
    }
    assert_eq!(backend.seen("/disconnect").len(), 0);
    new.terminate();
}
