//! The status page has its data, and finds a client: `admin-3`. That a browser draws it is in browser.rs.

use support::{Client, Handshake, Proxy, Value, eventually};

#[test]
fn the_data_shows_each_shard_and_goes_on_where_it_was_left() {
    let proxy = Proxy::demo().shards(2).start();
    let mut client = proxy.client("CP1");
    client.call(1);
    let status = eventually("a second to be seen with the client in it", || {
        let status = status(&proxy, "")?;
        let clients = |shard: &Value| shard["clients"].as_u64().unwrap();
        let sum: u64 = status["shards"].as_array().unwrap().iter().map(clients).sum();
        (sum == 1 && !status["seconds"].as_array().unwrap().is_empty()).then_some(status)
    });
    assert_eq!(status["shards"].as_array().unwrap().len(), 2);
    assert_eq!(status["alerts"], Value::Array(Vec::new()));
    assert!(status["memoryBytes"].as_u64() > Some(1_000_000));
    let shard = &status["shards"][0];
    for key in [
        "busy",
        "calls",
        "callMs",
        "backendMs",
        "openFiles",
        "backendUp",
        "longestPassMs",
    ] {
        assert!(!shard[key].is_null(), "{key}: {shard}");
    }
    let backend = &status["backends"][0];
    assert!(backend["limit"].as_u64() >= Some(1), "{backend}");
    assert_eq!([&backend["inUse"], &backend["waiting"]], [0, 0], "{backend}");
    let seen = status["seconds"].as_array().unwrap().last().unwrap()["number"]
        .as_u64()
        .unwrap();
    let next = eventually("the next second", || {
        let next = self::status(&proxy, &format!("?after={seen}")).unwrap();
        let seconds = next["seconds"].as_array().unwrap().clone();
        (!seconds.is_empty()).then_some(seconds)
    });
    assert!(next[0]["number"].as_u64().unwrap() > seen);
}

#[test]
fn a_client_is_found_on_its_home_shard() {
    let proxy = Proxy::demo().shards(2).start();
    let clients: Vec<Client> = ["a", "b", "c/d"].map(|id| proxy.client(&id.replace('/', "-"))).into();
    for id in ["a", "b", "c-d"] {
        let found = proxy.get(&format!("/clients/{id}")).expect(200).json();
        assert_eq!(found["client"]["clientId"], id);
        assert!(found["shard"].as_u64() < Some(2));
    }
    proxy.get("/clients/nobody").expect(404);
    proxy.get("/clients/").expect(400);
    proxy.get("/clients/a%2Fb").expect(400);
    drop(clients);
}

#[test]
fn a_backend_that_is_down_is_said_in_words() {
    let proxy = Proxy::demo().shards(2).arg("--backend=http://127.0.0.1:9").start();
    Handshake::new("CP1").refused(proxy.listen).expect(502);
    let is_said = |status: &Value| {
        let mut alerts = status["alerts"].as_array().unwrap().iter();
        alerts.any(|alert| {
            alert["message"]
                .as_str()
                .unwrap()
                .contains("is down: it can't be connected to")
        })
    };
    let second = |status: &Value| {
        status["seconds"]
            .as_array()
            .unwrap()
            .last()
            .map(|last| last["number"].as_u64())
    };
    let first = eventually("the trouble to be seen", || status(&proxy, "").filter(is_said));
    // And it stays so for as long as nobody has found one, however few ask: an alert needs a minute of it.
    let later = eventually("some seconds more", || {
        status(&proxy, "").filter(|later| second(later) >= second(&first).map(|first| first.map(|first| first + 4)))
    });
    assert!(is_said(&later), "{later}");
    let up: f64 = proxy.metric("backend_up").iter().sum();
    assert_eq!(up, 1.0, "of the two shards one has tried");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let proxy = Proxy::demo().shards(2).start();
    let answer = proxy.get("/");
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = answer.body;
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(outside);
        assert!(!found, "{outside}");
    }
}

fn status(proxy: &Proxy, query: &str) -> Option<Value> {
    let answer = proxy.get(&format!("/status.json{query}"));
    (answer.status == 200).then(|| answer.json())
}

#[test]
fn what_is_tolerated_is_shown() {
    let proxy = Proxy::demo().set("tolerate", "any-key,number-ids").start();
    let status = eventually("the status", || status(&proxy, ""));
    assert_eq!(status["tolerated"], serde_json::json!(["any-key", "number-ids"]));
}
