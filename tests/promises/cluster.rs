//! Nodes that are connected to one NATS find each other's clients.

use support::http::call_target;
use support::nats::Nats;
use support::text_file::TextFile;
use support::{Backend, Builder, Http, Proxy, Response, eventually, json, program};

/// Two nodes that know each other, and their backend.
struct Two {
    backend: Backend,
    nats: Nats,
    a: Proxy,
    b: Proxy,
}

impl Two {
    /// `None`: there is no nats-server.
    fn start() -> Option<Self> {
        Self::start_with(|builder| builder)
    }

    fn start_with(configure: impl Fn(Builder) -> Builder) -> Option<Self> {
        let nats = Nats::start("")?;
        let backend = Backend::start();
        let start = |name: &str| {
            let builder = Proxy::with(&backend)
                .shards(2)
                .set("cluster", &nats.url())
                .set("node_name", name)
                .set("drain_timeout", "10s");
            configure(builder).start()
        };
        let (a, b) = (start("a"), start("b"));
        wait_for_nodes(&[&a, &b]);
        Some(Self { backend, nats, a, b })
    }
}

/// Until all of them know all of them.
fn wait_for_nodes(nodes: &[&Proxy]) {
    for node in nodes {
        eventually("the nodes to know each other", || {
            (node.metric("cluster_nodes") == [nodes.len() as f64]).then_some(())
        });
    }
}

/// Until other nodes can find so many clients there.
fn wait_for_clients(node: &Proxy, count: usize) {
    eventually("clients to be found", || {
        (node.metric("cluster_clients") == [count as f64]).then_some(())
    });
}

#[test]
fn a_push_to_any_node_finds_its_client_and_its_outcome_is_posted_where_that_is() {
    let Some(two) = Two::start() else { return };
    let mut clients: Vec<_> = ["CP 1", "a.b*>", "ü"].map(|id| (id, two.a.client(id))).into();
    wait_for_clients(&two.a, 3);
    for (id, client) in &mut clients {
        let reply = two.b.push(id, "Reset", "m1", "{\"type\":\"Soft\"}").expect(202);
        assert_eq!(reply.json()["status"], "sent");
        client.expect("[2,\"m1\",\"Reset\",{\"type\":\"Soft\"}]");
        client.send_result("m1", "{\"n\": 1e2}");
        let outcome = two.backend.take("/result/Reset/");
        assert_eq!(outcome.text(), "{\"n\": 1e2}");
        assert_eq!(outcome.header("X-Node"), Some("a"));
        assert_eq!(outcome.segment(2), *id);
    }
    two.b.push("nobody", "Reset", "m1", "{}").expect(404);
    assert_eq!(two.b.count_where("cluster_asked", "answered"), 3);
    assert_eq!(two.b.count_where("cluster_asked", "not_connected"), 1);
    assert_eq!(two.a.count_where("cluster_asked", "answered"), 0, "who is here is here");
}

#[test]
fn every_request_to_the_backend_names_its_node() {
    let backend = Backend::start();
    for name in ["n-1", ""] {
        let proxy = Proxy::with(&backend).set("node_name", name).start();
        let mut client = proxy.client("CP1");
        client.call(1);
        proxy.push("CP1", "Reset", "m1", "{}").expect(202);
        client.text();
        client.send_result("m1", "{}");
        client.close(1000, "");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let name = if name.is_empty() { host.trim() } else { name };
        for path in ["/connect", "/call/", "/result/", "/disconnect"] {
            assert_eq!(backend.take(path).header("X-Node"), Some(name), "{path}");
        }
    }
}

