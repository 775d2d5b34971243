//! `ws2api tap` shows frames and ends well, and what it has recorded can be played again (`tap-9`, `tap-10`).

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::program::{path, run};
use support::{Backend, Proxy, Response, Tap, Value, eventually, json, parse};

/// A tap command that runs, once it sees everything.
fn start(proxy: &Proxy, words: &[&str], out: Stdio) -> Child {
    let child = Command::new(path())
        .args(["tap", "--admin", &proxy.admin.to_string()])
        .args(words)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the tap", || {
        proxy.metric("taps").iter().all(|count| *count == 1.0).then_some(())
    });
    child
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

fn end(mut child: Child) -> (Option<i32>, String) {
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    (child.wait().unwrap().code(), words)
}

#[test]
fn in_a_pipe_a_tap_is_one_object_per_line_and_ends_with_whole_lines() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut child = start(&proxy, &["--client", "CP 1", "--direction", "in"], Stdio::piped());
    for id in ["CP1", "CP 1"] {
        let mut client = proxy.client(id);
        client.send_call("1", "Echo", r#"{"a":1}"#);
        client.text();
        client.close(1000, "");
    }
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || parse(&lines.next().unwrap().unwrap());
    assert_eq!(next()["type"], "connect");
    let call = next();
    assert_eq!(
        (&call["clientId"], &call["message"]),
        (&json!("CP 1"), &json!([2, "1", "Echo", {"a": 1}]))
    );
    interrupt(&child);
    // What had come before is told.
    for line in lines {
        parse(&line.unwrap());
    }
    assert_eq!(end(child), (Some(0), String::new()));
}

#[test]
fn a_tap_says_why_it_is_over_and_a_closed_pipe_is_no_error() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).start();
    let mut closed = start(&proxy, &[], Stdio::piped());
    drop(closed.stdout.take());
    proxy.client("CP1").close(1000, "");
    assert_eq!(end(closed), (Some(0), String::new()));
    eventually("its end", || (proxy.metric("taps") == [0.0, 0.0]).then_some(()));
    let child = start(&proxy, &[], Stdio::null());
    assert!(proxy.terminate().success());
    let (code, words) = end(child);
    assert!(code == Some(3) && words.contains("has ended"), "{code:?} {words}");
    let (code, _, words) = run(&["tap", "--admin", &proxy.admin.to_string()]);
    assert!(code == 3 && words.contains("nobody answers"), "{words}");
}

