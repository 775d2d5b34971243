//! A backend that is down, hangs or answers badly is named, with the reason, for as long as it does: `alert-1`, `alert-2`.

use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Backend, Client, Handshake, Proxy, Response, Value, eventually};

/// The messages of all alerts on the status page.
fn alerts(proxy: &Proxy) -> Vec<String> {
    let status = proxy.get("/status.json");
    if status.status != 200 {
        return Vec::new();
    }
    let status = status.json();
    let alerts = status["alerts"].as_array().unwrap().iter();
    alerts
        .map(|alert| alert["message"].as_str().unwrap().to_owned())
        .collect()
}

/// Looks of the monitor, one a second.
fn looks(proxy: &Proxy) -> u64 {
    let status = proxy.get("/status.json").json();
    let seconds = status["seconds"].as_array().unwrap();
    seconds.last().map_or(0, |last| last["number"].as_u64().unwrap())
}

/// The log says that the backend is not down any more.
fn is_over(proxy: &Proxy) -> bool {
    let log = proxy.stderr();
    let mut lines = log.lines();
    lines.any(|line| line.contains("over after") && line.contains("Backend http://"))
}

/// A client on each of two shards.
fn one_on_each(proxy: &Proxy) -> Vec<Client> {
    let mut clients = Vec::new();
    while proxy.metric("clients").contains(&0.0) {
        clients.push(proxy.client(&format!("CP{}", clients.len())));
    }
    clients
}

#[test]
fn a_backend_that_hangs_is_down_until_it_answers() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).shards(2).set("call_timeout", "1s").start();
    let mut clients = one_on_each(&proxy);
    for client in &mut clients {
        client.send_call("1", "Heartbeat", "{}");
    }
    for client in &mut clients {
        assert!(client.text().contains("did not answer in time"));
    }
    eventually("both shards to find it down", || {
        (proxy.metric("backend_up") == [0.0, 0.0]).then_some(())
    });
    let line = proxy.wait_log("is down: it takes requests and answers none");
    assert!(line.contains("ERROR") && line.contains(&backend.url()), "{line}");
    // That connecting works is no sign of life.
    let begun = looks(&proxy);
    eventually("ten looks", || (looks(&proxy) >= begun + 10).then_some(()));
    assert_eq!(proxy.metric("backend_up"), [0.0, 0.0]);
    assert!(alerts(&proxy).iter().any(|alert| alert.contains("answers none")));
    assert!(!is_over(&proxy), "nothing was answered");
    // One answer is enough, also for the shard that nobody asks.
    gate.open();
    clients[0].send_call("2", "Heartbeat", "{}");
    assert!(clients[0].text().starts_with("[3,"));
    assert_eq!(proxy.metric("backend_up"), [1.0, 1.0]);
    eventually("it to be over", || is_over(&proxy).then_some(()));
    eventually("no alert", || alerts(&proxy).is_empty().then_some(()));
}

#[test]
fn a_backend_that_hung_is_back_with_the_answer_that_it_owes_though_nobody_asks() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).set("call_timeout", "1s").start();
    let mut client = proxy.client("CP1");
    client.send_call("1", "Heartbeat", "{}");
    assert!(client.text().contains("did not answer in time"));
    assert_eq!(proxy.metric("backend_up"), [0.0]);
    gate.open();
    eventually("it to be back", || (proxy.metric("backend_up") == [1.0]).then_some(()));
    assert_eq!(backend.seen("/call").len(), 1);
    // The connection is as good as any.
    client.call(2);
    assert_eq!(backend.seen("/call")[0].connection, backend.seen("/call")[1].connection);
}