#[test]
fn a_request_that_waits_gets_the_answer_of_a_client_at_another_node() {
    let Some(two) = Two::start() else { return };
    let mut client = two.a.client("CP1");
    wait_for_clients(&two.a, 1);
    let mut http = two.b.http();
    let push = |http: &mut Http, id: &str| {
        http.send_request("POST", &call_target("CP1", "Reset", id), &[("Prefer", "wait=60")], "{}");
    };
    push(&mut http, "m1");
    client.expect("[2,\"m1\",\"Reset\",{}]");
    client.send_result("m1", "{\"n\":1}");
    assert_eq!(http.reply().expect(200).body, "{\"n\":1}");
    push(&mut http, "m2");
    client.expect("[2,\"m2\",\"Reset\",{}]");
    client.send("[4,\"m2\",\"NotSupported\",\"why\",{}]");
    assert_eq!(http.reply().expect(422).json()["code"], "NotSupported");
    push(&mut http, "m3");
    client.expect("[2,\"m3\",\"Reset\",{}]");
    client.vanish();
    assert_eq!(http.reply().expect(502).json()["code"], "Disconnected");
    two.backend.take("/disconnect");
    assert_eq!(two.backend.seen("/result").len() + two.backend.seen("/error").len(), 0);
}

#[test]
fn the_wait_for_a_client_at_another_node_ends_and_takes_back_what_was_not_sent() {
    let Some(two) = Two::start() else { return };
    let mut client = two.a.client("CP1");
    wait_for_clients(&two.a, 1);
    two.b.push("CP1", "Reset", "m1", "{}").expect(202);
    let wait = [("Prefer", "wait=1")];
    let reply = two
        .b
        .http()
        .request("POST", &call_target("CP1", "Reset", "m2"), &wait, "{}")
        .expect(504);
    assert_eq!(reply.json()["details"]["sent"], false);
    client.expect("[2,\"m1\",\"Reset\",{}]");
    let reply = two
        .b
        .http()
        .request("POST", &call_target("CP1", "Reset", "m1"), &[], "{}")
        .expect(409);
    assert!(reply.body.contains("error"));
    client.send_result("m1", "{}");
    two.backend.take("/result/Reset/CP1/m1");
    // m2 was taken back: the next one is sent at once.
    assert_eq!(
        two.b.push("CP1", "Reset", "m3", "{}").expect(202).json()["status"],
        "sent"
    );
    client.expect("[2,\"m3\",\"Reset\",{}]");
    let reply = two
        .b
        .http()
        .request(
            "POST",
            &call_target("CP1", "Reset", "m4"),
            &[("Prefer", "wait=1")],
            "{}",
        )
        .expect(504);
    assert_eq!(reply.json()["details"]["sent"], false);
}

#[test]
fn when_the_waiting_request_has_gone_the_outcome_is_posted_from_where_it_waited() {
    let Some(two) = Two::start() else { return };
    let mut client = two.a.client("CP1");
    wait_for_clients(&two.a, 1);
    let mut http = two.b.http();
    http.send_request(
        "POST",
        &call_target("CP1", "Reset", "m1"),
        &[("Prefer", "wait=60")],
        "{}",
    );
    client.expect("[2,\"m1\",\"Reset\",{}]");
    drop(http);
    client.send_result("m1", "{\"n\":1}");
    let outcome = two.backend.take("/result/Reset/CP1/m1");
    assert_eq!((outcome.text(), outcome.header("X-Node")), ("{\"n\":1}", Some("b")));
    client.call(1);
    assert_eq!(two.backend.seen("/result").len(), 1);
}

#[test]
fn deferred_answers_descriptions_and_kicks_reach_clients_at_another_node() {
    let Some(two) = Two::start() else { return };
    two.backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let mut client = two.a.client_of("ocpp1.6", "CP1");
    wait_for_clients(&two.a, 1);
    client.send_call("c1", "Later", "{}");
    two.backend.take("/call/Later");
    let mut http = two.b.http();
    eventually("the Call to be deferred", || {
        let found = http.get("/clients/CP1").expect(200).json();
        assert_eq!(
            (&found["clientId"], &found["subprotocol"]),
            (&json!("CP1"), &json!("ocpp1.6"))
        );
        (found["pending"]["callsDeferred"] == json!(1)).then_some(())
    });
    let mut answer = |id: &str| http.post(&format!("/result/Later/CP1/{id}"), "{\"n\":1}");
    answer("c1").expect(204);
    answer("c1").expect(409);
    answer("c2").expect(404);
    client.expect("[3,\"c1\",{\"n\":1}]");
    http.request("DELETE", "/clients/CP1?code=4100&reason=bye", &[], "")
        .expect(204);
    assert_eq!(client.expect_close(4100), "bye");
    eventually("it to be gone", || {
        (http.get("/clients/CP1").status == 404).then_some(())
    });
    http.request("DELETE", "/clients/CP1", &[], "").expect(404);
}

