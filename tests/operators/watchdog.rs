//! When a shard hangs everybody is told, and the service manager is not fed, so that it ends the process.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::mpsc;

use nix::sys::ptrace;
use nix::unistd::Pid;
use rustix::process::Signal;
use support::{Http, Proxy, Value, eventually, open_to_all};

#[test]
fn a_shard_that_hangs_is_told_and_the_watchdog_is_not_fed() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-watchdog", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    open_to_all(&path);
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
    let stalled = hold(&proxy, 1);
    let name = format!(
        "shard 1 (CPU {}, thread {}) has not answered for",
        stalled.cpu, stalled.thread
    );
    eventually("the hang to be noticed", || {
        let answer = proxy.get("/healthz");
        (answer.status == 503 && answer.body.starts_with(&name)).then_some(())
    });
    assert_eq!(proxy.get("/readyz").status, 503);
    heard();
    // The monitor goes on, with the others.
    let second = || {
        let seconds = proxy.get("/status.json").json()["seconds"].clone();
        seconds.as_array().unwrap().last().unwrap()["number"].as_u64().unwrap()
    };
    let begun = second();
    eventually("two more looks at the shards", || (second() >= begun + 2).then_some(()));
    assert!(!is_fed());
    let status = proxy.get("/status.json").json();
    let shards = status["shards"].as_array().unwrap();
    assert_eq!(
        (&shards[0]["up"], &shards[1]["up"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    let alert = &status["alerts"][0];
    assert_eq!(alert["severity"], "error");
    assert!(alert["message"].as_str().unwrap().contains(&name[1..]), "{alert}");
    drop(stalled);
    eventually("the watchdog to be fed again", || is_fed().then_some(()));
    proxy.get("/healthz").expect(200);
    proxy.wait_log("over after");
}

#[test]
fn while_a_shard_hangs_it_is_named_and_the_others_are_seen_and_served() {
    let proxy = Proxy::demo().shards(2).start();
    let mut clients: Vec<_> = (0..12)
        .map(|number| proxy.client_of("ocpp1.6", &format!("CP{number}")))
        .collect();
    let stalled = hold(&proxy, 1);
    let line = proxy.wait_log("Shard 1 (CPU");
    assert!(
        line.contains("ERROR") && line.contains(&format!("thread {}", stalled.thread)),
        "{line}"
    );
    let up = proxy.metric("shard_up");
    assert_eq!(up, [1.0, 0.0]);
    assert_eq!(
        proxy.metric("clients").len(),
        1,
        "the other shard's metrics are there, and no old ones"
    );
    // Nobody asks the shard that hangs: its ring does not fill, however often it is looked at.
    let mut answers = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = proxy.get(&format!("/clients/CP{number}"));
        match answer.status {
            200 => client.call(1),
            503 => assert!(answer.body.starts_with("shard 1 (CPU"), "{answer:?}"),
            _ => panic!("{answer:?}"),
        }
        answers.push(answer.status);
    }
    assert!(answers.contains(&200) && answers.contains(&503), "{answers:?}");
    drop(stalled);
    eventually("the shard to be back", || {
        (proxy.metric("shard_up") == [1.0, 1.0]).then_some(())
    });
}

#[test]
fn a_drain_asked_for_while_a_shard_hangs_begins_when_it_is_back_however_many_look() {
    let mut proxy = Proxy::demo().shards(2).start();
    let stalled = hold(&proxy, 1);
    // More than its ring for such messages holds.
    let mut admins: Vec<Http> = (0..80).map(|_| Http::connect(proxy.admin)).collect();
    for admin in &mut admins {
        admin.send_request("GET", "/healthz", &[], "");
    }
    for number in 0..100 {
        let mut http = Http::connect(proxy.admin);
        http.send_request("GET", ["/metrics", "/clients/CP1", "/clients/CP2"][number % 3], &[], "");
        admins.push(http);
    }
    proxy.signal(Signal::HUP);
    proxy.wait_log("configuration read again");
    proxy.signal(Signal::TERM);
    eventually("the drain", || {
        (proxy.get("/readyz").body == "draining\n").then_some(())
    });
    drop(stalled);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn silent_connections_do_not_lock_a_health_check_out() {
    let proxy = Proxy::demo().start();
    let silent: Vec<_> = (0..64).map(|_| Http::connect(proxy.admin)).collect();
    for _ in 0..8 {
        proxy.get("/healthz").expect(200);
        proxy.get("/readyz").expect(200);
    }
    drop(silent);
}

/// A shard that hangs until this is dropped.
struct Stalled {
    cpu: usize,
    thread: i32,
    _let_go: mpsc::Sender<()>,
}

/// Stops one shard's thread, as a debugger does. Who traces is a thread of this process, and with its end the shard goes on.
fn hold(proxy: &Proxy, shard: usize) -> Stalled {
    let directory = proxy.shard_threads()[shard].clone();
    let thread: i32 = directory.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let cpu = proxy.metric("shard_cpu")[shard] as usize;
    let (let_go, held) = mpsc::channel::<()>();
    let (stop, stopped) = mpsc::channel();
    std::thread::spawn(move || {
        ptrace::seize(Pid::from_raw(thread), ptrace::Options::empty()).unwrap();
        ptrace::interrupt(Pid::from_raw(thread)).unwrap();
        nix::sys::wait::waitpid(Pid::from_raw(thread), Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
        stop.send(()).unwrap();
        let _ = held.recv();
    });
    stopped.recv().unwrap();
    Stalled {
        cpu,
        thread,
        _let_go: let_go,
    }
}