#[test]
fn a_backend_that_is_back_is_found_by_a_shard_that_nobody_asks() {
    let mut backend = Backend::dead();
    let proxy = Proxy::with(&backend).shards(2).set("backend_retry", "0s").start();
    Handshake::new("CP1").refused(proxy.listen).expect(502);
    eventually("it to be told", || {
        let alerts = alerts(&proxy);
        let told = alerts.iter().find(|alert| alert.contains("it can't be connected to"))?;
        assert!(told.contains(&backend.url()) && told.contains("says shard"), "{told}");
        Some(())
    });
    assert_eq!(proxy.metric("backend_up").iter().sum::<f64>(), 1.0, "one has tried");
    assert_eq!(proxy.metric("backend_server_up").iter().sum::<f64>(), 1.0);
    backend.restart();
    eventually("it to be found", || {
        (proxy.metric("backend_up") == [1.0, 1.0]).then_some(())
    });
    assert_eq!(backend.seen("/").len(), 0, "nobody asks");
    eventually("it to be over", || is_over(&proxy).then_some(()));
}

#[test]
fn of_two_backends_the_one_that_is_down_is_named() {
    let (good, bad) = (Backend::start(), Backend::dead());
    let proxy = Proxy::with(&good).backend(&bad).start();
    let mut clients: Vec<Client> = (0..8).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let told = eventually("the dead one to be told", || {
        // More at once than one connection carries: the other one is less busy.
        clients
            .iter_mut()
            .for_each(|client| client.send_call("1", "Heartbeat", "{}"));
        clients.iter_mut().for_each(|client| drop(client.text()));
        alerts(&proxy).into_iter().find(|alert| alert.contains("is down"))
    });
    assert!(
        told.contains(&bad.url()) && told.contains("Requests go to the others"),
        "{told}"
    );
    assert_eq!(proxy.metric("backend_up"), [1.0]);
    let of = |backend: &Backend| proxy.metric_where("backend_server_up", &backend.url());
    assert_eq!((of(&good), of(&bad)), (vec![1.0], vec![0.0]));
}

#[test]
fn bad_answers_are_counted_and_told_with_the_backend_and_the_reason() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let backend = Backend::start();
    backend.on("/call", |_| match COUNT.fetch_add(1, Ordering::Relaxed) % 4 {
        0 | 2 => Response::json("{}"),
        1 => Response::new(500, "<b>Fatal error</b>"),
        _ => Response::json("<br />\n<b>Warning</b>"),
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let told = eventually("it to be told", || {
        for number in 0..40 {
            client.send_call(&number.to_string(), "Heartbeat", "{}");
            client.text();
        }
        let told = |alert: &String| alert.contains("× 5xx") && alert.contains("× answers to Calls that are no JSON");
        alerts(&proxy).into_iter().find(told)
    });
    assert!(told.contains(&backend.url()) && told.contains("on shard 0"), "{told}");
    let numbers: Vec<u64> = told.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [bad, ended, _, errors, not_json] = numbers[..] else {
        panic!("{told}")
    };
    assert!(bad <= ended && errors + not_json == bad, "{told}");
    let line = proxy.wait_log("gave no good answer to");
    assert!(line.contains("ERROR") && line.contains(&backend.url()), "{line}");
    let count = |result: &str| proxy.count_where("backend_results", result);
    let asked = COUNT.load(Ordering::Relaxed) as u64;
    assert_eq!(
        (count("5xx"), count("not_json"), count("ok")),
        (asked / 4, asked / 4, asked / 2 + 1)
    );
    assert_eq!(proxy.metric("backend_up"), [1.0]);
    eventually("it to be over", || alerts(&proxy).is_empty().then_some(()));
}

#[test]
fn a_newcomer_that_is_told_to_come_later_is_no_bad_answer() {
    let backend = Backend::start();
    backend.on("/connect", |_| Response::with_headers(503, &[("Retry-After", "7")], ""));
    let proxy = Proxy::start(&backend);
    for _ in 0..5 {
        Handshake::new("CP1").refused(proxy.listen).expect(503);
    }
    assert_eq!(proxy.count_where("backend_results", "connect_503"), 5);
    let begun = looks(&proxy);
    eventually("two looks", || (looks(&proxy) >= begun + 2).then_some(()));
    assert_eq!(alerts(&proxy), [""; 0]);
    let status: Value = proxy.get("/status.json").json();
    assert_eq!(status["shards"][0]["backendUp"], true);
}
