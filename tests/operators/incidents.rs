//! To whom something happens is named, with what was done and what to do; one broken client is no error of the node: `alert-3`,
//! `alert-4`.

use support::client::frame_bytes;
use support::{Backend, Client, Handshake, Message, Proxy, Response, Value, eventually, parse};

fn start(backend: &Backend, settings: &[(&str, &str)]) -> Proxy {
    let mut builder = Proxy::with(backend).shards(2).arg("--log=json");
    for (key, value) in settings {
        builder = builder.set(key, value);
    }
    builder.start()
}

/// The lines of one kind.
fn lines(proxy: &Proxy, kind: &str) -> Vec<Value> {
    let log = proxy.stderr();
    let lines = log.lines().map(parse);
    lines.filter(|line| line["kind"] == kind).collect()
}

#[track_caller]
fn wait_line(proxy: &Proxy, kind: &str) -> Value {
    eventually(kind, || lines(proxy, kind).into_iter().next())
}

/// The client, its address and what is said are in it.
#[track_caller]
fn names(line: &Value, client: &str, words: &[&str]) {
    assert_eq!(line["client"], client, "{line}");
    assert_eq!(line["address"], "127.0.0.1", "{line}");
    let message = line["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "{word}: {line}");
    }
}

fn alert(proxy: &Proxy, words: &str) -> Value {
    eventually(words, || {
        let answer = proxy.get("/status.json");
        let status = (answer.status == 200).then(|| answer.json())?;
        let mut alerts = status["alerts"].as_array()?.iter();
        let told = alerts.find(|alert| alert["message"].as_str().unwrap().contains(words));
        told.cloned()
    })
}

#[test]
fn a_client_with_bad_frames_is_named_and_is_no_error_of_the_node() {
    let backend = Backend::start();
    let proxy = start(&backend, &[("bad_frames_max", "3")]);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    (0..3).for_each(|_| client.send("nonsense"));
    assert!(matches!(client.message(), Message::Close(Some(1008), _)));
    let line = wait_line(&proxy, "bad_frames_max");
    names(&line, "CP1", &["was closed with 1008", "/trace?client=ID"]);
    let line = wait_line(&proxy, "frames_bad");
    names(&line, "CP1", &["none of OCPP-J"]);
    assert!(line["detail"].as_str().unwrap().contains("not JSON"), "{line}");
    let alert = alert(&proxy, "CP1 (127.0.0.1)");
    assert_eq!(alert["severity"], "warning");
    assert!(
        alert["message"].as_str().unwrap().contains("closed with 1008"),
        "{alert}"
    );
    assert!(!proxy.stderr().contains("\"ERROR\""), "{}", proxy.stderr());
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let backend = Backend::start();
    let proxy = start(&backend, &[("message_max", "16KiB")]);
    let mut client = proxy.client("large");
    client.send(format!("[2,\"1\",\"A\",{{\"a\":\"{}\"}}]", "x".repeat(17_000)));
    assert!(matches!(client.message(), Message::Close(Some(1009), _)));
    names(&wait_line(&proxy, "message_max"), "large", &["was closed with 1009"]);
    let mut client = proxy.client("odd");
    client.send_frame(true, 11, "");
    assert!(matches!(client.message(), Message::Close(Some(1002), _)));
    let line = wait_line(&proxy, "protocol_error");
    names(&line, "odd", &["was closed"]);
    assert!(line["detail"].as_str().unwrap().contains("1002"), "{line}");
}

#[test]
fn a_client_that_holds_most_when_there_is_no_room_is_named() {
    let backend = Backend::start();
    let proxy = start(&backend, &[("buffers_max", "4MiB")]);
    let text = format!("[2,\"1\",\"A\",{{\"a\":\"{}\"}}]", "x".repeat(512 * 1024));
    let whole = frame_bytes(true, 1, text.as_bytes());
    // Messages that are not finished.
    let mut clients: Vec<Client> = (0..64).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_raw(&whole[..whole.len() / 2]);
    }
    let line = wait_line(&proxy, "buffers_max");
    let client = line["client"].as_str().unwrap();
    assert!(client.starts_with("CP"), "{line}");
    names(&line, client, &["was closed with 1013"]);
}

