//! The service manager follows the service from process to process: `takeover-8`.

use std::collections::VecDeque;
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;
use support::{Backend, Proxy, open_to_all};

use super::installed::Installed;
use super::upgrade::ask;

/// What systemd would think of a service of `Type=notify` with `NotifyAccess=main`, by what it hears.
struct Manager {
    socket: UnixDatagram,
    /// What it takes for the service's process: others are not listened to.
    main: i32,
    state: State,
    /// How often it has said that it is alive.
    alive: usize,
    /// Words of others, and of whom.
    unheard: VecDeque<(i32, String)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Activating,
    Running,
    Reloading,
    Stopping,
}

impl Manager {
    fn listen(installed: &Installed) -> Self {
        let path = installed.0.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        open_to_all(&path);
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        set_socket_passcred(&socket, true).unwrap();
        Self {
            socket,
            main: 0,
            state: State::Activating,
            alive: 0,
            unheard: VecDeque::new(),
        }
    }

    /// Listens until it is so.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            let (sender, words) = self.hear(what);
            if sender == self.main {
                words.lines().for_each(|line| self.handle(line));
            } else {
                self.unheard.push_back((sender, words));
            }
        }
    }

    #[track_caller]
    fn hear(&self, what: &str) -> (i32, String) {
        let mut bytes = [0; 512];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::empty(),
        );
        let len = received.unwrap_or_else(|error| panic!("{what}: {error}")).bytes;
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
            _ => None,
        });
        let words = String::from_utf8(bytes[..len].to_vec()).unwrap();
        (sender.expect("the kernel says who sends"), words)
    }

    fn handle(&mut self, line: &str) {
        match line.split_once('=').expect("words are NAME=VALUE") {
            ("MAINPID", pid) => self.main = pid.parse().unwrap(),
            ("READY", "1") => {
                assert_ne!(self.state, State::Stopping);
                self.state = State::Running;
            }
            ("RELOADING", "1") => {
                assert_eq!(self.state, State::Running);
                self.state = State::Reloading;
            }
            ("STOPPING", "1") => self.state = State::Stopping,
            ("MONOTONIC_USEC" | "EXTEND_TIMEOUT_USEC", micros) => assert!(micros.parse::<u64>().unwrap() > 0),
            ("WATCHDOG", "1") => self.alive += 1,
            ("STATUS", _) => {}
            _ => panic!("{line}: systemd does not know that"),
        }
    }

    #[track_caller]
    fn until_state(&mut self, state: State) {
        self.until(&format!("{state:?}"), |manager| manager.state == state);
    }

    /// Until it takes that process for the service's, and the service for one that serves.
    #[track_caller]
    fn until_main(&mut self, pid: i32) {
        self.until(&format!("MAINPID={pid}"), |manager| {
            (manager.main, manager.state) == (pid, State::Running)
        });
    }
}

#[test]
fn the_service_manager_hears_which_process_is_its_own() {
    let installed = Installed::new();
    let mut manager = Manager::listen(&installed);
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend)
        .shards(2)
        .program(installed.program())
        .environment("NOTIFY_SOCKET", installed.0.join("notify"))
        .environment("STATE_DIRECTORY", &installed.0)
        .start();
    let mut client = proxy.client("CP1");
    let first = i32::try_from(proxy.id()).unwrap();
    manager.main = first;
    manager.until_state(State::Running);
    installed.exchange("#!/bin/sh\nexit 3\n");
    ask(&proxy, "POST").expect(500);
    manager.until_state(State::Reloading);
    manager.until_main(first);
    installed.restore();

    // Twice, so that one that has taken over itself hands over, too.
    let mut before = None;
    for _ in 0..2 {
        let new = proxy.upgrade();
        manager.until_state(State::Reloading);
        manager.until_main(new.id());
        match before.replace(new) {
            None => assert_eq!(proxy.wait().code(), Some(0)),
            Some(before) => support::Successor::wait(&before),
        }
        super::upgrade::wait_for_the_old_one(&proxy);
        client.call(1);
        // The mark is the new one's.
        let mark = fs::read_to_string(installed.0.join("running")).unwrap();
        assert!(mark.starts_with(&format!("{} ", manager.main)), "{mark}");
    }
    let last = before.unwrap();
    // Nothing is lost by what goes unheard: a new process is ready before it is the service's, and who was it is still alive.
    for (sender, words) in std::mem::take(&mut manager.unheard) {
        let is_ready = sender != first && words == "READY=1";
        assert!(is_ready || words.starts_with("WATCHDOG=1"), "{sender}: {words}");
    }
    // `systemctl reload`, and its signs of life.
    last.signal(Signal::HUP);
    manager.until_state(State::Reloading);
    manager.until_main(last.id());
    let alive = manager.alive;
    manager.until("a sign of life", |manager| manager.alive > alive);
    last.signal(Signal::TERM);
    manager.until_state(State::Stopping);
    last.wait();
    assert!(!proxy.stderr().contains("unclean"), "{}", proxy.stderr());
}
