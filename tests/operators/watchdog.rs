//! When a shard hangs everybody is told, and the service manager is not fed, so that it ends the process.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::mpsc;

use nix::sys::ptrace;
use nix::unistd::Pid;
use support::{Proxy, Value, eventually};

#[test]
fn a_shard_that_hangs_is_told_and_the_watchdog_is_not_fed() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-watchdog", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let heard = || -> Vec<String> {
        let mut words = [0; 512];
        let next = || match socket.recv(&mut words) {
            Ok(len) => Some(String::from_utf8_lossy(&words[..len]).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        };
        std::iter::from_fn(next).collect()
    };
    let is_fed = || heard().iter().any(|words| words.starts_with("WATCHDOG=1"));
    let proxy = Proxy::demo().shards(2).environment("NOTIFY_SOCKET", &path).start();
    eventually("the watchdog to be fed", || is_fed().then_some(()));

    let thread = proxy.shard_threads().pop().unwrap();
    let thread = thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let (let_go, held) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // As a debugger does. Who traces is this thread, and with its end the shard goes on.
        scope.spawn(move || {
            ptrace::seize(Pid::from_raw(thread), ptrace::Options::empty()).unwrap();
            ptrace::interrupt(Pid::from_raw(thread)).unwrap();
            let _ = held.recv();
        });
        eventually("the hang to be noticed", || {
            let answer = proxy.get("/healthz");
            (answer.status == 503 && answer.body == "a shard does not answer\n").then_some(())
        });
        proxy.wait_log("a shard does not answer");
        heard();
        // This takes the time that a shard has to answer.
        proxy.get("/readyz").expect(503);
        assert!(!is_fed());
        assert_eq!(proxy.get("/status.json").json()["silent"], Value::Bool(true));
        drop(let_go);
    });
    eventually("the watchdog to be fed again", || is_fed().then_some(()));
    proxy.get("/healthz").expect(200);
}
