//! Operators find things: who was refused, who is too much, what is in force, where to look (`admin-7` to `admin-12`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::process::Signal;
use support::{Backend, Handshake, Http, Proxy, Reply, Response, Successor, Value, eventually, json};

#[test]
fn the_last_refusals_are_listed_with_id_address_reason_and_time() {
    let backend = Backend::start();
    backend.on("/connect", |request| match request.text().contains("bad") {
        true => Response::new(403, ""),
        false => Response::json("\"ok\""),
    });
    let proxy = Proxy::with(&backend).shards(2).start();
    assert_eq!(refused(&proxy, ""), json!([]));
    for number in 0..120 {
        Handshake::new(&format!("bad{number}")).refused(proxy.listen);
    }
    // One that has no name, and one that is let in.
    let mut nameless = Http::connect(proxy.listen);
    nameless.get("/").expect(400);
    let _client = proxy.client("good");
    let all = refused(&proxy, "");
    let all = all.as_array().unwrap();
    assert!(
        all.len() > 50 && all.len() <= 100,
        "50 of each shard at most: {}",
        all.len()
    );
    let nameless = all
        .iter()
        .find(|one| one["clientId"].is_null())
        .expect("the one without a name");
    assert_eq!(
        (
            &nameless["status"],
            nameless["reason"].as_str().unwrap().contains("Upgrade")
        ),
        (&json!(400), true)
    );
    let newest = all
        .iter()
        .find(|one| one["clientId"] == "bad119")
        .expect("the last one");
    assert_eq!(newest["status"], 403);
    assert_eq!(newest["reason"], "the backend does not let this client in");
    assert!(
        newest["address"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{newest}"
    );
    let times: Vec<&str> = all.iter().map(|one| one["at"].as_str().unwrap()).collect();
    assert!(
        times.iter().all(|time| time.starts_with("20") && time.ends_with('Z')),
        "{times:?}"
    );
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "the newest first: {times:?}"
    );
    // Of one client; also of one whose name has to be encoded.
    Handshake::new("bad id").refused(proxy.listen);
    for (client, found) in [("bad119", 1), ("bad%20id", 1), ("good", 0)] {
        let list = refused(&proxy, &format!("?client={client}"));
        assert_eq!(list.as_array().unwrap().len(), found, "{client}: {list}");
    }
    proxy.get("/refused?client=a%2Fb").expect(400);
    // The status page has the newest of them.
    eventually("the page's data", || {
        let status = proxy.get("/status.json").expect(200).json();
        let newest = &status["refused"][0];
        (newest["clientId"] == "bad id").then_some(())
    });
}

fn refused(proxy: &Proxy, query: &str) -> Value {
    proxy.get(&format!("/refused{query}")).expect(200).json()["refused"].clone()
}

#[test]
fn whoever_is_too_much_is_at_the_top() {
    let backend = Backend::start();
    backend.on("/connect", |request| match request.text().contains("stranger") {
        true => Response::new(401, ""),
        false => Response::json("\"ok\""),
    });
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut clients: Vec<_> = (0..40).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for number in 0..30 {
        clients[7].call(number);
    }
    clients[8].send_call("large", "Echo", &format!("{{\"a\":\"{}\"}}", "x".repeat(5_000)));
    clients[8].text();
    for _ in 0..3 {
        clients[9].send("nonsense");
        clients[9].text();
    }
    for name in ["stranger", "stranger", "stranger2"] {
        Handshake::new(name).refused(proxy.listen);
    }
    for (by, id, count) in [
        ("frames", "CP7", Some(60)),
        ("bytes", "CP8", None),
        ("bad", "CP9", Some(3)),
        ("refused", "stranger", Some(2)),
    ] {
        let top = proxy.get(&format!("/top?by={by}")).expect(200).json();
        assert_eq!(top["by"], by);
        let list = top["top"].as_array().unwrap();
        let first = &list[0];
        assert_eq!(first["clientId"], id, "{by}: {first}");
        if let Some(count) = count {
            assert_eq!(first["count"], count, "{by}: {first}");
        }
        assert!(first["shard"].as_u64() < Some(2) && first["address"].as_str().unwrap().starts_with("127.0.0.1"));
        let counts: Vec<u64> = list.iter().map(|one| one["count"].as_u64().unwrap()).collect();
        assert!(counts.is_sorted_by(|more, less| more >= less), "{counts:?}");
        assert!(list.len() <= 20 && counts.iter().all(|count| *count > 0), "{list:?}");
    }
    for wrong in ["/top", "/top?by=", "/top?by=colour"] {
        let reply = proxy.get(wrong).expect(400);
        assert!(reply.body.contains("frames, bytes, bad"), "{reply:?}");
    }
}

