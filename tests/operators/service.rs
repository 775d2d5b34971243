//! What the service manager hears, and the service's files.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use crate::program::{Program, command, two_shards};

#[test]
fn the_service_manager_hears_ready_alive_reloading_and_stopping() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-notify", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
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
    let mut program = Program::start(
        command(&["demo", "--cores", &two_shards(), "--set", "drain_spread=0s"]).env("NOTIFY_SOCKET", &path),
    );
    hear("READY=1");
    assert_eq!(hear("WATCHDOG=1"), "WATCHDOG=1\nSTATUS=all well");
    program.signal("HUP");
    assert!(hear("RELOADING=1\nMONOTONIC_USEC=").len() > 28);
    hear("READY=1");
    program.signal("TERM");
    hear("STOPPING=1");
    assert!(program.wait().success());
}
