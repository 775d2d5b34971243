//! The service manager hears how it goes, and the service's files fit the program.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use support::program::{finish, path as program, run};
use support::{Backend, Proxy, Response, open_to_all};

#[test]
fn the_service_manager_hears_ready_alive_reloading_and_stopping() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-notify", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    open_to_all(&path);
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hear = |wanted: &str| {
        loop {
            let mut words = [0; 512];
            let len = socket
                .recv(&mut words)
                .unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let words = String::from_utf8_lossy(&words[..len]).into_owned();
            if words.starts_with(wanted) {
                return words;
            }
        }
    };
    let mut proxy = Proxy::demo()
        .shards(2)
        .set("drain_timeout", "5m")
        .environment("NOTIFY_SOCKET", &path)
        .start();
    hear("READY=1");
    assert_eq!(hear("WATCHDOG=1"), "WATCHDOG=1\nSTATUS=all well");
    proxy.signal(Signal::HUP);
    assert!(hear("RELOADING=1\nMONOTONIC_USEC=").len() > 28);
    hear("READY=1");
    proxy.signal(Signal::TERM);
    // 5 minutes and ten seconds, were it above the unit's TimeoutStopSec.
    let words = hear("STOPPING=1");
    assert!(
        words.lines().any(|line| line == "EXTEND_TIMEOUT_USEC=310000000"),
        "{words}"
    );
    assert!(proxy.wait().success());
}

/// The log says what runs, with what and how far, before anything can go wrong.
#[test]
fn the_first_line_names_version_file_and_limits() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-first.toml", std::process::id()));
    std::fs::write(&file, "[defaults]\nclients_max = 50\n").unwrap();
    let proxy = Proxy::demo()
        .shards(2)
        .arg("--config")
        .arg(file.to_str().unwrap())
        .start();
    proxy.wait_log("ws2api ");
    let log = proxy.stderr();
    let line = log.lines().next().unwrap();
    for part in [
        concat!("ws2api ", env!("CARGO_PKG_VERSION"), ": "),
        file.to_str().unwrap(),
        "shards: 2 on CPUs ",
        "clients_max together: 100; files per shard: ",
        "memory: ",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// One line, the last one, with all that a drain left behind.
#[test]
fn the_last_line_of_a_drain_says_how_it_went() {
    let mut proxy = Proxy::demo().shards(2).set("drain_spread", "0s").start();
    let clients: Vec<_> = (0..5)
        .map(|number| proxy.client_of("ocpp1.6", &format!("CP{number}")))
        .collect();
    proxy.signal(Signal::TERM);
    for mut client in clients {
        client.expect_close(1001);
    }
    assert!(proxy.wait().success());
    let last = proxy.wait_log("drained in ");
    assert!(
        last.contains(" s: 5 clients left, 0 were cut off with something under way; not delivered: 0 outcomes of pushes, 0 SENDs, 0 /disconnect"),
        "{last}"
    );
    assert_eq!(proxy.stderr().lines().last(), Some(&*last));

    // A Call that the backend never answers, a push that a client never answers, and an answer that the backend never takes.
    let backend = Backend::start();
    backend.on("/call", |_| Response::never());
    backend.on("/result", |_| Response::new(503, ""));
    // Whoever is cut off is so after nine tenths of it; the backend has the rest to take the last /disconnect.
    let mut proxy = Proxy::with(&backend).set("drain_timeout", "8s").start();
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{}]");
    client.send_result("p1", "{}");
    backend.take("/result");
    client.send_call("m1", "Heartbeat", "{}");
    backend.take("/call");
    let mut other = proxy.client_of("ocpp1.6", "CP2");
    proxy.push("CP2", "Reset", "p2", "{}").expect(202);
    other.expect("[2,\"p2\",\"Reset\",{}]");
    let _third = proxy.client_of("ocpp1.6", "CP3");
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    let lost = proxy.wait_log("was not told to the backend");
    for word in ["ERROR", "CP1", "p1", "Reset", "the CallResult to a push"] {
        assert!(lost.contains(word), "{word}: {lost}");
    }
    let last = proxy.wait_log("drained in ");
    assert!(
        last.contains(" s: 1 clients left, 2 were cut off with something under way; not delivered: 1 outcomes of pushes, 0 SENDs, 0 /disconnect"),
        "{last}"
    );
}

#[test]
fn an_end_that_was_none_is_said_at_the_next_start() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-state", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    open_to_all(&directory);
    let start = || {
        Proxy::demo()
            .shards(1)
            .environment("STATE_DIRECTORY", &directory)
            .start()
    };
    let mut first = start();
    let pid = first.id();
    first.signal(Signal::KILL);
    assert_eq!(first.wait().code(), None);
    let mut second = start();
    let line = second.wait_log("the end before was unclean");
    assert!(
        line.contains("WARN") && line.contains(&format!("process {pid}, which served since 2")),
        "{line}"
    );
    assert!(second.terminate().success());
    let mut third = start();
    assert!(third.terminate().success());
    assert!(!third.stderr().contains("unclean"), "{}", third.stderr());
    let _ = std::fs::remove_dir_all(directory);
}