#[test]
fn a_client_that_does_not_read_is_named() {
    let backend = Backend::start();
    let proxy = start(&backend, &[("send_queue_bytes", "64KiB"), ("pushes_in_flight", "16")]);
    let client = proxy.client("slow");
    let payload = format!("{{\"a\":\"{}\"}}", "x".repeat(500_000));
    // More than the sockets' buffers take.
    for number in 0..16 {
        proxy.push("slow", "A", &format!("p{number}"), &payload);
    }
    names(
        &wait_line(&proxy, "send_queue_bytes"),
        "slow",
        &["was cut off", "does not read"],
    );
    drop(client);
}

#[test]
fn a_client_for_which_too_many_pushes_wait_is_named_with_the_push() {
    let backend = Backend::start();
    let proxy = start(&backend, &[("pushes_queued", "1")]);
    let _client = proxy.client("CP1");
    let statuses = ["p1", "p2", "p3"].map(|id| proxy.push("CP1", "Reset", id, "{}").status);
    assert_eq!(statuses, [202, 202, 429]);
    let line = wait_line(&proxy, "pushes_queued");
    names(&line, "CP1", &["was refused with 429"]);
    assert_eq!((&line["message_id"], &line["action"]), (&"p3".into(), &"Reset".into()));
}

#[test]
fn two_clients_of_one_name_are_noticed() {
    let backend = Backend::start();
    let proxy = start(&backend, &[("proxy_protocol", "true")]);
    let open = |address: &str| -> Client {
        let header = format!("PROXY TCP4 {address} 127.0.0.1 1000 2000\r\n");
        let mut http = support::Http::connect(proxy.listen);
        http.send([header.as_bytes(), &Handshake::new("CP1").bytes()].concat());
        Client::upgrade(http)
    };
    let addresses = ["192.0.2.1", "192.0.2.2"];
    let mut clients: Vec<Client> = (0..3).map(|number| open(addresses[number % 2])).collect();
    // Once or twice is a charger that has lost its connection.
    assert!(lines(&proxy, "replaced").is_empty());
    clients.push(open(addresses[1]));
    let line = wait_line(&proxy, "replaced");
    assert_eq!(line["client"], "CP1");
    let detail = line["detail"].as_str().unwrap();
    assert!(addresses.iter().all(|address| detail.contains(address)), "{line}");
    let message = line["message"].as_str().unwrap();
    assert!(
        message.contains("4001") && message.contains("give one another id"),
        "{line}"
    );
}

#[test]
fn an_outcome_that_is_given_up_is_named() {
    for (settings, status, kind, words) in [
        (
            &[("result_ttl", "1s")][..],
            503,
            "result_ttl",
            "has not taken it within result_ttl",
        ),
        (&[], 422, "refused", "the backend refused it"),
    ] {
        let backend = Backend::start();
        backend.on("/result", move |_| Response::new(status, ""));
        let proxy = start(&backend, settings);
        let mut client = proxy.client("CP1");
        proxy.push("CP1", "Reset", "p1", "{}").expect(202);
        client.text();
        client.send_result("p1", "{}");
        let line = wait_line(&proxy, kind);
        names(&line, "CP1", &["was given up", words]);
        assert_eq!((&line["message_id"], &line["action"]), (&"p1".into(), &"Reset".into()));
        assert_eq!(line["detail"], "the CallResult to a push");
        alert(&proxy, "CP1 (127.0.0.1)");
        let level = if kind == "result_ttl" { "ERROR" } else { "WARN" };
        assert_eq!(line["level"], level);
    }
}

#[test]
fn the_log_stays_short_whatever_clients_do_and_says_so() {
    let backend = Backend::start();
    let proxy = start(&backend, &[("bad_frames_max", "1000")]);
    let mut clients: Vec<Client> = (0..10)
        .map(|number| proxy.client_of("ocpp2.0.1", &format!("CP{number}")))
        .collect();
    for client in &mut clients {
        for _ in 0..50 {
            client.send("nonsense");
            client.text();
        }
    }
    assert_eq!(proxy.count_where("frames_bad", "unreadable"), 500);
    let lines = lines(&proxy, "frames_bad");
    assert!((10..=20).contains(&lines.len()), "{}", lines.len());
    let last = lines[9]["message"].as_str().unwrap();
    assert!(last.contains("more of this kind are counted, and not told"), "{last}");
}
