//! The backend asks about clients, closes them, and lists them: `client-1` to `client-6`.

use std::collections::BTreeSet;

use support::{Backend, Client, Handshake, Proxy, Response, Value, json};

/// Every client's id on every page.
fn list(proxy: &Proxy, limit: usize) -> Vec<String> {
    let mut http = proxy.http();
    let mut ids = Vec::new();
    let mut target = format!("/clients?limit={limit}");
    loop {
        let page = http.get(&target).expect(200).json();
        let clients = page["clients"].as_array().unwrap();
        assert!(clients.len() <= limit, "{page}");
        ids.extend(
            clients
                .iter()
                .map(|client| client["clientId"].as_str().unwrap().to_owned()),
        );
        match &page["next"] {
            Value::Null => return ids,
            next => {
                assert!(!clients.is_empty(), "a page that leads on has clients: {page}");
                target = format!("/clients?limit={limit}&after={}", next.as_str().unwrap());
            }
        }
    }
}

#[test]
fn what_goes_to_and_fro_is_counted_for_each_client() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.0.1", "CP1");
    let _other = proxy.client("CP2");
    client.send_call("m1", "Echo", "{\"a\":1}");
    client.expect("[3,\"m1\",{\"a\":1}]");
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{}]");
    client.send_result("p1", "{}");
    client.send("nonsense");
    client.text();
    // It has been heard of at the latest when this is answered.
    backend.take("/result");
    let described = proxy.http().get("/clients/CP1").expect(200).json();
    let expected = json!({
        "framesIn": 3, "bytesIn": 23 + 11 + 8, "framesOut": 3, "bytesOut": described["traffic"]["bytesOut"],
        "calls": 1, "pushes": 1, "badFrames": 1,
    });
    assert_eq!(described["traffic"], expected);
    assert!(described["traffic"]["bytesOut"].as_u64() > Some(40));
    assert!(described["silentSeconds"].as_u64() < Some(60));
    let page = proxy.http().get("/clients").expect(200).json();
    let other = page["clients"]
        .as_array()
        .unwrap()
        .iter()
        .find(|client| client["clientId"] == "CP2");
    assert_eq!(other.unwrap()["traffic"]["framesIn"], 0);
}

#[test]
fn a_connected_client_is_described() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let _client = proxy.client_of("ocpp1.6", "Säule 1");
    let connect = backend.take("/connect");
    for _ in 0..8 {
        let reply = proxy.http().get("/clients/S%C3%A4ule%201").expect(200);
        let found = reply.json();
        assert_eq!(found["clientId"], json!("Säule 1"));
        assert_eq!(found["connectionId"], json!(connect.header("x-connection-id")));
        assert_eq!(found["subprotocol"], json!("ocpp1.6"));
        assert_eq!(found["address"], json!("127.0.0.1"));
        let since = found["since"].as_str().unwrap();
        assert!(
            since.ends_with('Z') && since.as_bytes()[10] == b'T',
            "{since} is RFC 3339"
        );
        assert_eq!(
            found["pending"],
            json!({
                "callsInFlight": 0, "callsDeferred": 0, "callsQueued": 0, "pushesInFlight": 0, "pushesQueued": 0,
            })
        );
    }
}

#[test]
fn a_client_without_subprotocol_has_none_in_its_description() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let _client = proxy.client("CP1");
    assert_eq!(
        proxy.http().get("/clients/CP1").expect(200).json()["subprotocol"],
        Value::Null
    );
}

#[test]
fn the_description_has_the_clients_own_address_behind_a_trusted_proxy() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("trusted_proxies", "127.0.0.0/8").start();
    let _client = Handshake::new("CP1")
        .header("X-Forwarded-For", "203.0.113.7")
        .open(proxy.listen);
    assert_eq!(
        proxy.http().get("/clients/CP1").expect(200).json()["address"],
        json!("203.0.113.7")
    );
}

#[test]
fn the_description_counts_what_is_pending() {
    let backend = Backend::start();
    backend.on("/call/Later", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).set("calls_in_flight", "2").start();
    let mut client = proxy.client("CP1");
    for (message_id, action) in [("m1", "Later"), ("m2", "Slow"), ("m3", "Slow"), ("m4", "Slow")] {
        client.send_call(message_id, action, "{}");
    }
    for message_id in ["p1", "p2", "p3", "p4"] {
        proxy.push("CP1", "Reset", message_id, "{}").expect(202);
    }
    let expected = json!({
        "callsInFlight": 2, "callsDeferred": 1, "callsQueued": 2, "pushesInFlight": 1, "pushesQueued": 3,
    });
    support::eventually("all of it to be pending", || {
        let found = proxy.http().get("/clients/CP1").expect(200).json();
        (found["pending"] == expected).then_some(())
    });
    gate.open();
}

#[test]
fn a_client_that_is_not_connected_gets_404() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    proxy.http().get("/clients/CP1").expect(404);
    proxy.http().request("DELETE", "/clients/CP1", &[], "").expect(404);
    proxy.client("CP1").vanish();
    backend.take("/disconnect");
    proxy.http().get("/clients/CP1").expect(404);
    proxy.http().request("DELETE", "/clients/CP1", &[], "").expect(404);
}