/// Every metric that the alert rules and the dashboard name is documented, and so exists.
#[test]
fn rules_and_dashboard_name_only_metrics_that_exist() {
    let documented = include_str!("../../docs/metrics.md");
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../config/grafana-dashboard.json")).unwrap();
    let mut texts = vec![include_str!("../../config/ws2api.rules.yml").to_owned()];
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            texts.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(texts.len() > 20);
    let mut named = BTreeSet::new();
    for text in &texts {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        named.extend(words.filter(|word| word.starts_with("ws2api_") || word.starts_with("process_")));
    }
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let family = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(documented.contains(&format!("| `{family}` |")), "{name}");
    }
}

/// Prometheus' and systemd's own opinions, where they are installed; and the shells'.
#[test]
fn the_files_please_their_own_tools() {
    let root = env!("CARGO_MANIFEST_DIR");
    let checks: [(&str, &[&str]); 7] = [
        ("promtool", &["check", "rules", "config/ws2api.rules.yml"]),
        ("promtool", &["test", "rules", "config/ws2api.rules.test.yml"]),
        ("promtool", &["check", "config", "config/prometheus.yml"]),
        ("bash", &["-n", "scripts/build-v3"]),
        ("bash", &["-n", "scripts/tune-host"]),
        ("bash", &["-n", "scripts/screenshot"]),
        ("bash", &["scripts/tune-host", "--print"]),
    ];
    for (tool, args) in checks {
        match Command::new(tool).args(args).current_dir(root).output() {
            Ok(output) => assert!(output.status.success(), "{tool} {args:?}: {output:?}"),
            Err(_) => eprintln!("{tool} is not installed: {args:?} not checked"),
        }
    }
    systemd_has_nothing_to_say();
    // Whether or not something is to be changed here.
    let (_, shown, said) = finish(Command::new("bash").arg("scripts/tune-host").current_dir(root));
    assert!(
        shown.contains("below about 10,000 clients nothing of this is needed"),
        "{shown} {said}"
    );
    let complete = "source <(\"$0\" completions bash); COMP_WORDS=(ws2api --lo); COMP_CWORD=1; _ws2api; echo ${COMPREPLY[@]}; \
        COMP_WORDS=(ws2api --log j); COMP_CWORD=2; _ws2api; echo ${COMPREPLY[@]}; \
        COMP_WORDS=(ws2api de); COMP_CWORD=1; _ws2api; echo ${COMPREPLY[@]}";
    let (_, completed, said) = finish(Command::new("bash").args(["-c", complete]).arg(program()));
    assert_eq!(completed, "--log\njson\ndemo\n", "{said}");
    let (code, page, _) = run(&["man"]);
    assert!(code == 0 && page.starts_with(".TH WS2API 8"), "{page}");
    // A quotation mark at the beginning of an argument would be none.
    assert!(page.contains(r"= [\(dqocpp2.1\(dq, \(dqocpp2.0.1\(dq"), "{page}");
}

/// `systemd-analyze verify` with a program in the place of ws2api that is there: it must not even warn, since what systemd
/// does not understand it leaves out.
fn systemd_has_nothing_to_say() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-units", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut units = Vec::new();
    for (name, text) in [
        ("ws2api.service", include_str!("../../config/ws2api.service")),
        ("ws2api.socket", include_str!("../../config/ws2api.socket")),
        (
            "ws2api-ingress.socket",
            include_str!("../../config/ws2api-ingress.socket"),
        ),
    ] {
        let unit = directory.join(name);
        std::fs::write(&unit, text.replace("/usr/bin/ws2api", program().to_str().unwrap())).unwrap();
        units.push(unit);
    }
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .args(&units)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", directory.display()))
        .output();
    match verified {
        // Other units of the machine may have their own faults.
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("ws2api"), "{said}");
        }
        Err(_) => eprintln!("systemd-analyze is not installed: the units are not checked"),
    }
    let _ = std::fs::remove_dir_all(directory);
}

/// The unit grants what the server needs.
#[test]
fn the_unit_fits_the_program() {
    let unit = include_str!("../../config/ws2api.service");
    for line in [
        "Type=notify",
        "ExecStartPre=/usr/bin/ws2api check /etc/ws2api/ws2api.toml",
        "ExecReload=/usr/bin/ws2api check /etc/ws2api/ws2api.toml",
        "ExecReload=/bin/sh -c 'kill -HUP $MAINPID'",
        "Sockets=ws2api.socket ws2api-ingress.socket",
        "WatchdogSec=30",
        "StateDirectory=ws2api",
        "LimitNOFILE=1048576",
        "NoNewPrivileges=yes",
    ] {
        assert!(unit.lines().any(|own| own == line), "{line}");
    }
    assert!(unit.contains("ExecStart=/usr/bin/ws2api --config /etc/ws2api/ws2api.toml"));
}
