//! What is said when it cannot start: one line that names the thing and what to change. Exit code 1, nothing left behind.

use std::net::TcpListener;

use crate::program::{command, two_shards};

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
    let output = command(&FREE).args(args).output().unwrap();
    let words = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.stdout.is_empty(), "{output:?} {words}");
    (output.status.code().expect("an exit code"), words)
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

#[test]
fn a_wrong_command_line() {
    let (code, words) = fails(&["--lisen", "x"]);
    assert_eq!(code, 2);
    assert_eq!(
        words,
        "ws2api: unknown flag --lisen; did you mean --listen?; see ws2api --help\n"
    );
}

/// Tried by hand with `sysctl kernel.io_uring_disabled=2`, since a test must not forbid it to the whole machine.
#[test]
fn io_uring_that_is_forbidden() {
    let error = shards::node::StartError::IoUring {
        reason: "Operation not permitted (os error 1)".to_owned(),
    };
    let words = error.to_string();
    assert!(words.starts_with("io_uring can't be used: Operation not permitted (os error 1). Kernel 5.8 or newer"));
    for remedy in ["sysctl kernel.io_uring_disabled=0", "seccomp", "ulimit -l"] {
        assert!(words.contains(remedy), "{remedy}: {words}");
    }
}