#[test]
fn what_a_tap_cannot_show_is_said_in_words() {
    let proxy = Proxy::demo().start();
    let admin = proxy.admin.to_string();
    for (words, code, part) in [
        (&["--client", "a/b"][..], 2, "ClientId"),
        (&["--direction", "up"], 2, "in or out"),
        (&["--action", "."], 2, "Action"),
    ] {
        let (found, stdout, stderr) = run(&[&["tap", "--admin", &admin], words].concat());
        assert_eq!((found, &*stdout), (code, ""), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
    let _taps: Vec<Tap> = (0..8).map(|_| proxy.tap("")).collect();
    let (code, _, stderr) = run(&["tap", "--admin", &admin]);
    assert!(code == 1 && stderr.contains("8 taps"), "{stderr}");
}

/// `script` gives it a terminal.
#[test]
fn on_a_terminal_frames_are_laid_out_and_can_do_nothing_to_it() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let line = format!("{} tap --admin {}", path().to_str().unwrap(), proxy.admin);
    let mut child = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is a part of util-linux (bsdutils)");
    eventually("the tap", || (proxy.metric("taps") == [1.0]).then_some(()));
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    let long = format!("{{\"text\":\"{}\",\"clear\":\"\u{9b}2J\"}}", "x".repeat(80));
    client.send_call("1", "Echo", &long);
    client.text();
    client.send_call("2", "Echo", r#"{"n":1.50}"#);
    client.text();
    client.send("\u{9b}2J");
    client.close(1000, "bye");
    let mut shown = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    while !shown.contains("disconnect") {
        assert!(out.read_line(&mut shown).unwrap() > 0, "{shown}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        shown.contains("\u{1b}[32m\u{2192} call") && shown.contains("\u{2190} callresult"),
        "{shown}"
    );
    assert!(
        shown.contains(r#"{"n":1.50}"#),
        "a short payload stays in its line, as it was: {shown}"
    );
    assert!(
        shown.contains("\"text\"\u{1b}[0m: "),
        "a long one is over several: {shown}"
    );
    assert!(!shown.contains('\u{9b}') && shown.contains("u{9b}"), "{shown}");
    assert!(shown.contains("1000 bye"), "{shown}");
}

/// Our answer to a client's close frame: nothing of it follows.
fn is_last(line: &Value) -> bool {
    line["type"] == "close" && line["direction"] == "out"
}

/// What a recording is compared by: everything but when and where.
fn essence(lines: &[Value]) -> Vec<String> {
    let of = |line: &Value| {
        let members = [
            "type",
            "clientId",
            "direction",
            "messageId",
            "action",
            "message",
            "text",
            "code",
            "subprotocol",
        ];
        members.map(|name| line[name].to_string()).join(" ")
    };
    // Who is first of two clients is chance.
    let mut essence: Vec<String> = lines.iter().map(of).collect();
    essence.sort_by_key(|line| line.contains("CP2"));
    essence
}

#[test]
fn a_tap_of_a_session_replayed_gives_the_same_frames() {
    let backend = Backend::start();
    backend.on("/call/Heartbeat", |_| {
        Response::json(r#"{"currentTime":"2026-01-01T00:00:00Z"}"#)
    });
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("recording.ndjson");
    let proxy = Proxy::with(&backend).shards(2).start();
    let child = start(&proxy, &[], File::create(&file).unwrap().into());
    for id in ["CP1", "CP2"] {
        let mut client = proxy.client_of("ocpp1.6", id);
        client.send_call("1", "Heartbeat", "{ }");
        client.text();
        client.send(r#"[2, "2","Echo",{"a":1.00}]"#);
        client.text();
        client.send(r#"[2,"3","#);
        client.text();
        client.close(1000, "");
        proxy.wait_count("clients_closed", if id == "CP1" { 1 } else { 2 });
    }
    eventually("all of it", || {
        let text = std::fs::read_to_string(&file).unwrap();
        (text.ends_with('\n') && text.lines().map(parse).filter(is_last).count() == 2).then_some(())
    });
    interrupt(&child);
    assert_eq!(end(child), (Some(0), String::new()));
    let recorded: Vec<Value> = std::fs::read_to_string(&file).unwrap().lines().map(parse).collect();

    let to = format!("ws://{}/", proxy.listen);
    let words = ["replay", file.to_str().unwrap(), "--to", &to];
    for pace in [&["--fast"][..], &["--speed", "2"], &[]] {
        let mut tap = proxy.tap("");
        let (code, stdout, stderr) = run(&[&words, pace, &["--json"]].concat());
        assert_eq!((code, &*stderr), (0, ""), "{stdout}");
        let rows: Vec<Value> = stdout.lines().map(parse).collect();
        let same = |action: &str| {
            rows.iter()
                .find(|row| row["action"] == action)
                .map(|row| row["same"].clone())
        };
        assert_eq!(
            (same("Heartbeat"), same("Echo")),
            (Some(json!(2)), Some(json!(2))),
            "{stdout}"
        );
        let mut played = Vec::new();
        while played.iter().filter(|line| is_last(line)).count() < 2 {
            played.push(tap.line());
        }
        tap.close();
        assert_eq!(essence(&played), essence(&recorded), "{pace:?}");
    }
}

#[test]
fn a_replay_answers_pushes_as_was_recorded_and_counts_what_differs() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pushes.ndjson");
    let line = |at: u32, rest: &str| {
        format!(
            "{{\"at\":\"2026-01-01T00:00:{at:02}Z\",\"shard\":0,\"clientId\":\"CP1\",\"connectionId\":\"a\",{rest}}}\n"
        )
    };
    let call = |id: &str, action: &str| {
        line(
            1,
            &format!(
                r#""direction":"in","type":"call","messageId":"{id}","action":"{action}","message":[2,"{id}","{action}",{{}}]"#
            ),
        )
    };
    let answer = |id: &str, payload: &str| {
        line(
            2,
            &format!(r#""direction":"out","type":"callresult","messageId":"{id}","message":[3,"{id}",{payload}]"#),
        )
    };
    let recording = [
        line(0, r#""type":"connect","subprotocol":"ocpp1.6""#),
        call("1", "Echo"),
        answer("1", r#"{"was":"other"}"#),
        line(
            3,
            r#""direction":"out","type":"call","messageId":"old","action":"Reset","message":[2,"old","Reset",{"type":"Soft"}]"#,
        ),
        line(
            4,
            r#""direction":"in","type":"callresult","messageId":"old","message":[3,"old",{"status":"Accepted"}]"#,
        ),
        call("2", "Echo"),
        answer("2", "{}"),
    ];
    std::fs::write(&file, recording.concat()).unwrap();
    let to = format!("ws://{}/", proxy.listen);
    let words = ["replay", file.to_str().unwrap(), "--to", &to, "--fast", "--json"];
    let outcome = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            backend.take("/call/Echo/CP1/1");
            let push = |id: &str, action: &str, payload: &str| {
                let target = format!("/call/{action}/CP1/{id}");
                let reply = proxy.http().request("POST", &target, &[("Prefer", "wait=30")], payload);
                (reply.status, reply.body)
            };
            [push("u", "Unknown", "{}"), push("new", "Reset", r#"{"type":"Soft"}"#)]
        });
        let (code, stdout, stderr) = run(&words);
        assert!(
            code == 1 && stderr.contains("1 different, 1 unexpected"),
            "{stdout} {stderr}"
        );
        let rows: Vec<Value> = stdout.lines().map(parse).collect();
        let row = |kind: &str, action: &str| {
            let row = rows
                .iter()
                .find(|row| row["type"] == kind && row["action"] == action)
                .unwrap();
            ["count", "same", "different", "missing", "unexpected"].map(|name| row[name].as_u64().unwrap())
        };
        assert_eq!(row("answers", "Echo"), [2, 1, 1, 0, 0]);
        assert_eq!(row("pushes", "Reset"), [1, 1, 0, 0, 0]);
        assert_eq!(row("pushes", "Unknown"), [0, 0, 0, 0, 1]);
        pushing.join().unwrap()
    });
    assert_eq!(outcome[0].0, 422);
    assert_eq!(outcome[1], (200, r#"{"status":"Accepted"}"#.to_owned()));
}

#[test]
fn a_replay_says_what_is_wrong_with_its_words() {
    let proxy = Proxy::demo().start();
    let to = format!("ws://{}/", proxy.listen);
    let file = |name: &str, text: &str| {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let bad = file("bad.ndjson", "{\"lost\":1}\nnonsense\n");
    let empty = file("empty.ndjson", "{\"lost\":1}\n");
    let good = file(
        "good.ndjson",
        "{\"at\":\"2026-01-01T00:00:00Z\",\"clientId\":\"CP1\",\"connectionId\":\"a\",\"direction\":\"in\",\"type\":\"call\",\
         \"messageId\":\"1\",\"action\":\"A\",\"message\":[2,\"1\",\"A\",{}]}\n",
    );
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (words, code, part) in [
        (&["/nonexistent/file", "--to", &to][..], 2, "/nonexistent/file"),
        (&[&bad, "--to", &to], 2, "line 2"),
        (&[&empty, "--to", &to], 2, "nothing"),
        (&[&good, "--to", "http://a"], 2, "ws://"),
        (&[&good, "--to", &to, "--speed", "0"], 2, "--speed"),
        (&[&good, "--to", &to, "--speed", "2", "--fast"], 2, "--fast"),
        (&[&good, "--to", &format!("ws://{unused}/")], 1, "1 refused"),
    ] {
        let (found, stdout, stderr) = run(&[&["replay"], words].concat());
        assert_eq!(found, code, "{words:?}: {stdout} {stderr}");
        assert!(stderr.contains(part), "{words:?}: {stderr}");
    }
}
