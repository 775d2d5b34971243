//! The commands for people on duty do what they say against a running process, and say what is wrong: `command-1` to
//! `command-7`.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use support::program::{path, run};
use support::{Backend, Client, Proxy, Value, parse};

/// Runs a command against this process: exit code, standard output, standard error.
#[track_caller]
fn ask(proxy: &Proxy, words: &[&str]) -> (i32, String, String) {
    let (ingress, admin) = (proxy.ingress.to_string(), proxy.admin.to_string());
    let place = ["--ingress", &ingress, "--admin", &admin];
    run(&[words, &place].concat())
}

/// The same where it succeeds: its lines.
#[track_caller]
fn told(proxy: &Proxy, words: &[&str]) -> Vec<String> {
    let (code, stdout, stderr) = ask(proxy, words);
    assert_eq!((code, stderr.as_str()), (0, ""), "{words:?}: {stdout}");
    stdout.lines().map(str::to_owned).collect()
}

/// The same where it fails: one line of error, that has all of `parts`.
#[track_caller]
fn refused(proxy: &Proxy, words: &[&str], code: i32, parts: &[&str]) {
    let (found, stdout, stderr) = ask(proxy, words);
    assert_eq!((found, stdout.as_str()), (code, ""), "{words:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{words:?}: {stderr}");
    assert!(stderr.starts_with("ws2api: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{words:?}: no {part:?} in {stderr}");
    }
}

fn json_lines(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| parse(line)).collect()
}

