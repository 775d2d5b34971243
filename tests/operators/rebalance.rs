//! `POST /rebalance` sends clients away bit by bit, and the node goes on: `rebalance-1`, `rebalance-2`.

use support::{Backend, Client, Http, Message, Proxy, Reply, Response, Value, eventually};

fn ask(proxy: &Proxy, method: &str, query: &str) -> Reply {
    let target = format!("/rebalance{query}");
    Http::connect(proxy.admin).request(method, &target, &[], "")
}

fn left(proxy: &Proxy) -> u64 {
    ask(proxy, "GET", "").expect(200).json()["left"].as_u64().unwrap()
}

fn clients(proxy: &Proxy, names: std::ops::Range<usize>) -> Vec<Client> {
    names.map(|number| proxy.client(&format!("CP{number}"))).collect()
}

/// Those that are closed with 1001; the others answer.
fn closed(clients: &mut Vec<Client>) -> usize {
    let before = clients.len();
    clients.retain_mut(|client| {
        client.send_call("1", "Heartbeat", "{}");
        match client.message() {
            Message::Text(answer) => {
                assert!(answer.starts_with("[3,\"1\","), "{answer}");
                true
            }
            Message::Close(code, reason) => {
                assert_eq!((code, &*reason), (Some(1001), "going away"));
                false
            }
            other => panic!("{other:?}"),
        }
    });
    before - clients.len()
}

#[test]
fn as_many_clients_as_asked_for_are_closed_from_all_shards_and_none_that_has_come_back() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut old = clients(&proxy, 0..40);
    let before = proxy.metric("clients");
    let plan = ask(&proxy, "POST", "?close=30&per_second=1000").expect(200).json();
    assert_eq!(
        (&plan["clients"], &plan["close"], &plan["perSecond"]),
        (&40.into(), &30.into(), &1000.into())
    );
    eventually("all to be closed", || {
        (proxy.count_where("clients_closed", "rebalance") == 30).then_some(())
    });
    eventually("its end", || (left(&proxy) == 0).then_some(()));
    let after = proxy.metric("clients");
    assert_eq!(after.iter().sum::<f64>(), 10.0);
    assert!(
        after.iter().zip(&before).all(|(after, before)| after < before),
        "{before:?} {after:?}"
    );
    let line = proxy.wait_log("rebalance: ");
    assert!(line.contains("30 of 40 clients are sent away, 1000 a second"), "{line}");
    assert_eq!(closed(&mut old), 30);
    // Of those that were there ten are left: who comes meanwhile stays.
    let mut new = clients(&proxy, 100..110);
    ask(&proxy, "POST", "?close=10&per_second=5").expect(200);
    let mut newer = clients(&proxy, 200..210);
    eventually("its end", || (left(&proxy) == 0).then_some(()));
    assert_eq!(closed(&mut newer), 0);
    eventually("ten more", || {
        (proxy.count_where("clients_closed", "rebalance") == 40).then_some(())
    });
    assert_eq!(closed(&mut old) + closed(&mut new), 10);
}

#[test]
fn it_is_stopped_and_replaced_and_says_how_it_goes() {
    let proxy = Proxy::demo().shards(2).start();
    let mut all = clients(&proxy, 0..10);
    ask(&proxy, "POST", "?close=1000&per_second=1").expect(200);
    let begun = ask(&proxy, "GET", "").json();
    assert_eq!(begun["close"], 10, "no more than there are");
    let told = eventually("the status page to say so", || {
        let status = proxy.get("/status.json");
        let status = (status.status == 200).then(|| status.json())?;
        let alerts = status["alerts"].as_array()?.clone();
        alerts
            .into_iter()
            .find(|alert| alert["message"].as_str().unwrap().contains("rebalance"))
    });
    assert_eq!(told["severity"], "warning");
    // Another one takes its place.
    let second = ask(&proxy, "POST", "?close=5&per_second=1").expect(200).json();
    assert!(second["stopped"].as_u64() > Some(0), "{second}");
    assert!(left(&proxy) <= 5);
    let stopped = ask(&proxy, "POST", "?close=0").expect(200).json();
    assert_eq!((&stopped["left"], &stopped["close"]), (&0.into(), &0.into()));
    let gone = closed(&mut all);
    assert!(gone < 10, "{gone}");
    assert_eq!(closed(&mut all), 0);
    for (method, query, status) in [
        ("POST", "", 400),
        ("POST", "?close=x", 400),
        ("POST", "?close=-1", 400),
        ("POST", "?close=1&per_second=0", 400),
        ("POST", "?close=1&per_second=10001", 400),
        ("PUT", "?close=1", 405),
        ("DELETE", "", 405),
    ] {
        ask(&proxy, method, query).expect(status);
    }
}

#[test]
fn who_has_a_call_under_way_gets_its_answer_first() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("1", "Heartbeat", "{}");
    backend.take("/call");
    ask(&proxy, "POST", "?close=1").expect(200);
    eventually("its end", || (left(&proxy) == 0).then_some(()));
    gate.open();
    assert_eq!(client.text(), "[3,\"1\",{}]");
    assert_eq!(client.message(), Message::Close(Some(1001), "going away".into()));
    let body: Value = backend.take("/disconnect").json();
    assert_eq!((&body["code"], &body["reason"]), (&1001.into(), &"going away".into()));
}
