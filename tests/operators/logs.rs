//! The log is for people or for programs, names an alert once, and shows one client's frames on demand.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use support::{Client, Handshake, Http, Proxy, eventually};

#[test]
fn the_frames_of_one_client_are_logged_and_of_no_other() {
    let proxy = Proxy::demo()
        .shards(2)
        .arg("--log=json")
        .arg("--trace-client=CP1")
        .start();
    let mut traced = proxy.client("CP1");
    let mut other = proxy.client("CP2");
    other.call(1);
    traced.call(2);
    let line = proxy.wait_log("\"direction\":\"out\"");
    let line: Value = serde_json::from_str(&line).expect("a JSON object per line");
    assert_eq!(
        (&line["client"], &line["level"]),
        (&Value::from("CP1"), &Value::from("INFO"))
    );
    assert!(line["frame"].as_str().unwrap().starts_with("[3,\"2\","), "{line}");
    assert!(!proxy.stderr().contains("[2,\\\"1\\\""));
    // Switched over, and off. A shard takes the word of it at its next round, so each is tried until it is so.
    let mut number = 100;
    let mut is_logged = |client: &mut Client, other: &mut Client| {
        number += 2;
        client.call(number);
        other.call(number + 1);
        let log = proxy.stderr();
        [number, number + 1].map(|number| log.contains(&format!("[3,\\\"{number}\\\",")))
    };
    let ask = |method: &str, target: &str, status: u16| {
        Http::connect(proxy.admin)
            .request(method, target, &[], "")
            .expect(status);
    };
    let mut switch = |method: &str, target: &str, wanted: [bool; 2]| {
        ask(method, target, 200);
        eventually(target, || (is_logged(&mut traced, &mut other) == wanted).then_some(()));
    };
    switch("POST", "/trace?client=CP2", [false, true]);
    switch("DELETE", "/trace", [false, false]);
    switch("POST", "/trace?client=CP1", [true, false]);
    drop(traced);
    proxy.wait_log("\"direction\":\"end\"");
    ask("POST", "/trace", 400);
    ask("POST", "/trace?client=a%2Fb", 400);
    ask("GET", "/trace", 405);
}

#[test]
fn a_trouble_is_logged_once_and_not_per_message() {
    let proxy = Proxy::demo().shards(2).set("clients_max", "1").start();
    let mut clients = Vec::new();
    let mut refused = 0;
    for number in 0..20 {
        let mut http = Handshake::new(&format!("CP{number}")).send(proxy.listen);
        match http.any_reply() {
            reply if reply.status == 101 => clients.push(Client::from_reply(http, reply)),
            _ => refused += 1,
        }
    }
    assert_eq!((clients.len(), refused), (2, 18));
    for client in &mut clients {
        (0..50).for_each(|number| client.call(number));
    }
    let line = proxy.wait_log("clients_max is reached");
    assert!(
        line.contains("ERROR") && !line.contains('\u{1b}'),
        "no colours but on a terminal: {line}"
    );
    proxy.wait_log("clients_max was exceeded");
    let log = proxy.stderr();
    assert!(log.lines().count() < 12, "{log}");
}

#[test]
fn a_proxy_header_that_is_missing_or_not_expected_is_said_once_with_the_key() {
    let plain = "GET /CP1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let version_1 = format!("PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n{plain}");
    let version_2 = format!("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0{plain}");
    for (expected, words, kinds, texts) in [
        (
            "true",
            "begins without a PROXY protocol header",
            ["listen_missing", "ingress_missing"],
            [plain, plain],
        ),
        (
            "false",
            "begins with a PROXY protocol header",
            ["listen_unexpected", "ingress_unexpected"],
            [&version_1, &version_2],
        ),
    ] {
        let proxy = Proxy::demo()
            .shards(2)
            .set("proxy_protocol", expected)
            .set("ingress_proxy_protocol", expected)
            .start();
        let listeners = [("listen", proxy.listen), ("ingress", proxy.ingress)];
        for ((name, address), kind) in listeners.into_iter().zip(kinds) {
            let key = if name == "listen" {
                "proxy_protocol"
            } else {
                "ingress_proxy_protocol"
            };
            for text in texts {
                ends_connection(address, text);
            }
            let line = proxy.wait_log(&format!("{name} {words}"));
            assert!(line.contains("ERROR") && line.contains(&format!(" {key} ")), "{line}");
            (0..10).for_each(|_| ends_connection(address, texts[0]));
            eventually("all to be counted", || {
                (proxy.count_where("proxy_headers_bad", kind) == 12).then_some(())
            });
            let log = proxy.stderr();
            let told = log.lines().filter(|line| line.contains(&format!("{name} {words}")));
            assert_eq!(told.count(), 1, "{log}");
        }
    }
}

#[test]
fn a_proxy_header_of_a_stranger_is_said_once_with_his_address() {
    let proxy = Proxy::demo()
        .shards(2)
        .set("proxy_protocol", "true")
        .set("ingress_proxy_protocol", "true")
        .set("proxy_protocol_from", "192.0.2.0/24")
        .start();
    for (name, address) in [("listen", proxy.listen), ("ingress", proxy.ingress)] {
        let words = format!("sends a PROXY protocol header to {name}");
        for _ in 0..10 {
            ends_connection(
                address,
                "PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            );
        }
        let line = proxy.wait_log(&words);
        assert!(
            line.contains("ERROR 127.0.0.1:") && line.contains("proxy_protocol_from"),
            "{line}"
        );
        let log = proxy.stderr();
        assert_eq!(log.lines().filter(|line| line.contains(&words)).count(), 1, "{log}");
    }
}

/// Sends `text`, and waits until the other side has closed.
fn ends_connection(address: SocketAddr, text: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    // It may be reset: what was sent is not read to its end.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn a_refused_handshake_is_told_once_with_what_came_and_what_is_accepted() {
    let proxy = Proxy::demo().shards(2).set("origins", "https://example.org").start();
    for _ in 0..20 {
        let refused = Handshake::new("CP1")
            .header("Origin", "https://evil.example")
            .refused(proxy.listen);
        assert_eq!(refused.status, 403);
        assert_eq!(
            Handshake::new("CP2")
                .subprotocols("ocpp9")
                .send(proxy.listen)
                .any_reply()
                .status,
            101
        );
    }
    let line = proxy.wait_log("this Origin is not allowed here");
    for word in [
        "WARN",
        "127.0.0.1",
        "CP1",
        "https://evil.example",
        "https://example.org",
    ] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let line = proxy.wait_log("no subprotocol in common");
    assert!(line.contains("ocpp9") && line.contains("ocpp2.0.1"), "{line}");
    let log = proxy.stderr();
    for words in ["this Origin is not allowed here", "no subprotocol in common"] {
        assert_eq!(log.matches(words).count(), 1, "{log}");
    }
}

#[test]
fn a_traced_client_that_is_refused_is_shown() {
    let proxy = Proxy::demo()
        .shards(2)
        .set("origins", "https://example.org")
        .arg("--log=json")
        .arg("--trace-client=CP1")
        .start();
    for name in ["CP0", "CP1"] {
        Handshake::new(name).header("Origin", "file://").refused(proxy.listen);
    }
    let line = proxy.wait_log("\"direction\":\"refused\"");
    let line: Value = serde_json::from_str(&line).expect("a JSON object per line");
    assert_eq!(
        (&line["client"], &line["status"]),
        (&Value::from("CP1"), &Value::from(403))
    );
    assert!(line["why"].as_str().unwrap().contains("Origin"), "{line}");
}
