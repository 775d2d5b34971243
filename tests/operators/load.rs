//! `ws2api load` plays chargers to a central system, and what it counts is what the server counts: `load-1` to `load-7`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use support::program::{finish, path, run};
use support::{Authority, Backend, Proxy, Response, Value, parse};

/// Runs it: exit code, its report, standard error.
#[track_caller]
fn load(proxy: &Proxy, words: &[&str]) -> (i32, Value, String) {
    load_at(&format!("ws://{}/", proxy.listen), words)
}

#[track_caller]
fn load_at(url: &str, words: &[&str]) -> (i32, Value, String) {
    let (code, stdout, stderr) = run(&[&["load", url, "--json"], words].concat());
    assert_eq!(stdout.lines().count(), 1, "{words:?}: {stdout} {stderr}");
    (code, parse(&stdout), stderr)
}

/// The sum of a count over all Actions.
fn sum(report: &Value, count: &str) -> u64 {
    let calls = report["calls"].as_object().unwrap().values();
    calls.map(|calls| calls[count].as_u64().unwrap()).sum()
}

const SHORT: &[&str] = &["--ramp", "200ms", "--duration", "1s", "--interval", "100ms"];

#[test]
fn what_it_counts_is_what_the_server_counts() {
    let proxy = Proxy::demo().shards(2).start();
    let (code, report, stderr) = load(&proxy, &[&["--chargers", "20", "--ocpp", "1.6,2.0.1"], SHORT].concat());
    assert_eq!((code, stderr.as_str()), (0, ""), "{report}");
    assert_eq!(
        (report["connected"].as_u64(), report["connects"].as_u64()),
        (Some(20), Some(20))
    );
    let sent = sum(&report, "sent");
    assert_eq!(sum(&report, "answered"), sent, "{report}");
    assert_eq!(proxy.count("calls_started"), sent);
    assert_eq!(proxy.count_where("calls", "result"), sent);
    assert_eq!(proxy.count("clients_opened"), 20);
    // Each has said goodbye.
    proxy.wait_count_where("clients_closed", "client", 20);
    let calls = &report["calls"];
    assert_eq!(calls["BootNotification"]["sent"], 20);
    for action in ["StartTransaction", "MeterValues", "TransactionEvent"] {
        assert!(calls[action]["answered"].as_u64() > Some(0), "{action}: {report}");
        assert_eq!(
            calls[action]["latencyMicros"]["count"], calls[action]["answered"],
            "{action}"
        );
    }
    assert_eq!(report["connectLatencyMicros"]["count"], 20);
    assert!(report["bytesPerCharger"].as_u64() <= Some(256), "{report}");
}

#[test]
fn on_a_terminal_it_is_a_table() {
    let proxy = Proxy::demo().start();
    let url = format!("ws://{}/", proxy.listen);
    let (code, stdout, stderr) = run(&[&["load", &url][..], SHORT].concat());
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    for part in ["1 of 1 chargers", "CALLS", "BootNotification", "P99.9", "B per charger"] {
        assert!(stdout.contains(part), "no {part:?}: {stdout}");
    }
}

