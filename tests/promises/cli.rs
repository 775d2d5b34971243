//! The program prints, refuses and exits on the command line as it says: `listener-1` to `listener-10`, `start-1` to
//! `start-3`.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::client::Handshake;
use support::program::{run, usable_cpus};
use support::{Backend, Http, Proxy, open_to_all};

/// A config file of the test's own.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let name = format!("{name}-{}.toml", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, content).unwrap();
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs it, and asserts that it ends with that code and one line of error that has all of `parts`, and no word of success.
#[track_caller]
fn assert_refused(args: &[&str], code: i32, parts: &[&str]) {
    let (found, stdout, stderr) = run(args);
    assert_eq!(found, code, "{args:?}: {stderr}");
    assert_eq!(stdout, "", "{args:?}");
    // Warnings of the log may stand around it.
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("ws2api: ")).collect();
    assert_eq!(errors.len(), 1, "{args:?}: {stderr}");
    for part in parts {
        assert!(errors[0].contains(part), "{args:?}: no {part:?} in {stderr}");
    }
}

#[test]
fn help_names_every_flag_and_command() {
    for flag in ["--help", "-h"] {
        let (code, stdout, stderr) = run(&[flag]);
        assert_eq!((code, stderr.as_str()), (0, ""));
        for word in [
            "--listen",
            "--ingress",
            "--admin",
            "--backend",
            "--cores",
            "--config",
            "--set",
            "--cpuprofile",
            "--memprofile",
            "check",
            "demo",
            "0.0.0.0:4000",
            "127.0.0.1:4001",
            "127.0.0.1:4002",
            "http://127.0.0.1:5000",
        ] {
            assert!(stdout.contains(word), "{word}");
        }
    }
}

