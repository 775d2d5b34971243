//! The status page's data, and the search for a client. That a browser draws it is in browser.rs.

use serde_json::Value;

use crate::program::{Client, Program, wait_until};

#[test]
fn the_data_shows_each_shard_and_goes_on_where_it_was_left() {
    let program = Program::demo(&[]);
    let mut client = Client::connect(&program.listen, "CP1");
    client.call(1);
    let status = wait_until("a second to be seen with the client in it", || {
        let status = status(&program, "")?;
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
    let seen = status["seconds"].as_array().unwrap().last().unwrap()["number"]
        .as_u64()
        .unwrap();
    let next = wait_until("the next second", || {
        let next = self::status(&program, &format!("?after={seen}")).unwrap();
        let seconds = next["seconds"].as_array().unwrap().clone();
        (!seconds.is_empty()).then_some(seconds)
    });
    assert!(next[0]["number"].as_u64().unwrap() > seen);
}

#[test]
fn a_client_is_found_on_its_home_shard() {
    let program = Program::demo(&[]);
    let clients: Vec<Client> = ["a", "b", "c/d"]
        .map(|id| Client::connect(&program.listen, &id.replace('/', "-")))
        .into();
    for id in ["a", "b", "c-d"] {
        let answer = program.get(&format!("/clients/{id}"));
        let found: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &found["client"]["clientId"]), (200, &Value::from(id)));
        assert!(found["shard"].as_u64() < Some(2));
    }
    assert_eq!(program.get("/clients/nobody").status, 404);
    assert_eq!(program.get("/clients/").status, 400);
    assert_eq!(program.get("/clients/a%2Fb").status, 400);
    drop(clients);
}

#[test]
fn a_backend_that_is_down_is_said_in_words() {
    let program = Program::demo(&["--backend", "http://127.0.0.1:9"]);
    let refused = Client::try_connect(&program.listen, "CP1")
        .err()
        .expect("no backend, no client");
    assert!(refused.starts_with("HTTP/1.1 502"), "{refused}");
    let is_said = |status: &Value| {
        let mut alerts = status["alerts"].as_array().unwrap().iter();
        alerts.any(|alert| {
            alert["words"]
                .as_str()
                .unwrap()
                .contains("No backend can be connected to")
        })
    };
    let second = |status: &Value| {
        status["seconds"]
            .as_array()
            .unwrap()
            .last()
            .map(|last| last["number"].as_u64())
    };
    let first = wait_until("the trouble to be seen", || status(&program, "").filter(is_said));
    // And it stays so for as long as nobody has found one, however few ask: an alert needs a minute of it.
    let later = wait_until("some seconds more", || {
        status(&program, "").filter(|later| second(later) >= second(&first).map(|first| first.map(|first| first + 4)))
    });
    assert!(is_said(&later), "{later}");
    assert_eq!(
        program.metric("ws2api_backend_up", ""),
        1.0,
        "of the two shards one has tried"
    );
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let program = Program::demo(&[]);
    let answer = program.get("/");
    assert!(
        answer.head.contains("Content-Security-Policy: default-src 'none'"),
        "{}",
        answer.head
    );
    let page = answer.text();
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(outside);
        assert!(!found, "{outside}");
    }
}

fn status(program: &Program, query: &str) -> Option<Value> {
    let answer = program.get(&format!("/status.json{query}"));
    (answer.status == 200).then(|| serde_json::from_slice(&answer.body).unwrap())
}
