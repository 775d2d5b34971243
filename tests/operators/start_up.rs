//! A program that cannot start says so in one line that names the thing and what to change, exits with 1, and leaves
//! nothing behind.

use std::net::TcpListener;
use std::process::{Command, Output};

use support::program::{path as program, run, usable_cpus};

const FREE: [&str; 6] = [
    "--listen",
    "127.0.0.1:0",
    "--ingress",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
];

/// Starts with `args` over free ports; gives the exit code and standard error.
fn fails(args: &[&str]) -> (i32, String) {
    let (code, printed, words) = run(&[&FREE, args].concat());
    assert_eq!(printed, "", "{words}");
    (code, words)
}

/// The first CPU that this process may use, twice.
fn two_shards() -> String {
    let cpu = usable_cpus()[0];
    format!("{cpu},{cpu}")
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["listen", "ingress", "admin"] {
        let (code, words) = fails(&[&format!("--{flag}"), &address]);
        let expected = format!(
            "ws2api: {flag} = {address}: Address already in use (os error 98); another program (or another ws2api) has it: \
             `ss -ltnp` shows which\n"
        );
        assert_eq!(code, 1);
        assert!(words.ends_with(&expected), "{words}");
    }
}

#[test]
fn an_address_of_another_machine() {
    let (code, words) = fails(&["--listen", "192.0.2.1:4000"]);
    assert_eq!(code, 1);
    assert!(
        words.contains("listen = 192.0.2.1:4000: ") && words.contains("not an address of this machine"),
        "{words}"
    );
}