#[test]
fn a_demo_whose_lines_nobody_reads_any_more_goes_on() {
    let ports = [
        "--listen",
        "127.0.0.1:0",
        "--ingress",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let mut demo = Command::new(env!("CARGO_BIN_EXE_ws2api"))
        .arg("demo")
        .args(ports)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    // As `head -1` does: one line, and the pipe is closed.
    BufReader::new(demo.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let listen = ready.split(' ').find_map(|field| field.strip_prefix("listen="));
    let listen = listen.unwrap_or_else(|| panic!("{ready:?}")).parse().unwrap();
    let mut client = Handshake::new("CP1").open(listen);
    for number in 1..4 {
        // It prints a line for each.
        client.send_call(&number.to_string(), "Heartbeat", "{}");
        assert_eq!(client.json()[0], 3);
    }
    assert!(demo.try_wait().unwrap().is_none());
    demo.kill().unwrap();
    demo.wait().unwrap();
}

#[test]
fn version_is_one_line() {
    let (code, stdout, stderr) = run(&["--version"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout.trim_end(), format!("ws2api {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_one_line_and_exit_code_2() {
    assert_refused(&["--nope"], 2, &["--nope", "--help"]);
    assert_refused(&["--lissten", "x"], 2, &["--lissten", "--listen"]);
    assert_refused(&["--listen"], 2, &["--listen", "ADDR"]);
    assert_refused(&["chekc", "x"], 2, &["chekc", "check"]);
    assert_refused(&["check"], 2, &["check FILE"]);
    assert_refused(&["--set", "call_timeout"], 2, &["--set", "KEY=VALUE"]);
    assert_refused(&["--cores", "a-b"], 2, &["--cores", "a-b", "0,1,4-7"]);
    assert_refused(&["--help=x"], 2, &["--help"]);
}

#[test]
fn an_impossible_setting_is_one_line_and_exit_code_1() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--listen", "nowhere"], &["listen", "nowhere", "127.0.0.1:4000"]),
        (
            &["--backend", "ftp://x"],
            &["backend", "ftp://x", "http[s]://host:port"],
        ),
        (&["--set", "clients_maks=1"], &["clients_maks", "clients_max"]),
        (&["--set", "clients_max=0"], &["clients_max", "from 1 to"]),
        (&["--set", "clients_max=many"], &["clients_max", "many"]),
        (&["--set", "call_timeout=25"], &["call_timeout", "25"]),
        (&["--set", "message_max=1XB"], &["message_max", "1XB"]),
        (
            &["--set", "notify_disconnect=perhaps"],
            &["notify_disconnect", "true or false"],
        ),
        (&["--config", "/nonexistent/ws2api.toml"], &["/nonexistent/ws2api.toml"]),
        (
            &["--set", "ingress_token_file=/nonexistent/token"],
            &["ingress_token_file", "/nonexistent/token"],
        ),
    ];
    for (args, parts) in cases {
        let ports = [
            "--listen",
            "127.0.0.1:0",
            "--ingress",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ];
        assert_refused(&[&ports, *args].concat(), 1, parts);
    }
}

#[test]
fn an_unusable_cpu_is_refused_with_those_that_are_usable() {
    let usable = usable_cpus();
    let beyond = (usable.last().unwrap() + 1).to_string();
    assert_refused(&["--cores", &beyond], 1, &[&format!("CPU {beyond}"), "usable are"]);
    let file = File::new(
        "cpu",
        &format!("[[core]]\ncpu = {}\n\n[[core]]\ncpu = {beyond}\n", usable[0]),
    );
    assert_refused(
        &["--config", file.path()],
        1,
        &[file.path(), ":5", &beyond, "usable are"],
    );
}

#[test]
fn an_error_in_the_file_names_file_line_key_and_what_is_allowed() {
    for (name, text, parts) in [
        (
            "unknown",
            "listen = \"127.0.0.1:0\"\nlissten = \"127.0.0.1:0\"\n",
            [":2", "lissten", "listen"],
        ),
        (
            "range",
            "[defaults]\n\ncalls_in_flight = 65\n",
            [":3", "calls_in_flight", "from 1 to 64"],
        ),
        (
            "kind",
            "[defaults]\ncall_timeout = 25\n",
            [":2", "call_timeout", "duration"],
        ),
        (
            "place",
            "call_timeout = \"25s\"\n",
            [":1", "call_timeout", "[defaults]"],
        ),
        (
            "node",
            "[defaults]\nlisten = \"127.0.0.1:0\"\n",
            [":2", "listen", "whole node"],
        ),
        ("toml", "[defaults]\ncall_timeout == \"25s\"\n", [":2", "", ""]),
    ] {
        let file = File::new(name, text);
        for args in [&["check", file.path()][..], &["--config", file.path()]] {
            assert_refused(args, 1, &[&[file.path()], &parts[..]].concat());
        }
    }
}

#[test]
fn check_prints_the_resolved_configuration() {
    let cpu = usable_cpus()[0];
    let text = format!(
        "listen = \"127.0.0.1:4999\"\n[defaults]\ncall_timeout = \"7s\"\n[[core]]\ncpu = {cpu}\nclients_max = 11\n\
         [[core]]\ncpu = {cpu}\nclients_max = 12\n"
    );
    let file = File::new("check", &text);
    let (code, stdout, stderr) = run(&[
        "check",
        file.path(),
        "--set",
        "push_timeout=9s",
        "--ingress",
        "127.0.0.1:4998",
    ]);
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "127.0.0.1:4999",
        "127.0.0.1:4998",
        "call_timeout = \"7s\"",
        "push_timeout = \"9s\"",
        "11",
        "12",
        "calls_queued = 16",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(!stdout.contains("ready"), "it does not start");
}

#[test]
fn check_fails_where_the_start_would() {
    // The server that runs has the ports: that is no fault of the file.
    let backend = Backend::start();
    let running = Proxy::start(&backend);
    let base = format!(
        "listen = \"{}\"\ningress = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n",
        running.listen
    );
    let good = File::new("startable", &base);
    let (code, _, stderr) = run(&["check", good.path()]);
    assert_eq!(code, 0, "{stderr}");
    for (flags, parts) in [
        (
            ["--set", "ingress_token_file=/nonexistent/token"],
            ["ingress_token_file", "/nonexistent/token"],
        ),
        (
            ["--listen", "192.0.2.1:4000"],
            ["listen = 192.0.2.1:4000", "not an address of this machine"],
        ),
        (
            ["--ingress", "192.0.2.1:4001"],
            ["ingress = 192.0.2.1:4001", "not an address of this machine"],
        ),
        (["--admin", "[2001:db8::1]:4002"], ["admin = [2001:db8::1]:4002", ""]),
    ] {
        let (code, _, stderr) = run(&["check", good.path(), flags[0], flags[1]]);
        assert_eq!(code, 1, "{flags:?}: {stderr}");
        let line = stderr
            .lines()
            .find(|line| line.starts_with("ws2api: "))
            .unwrap_or_default();
        assert!(parts.iter().all(|part| line.contains(part)), "{flags:?}: {stderr}");
        let (code, _, stderr) = run(&["check", good.path(), flags[0], flags[1], "--elsewhere"]);
        assert_eq!(code, 0, "another machine may have it: {stderr}");
    }
}

#[test]
fn a_file_for_another_machine_is_checked_elsewhere() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let beyond = usable_cpus().last().unwrap() + 1;
    let cpu = File::new("elsewhere", &format!("[[core]]\ncpu = {beyond}\n"));
    assert_refused(&["check", cpu.path()], 1, &["CPU", "not usable"]);
    let (code, stdout, stderr) = run(&["check", "--elsewhere", cpu.path()]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains(&beyond.to_string()), "{stdout}");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let (code, _, stderr) = run(&["check", path.to_str().unwrap(), "--elsewhere"]);
            assert_eq!(code, 0, "{}: {stderr}", path.display());
            tried += 1;
        }
    }
    assert!(tried >= 5, "{tried}");
    for flag in ["--strict", "--elsewhere"] {
        for command in [&[flag][..], &["demo", flag]] {
            assert_refused(command, 2, &[flag, "ws2api check FILE"]);
        }
    }
}