/// Until Ctrl-C, which ends it in good order.
#[test]
fn heartbeats_come_in_the_interval_of_the_answer_and_requests_are_answered() {
    let backend = Backend::start();
    backend.on("/call/BootNotification", |_| {
        Response::json(r#"{"currentTime":"2026-01-01T00:00:00Z","interval":1,"status":"Accepted"}"#)
    });
    let proxy = Proxy::start(&backend);
    let url = format!("ws://:secret@{}/", proxy.listen);
    let child = Command::new(path())
        .args([
            "load",
            &url,
            "--id",
            "CP 1",
            "--ocpp",
            "2.0.1",
            "--duration",
            "1h",
            "--interval",
            "1h",
            "--json",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let connect = backend.take("/connect");
    assert_eq!(connect.json(), "CP 1");
    // CP 1:secret
    assert_eq!(connect.header("authorization"), Some("Basic Q1AgMTpzZWNyZXQ="));
    for _ in 0..2 {
        assert_eq!(backend.take("/call/Heartbeat/CP%201/").text(), "{}");
    }
    for (action, message_id, answered) in [
        ("Reset", "p1", true),
        ("GetVariables", "p2", true),
        ("Nonsense", "p3", false),
    ] {
        let payload = r#"{"getVariableData":[{"component":{"name":"A"},"variable":{"name":"B"}}]}"#;
        proxy.push("CP 1", action, message_id, payload).expect(202);
        let kind = if answered { "result" } else { "error" };
        let outcome = backend.take(&format!("/{kind}/{action}/CP%201/{message_id}")).json();
        match action {
            "Reset" => assert_eq!(outcome["status"], "Accepted"),
            "GetVariables" => assert_eq!(outcome["getVariableResult"][0]["attributeStatus"], "UnknownVariable"),
            _ => assert_eq!(outcome["code"], "NotImplemented"),
        }
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = parse(str::from_utf8(&output.stdout).unwrap());
    assert_eq!(report["requests"]["Reset"]["answered"], 1);
    assert_eq!(report["requests"]["Nonsense"]["refused"], 1);
    assert!(report["calls"]["Heartbeat"]["answered"].as_u64() >= Some(2), "{report}");
}

#[test]
fn who_is_refused_and_whose_call_fails_is_counted_and_is_a_failure() {
    let backend = Backend::start();
    backend.on("/connect", |request| {
        let is_odd = request.json().as_str().unwrap().ends_with(['1', '3', '5']);
        if is_odd {
            Response::new(403, "")
        } else {
            Response::json("\"ok\"")
        }
    });
    backend.on("/call/BootNotification", |_| {
        Response::json(r#"{"interval":300,"status":"Accepted"}"#)
    });
    backend.on("/call/StartTransaction", |_| Response::new(404, ""));
    let proxy = Proxy::start(&backend);
    let (code, report, stderr) = load(&proxy, &[&["--chargers", "5"], SHORT].concat());
    assert_eq!(code, 1, "{report} {stderr}");
    assert_eq!(
        (report["connected"].as_u64(), report["refused"]["403"].as_u64()),
        (Some(2), Some(3))
    );
    let starts = &report["calls"]["StartTransaction"];
    let errors = starts["callErrors"].as_u64().unwrap();
    assert!(errors > 0 && starts["sent"] == errors, "{report}");
    assert_eq!(proxy.count_where("calls", "error"), errors);
    for part in ["3 connects were refused", "had a CallError"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn who_is_closed_is_counted_by_the_code() {
    let proxy = Proxy::demo().start();
    let admin = proxy.admin.to_string();
    let ingress = proxy.ingress.to_string();
    let words = [
        "--chargers",
        "2",
        "--ramp",
        "0",
        "--duration",
        "4s",
        "--interval",
        "100ms",
    ];
    thread::scope(|scope| {
        let loaded = scope.spawn(|| load(&proxy, &words));
        proxy.wait_count("clients_opened", 2);
        let kick = [
            "kick",
            "LOAD1",
            "--code",
            "4100",
            "--ingress",
            &ingress,
            "--admin",
            &admin,
        ];
        assert_eq!(run(&kick).0, 0);
        let (code, report, stderr) = loaded.join().unwrap();
        assert_eq!(code, 1, "{report}");
        assert_eq!(report["closed"]["4100"], 1, "{report}");
        assert!(stderr.contains("1 connections were closed by the server"), "{stderr}");
    });
}

#[test]
fn in_a_storm_all_lose_their_connections_and_come_back() {
    let proxy = Proxy::demo().shards(2).start();
    let words = [
        "--chargers",
        "10",
        "--ramp",
        "0",
        "--duration",
        "3s",
        "--interval",
        "100ms",
        "--storm",
        "1s",
    ];
    let (code, report, stderr) = load(&proxy, &words);
    assert_eq!((code, stderr.as_str()), (0, ""), "{report}");
    let storms = report["storms"].as_u64().unwrap();
    assert!(storms >= 1, "{report}");
    assert_eq!(
        (report["connected"].as_u64(), report["chargers"].as_u64()),
        (Some(10), Some(10))
    );
    assert_eq!(
        sum(&report, "sent"),
        sum(&report, "answered") + sum(&report, "lost"),
        "{report}"
    );
    assert_eq!(proxy.count("clients_opened"), report["connects"].as_u64().unwrap());
    assert!(report["connects"].as_u64().unwrap() > 10, "{report}");
}

/// A node with TLS, its URL, and the file of who has signed its certificate for these hosts.
fn with_tls(name: &str, hosts: &[&str]) -> (Proxy, String, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-load-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    support::open_to_all(&folder);
    let authority = Authority::new(name);
    let ca = folder.join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let proxy = Proxy::demo()
        .shards(2)
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &authority.server(hosts).save(&folder, "own"))
        .start();
    let url = format!("wss://{}/", proxy.listen_tls.unwrap());
    (proxy, url, ca)
}

#[test]
fn with_tls_it_counts_the_same_and_who_comes_again_resumes() {
    let (proxy, url, ca) = with_tls("same", &["127.0.0.1"]);
    let words = [
        "--ca",
        ca.to_str().unwrap(),
        "--chargers",
        "10",
        "--ocpp",
        "1.6,2.0.1",
        "--ramp",
        "0",
        "--duration",
        "4s",
        "--interval",
        "100ms",
        "--storm",
        "1s",
    ];
    let (code, report, stderr) = load_at(&url, &words);
    assert_eq!((code, stderr.as_str()), (0, ""), "{report}");
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("storms") >= 2 && count("connected") == 10, "{report}");
    assert_eq!(
        sum(&report, "sent"),
        sum(&report, "answered") + sum(&report, "lost"),
        "{report}"
    );
    assert!(
        report["calls"]["MeterValues"]["answered"].as_u64() > Some(0),
        "{report}"
    );
    assert_eq!(proxy.count("clients_opened"), count("connects"));
    // Those of the first ten, and of the first storm, have no session to go on with.
    assert!((1..=count("connects") - 10).contains(&count("resumed")), "{report}");
    assert_eq!(
        proxy.count_where("tls_handshakes", "resumed"),
        count("resumed"),
        "{report}"
    );
    assert!(count("bytesPerCharger") <= 512, "{report}");
}

#[test]
fn a_server_that_is_not_who_it_should_be_is_told_nothing_and_is_said() {
    let (proxy, url, ca) = with_tls("other", &["localhost", "127.0.0.1"]);
    let (_elsewhere, url_elsewhere, ca_elsewhere) = with_tls("elsewhere", &["chargers.example.org"]);
    let plain = format!("wss://{}/", proxy.listen);
    let (ca, ca_elsewhere) = (ca.to_str().unwrap(), ca_elsewhere.to_str().unwrap());
    let quick = ["--ramp", "0", "--duration", "100ms"];
    for (url, ca, part) in [
        (
            &url,
            ca_elsewhere,
            "refused: its certificate is signed by nobody who is known: --ca FILE",
        ),
        (
            &url_elsewhere,
            ca_elsewhere,
            "is not for 127.0.0.1 but for chargers.example.org",
        ),
        (&plain, ca, "no TLS"),
    ] {
        let (code, report, stderr) = load_at(url, &[&quick[..], &["--ca", ca]].concat());
        assert_eq!((code, report["connects"].as_u64()), (3, Some(0)), "{report} {stderr}");
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
        assert!(report["failed"].to_string().contains(part), "no {part:?} in {report}");
    }
    assert_eq!(proxy.count("clients_opened"), 0);
}

#[test]
fn where_nobody_is_and_what_can_not_be_meant_is_said() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = format!("ws://{unused}/");
    let quick = ["--ramp", "0", "--duration", "100ms"];
    for (words, code, part) in [
        (&[&nobody[..]][..], 3, "connection refused"),
        (&["ws://nobody.invalid/"], 3, "nobody.invalid"),
        (
            &["wss://127.0.0.1/", "--ca", "/nowhere.pem"],
            2,
            "there is no such file",
        ),
        (&[&nobody, "--ca", "/nowhere.pem"], 2, "begins with wss://"),
        (&["http://127.0.0.1/"], 2, "ws://host:port/"),
        (&[&nobody, "--chargers", "0"], 2, "--chargers 0: a number from 1"),
        (
            &[&nobody, "--chargers", "2", "--id", "CP"],
            2,
            "--id CP: chargers have an id each",
        ),
        (&[&nobody, "--id", "a/b"], 2, "ClientId"),
        (&[&nobody, "--ocpp", "1.5"], 2, "--ocpp 1.5: 1.6, 2.0.1"),
        (&[&nobody, "--ramp", "soon"], 2, "--ramp soon: a time"),
        (&[&nobody, "--storm", "0"], 2, "--storm 0: a time from 1s"),
        (
            &[&nobody, "--rate", "5", "--interval", "1s"],
            2,
            "--rate sets the interval",
        ),
        (&[&nobody, "--code", "1000"], 2, "--code belongs to kick"),
    ] {
        let (found, stdout, stderr) = run(&[&["load"], &quick[..], words].concat());
        assert_eq!(found, code, "{words:?}: {stdout} {stderr}");
        assert!(stderr.contains(part), "{words:?}: no {part:?} in {stderr}");
    }
}

#[test]
fn a_limit_of_open_files_that_is_too_low_is_said() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(path());
    let (code, stdout, stderr) = finish(command.args(["load", "ws://127.0.0.1:1/", "--chargers", "5000"]));
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    for part in ["5000 chargers", "64", "open files", "ulimit"] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
}