#[test]
fn what_is_not_there_says_what_is() {
    let proxy = Proxy::demo().start();
    let listed = proxy.get("/nowhere").expect(404).body;
    let paths: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let method = words.next().filter(|word| matches!(*word, "GET" | "POST" | "DELETE"))?;
            Some((method, words.next()?))
        })
        .collect();
    assert!(paths.len() >= 14, "{listed}");
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md")).unwrap();
    let mut new = None;
    for (method, path) in paths {
        let bare = path.split(['?', '<']).next().unwrap();
        assert!(page.contains(bare), "docs/operating.md does not name {path}");
        // With what it says as an example, each is there; none is there for another method.
        let target = path
            .replace("<ClientId>", "CP1")
            .replace("ID", "CP1")
            .replace("seconds=30", "seconds=1");
        let there = match bare {
            "/clients/" => 404,
            "/debug/pprof/heap" if method == "GET" => 409,
            _ => 200,
        };
        match target.strip_prefix("/tap") {
            // Its answer does not end.
            Some(query) => proxy.tap(query).close(),
            // The status page has to have seen something first.
            None => eventually(path, || {
                let reply = ask(&proxy, method, &target);
                if (method, bare, reply.status) == ("POST", "/upgrade", 200) {
                    new = reply.json()["pid"].as_i64().map(Successor::new);
                }
                (reply.status == there).then_some(())
            }),
        }
        let reply = ask(&proxy, "PUT", &target);
        assert_eq!(reply.status, 405, "PUT {target}: {reply:?}");
        assert!(reply.header("allow").unwrap().contains(method), "{reply:?}");
    }
    new.expect("an upgrade is in the list").terminate();
}

#[test]
fn the_values_in_force_are_shown_and_no_secret() {
    let (file, token) = (self::file("config.toml"), self::file("token"));
    std::fs::write(&token, "v3ry-s3cret\n").unwrap();
    let write = |clients: usize, backlog: usize| {
        let token = token.display();
        let text = format!(
            "ingress_token_file = \"{token}\"\n[defaults]\nclients_max = {clients}\nlisten_backlog = {backlog}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write(1234, 100);
    let proxy = Proxy::demo()
        .shards(2)
        .arg("--config")
        .arg(file.to_str().unwrap())
        .start();
    let shown = || proxy.get("/config").expect(200).body;
    let text = shown();
    assert!(text.contains("clients_max = 1234  # default: 100000"), "{text}");
    assert!(
        text.contains("listen_backlog = 100") && text.contains(token.to_str().unwrap()),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
    // After a reload, what has changed; what needs a restart is as it was.
    write(4321, 200);
    proxy.signal(Signal::HUP);
    eventually("the new value", || shown().contains("clients_max = 4321").then_some(()));
    assert!(shown().contains("listen_backlog = 100"));
}

#[test]
fn head_is_answered_wherever_get_is() {
    let proxy = Proxy::demo().start();
    let _client = proxy.client("CP1");
    let mut http = Http::connect(proxy.admin);
    for target in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/clients/CP1",
        "/clients/nobody",
        "/refused",
        "/config",
        "/nowhere",
    ] {
        let got = http.get(target);
        let head = http.head(target, &[]);
        assert_eq!(head.status, got.status, "{target}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{target}");
        assert!(head.header("content-length").is_some(), "{target}");
    }
    // It does not take the profiler.
    assert_eq!(http.head("/debug/pprof/profile?seconds=300", &[]).status, 200);
    http.download("/debug/pprof/profile?seconds=1");
}

/// Whoever asks for a trace gets it, however little the log shows otherwise, and is told where.
#[test]
fn a_trace_says_where_its_lines_go_and_they_go_there() {
    for level in ["warn", "off", "info"] {
        let proxy = Proxy::demo().environment("RUST_LOG", level).start();
        let mut client = proxy.client("CP1");
        let said = ask(&proxy, "POST", "/trace?client=CP1").body;
        let process = format!("process {}", proxy.id());
        assert!(said.contains("standard error") && said.contains(&process), "{said}");
        let mut number = 0;
        eventually("a frame in the log", || {
            number += 1;
            client.call(number);
            proxy.stderr().contains("Heartbeat").then_some(())
        });
        let has_others = proxy
            .stderr()
            .lines()
            .any(|line| line.contains("INFO") && !line.contains("trace"));
        assert_eq!(has_others, level == "info", "{}", proxy.stderr());
    }
}

#[test]
fn no_two_threads_have_one_name() {
    // Where it is allowed, `auto` is glommio.
    for executor in ["plain", "auto"] {
        let proxy = Proxy::demo().shards(3).set("executor", executor).start();
        let _clients: Vec<_> = (0..4).map(|number| proxy.client(&format!("CP{number}"))).collect();
        let mut admins: Vec<Http> = (0..6).map(|_| Http::connect(proxy.admin)).collect();
        for admin in &mut admins {
            admin.get("/healthz").expect(200);
        }
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", proxy.id())).unwrap() {
            let name = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap();
            *names.entry(name.trim().to_owned()).or_default() += 1;
        }
        assert!(names.len() > 12, "{executor}: {names:?}");
        assert!(names.values().all(|count| *count == 1), "{executor}: {names:?}");
    }
}

#[track_caller]
fn ask(proxy: &Proxy, method: &str, target: &str) -> Reply {
    super::strangers::ask(proxy, (method, target), "localhost", &[])
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-finding-{name}", std::process::id()))
}