#[test]
fn a_bad_client_id_in_a_question_gets_400() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for segment in ["%2F", "..", "%00", "%FF", "%zz", &"x".repeat(129)] {
        proxy.http().get(&format!("/clients/{segment}")).expect(400);
        proxy
            .http()
            .request("DELETE", &format!("/clients/{segment}"), &[], "")
            .expect(400);
    }
}

#[test]
fn the_backend_closes_a_client_with_code_and_reason() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for (query, code, reason) in [
        ("", 1000, ""),
        ("?code=1008", 1008, ""),
        ("?code=4003&reason=go%20away%20%C3%A4", 4003, "go away ä"),
        ("?reason=bye&code=3000", 3000, "bye"),
    ] {
        let mut client = proxy.client("CP1");
        proxy.push("CP1", "Reset", "m1", "{}").expect(202);
        client.text();
        let reply = proxy.http().request("DELETE", &format!("/clients/CP1{query}"), &[], "");
        assert!((200..300).contains(&reply.status), "{reply:?}");
        // From here on it is not connected, whatever it does about the close.
        proxy.http().get("/clients/CP1").expect(404);
        proxy.push("CP1", "Reset", "m2", "{}").expect(404);
        assert_eq!(client.expect_close(code), reason);
        let disconnect = backend.take("/disconnect").json();
        assert_eq!(
            (&disconnect["code"], &disconnect["reason"]),
            (&json!(code), &json!(reason))
        );
        assert_eq!(
            backend.take("/error/Reset/CP1/m1").json()["code"],
            json!("Disconnected")
        );
    }
}

#[test]
fn a_close_that_no_endpoint_may_send_gets_400() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let long = format!("reason={}", "x".repeat(124));
    for query in [
        "code=0",
        "code=999",
        "code=1005",
        "code=1006",
        "code=1015",
        "code=2999",
        "code=5000",
        "code=x",
        "code=",
        &long,
    ] {
        let reply = proxy
            .http()
            .request("DELETE", &format!("/clients/CP1?{query}"), &[], "");
        assert_eq!(reply.status, 400, "{query}: {reply:?}");
    }
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
    let at_limit = format!("/clients/CP1?reason={}", "x".repeat(123));
    proxy.http().request("DELETE", &at_limit, &[], "");
    assert_eq!(client.expect_close(1000), "x".repeat(123));
}

#[test]
fn every_client_of_every_shard_is_on_exactly_one_page() {
    for shards in [1, 2, 5] {
        let backend = Backend::start();
        let proxy = Proxy::with(&backend).shards(shards).start();
        assert_eq!(list(&proxy, 10), Vec::<String>::new());
        let clients: Vec<Client> = (0..53).map(|number| proxy.client(&format!("CP{number}"))).collect();
        let expected: BTreeSet<String> = (0..53).map(|number| format!("CP{number}")).collect();
        for limit in [1, 7, 53, 1000] {
            let found = list(&proxy, limit);
            assert_eq!(found.len(), 53, "{found:?}");
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        }
        let page = proxy.http().get("/clients").expect(200).json();
        for found in page["clients"].as_array().unwrap() {
            let one = proxy
                .http()
                .get(&format!("/clients/{}", found["clientId"].as_str().unwrap()))
                .expect(200);
            assert_eq!(*found, one.json());
        }
        drop(clients);
    }
}

#[test]
fn who_stays_is_listed_once_while_others_come_and_go() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let staying: Vec<Client> = (0..30).map(|number| proxy.client(&format!("stays{number}"))).collect();
    let mut passing: Vec<Client> = (0..30).map(|number| proxy.client(&format!("goes{number}"))).collect();
    let mut http = proxy.http();
    let mut found = Vec::new();
    let mut target = "/clients?limit=5".to_owned();
    loop {
        let page = http.get(&target).expect(200).json();
        let clients = page["clients"].as_array().unwrap().clone();
        found.extend(
            clients
                .iter()
                .map(|client| client["clientId"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/clients?limit=5&after={next}");
        if let Some(client) = passing.pop() {
            client.vanish();
            backend.take("/disconnect");
        }
        passing.insert(0, proxy.client(&format!("comes{}", found.len())));
    }
    let mut ids: Vec<_> = found.iter().filter(|id| id.starts_with("stays")).collect();
    assert_eq!(ids.len(), 30, "{found:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 30);
    drop(staying);
}

#[test]
fn a_page_that_cannot_be_gets_400() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for query in [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1000000",
        "after=x",
        "after=1",
    ] {
        let reply = proxy.http().get(&format!("/clients?{query}"));
        assert_eq!(reply.status, 400, "{query}: {reply:?}");
    }
}

#[test]
fn other_methods_on_clients_get_405() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let _client = proxy.client("CP1");
    for (method, target) in [
        ("POST", "/clients"),
        ("DELETE", "/clients"),
        ("PUT", "/clients/CP1"),
        ("POST", "/clients/CP1"),
    ] {
        let reply = proxy.http().request(method, target, &[], "").expect(405);
        assert!(reply.header("allow").unwrap().contains("GET"), "{reply:?}");
    }
    proxy.http().get("/clients/CP1").expect(200);
}