#[test]
fn the_newest_connection_wins_on_all_nodes_and_what_was_not_sent_moves_there() {
    let Some(two) = Two::start() else { return };
    let mut old = two.a.client("CP1");
    wait_for_clients(&two.a, 1);
    let connection = two.a.push("CP1", "Reset", "m1", "{}").expect(202).json()["connectionId"].clone();
    old.expect("[2,\"m1\",\"Reset\",{}]");
    for id in ["m2", "m3"] {
        assert_eq!(
            two.a.push("CP1", "Reset", id, "{}").expect(202).json()["status"],
            "queued"
        );
    }
    let mut waiting = two.b.http();
    waiting.send_request(
        "POST",
        &call_target("CP1", "Reset", "m4"),
        &[("Prefer", "wait=60")],
        "{}",
    );
    eventually("the fourth push to wait", || {
        let found = two.a.http().get("/clients/CP1").expect(200).json();
        (found["pending"]["pushesQueued"] == json!(3)).then_some(())
    });
    let mut new = two.b.client("CP1");
    assert_eq!(old.expect_close(4001), "replaced");
    let ended = two.backend.take("/disconnect");
    let told = ended.json();
    assert_eq!(told["connectionId"], connection);
    assert_eq!(
        (&told["replacedByNode"], told["code"].as_i64()),
        (&json!("b"), Some(4001))
    );
    assert_eq!(ended.header("X-Node"), Some("a"));
    let found = two.a.http().get("/clients/CP1").expect(200).json();
    assert_eq!(found["connectionId"], told["replacedBy"]);
    let lost = two.backend.take("/error/Reset/CP1/m1").json();
    assert_eq!(
        (&lost["code"], &lost["details"]["sent"]),
        (&json!("Replaced"), &json!(true))
    );
    for id in ["m2", "m3", "m4"] {
        new.expect(&format!("[2,\"{id}\",\"Reset\",{{}}]"));
        new.send_result(id, &format!("{{\"from\":\"{id}\"}}"));
    }
    for id in ["m2", "m3"] {
        let outcome = two.backend.take(&format!("/result/Reset/CP1/{id}"));
        assert_eq!(outcome.text(), format!("{{\"from\":\"{id}\"}}"));
    }
    assert_eq!(waiting.reply().expect(200).body, "{\"from\":\"m4\"}");
    new.call(1);
    assert_eq!(two.backend.seen("/result").len() + two.backend.seen("/error").len(), 3);
    wait_for_clients(&two.a, 0);
}

#[test]
fn while_nats_is_away_clients_here_are_served_and_others_are_not_said_to_be_gone() {
    let Some(mut two) = Two::start() else { return };
    let (mut here, mut there) = (two.b.client("here"), two.a.client("there"));
    wait_for_clients(&two.a, 1);
    let mut waiting = two.b.http();
    waiting.send_request(
        "POST",
        &call_target("there", "Reset", "m1"),
        &[("Prefer", "wait=60")],
        "{}",
    );
    there.expect("[2,\"m1\",\"Reset\",{}]");
    two.b.wait_count_where("cluster_asked", "answered", 1);
    two.nats.kill();
    for node in [&two.a, &two.b] {
        eventually("the loss to be seen", || {
            (node.metric("cluster_up") == [0.0]).then_some(())
        });
        node.wait_log("NATS has gone");
    }
    let reply = two.b.push("there", "Reset", "m2", "{}").expect(503);
    assert!(reply.header("Retry-After").is_some());
    two.b.http().get("/clients/there").expect(503);
    two.b.http().request("DELETE", "/clients/there", &[], "").expect(503);
    two.b.push("here", "Reset", "m1", "{}").expect(202);
    here.expect("[2,\"m1\",\"Reset\",{}]");
    here.call(1);
    there.call(1);
    // It is told when NATS is back.
    there.send_result("m1", "{\"n\":1}");
    there.call(2);
    // One that comes meanwhile to another node, and one that jumps.
    let mut newcomer = two.a.client("newcomer");
    let mut jumped = two.b.client("there");
    jumped.call(1);
    two.nats.start_again();
    assert_eq!(waiting.reply().expect(200).body, "{\"n\":1}");
    assert_eq!(there.expect_close(4001), "replaced");
    eventually("the newcomer to be found", || {
        let reply = two.b.push("newcomer", "Reset", "m1", "{}");
        assert_ne!(reply.status, 404, "it is there");
        (reply.status == 202).then_some(())
    });
    newcomer.expect("[2,\"m1\",\"Reset\",{}]");
    wait_for_nodes(&[&two.a, &two.b]);
    two.a.push("there", "Reset", "m3", "{}").expect(202);
    jumped.expect("[2,\"m3\",\"Reset\",{}]");
}