#[test]
fn strict_makes_a_warning_an_error() {
    let file = File::new("strict", "drain_timeout = \"10s\"\ndrain_spread = \"8s\"\n");
    let check = |flags: &[&str]| run(&[&["check", "--elsewhere", file.path()], flags].concat());
    let (code, stdout, stderr) = check(&[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("warning: drain_spread = 8s is cut to 7s") && stderr.contains("fix: "),
        "{stderr}"
    );
    let (code, same, stderr) = check(&["--strict"]);
    assert_eq!((code, &same), (1, &stdout), "{stderr}");
    assert!(
        stderr.ends_with("ws2api: a warning, which --strict does not allow\n"),
        "{stderr}"
    );
    let (code, _, stderr) = check(&["--strict", "--set", "drain_spread=7s"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let (code, _, stderr) = check(&["--strict", "--set", "drain_spread=7s", "--set", "proxy_protocol=true"]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("warning: proxy_protocol on listen = 0.0.0.0:4000"),
        "{stderr}"
    );
}

#[test]
fn a_token_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let token = File::new("token-mode", "s3cret\n");
    let set = format!("ingress_token_file={}", token.path());
    let mode = |mode| std::fs::set_permissions(token.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    let file = File::new("token-check", "");
    let check = || {
        let (code, _, stderr) = run(&["check", file.path(), "--set", &set]);
        assert_eq!(code, 0, "{stderr}");
        stderr
    };
    mode(0o644);
    let warned = check();
    assert!(
        warned.contains("every user of this machine can read it") && warned.contains("chmod o= "),
        "{warned}"
    );
    mode(0o640);
    assert!(!check().contains("every user"));
}

#[test]
fn flags_win_over_the_file() {
    let backend = Backend::start();
    let file = File::new(
        "flags",
        "listen = \"203.0.113.1:1\"\nbackend = \"http://203.0.113.1:1\"\n[defaults]\nclients_max = 5\n",
    );
    let proxy = Proxy::with(&backend)
        .arg("--config")
        .arg(file.path())
        .set("clients_max", "6")
        .start();
    assert_eq!(proxy.metric("clients_max"), [6.0]);
    proxy.client("CP1");
}

#[test]
fn a_port_that_is_taken_is_refused_in_one_line() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for (flag, taken) in [
        ("--listen", proxy.listen),
        ("--ingress", proxy.ingress),
        ("--admin", proxy.admin),
    ] {
        // By ourselves, and by somebody else: both share ports among their threads, but not with each other.
        for taken in [taken, backend.address()] {
            let mut args = vec![];
            for name in ["--listen", "--ingress", "--admin"] {
                args.extend([
                    name.to_owned(),
                    if name == flag {
                        taken.to_string()
                    } else {
                        "127.0.0.1:0".to_owned()
                    },
                ]);
            }
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            assert_refused(&args, 1, &[&flag[2..], &taken.to_string()]);
        }
    }
    // The one that runs is not hurt.
    proxy.client("CP1");
    proxy.http().get("/clients").expect(200);
}

#[test]
fn an_address_that_is_not_ours_is_refused_in_one_line() {
    let args = [
        "--listen",
        "192.0.2.1:4000",
        "--ingress",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    assert_refused(&args, 1, &["listen", "192.0.2.1:4000"]);
}

#[test]
fn profile_flags_are_taken_with_one_dash_or_two() {
    for form in [
        "-cpuprofile=FILE -memprofile=FILE",
        "--cpuprofile FILE --memprofile=FILE",
        "-cpuprofile FILE -memprofile FILE",
    ] {
        let backend = Backend::start();
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        open_to_all(&folder);
        let file = folder.join(format!("profile-{}", std::process::id()));
        let mut builder = Proxy::with(&backend);
        for arg in form.split(' ') {
            builder = builder.arg(&arg.replace("FILE", file.to_str().unwrap()));
        }
        let mut proxy = builder.start();
        proxy.client("CP1");
        assert_eq!(proxy.terminate().code(), Some(0), "{form}");
        let _ = std::fs::remove_file(&file);
    }
}

#[test]
fn the_ready_line_is_the_only_one_on_standard_output() {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).shards(2).start();
    proxy.client("CP1").vanish();
    backend.take("/disconnect");
    assert_eq!(proxy.terminate().code(), Some(0));
    assert_eq!(proxy.stdout(), Vec::<String>::new());
}

#[test]
fn what_the_machine_does_not_carry_is_said_once_with_what_fixes_it() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).open_files(2000).start();
    let said = proxy.stderr();
    let warned = |line: &&str| line.contains("WARN") && line.contains("clients_max");
    let lines: Vec<_> = said.lines().filter(warned).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(said.contains("ulimit") && said.contains("2000"), "{said}");
    let quiet = Proxy::with(&backend).set("clients_max", "10").start();
    let said = quiet.stderr();
    assert!(!said.lines().any(|line| warned(&line)), "{said}");
}

