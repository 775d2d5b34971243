//! Runs the program as a child process.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::DEADLINE;

/// Where the program is. Cargo builds it for the tests, and tells them when it runs them.
#[track_caller]
pub fn path() -> OsString {
    std::env::var_os("CARGO_BIN_EXE_ws2api").expect("`cargo test` sets CARGO_BIN_EXE_ws2api: the path of the program")
}

/// The CPUs that this process may use.
pub fn usable_cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

/// Runs the program with these arguments to its end: exit code, standard output, standard error.
#[track_caller]
pub fn run(args: &[&str]) -> (i32, String, String) {
    finish(Command::new(path()).args(args))
}

/// Runs a command to its end: exit code, standard output, standard error.
#[track_caller]
pub fn finish(command: &mut Command) -> (i32, String, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stdout, stderr) = (
        capture(child.stdout.take().unwrap()),
        capture(child.stderr.take().unwrap()),
    );
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("it still runs");
        }
        thread::sleep(Duration::from_millis(3));
    };
    let text = |captured: Arc<Mutex<Vec<u8>>>| {
        // The reading thread has the other copy until it has seen the end.
        super::eventually("the end of its output", || {
            (Arc::strong_count(&captured) == 1).then_some(())
        });
        String::from_utf8(captured.lock().unwrap().clone()).unwrap()
    };
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Collects a stream in the background.
pub(crate) fn capture(mut stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let captured = Arc::new(Mutex::new(Vec::new()));
    let target = captured.clone();
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut chunk) {
            target.lock().unwrap().extend_from_slice(&chunk[..len]);
        }
    });
    captured
}