#[test]
fn an_upgrade_moves_clients_without_a_moment_in_which_other_nodes_do_not_find_them() {
    let Some(mut two) = Two::start() else { return };
    let mut client = two.a.client("CP1");
    wait_for_clients(&two.a, 1);
    let push = |two: &Two, client: &mut support::Client, number: usize| {
        let id = format!("m{number}");
        two.b.push("CP1", "Reset", &id, "{}").expect(202);
        client.expect(&format!("[2,\"{id}\",\"Reset\",{{}}]"));
        client.send_result(&id, "{}");
        two.backend.take(&format!("/result/Reset/CP1/{id}"));
    };
    push(&two, &mut client, 0);
    let new = two.a.upgrade();
    let mut number = 1;
    while two.a.is_running() {
        push(&two, &mut client, number);
        number += 1;
    }
    push(&two, &mut client, number);
    client.call(1);
    assert!(number > 1, "there were some meanwhile");
    assert_eq!(two.backend.seen("/disconnect").len(), 0);
    new.terminate();
}

#[test]
fn a_node_that_drains_says_so_until_its_clients_have_gone_to_another_one() {
    let Some(mut two) = Two::start() else { return };
    let mut client = two.a.client("CP1");
    wait_for_clients(&two.a, 1);
    two.b.push("CP1", "Reset", "m1", "{}").expect(202);
    client.expect("[2,\"m1\",\"Reset\",{}]");
    two.a.signal(rustix::process::Signal::TERM);
    eventually("the drain to be told", || {
        let nodes = two.b.http().get("/nodes").expect(200).json();
        (nodes["nodes"][0]["draining"] == json!(true)).then_some(())
    });
    two.b.push("CP1", "Reset", "m2", "{}").expect(503);
    client.send_result("m1", "{\"n\":1}");
    assert_eq!(two.backend.take("/result/Reset/CP1/m1").text(), "{\"n\":1}");
    client.expect_close(1001);
    eventually("nobody to have it", || {
        let status = two.b.push("CP1", "Reset", "m3", "{}").status;
        assert!(matches!(status, 404 | 503), "{status}");
        (status == 404).then_some(())
    });
    let mut client = two.b.client("CP1");
    assert_eq!(two.a.wait().code(), Some(0));
    two.b.push("CP1", "Reset", "m4", "{}").expect(202);
    client.expect("[2,\"m4\",\"Reset\",{}]");
}

#[test]
fn check_says_whether_nats_lets_the_node_in_and_takes_its_messages() {
    let Some(mut nats) = Nats::start("max_payload: 16384\n") else {
        return;
    };
    let url = nats.url();
    let check = |message_max: &str| {
        let file = TextFile::new(&format!(
            "backend = \"http://127.0.0.1:9\"\ncluster = \"{url}\"\n[defaults]\nmessage_max = \"{message_max}\"\n"
        ));
        program::run(&["check", file.as_str()])
    };
    let (code, stdout, stderr) = check("4KiB");
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("lets this node in, and takes 16384 bytes at once"),
        "{stdout}"
    );
    assert!(!stderr.contains("max_payload"), "{stderr}");
    let (_, _, stderr) = check("64KiB");
    assert!(stderr.contains("(max_payload)"), "{stderr}");
    nats.kill();
    let (_, stdout, stderr) = check("4KiB");
    assert!(!stdout.contains("lets this node in"), "{stdout}");
    assert!(stderr.contains("cannot be connected to"), "{stderr}");
}