/// The default of clients_max is a bound, not a plan.
#[test]
fn a_small_installation_is_not_greeted_with_a_warning() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).open_files(20_000).start();
    proxy.client("CP1");
    let log = proxy.stderr();
    assert!(
        !log.lines()
            .any(|line| line.contains("WARN") && line.contains("clients")),
        "{log}"
    );
    let planned = Proxy::with(&backend)
        .open_files(20_000)
        .set("clients_max", "100000")
        .start();
    planned.wait_log("can hold 14544 of clients_max = 100000");
}

#[test]
fn the_soft_limit_of_open_files_is_raised() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let fields: Vec<_> = line.split_whitespace().collect();
    assert_eq!(fields[3], fields[4], "{line}");
}

#[test]
fn the_demo_serves_with_its_own_backend() {
    let proxy = Proxy::demo().start();
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    client.send_call("m1", "Heartbeat", "{}");
    assert!(client.text().starts_with("[3,\"m1\",{\"currentTime\":"));
    for (action, payload, answer) in [
        (
            "Authorize",
            r#"{"idTag":"A"}"#,
            r#"[3,"m2",{"idTagInfo":{"status":"Accepted"}}]"#,
        ),
        (
            "Authorize",
            r#"{"idToken":{"idToken":"A","type":"ISO14443"}}"#,
            r#"[3,"m2",{"idTokenInfo":{"status":"Accepted"}}]"#,
        ),
        (
            "StartTransaction",
            r#"{"connectorId":1,"idTag":"A","meterStart":0,"timestamp":"2026-11-22T22:06:11Z"}"#,
            r#"[3,"m2",{"transactionId":1,"idTagInfo":{"status":"Accepted"}}]"#,
        ),
        ("StopTransaction", r#"{"transactionId":1}"#, r#"[3,"m2",{}]"#),
        (
            "DataTransfer",
            r#"{"vendorId":"V"}"#,
            r#"[3,"m2",{"status":"Accepted"}]"#,
        ),
        (
            "Nope",
            "{}",
            r#"[4,"m2","NotImplemented","the backend answered 404",{}]"#,
        ),
    ] {
        client.send_call("m2", action, payload);
        client.expect(answer);
    }
    proxy.push("CP1", "Reset", "p1", "{\"type\":\"Soft\"}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{\"type\":\"Soft\"}]");
    client.send_result("p1", "{\"status\":\"Accepted\"}");
    Http::connect(proxy.admin).get("/readyz").expect(200);
    let printed = support::eventually("the demo to print the result", || {
        let text = proxy.stdout().concat();
        text.contains("/result/Reset/CP1/p1").then_some(text)
    });
    drop(printed);
}

#[test]
fn check_says_who_gets_in() {
    let file = File::new(
        "gets-in",
        "tolerate = [\"number-ids\"]\npath_prefix = [\"/\", \"/ocpp\"]\norigins = [\"file://\"]\n",
    );
    let (code, text, _) = run(&["check", file.path()]);
    assert_eq!(code, 0);
    for line in [
        "# path: /<ClientId> or /ocpp/<ClientId>",
        "# Origin: file://",
        "# tolerated: number-ids",
        "# subprotocol: ocpp2.1, ocpp2.0.1, ocpp1.6, or none at all",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[test]
fn check_says_what_the_bounds_come_to_in_memory() {
    let file = File::new(
        "memory",
        "[defaults]\nclients_max = 1024\nbuffers_max = \"100MiB\"\ndeflate = false\n",
    );
    let (code, text, _) = run(&["check", file.path(), "--cores", "0,0"]);
    assert_eq!(code, 0);
    let each =
        "# each of 2 shards: 7 MiB for 1024 idle clients (clients_max), and 100 MiB held for others (buffers_max)";
    assert!(text.lines().any(|line| line == each), "{text}");
    let all = "# all together: 214 MiB; the machine, or the control group, has ";
    assert!(text.lines().any(|line| line.starts_with(all)), "{text}");
}
