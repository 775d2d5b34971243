//! Sockets that the service manager has opened: served by all shards, kept through a restart, refused in clear words.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::program::{Client, Program, http, two_shards, wait_until};

/// What is passed, and as what.
type Named<'s> = (&'s str, &'s dyn AsFd);

/// What systemd does: descriptors from 3 on, their number and names in the environment, and the process's own id.
fn with_sockets(sockets: &[Named<'_>], args: &[&str]) -> (Command, Vec<OwnedFd>) {
    let mut script = String::new();
    let (mut kept, mut names) = (Vec::new(), Vec::new());
    for (number, (name, socket)) in sockets.iter().enumerate() {
        // Out of the way of the numbers that they will have; and the shell must find it open.
        let high = fcntl_dupfd_cloexec(socket.as_fd(), 100).unwrap();
        fcntl_setfd(&high, FdFlags::empty()).unwrap();
        script.push_str(&format!("exec {}<&{};", 3 + number, high.as_raw_fd()));
        names.push(*name);
        kept.push(high);
    }
    script.push_str(&format!(
        "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; exec \"$@\"",
        sockets.len(),
        names.join(":")
    ));
    let mut command = Command::new("bash");
    command.args(["-c", &script, "activate", env!("CARGO_BIN_EXE_ws2api")]);
    command.args(["demo", "--cores", &two_shards(), "--set", "drain_spread=0s"]);
    command.args(args);
    (command, kept)
}

#[test]
fn one_socket_serves_all_shards_and_outlives_a_restart() {
    let [clients, ingress, admin] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let start = || {
        let sockets: [Named<'_>; 3] = [("listen", &clients), ("ingress", &ingress), ("admin", &admin)];
        // The configured addresses would be refused.
        let (mut command, _kept) = with_sockets(&sockets, &["--listen", "192.0.2.1:1", "--admin", "192.0.2.1:2"]);
        Program::start(&mut command)
    };
    let mut program = start();
    assert_eq!(program.listen, clients.local_addr().unwrap().to_string());
    assert_eq!(program.ingress, ingress.local_addr().unwrap().to_string());
    assert_eq!(program.admin, admin.local_addr().unwrap().to_string());
    program.wait_for_log("listen: 1 socket was passed in");
    // None waits unseen, and they live on all shards.
    let mut connected: Vec<Client> = (0..64)
        .map(|number| Client::connect(&program.listen, &format!("CP{number}")))
        .collect();
    connected.iter_mut().for_each(|client| client.call(1));
    for shard in 0..2 {
        assert!(program.metric("ws2api_clients", &format!("shard=\"{shard}\"")) > 0.0);
    }
    for _ in 0..64 {
        assert_eq!(http(&program.ingress, "GET", "/clients/CP1", "").status, 200);
    }
    program.signal("TERM");
    assert!(program.wait().success());

    // Nobody accepts now, and nobody is refused: the connection waits for the next one.
    let waiting = TcpStream::connect(clients.local_addr().unwrap()).unwrap();
    let _program = start();
    let mut client = Client::over(waiting, "CP1").expect("a client");
    client.call(1);
}

#[test]
fn a_socket_for_each_shard_is_accepted_from_by_each() {
    let first = reusable("127.0.0.1:0".parse().unwrap());
    let address: SocketAddr = rustix::net::getsockname(&first).unwrap().try_into().unwrap();
    let second = reusable(address);
    let (mut command, kept) = with_sockets(&[("listen", &first), ("listen", &second)], &[]);
    let mut program = Program::start(&mut command);
    program.wait_for_log("listen: 2 sockets were passed in");
    drop((first, second, kept));
    // The kernel spreads them by their ports.
    let mut number = 0;
    let accepted = |shard: usize| program.metric("ws2api_connections_accepted_total", &format!("shard=\"{shard}\""));
    wait_until("both shards to accept", || {
        number += 1;
        Client::connect(&program.listen, &format!("CP{number}")).call(1);
        (accepted(0) > 0.0 && accepted(1) > 0.0).then_some(())
    });
    // Nobody else holds them: a drain closes them.
    program.signal("TERM");
    wait_until("the sockets' end", || TcpStream::connect(address).err());
    assert!(program.wait().success());
}

#[test]
fn what_cannot_be_served_is_refused_in_words() {
    let one = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(one.local_addr().unwrap()).unwrap();
    let file = File::open("/dev/null").unwrap();
    let too_many: [Named<'_>; 3] = [("listen", &one), ("listen", &one), ("listen", &one)];
    let no_socket = "is no listening TCP socket: its unit needs ListenStream=ADDRESS and Accept=no";
    let cases: [(&[Named<'_>], String); 5] = [
        (
            &too_many,
            "3 sockets are passed in as listen, for 2 shards: pass one for all of them, or one for each".to_owned(),
        ),
        (
            &[("admin", &one), ("admin", &one)],
            "2 sockets are passed in as admin, for 1 thread: pass one for all of them, or one for each".to_owned(),
        ),
        (
            &[("ws2api.socket", &one)],
            "a socket is passed in as \"ws2api.socket\": FileDescriptorName= in its unit must be listen, ingress or admin"
                .to_owned(),
        ),
        (
            &[("listen", &file)],
            format!("what is passed in as listen {no_socket}"),
        ),
        (
            &[("ingress", &connected)],
            format!("what is passed in as ingress {no_socket}"),
        ),
    ];
    for (sockets, words) in cases {
        let (mut command, _kept) = with_sockets(sockets, &[]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.ends_with(&format!("ws2api: {words}\n")), "{said}");
    }
}

#[test]
fn a_wrong_count_is_refused_and_another_process_s_is_not_ours() {
    let start = |pid: &str, count: &str| {
        let script = format!("export LISTEN_PID={pid} LISTEN_FDS={count} LISTEN_FDNAMES=listen; exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, "activate", env!("CARGO_BIN_EXE_ws2api"), "demo"]);
        command.args(["--cores", &two_shards()]);
        command
    };
    for (count, words) in [
        ("1", "ws2api: LISTEN_FDS=1: descriptor 3 is not open\n"),
        ("many", "ws2api: LISTEN_FDS=many: it is a number up to 4096\n"),
    ] {
        let output = start("$$", count).output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), words);
    }
    Program::start(&mut start("1", "1"));
}

fn reusable(address: SocketAddr) -> OwnedFd {
    // Not for the programs that other tests start meanwhile.
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &address).unwrap();
    listen(&socket, 64).unwrap();
    socket
}
