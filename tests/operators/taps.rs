//! Operators see the clients' frames: all of them or those that fit, live, without what is to be hidden (`tap-1` to `tap-8`).

use std::path::PathBuf;

use rustix::process::Signal;
use support::{Backend, Client, Handshake, Http, Message, Proxy, Response, Tap, Value, eventually, json};

fn client(proxy: &Proxy, id: &str) -> Client {
    proxy.client_of("ocpp1.6", id)
}

fn texts<'l>(lines: &'l [Value], member: &str) -> Vec<&'l str> {
    lines.iter().map(|line| line[member].as_str().unwrap_or("-")).collect()
}

fn is_disconnect(line: &Value) -> bool {
    line["type"] == "disconnect"
}

#[test]
fn every_frame_is_a_line_as_it_was_with_the_action_of_its_call() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut tap = proxy.tap("");
    let mut client = client(&proxy, "CP1");
    client.send(r#"[2, "1","Echo", {"a":1, "ä":"€"}]"#);
    client.expect(r#"[3,"1",{"a":1, "ä":"€"}]"#);
    proxy.push("CP1", "Reset", "p1", r#"{"type":"Soft"}"#).expect(202);
    client.expect(r#"[2,"p1","Reset",{"type":"Soft"}]"#);
    client.send_result("p1", r#"{"status":"Accepted"}"#);
    client.send("not JSON");
    client.send(r#"[2,"2","Broken",{"#);
    client.text();
    client.send("[3,\n\"p9\",{}]");
    client.send_frame(true, 9, "hello");
    assert_eq!(client.message(), Message::Pong("hello".into()));
    client.close(1000, "bye");
    let lines = tap.lines_until(is_disconnect);
    assert_eq!(
        texts(&lines, "type"),
        [
            "connect",
            "call",
            "callresult",
            "call",
            "callresult",
            "other",
            "call",
            "callerror",
            "callresult",
            "ping",
            "pong",
            "close",
            "disconnect"
        ]
    );
    assert_eq!(
        texts(&lines, "direction"),
        [
            "-", "in", "out", "out", "in", "in", "in", "out", "in", "in", "out", "in", "-"
        ]
    );
    assert_eq!(
        texts(&lines, "action"),
        [
            "-", "Echo", "Echo", "Reset", "Reset", "-", "Broken", "Broken", "-", "-", "-", "-", "-"
        ]
    );
    assert_eq!(
        texts(&lines, "messageId")[1..9],
        ["1", "1", "p1", "p1", "-", "2", "2", "p9"]
    );
    assert_eq!(lines[1]["message"], json!([2, "1", "Echo", {"a": 1, "ä": "€"}]));
    assert_eq!(lines[4]["message"], json!([3, "p1", {"status": "Accepted"}]));
    assert_eq!((&lines[5]["text"], &lines[5]["size"]), (&json!("not JSON"), &json!(8)));
    assert_eq!(lines[6]["text"], r#"[2,"2","Broken",{"#);
    assert_eq!(
        lines[8]["text"], "[3,\n\"p9\",{}]",
        "a message of several lines is a string"
    );
    assert_eq!((&lines[9]["size"], &lines[11]["code"]), (&json!(5), &json!(1000)));
    assert_eq!(
        (&lines[12]["code"], &lines[12]["reason"]),
        (&json!(1000), &json!("bye"))
    );
    assert_eq!(lines[0]["subprotocol"], "ocpp1.6");
    assert!(
        lines[0]["address"].as_str().unwrap().starts_with("127.0.0.1"),
        "{}",
        lines[0]
    );
    let first = &lines[0];
    for line in &lines {
        assert_eq!(
            (&line["clientId"], &line["connectionId"]),
            (&json!("CP1"), &first["connectionId"])
        );
        assert_eq!(line["shard"], first["shard"]);
        let at = line["at"].as_str().unwrap();
        assert!(
            at.starts_with("20") && at.ends_with('Z') && at.len() == "2026-01-01T00:00:00.000000Z".len(),
            "{at}"
        );
    }
    assert!(texts(&lines, "at").is_sorted());
}

#[test]
fn a_message_is_in_its_line_byte_for_byte() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut tap = proxy.tap("?direction=in&action=Echo");
    let mut client = proxy.client("CP1");
    let mut shown = 0;
    for (number, payload) in support::PAYLOADS.iter().enumerate() {
        let message = format!("[2,\"{number}\",\"Echo\",{payload}]");
        client.send(&message);
        client.text();
        let line = tap.raw_line().expect("a line");
        if message.contains(['\n', '\r']) {
            assert_eq!(support::parse(&line)["text"], message);
        } else {
            assert!(line.ends_with(&format!(",\"message\":{message}}}")), "{line}");
            shown += 1;
        }
    }
    assert!(shown > 10);
}

#[test]
fn what_was_compressed_is_shown_plain() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut tap = proxy.tap("?action=Echo");
    let mut client = Handshake::new("CP1").offer("permessage-deflate").open(proxy.listen);
    let call = format!("[2,\"1\",\"Echo\",{{\"a\":\"{}\"}}]", "x".repeat(2000));
    client.send_compressed(&call);
    client.text();
    let lines = [tap.line(), tap.line()];
    assert_eq!(texts(&lines, "direction"), ["in", "out"]);
    assert_eq!(lines[0]["size"], call.len());
    assert_eq!(lines[0]["message"][3], lines[1]["message"][2]);
}

#[test]
fn a_tap_shows_what_fits_its_filter_and_nothing_else() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).start();
    let queries = [
        "?client=CP1",
        "?action=Heartbeat",
        "?direction=out",
        "?client=CP2&action=Reset&direction=in",
        "?client=CP%203",
        "?client=nobody",
    ];
    let mut taps = queries.map(|query| proxy.tap(query));
    for id in ["CP1", "CP2", "CP 3"] {
        let mut client = client(&proxy, id);
        client.send_call("1", "Heartbeat", "{}");
        client.text();
        client.send_call("2", "Status", "{}");
        client.text();
        proxy.push(id, "Reset", "p", "{}").expect(202);
        client.text();
        client.send_result("p", "{}");
        backend.take_where("the result", |request| request.target.starts_with("/result/"));
        client.close(1000, "");
    }
    for bad in ["?client=", "?client=a%2Fb", "?action=.", "?direction=up"] {
        proxy.get(&format!("/tap{bad}")).expect(400);
    }
    proxy.signal(Signal::TERM);
    let seen = taps.each_mut().map(Tap::rest);
    assert!(proxy.wait().success());
    let count = |index: usize, kind: &str| texts(&seen[index], "type").iter().filter(|own| **own == kind).count();
    assert!(seen[0].iter().all(|line| line["clientId"] == "CP1"));
    assert_eq!(
        (
            count(0, "connect"),
            count(0, "call"),
            count(0, "callresult"),
            count(0, "disconnect")
        ),
        (1, 3, 3, 1)
    );
    assert_eq!((seen[1].len(), count(1, "call"), count(1, "callresult")), (6, 3, 3));
    assert!(texts(&seen[1], "action").iter().all(|action| *action == "Heartbeat"));
    assert_eq!(
        (count(2, "call"), count(2, "callresult"), count(2, "connect")),
        (3, 6, 3)
    );
    assert!(seen[2].iter().all(|line| line["direction"] != "in"));
    assert_eq!((seen[3].len(), &seen[3][0]["type"]), (1, &json!("callresult")));
    assert_eq!((count(4, "connect"), count(4, "call")), (1, 3));
    assert_eq!(seen[5].len(), 0);
}

#[test]
fn who_is_refused_and_who_comes_and_goes_is_seen() {
    let backend = Backend::start();
    backend.on("/connect", |request| match request.text().contains("bad") {
        true => Response::new(403, ""),
        false => Response::json("\"ok\""),
    });
    let mut proxy = Proxy::with(&backend).shards(2).start();
    let (mut all, mut one) = (proxy.tap(""), proxy.tap("?client=bad"));
    Handshake::new("bad").refused(proxy.listen);
    let mut nameless = Http::connect(proxy.listen);
    nameless.get("/").expect(400);
    let first = client(&proxy, "CP1");
    let _second = client(&proxy, "CP1");
    first.vanish();
    proxy.signal(Signal::TERM);
    let (lines, ones) = (all.rest(), one.rest());
    assert!(proxy.wait().success());
    // Of two shards either may be told first.
    let is_bad = |line: &&Value| line["type"] == "refused" && line["clientId"] == "bad";
    for refused in [lines.iter().find(is_bad).unwrap(), &ones[0]] {
        assert!(
            is_bad(&refused) && refused["status"] == 403 && refused["shard"].is_u64(),
            "{refused}"
        );
        assert_eq!(refused["reason"], "the backend does not let this client in");
        assert!(
            refused["address"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{refused}"
        );
    }
    assert_eq!(ones.len(), 1, "{ones:?}");
    let nameless = |line: &Value| line["type"] == "refused" && line["clientId"].is_null() && line["status"] == 400;
    assert!(lines.iter().any(nameless), "{lines:?}");
    let gone = lines.iter().find(|line| is_disconnect(line)).unwrap();
    assert_eq!((&gone["code"], &gone["reason"]), (&json!(4001), &json!("replaced")));
}

#[test]
fn masked_members_are_hidden_and_what_is_no_json_with_them() {
    let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tap_mask.toml");
    std::fs::write(&config, "tap_mask = [\"idTag\"]\n").unwrap();
    support::open_to_all(&config);
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .arg("--config")
        .arg(config.to_str().unwrap())
        .start();
    let mut tap = proxy.tap("?direction=in");
    let mut client = client(&proxy, "CP1");
    assert_eq!(tap.line()["type"], "connect");
    let broken = r#"[2,"2","Authorize",{"idTag":"SECRET"#;
    for message in [r#"[2,"1","Echo",{"x":[{"idTag":"SECRET"}]}]"#, broken] {
        client.send(message);
        client.text();
    }
    let lines = [(); 2].map(|()| tap.raw_line().unwrap());
    assert!(
        lines[0].contains(r#""message":[2,"1","Echo",{"x":[{"idTag":"***"}]}]"#),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains("\"omitted\":"), "{}", lines[1]);
    assert!(lines.iter().all(|line| !line.contains("SECRET")), "{lines:?}");
    // What the backend gets is as it was.
    assert!(backend.take("/call/Echo/CP1/1").text().contains("SECRET"));
    std::fs::write(&config, "tap_mask = [\"x\"]\n").unwrap();
    proxy.signal(Signal::HUP);
    proxy.wait_log("configuration read again");
    client.send_call("3", "Echo", r#"{"x":"SECRET","idTag":"shown"}"#);
    assert!(tap.raw_line().unwrap().contains(r#"{"x":"***","idTag":"shown"}"#));
}

#[test]
fn what_a_slow_reader_misses_is_counted_exactly_and_no_client_waits_for_it() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let (mut slow, mut quick) = (proxy.tap("?action=Echo"), proxy.tap("?action=Echo&direction=in"));
    let mut clients: Vec<Client> = (0..4).map(|number| client(&proxy, &format!("CP{number}"))).collect();
    let payload = format!("{{\"a\":\"{}\"}}", "x".repeat(60_000));
    let mut calls = 0;
    // The ring, the kernel's buffers on both sides, and then some. The slow one reads nothing meanwhile; the quick one all.
    while proxy.count_where("tap_lines", "lost") < 50 {
        for client in &mut clients {
            client.send_call(&calls.to_string(), "Echo", &payload);
            client.text();
            assert_eq!(quick.line()["messageId"], calls.to_string());
            calls += 1;
        }
    }
    // One that comes after what is missing.
    let (mut lines, mut lost, mut reports) = (0, 0, 0);
    clients[0].send_call("end", "Echo", "{}");
    clients[0].text();
    let lost_in_all = proxy.count_where("tap_lines", "lost");
    while lines + lost < 2 * (calls + 1) {
        let line = slow.line();
        match line["lost"].as_u64() {
            Some(count) => {
                assert!(count > 0);
                (lost, reports) = (lost + count, reports + 1);
            }
            None => lines += 1,
        }
    }
    assert_eq!(lines + lost, 2 * (calls + 1));
    assert!(
        lost == lost_in_all && reports > 0,
        "{lost} of {lost_in_all} lost, in {reports} places"
    );
    assert_eq!(proxy.count_where("tap_lines", "written"), lines + calls + 1);
}

#[test]
fn a_message_too_long_to_be_shown_says_how_long_it_is() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut tap = proxy.tap("?action=Echo&direction=in");
    let mut client = proxy.client("CP1");
    for (len, is_shown) in [(128 * 1024, true), (128 * 1024 + 1, false)] {
        let call = format!("[2,\"1\",\"Echo\",{{\"a\":\"{}\"}}]", "x".repeat(len - 24));
        let call = format!("{call}{}", " ".repeat(len - call.len()));
        client.send(&call);
        client.text();
        let line = tap.line();
        assert_eq!((&line["size"], &line["messageId"]), (&json!(len), &json!("1")));
        assert_eq!(
            (line["message"].is_array(), line["omitted"].is_null()),
            (is_shown, is_shown),
            "{len}"
        );
    }
}

#[test]
fn taps_are_bounded_and_leave_nothing_behind() {
    let proxy = Proxy::demo().shards(2).start();
    let taps: Vec<Tap> = (0..8).map(|_| proxy.tap("")).collect();
    let refused = proxy.get("/tap").expect(503);
    assert!(refused.body.contains("8 taps"), "{refused:?}");
    assert_eq!(proxy.metric("taps"), [8.0, 8.0]);
    proxy.get("/healthz").expect(200);
    taps.into_iter().for_each(Tap::close);
    eventually("the taps' end", || (proxy.metric("taps") == [0.0, 0.0]).then_some(()));
    proxy.tap("").close();
    // A HEAD opens none.
    assert_eq!(Http::connect(proxy.admin).head("/tap", &[]).status, 200);
    Http::connect(proxy.admin).post("/tap", "").expect(405);
}

#[test]
fn a_tap_ends_in_good_order_when_the_server_does() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).start();
    let mut tap = proxy.tap("");
    let mut client = client(&proxy, "CP1");
    proxy.signal(Signal::TERM);
    client.expect_close(1001);
    let lines = tap.rest();
    assert!(
        lines
            .iter()
            .any(|line| line["type"] == "disconnect" && line["code"] == 1001),
        "{lines:?}"
    );
    assert!(proxy.wait().success());
}

#[test]
fn a_tap_is_guarded_like_everything_else_there() {
    let token = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tap_token");
    std::fs::write(&token, "s3cret\n").unwrap();
    support::open_to_all(&token);
    let proxy = Proxy::demo().set("admin_token_file", token.to_str().unwrap()).start();
    let ask = |headers: &[(&str, &str)]| Http::connect(proxy.admin).head("/tap", headers).status;
    let right = ("Authorization", "Bearer s3cret");
    assert_eq!(ask(&[]), 401);
    assert_eq!(ask(&[("Authorization", "Bearer wrong")]), 401);
    assert_eq!(ask(&[right]), 200);
    assert_eq!(ask(&[right, ("Origin", "http://attacker.example")]), 403);
    assert_eq!(ask(&[right, ("Sec-Fetch-Site", "cross-site")]), 403);
    let open = Proxy::demo().start();
    let mut http = Http::connect(open.admin);
    http.send("GET /tap HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    http.reply().expect(403);
}