#[test]
fn clients_lists_all_of_them_page_by_page_and_shows_one() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    assert_eq!(told(&proxy, &["clients"]), Vec::<String>::new());
    // More than a page.
    let clients: Vec<Client> = (0..1100).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let lines = json_lines(&told(&proxy, &["clients", "--json"]));
    let mut ids: Vec<&str> = lines.iter().map(|line| line["clientId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((lines.len(), ids.len()), (1100, 1100));
    let table = told(&proxy, &["clients"]);
    assert_eq!(table.len(), 1101, "a head and a line for each");
    assert!(table[0].starts_with("CLIENT"), "{}", table[0]);
    let columns: Vec<usize> = table.iter().map(|line| line.find("  ").unwrap()).collect();
    assert!(
        columns.len() == 1101 && table.iter().all(|line| !line.contains('\u{1b}')),
        "no colours in a pipe"
    );

    let one = told(&proxy, &["clients", "CP17"]);
    assert!(one[0].starts_with("client") && one[0].ends_with("CP17"), "{one:?}");
    let one = json_lines(&told(&proxy, &["clients", "CP17", "--json"]));
    assert_eq!((one.len(), one[0]["clientId"].as_str()), (1, Some("CP17")));
    refused(&proxy, &["clients", "CP9999"], 3, &["CP9999", "not connected"]);
    refused(&proxy, &["clients", "a/b"], 2, &["a/b", "ClientId"]);
    drop(clients);
}

#[test]
fn push_sends_a_call_and_may_wait_for_its_answer() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let payload = r#"{"type":"Soft","n":1.0}"#;
    let lines = told(&proxy, &["push", "CP1", "Reset", payload]);
    assert!(lines[0].starts_with("sent as cli-"), "{lines:?}");
    let frame = client.text();
    assert!(
        frame.ends_with(&format!(r#","Reset",{payload}]"#)),
        "byte for byte: {frame}"
    );
    let id = |frame: &str| parse(frame)[1].as_str().unwrap().to_owned();
    client.send_result(&id(&frame), "{}");
    backend.take("/result/Reset/CP1/");

    // Each answer of the client, and what the command makes of it.
    let answered = |client: &mut Client, words: &[&str], answer: &dyn Fn(&mut Client, &str)| {
        thread::scope(|scope| {
            let asked = scope.spawn(|| ask(&proxy, words));
            let frame = client.text();
            answer(client, &id(&frame));
            asked.join().unwrap()
        })
    };
    let wait = ["push", "CP1", "Reset", "--wait", "30s"];
    let json_too = [&wait[..], &["--json"]].concat();
    let accept = |client: &mut Client, id: &str| client.send_result(id, r#"{"status":"Accepted","n":1.50}"#);
    let (code, stdout, _) = answered(&mut client, &wait, &accept);
    assert_eq!(
        (code, stdout.as_str()),
        (0, "{\n  \"status\": \"Accepted\",\n  \"n\": 1.50\n}\n")
    );
    let (code, stdout, _) = answered(&mut client, &json_too, &accept);
    assert_eq!((code, stdout.lines().count()), (0, 1));
    assert!(
        stdout.contains(r#""payload":{"status":"Accepted","n":1.50}"#),
        "{stdout}"
    );
    assert_eq!(parse(&stdout)["status"], "answered");
    let refuse = |client: &mut Client, id: &str| {
        client.send(format!(r#"[4,"{id}","NotSupported","not here",{{"a":1}}]"#));
    };
    let (code, stdout, stderr) = answered(&mut client, &wait, &refuse);
    assert_eq!((code, stdout.as_str()), (1, ""));
    for part in ["CallError", "NotSupported", "not here", r#"{"a":1}"#] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let (code, stdout, stderr) = answered(&mut client, &json_too, &refuse);
    assert_eq!(
        (code, parse(&stdout)["error"]["code"].as_str()),
        (1, Some("NotSupported"))
    );
    assert_eq!(parse(&stderr)["exit"], 1);

    refused(
        &proxy,
        &["push", "CP1", "Reset", "--wait", "1"],
        1,
        &["in time", "may run twice"],
    );
    refused(&proxy, &["push", "CP2", "Reset"], 3, &["CP2", "not connected"]);
    refused(
        &proxy,
        &["push", "CP1", "Reset", "{type:Soft}"],
        2,
        &["no JSON", "@FILE"],
    );
    refused(&proxy, &["push", "CP1", "Reset", "@/nonexistent"], 2, &["/nonexistent"]);
    refused(
        &proxy,
        &["push", "CP1", "Reset", "--wait", "soon"],
        2,
        &["--wait", "10s"],
    );
    refused(&proxy, &["push", "CP1"], 2, &["push ID ACTION [JSON]"]);
}

#[test]
fn kick_closes_a_client_with_code_and_reason() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP 1");
    told(&proxy, &["kick", "CP 1", "--code", "4100", "--reason", "moved & gone"]);
    assert_eq!(client.expect_close(4100), "moved & gone");
    let mut client = proxy.client("CP2");
    let lines = json_lines(&told(&proxy, &["kick", "CP2", "--json"]));
    assert_eq!(
        (lines[0]["closed"].as_bool(), lines[0]["code"].as_u64()),
        (Some(true), Some(1000))
    );
    assert_eq!(client.expect_close(1000), "");
    refused(&proxy, &["kick", "CP3"], 3, &["CP3", "not connected"]);
    refused(&proxy, &["kick", "CP3", "--code", "1"], 2, &["1000"]);
    refused(&proxy, &["kick", "CP3", "--code", "x"], 2, &["--code", "1000"]);
    refused(&proxy, &["kick"], 2, &["kick ID"]);
}

#[test]
fn status_says_what_is_wrong_and_how_each_shard_is() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let _client = proxy.client("CP1");
    support::eventually("the client to be counted", || {
        let (code, stdout, stderr) = ask(&proxy, &["status"]);
        // In its first second it has seen nothing.
        if code == 1 {
            assert!(stderr.contains("nothing was seen yet"), "{stderr}");
        }
        (code == 0 && stdout.contains(" 1 client,")).then_some(stdout)
    });
    let lines = told(&proxy, &["status"]);
    assert!(lines[0].starts_with("ws2api "), "{lines:?}");
    assert!(lines.iter().any(|line| line == "all well"), "{lines:?}");
    assert_eq!(
        lines.iter().filter(|line| line.ends_with("serves")).count(),
        2,
        "{lines:?}"
    );
    let status = json_lines(&told(&proxy, &["status", "--json"]));
    assert_eq!(
        (status.len(), status[0]["shards"].as_array().map(Vec::len)),
        (1, Some(2))
    );
    assert_eq!(status[0]["seconds"].as_array().map(Vec::len), Some(0));
}

#[test]
fn reload_says_what_has_changed_and_what_is_wrong() {
    let file = file("commands-reload.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[defaults]\nclients_max = 5\n");
    let backend = Backend::start();
    let config = file.to_str().unwrap();
    let proxy = Proxy::with(&backend).arg("--config").arg(config).start();
    assert_eq!(
        told(&proxy, &["reload"]),
        ["read again: nothing has changed, no token is asked for"]
    );
    write("[defaults]\nclients_max = 6\nconnect_timeout = \"7s\"\n");
    let lines = told(&proxy, &["reload"]);
    assert!(lines[0].contains("2 values differ"), "{lines:?}");
    let has = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&["clients_max", "5", "6", "at once"]), "{lines:?}");
    assert!(has(&["connect_timeout", "7s", "restart"]), "{lines:?}");
    // The shards look at it at the end of their next pass.
    support::eventually("the shard to have it", || {
        (proxy.metric("clients_max") == [6.0]).then_some(())
    });
    write("[defaults]\nclients_max = -1\n");
    refused(&proxy, &["reload"], 1, &["stays as it was", "clients_max"]);
    write("[defaults]\nclients_max = 7\n");
    let reloaded = json_lines(&told(&proxy, &["reload", "--json"]));
    let change = |key: &str| {
        let changes = reloaded[0]["changes"].as_array().unwrap();
        changes
            .iter()
            .find(|change| change["key"].as_str().unwrap().starts_with(key))
            .cloned()
            .unwrap()
    };
    assert_eq!(
        (
            change("clients_max")["to"].as_str(),
            change("clients_max")["when"].as_str()
        ),
        (Some("7"), Some("now"))
    );
    proxy.get("/reload").expect(405);
}

/// A file that the process may read, too.
fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    folder.join(format!("{}-{name}", std::process::id()))
}

#[test]
fn who_is_not_let_in_is_told_which_token_is_wanted() {
    let (config, right, wrong) = (file("duty.toml"), file("duty-token"), file("duty-wrong"));
    std::fs::write(&right, "s3cret\n").unwrap();
    std::fs::write(&wrong, "other\n").unwrap();
    let token = right.display();
    let text = format!("ingress_token_file = \"{token}\"\nadmin_token_file = \"{token}\"\n");
    std::fs::write(&config, text).unwrap();
    let backend = Backend::start();
    let config = config.to_str().unwrap();
    let proxy = Proxy::with(&backend).arg("--config").arg(config).start();
    let _client = proxy.client("CP1");
    for (words, key) in [
        (&["clients"][..], "ingress_token_file"),
        (&["push", "CP1", "Reset"], "ingress_token_file"),
        (&["kick", "CP1"], "ingress_token_file"),
        (&["status"], "admin_token_file"),
        (&["reload"], "admin_token_file"),
    ] {
        refused(&proxy, words, 1, &["wants a token", "--config FILE", key]);
        let set = format!("{key}={}", wrong.display());
        let wrong_one = [words, &["--set", &set]].concat();
        refused(
            &proxy,
            &wrong_one,
            1,
            &["does not take the token", wrong.to_str().unwrap()],
        );
        let nowhere = format!("{key}=/nonexistent/token");
        let unreadable = [words, &["--set", &nowhere]].concat();
        refused(&proxy, &unreadable, 2, &[key, "/nonexistent/token"]);
    }
    let lines = told(&proxy, &["clients", "--json", "--config", config]);
    assert_eq!(lines.len(), 1);
    told(&proxy, &["kick", "CP1", "--config", config]);
    told(&proxy, &["reload", "--config", config]);
}

#[test]
fn where_nobody_answers_it_says_so_and_where_it_looked() {
    // A port that was free a moment ago, and one where something else answers.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    for (words, flag) in [
        (&["clients"][..], "--ingress"),
        (&["push", "CP1", "Reset"], "--ingress"),
        (&["kick", "CP1"], "--ingress"),
        (&["status"], "--admin"),
        (&["reload"], "--admin"),
    ] {
        let (code, stdout, stderr) = run(&[words, &[flag, &free]].concat());
        assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
        assert!(stderr.contains(&free) && stderr.contains(flag), "{stderr}");
        let (code, _, stderr) = run(&[words, &[flag, &free, "--json"]].concat());
        assert_eq!((code, parse(&stderr)["exit"].as_i64()), (3, Some(3)));
        let (code, _, stderr) = run(&[words, &[flag, "127.0.0.1:0"]].concat());
        assert_eq!(code, 2, "{stderr}");
        let (code, _, stderr) = run(&[words, &[flag, "nowhere"]].concat());
        assert!(code == 2 && stderr.contains("host:port"), "{stderr}");
        let (code, _, stderr) = run(&[words, &["--config", "/nonexistent/ws2api.toml"]].concat());
        assert!(code == 2 && stderr.contains("/nonexistent/ws2api.toml"), "{stderr}");
    }
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let answering = thread::spawn(move || {
        use std::io::Write as _;
        let (mut socket, _) = other.accept().unwrap();
        let _ = socket.write_all(b"SSH-2.0-OpenSSH\r\n");
    });
    let (code, _, stderr) = run(&["status", "--admin", &address]);
    assert!(code == 3 && stderr.contains("is no ws2api"), "{stderr}");
    answering.join().unwrap();
}

/// What is printed ends when nobody reads it any more, and that is no error.
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let _clients: Vec<Client> = (0..300).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let mut child = Command::new(path())
        .args(["clients", "--json", "--ingress", &proxy.ingress.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

/// `script` gives it a terminal.
#[test]
fn colours_are_for_terminals_and_not_for_whoever_wants_none() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let _client = proxy.client("CP1");
    let ingress = proxy.ingress.to_string();
    let on_terminal = |no_color: &str| {
        let line = format!("{} clients --ingress {ingress}", path().to_str().unwrap());
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env("NO_COLOR", no_color)
            .output();
        let output = output.expect("script is a part of util-linux (bsdutils)");
        String::from_utf8(output.stdout).unwrap()
    };
    let (coloured, plain) = (on_terminal(""), on_terminal("1"));
    assert!(
        coloured.contains("\u{1b}[36mCP1\u{1b}[0m") && coloured.contains("1 client"),
        "{coloured}"
    );
    assert!(!plain.contains('\u{1b}') && plain.contains("CP1"), "{plain}");
}
