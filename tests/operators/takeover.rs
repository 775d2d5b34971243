//! While the old and the new process both live, whoever asks either of them finds every client: `takeover-5`, `takeover-9` to
//! `takeover-12`.

use support::{Backend, Builder, Client, Gate, Http, Proxy, Response, Successor, eventually};

/// An old process that has a client whose Call is at the backend, and a new one.
struct Both {
    backend: Backend,
    proxy: Proxy,
    new: Successor,
    /// Its Call is at the backend.
    busy: Client,
    /// It moves at once.
    quiet: Client,
    /// Connections to the old process's ingress.
    old: Vec<Http>,
    gate: Gate,
}

impl Both {
    fn start(configure: impl FnOnce(Builder) -> Builder) -> Self {
        let backend = Backend::start();
        let gate = backend.hold("/call/Hold", |_| Response::json("{}"));
        let proxy = Proxy::with(&backend)
            .shards(2)
            .set("drain_timeout", "20s")
            .set("drain_spread", "0s");
        let proxy = configure(proxy).start();
        let mut busy = proxy.client("busy");
        let quiet = proxy.client("quiet");
        busy.send_call("1", "Hold", "{}");
        backend.take("/call/Hold");
        let old = (0..12).map(|_| {
            let mut http = proxy.http();
            http.get("/clients?limit=1").expect(200);
            http
        });
        let old: Vec<_> = old.collect();
        let new = proxy.upgrade();
        eventually("the quiet one to move", || {
            (proxy.count_where("clients_moved", "\"in\"") == 1).then_some(())
        });
        Self {
            backend,
            proxy,
            new,
            busy,
            quiet,
            old,
            gate,
        }
    }

    /// A connection to the old process's ingress; it is good for one request.
    fn old(&mut self) -> Http {
        self.old.pop().expect("one is left")
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
    for (asked, name) in [("old", "quiet"), ("new", "busy"), ("old", "busy"), ("new", "quiet")] {
        let mut http = |both: &mut Both| if asked == "old" { both.old() } else { both.proxy.http() };
        let id = format!("{asked}-{name}");
        http(&mut both).push(name, "Reset", &id, "{}").expect(202);
        let client = if name == "busy" { &mut both.busy } else { &mut both.quiet };
        client.expect(&format!("[2,\"{id}\",\"Reset\",{{}}]"));
        client.send_result(&id, "{\"n\":1}");
        assert_eq!(both.backend.take(&format!("/result/Reset/{name}/{id}")).text(), "{\"n\":1}");
        let target = support::http::call_target(name, "Reset", &format!("{id}-w"));
        let mut waiting = http(&mut both);
        waiting.send_request("POST", &target, &[("Prefer", "wait=60")], "{}");
        let client = if name == "busy" { &mut both.busy } else { &mut both.quiet };
        client.expect(&format!("[2,\"{id}-w\",\"Reset\",{{}}]"));
        client.send_result(&format!("{id}-w"), "{\"n\":2}");
        assert_eq!(waiting.reply().expect(200).body, "{\"n\":2}");
    }
    for mut http in [both.old(), both.proxy.http()] {
        // Both know that nobody of that name is anywhere.
        http.push("nobody", "Reset", "p1", "{}").expect(404);
    }
    assert_eq!(both.backend.seen("/error").len(), 0);
    assert_eq!(both.backend.seen("/result").len(), 4);
    both.finish();
}

#[test]
fn a_wait_that_is_over_is_told_once_wherever_the_client_is() {
    let mut both = Both::start(|builder| builder.set("push_timeout", "60s"));
    let wait = |http: &mut Http, id: &str| {
        let target = support::http::call_target("quiet", "Reset", id);
        http.request("POST", &target, &[("Prefer", "wait=1")], "{}").expect(504)
    };
    let mut old = both.old();
    assert!(wait(&mut old, "p1").body.contains("\"sent\":true"));
    both.quiet.expect("[2,\"p1\",\"Reset\",{}]");
    // It waits for the one before, and is withdrawn.
    let mut old = both.old();
    assert!(wait(&mut old, "p2").body.contains("\"sent\":false"));
    // The first one's outcome has been told; the next one's is posted.
    both.quiet.send_result("p1", "{}");
    both.old().push("quiet", "Reset", "p3", "{}").expect(202);
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
    let described = both.old().get("/clients/quiet").expect(200).json();
    assert_eq!(described["clientId"], "quiet");
    both.old().post("/result/Later/quiet/d1", "{\"n\":1}").expect(204);
    both.quiet.expect("[3,\"d1\",{\"n\":1}]");
    both.old().post("/result/Later/quiet/d1", "{\"n\":1}").expect(409);
    both.old().post("/result/Later/nobody/d1", "{\"n\":1}").expect(404);
    let described = both.proxy.http().get("/clients/busy").expect(200).json();
    assert_eq!(described["pending"]["callsInFlight"], 1);
    both.proxy.http().get("/clients/nobody").expect(404);
    both.proxy.http().request("DELETE", "/clients/nobody", &[], "").expect(404);
    both.old()
        .request("DELETE", "/clients/quiet?code=4100&reason=over", &[], "")
        .expect(204);
    assert_eq!(both.quiet.expect_close(4100), "over");
    assert_eq!(both.backend.take("/disconnect/quiet").json()["code"], 4100);
    both.finish();
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
    let before = backend.wait_seen("/disconnect", 5);
    let new = proxy.upgrade();
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(proxy.stderr().contains("SENDs, 0 /disconnect"), "{}", proxy.stderr());
    backend.on("/disconnect", |_| Response::json("{}"));
    let mut keys: Vec<_> = before.iter().map(|end| end.header("idempotency-key").unwrap().to_owned()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5);
    eventually("the new process to deliver them", || {
        (proxy.metric("posts_waiting").iter().sum::<f64>() == 0.0 && proxy.count_sum("disconnects_lost") == 0)
            .then_some(())
    });
    for key in keys {
        backend.take_where("a try of each", |request| {
            request.header("idempotency-key") == Some(&key)
        });
    }
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