#[test]
fn a_cpu_that_is_not_there() {
    let (code, words) = fails(&["--cores", "4095"]);
    assert_eq!(code, 1);
    assert!(words.starts_with("ws2api: ") && words.contains("4095"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
}

#[test]
fn a_configuration_that_is_wrong() {
    let file = format!("{}/{}-wrong.toml", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    std::fs::write(&file, "# a comment\nlissten = \"0.0.0.0:1\"\n").unwrap();
    let (code, words) = fails(&["--config", &file]);
    assert_eq!(code, 1);
    assert!(
        words.contains(&format!("{file}:2")) && words.contains("listen"),
        "{words}"
    );
    let (code, words) = fails(&["--config", "/nowhere/ws2api.toml"]);
    assert_eq!(code, 1);
    assert!(words.contains("/nowhere/ws2api.toml"), "{words}");
    let (code, words) = fails(&["--set", "clients_max=0"]);
    assert_eq!(code, 1);
    assert!(words.contains("clients_max") && words.contains("--set"), "{words}");
}

#[test]
fn a_token_file_that_is_missing() {
    let (code, words) = fails(&["--cores", &two_shards(), "--set", "ingress_token_file=/nowhere/token"]);
    assert_eq!(code, 1);
    let expected = "ws2api: ingress_token_file = /nowhere/token: No such file or directory (os error 2)\n";
    assert!(words.ends_with(expected), "{words}");
}

#[test]
fn a_profile_that_cannot_be_written() {
    let (code, words) = fails(&["-cpuprofile=/nowhere/cpu.pprof"]);
    assert_eq!(code, 1);
    assert_eq!(
        words,
        "ws2api: -cpuprofile /nowhere/cpu.pprof: No such file or directory (os error 2)\n"
    );
}

/// Who reads the log as JSON reads why there is none as JSON.
#[test]
fn as_json_too() {
    let (code, words) = fails(&["--log", "json", "--set", "ingress_token_file=/nowhere/token"]);
    assert_eq!(code, 1);
    let lines: Vec<serde_json::Value> = words
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let last = lines.last().expect("a line");
    assert_eq!(last["level"], "ERROR");
    assert_eq!(
        last["message"],
        "ingress_token_file = /nowhere/token: No such file or directory (os error 2)"
    );
    assert!(
        last["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')),
        "{last}"
    );
}

#[test]
fn a_wrong_command_line() {
    let (code, words) = fails(&["--lisen", "x"]);
    assert_eq!(code, 2);
    assert_eq!(
        words,
        "ws2api: unknown flag --lisen; did you mean --listen?; see ws2api --help\n"
    );
}

/// As `fails`, with `limit` of prlimit(1) and, since root may lock what it likes, without capabilities.
fn fails_limited(limit: &str, executor: &str) -> Option<String> {
    let is_root = rustix::process::geteuid().is_root();
    let mut wrapper = Command::new("prlimit");
    wrapper.arg(limit);
    if is_root {
        wrapper.args(["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]);
    }
    let output = wrapper
        .arg(program())
        .args(FREE)
        .args(["--cores", &two_shards(), "--set", executor])
        .output();
    let Ok(output) = output else {
        eprintln!("prlimit is not installed (util-linux): not checked");
        return None;
    };
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    Some(words.lines().last().unwrap().to_owned())
}

#[test]
fn too_little_memory_to_lock() {
    // The kernel's own look, and the executor's.
    for limit in ["--memlock=0", "--memlock=65536"] {
        let Some(line) = fails_limited(limit, "executor=glommio") else {
            return;
        };
        assert!(
            line.starts_with("ws2api: too little memory may be locked for io_uring: "),
            "{limit}: {line}"
        );
        assert!(
            line.contains("`ulimit -l` (LimitMEMLOCK= in the systemd unit, --ulimit memlock=-1"),
            "{line}"
        );
    }
}

#[test]
fn too_few_descriptors_to_start() {
    for (executor, enough) in [("executor=glommio", 22), ("executor=plain", 14)] {
        for limit in (8..enough).map(|files| format!("--nofile={files}")) {
            let Some(line) = fails_limited(&limit, executor) else {
                return;
            };
            assert!(
                line.ends_with(
                    "Too many open files (os error 24). Raise `ulimit -n` (LimitNOFILE= in the systemd unit)"
                ),
                "{limit}: {line}"
            );
        }
    }
}

#[test]
fn a_file_that_may_not_be_read() {
    let (code, words) = fails(&["--config", env!("CARGO_MANIFEST_DIR")]);
    let expected = format!("ws2api: {}: Is a directory (os error 21)\n", env!("CARGO_MANIFEST_DIR"));
    assert_eq!((code, words), (1, expected));
    let (code, words) = fails(&["--set", "ping_after=5"]);
    let expected = "ws2api: --set: ping_after = 5: a duration needs a unit: ms, s, m or h; allowed is a duration from 10ms to 24h\n";
    assert_eq!((code, words.as_str()), (1, expected));
}

/// As a container's seccomp profile does: the system call is answered with EPERM. The filter is set by a few lines of
/// Python, since it takes `unsafe` here.
fn without(system_call: u32) -> Vec<String> {
    let script = format!("{}/tests/operators/forbid.py", env!("CARGO_MANIFEST_DIR"));
    ["python3".to_owned(), script, system_call.to_string()].into()
}

fn run_without(system_call: u32, args: &[&str]) -> Option<Output> {
    let wrapper = without(system_call);
    let output = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg(program())
        .args(args)
        .args(["--cores", &two_shards()])
        .output();
    if output.is_err() {
        eprintln!("python3 is not installed: not checked");
    }
    output.ok()
}

/// The last line of standard error of a start that fails.
fn fails_without(system_call: u32) -> Option<String> {
    let output = run_without(system_call, &[&FREE[..], &["--set", "executor=glommio"]].concat())?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    Some(words.lines().last().unwrap().to_owned())
}

#[test]
fn io_uring_that_is_forbidden_to_who_asks_for_it() {
    let Some(line) = fails_without(IO_URING_SETUP) else {
        return;
    };
    assert!(
        line.starts_with("ws2api: io_uring can't be used: Operation not permitted (os error 1). Kernel 5.8 or newer"),
        "{line}"
    );
    for remedy in [
        "sysctl kernel.io_uring_disabled=0",
        "seccomp",
        "ulimit -l",
        "executor = \"plain\"",
    ] {
        assert!(line.contains(remedy), "{remedy}: {line}");
    }
}

#[test]
fn a_descriptor_table_of_its_own_that_is_forbidden_to_glommio() {
    let Some(line) = fails_without(UNSHARE) else { return };
    assert!(
        line.starts_with("ws2api: a descriptor table per shard can't be had: Operation not permitted (os error 1). "),
        "{line}"
    );
    assert!(line.contains("seccomp") && line.contains("CLONE_FILES"), "{line}");
}

#[test]
fn what_the_shards_run_on_is_said_by_check() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/ws2api.toml");
    let rows = |system_call, args: &[&str]| {
        let output = run_without(system_call, &[&["check", file], args].concat())?;
        assert!(output.status.success(), "{output:?}");
        let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        Some(words)
    };
    let Some(words) = rows(IO_URING_SETUP, &[]) else { return };
    assert!(
        words.contains("executor: plain (auto)\ndescriptors: each shard has a table of its own\n"),
        "{words}"
    );
    let words = rows(UNSHARE, &["--set", "clients_max=1000000"]).unwrap();
    for row in [
        "executor: plain (auto)\ndescriptors: all shards share one table, since unshare(CLONE_FILES) is refused: Operation not permitted",
        "warning: all 2 shards share one table of descriptors (",
    ] {
        assert!(words.contains(row), "{row}: {words}");
    }
    // Each may hold half of what one table holds, at the most.
    let line = words
        .lines()
        .find(|line| line.starts_with("clients_max = "))
        .expect("the key");
    let clients_max: u64 = line["clients_max = ".len()..]
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .maximum
        .unwrap_or(u64::MAX);
    assert!(clients_max <= limit / 2, "{line}: {limit}");
    let output = run_without(IO_URING_SETUP, &["check", file, "--set", "executor=glommio"]).unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "as the start: {words}");
    assert!(words.contains("io_uring can't be used"), "{words}");
}

const IO_URING_SETUP: u32 = 425;
const UNSHARE: u32 = if cfg!(target_arch = "x86_64") { 272 } else { 97 };
