//! Operators see that an upgrade is under way, and from when the process counts: `takeover-15`.

use rustix::process::{Pid, Signal, kill_process};
use support::{Backend, Http, Proxy, Response, eventually};

use super::installed::Installed;
use super::upgrade::{children, slow, wait_for_the_old_one};

const STARTED: &str = "an upgrade is under way: a new process has been started, and does not serve yet";
const TAKEN_OVER: &str = "an upgrade is under way: another process serves; this one ends when it has no clients more";
const BEFORE: &str = "an upgrade is under way: this process has taken over; the one before it still has clients";

#[test]
fn readiness_and_status_say_how_far_an_upgrade_is_and_from_when_the_process_counts() {
    let installed = Installed::new();
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let mut proxy = slow(&backend).program(installed.program()).start();
    let ready = |proxy: &Proxy| proxy.get("/readyz").expect(200).body;
    assert_eq!(ready(&proxy), "ready\n");
    assert!(!told(&proxy).contains("took over"), "{}", told(&proxy));

    installed.exchange("#!/bin/sh\nexec sleep 1000\n");
    proxy.signal(Signal::USR2);
    let child: i32 = eventually("the new process", || children(&proxy).first()?.parse().ok());
    assert_eq!(ready(&proxy), format!("ready; {STARTED}\n"));
    eventually("the status to say so", || told(&proxy).contains(STARTED).then_some(()));
    kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    eventually("the upgrade to be undone", || {
        (ready(&proxy) == "ready\n").then_some(())
    });

    let mut client = proxy.client("CP1");
    client.send_call("1", "Heartbeat", "{}");
    backend.take("/call");
    installed.restore();
    // Its first byte keeps it at the old process.
    let mut old = Http::connect(proxy.admin);
    old.get("/readyz").expect(200);
    old.send("G");
    let new = proxy.upgrade();
    old.send("ET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(old.reply().expect(503).body, format!("taken over; {TAKEN_OVER}\n"));
    assert_eq!(ready(&proxy), format!("ready; {BEFORE}\n"));
    eventually("the new one to say so", || told(&proxy).contains(BEFORE).then_some(()));

    gate.open();
    client.expect("[3,\"1\",{}]");
    assert_eq!(proxy.wait().code(), Some(0));
    wait_for_the_old_one(&proxy);
    assert_eq!(ready(&proxy), "ready\n");
    let last = eventually("the upgrade to be over", || {
        let told = told(&proxy);
        (!told.contains("under way")).then_some(told)
    });
    assert!(last.contains("it took over from another process"), "{last}");
    assert!(last.contains("ago, and counts since then"), "{last}");
    let status = proxy.get("/status.json").expect(200).json();
    assert_eq!(status["takeover"]["isSuccessor"], true);
    assert!(status["takeover"]["underWay"].is_null());
    new.terminate();
}

/// What `ws2api status` prints.
fn told(proxy: &Proxy) -> String {
    support::program::run(&["status", "--admin", &proxy.admin.to_string()]).1
}
