//! Sockets that the service manager has opened are served by all shards, live on through a restart, and are refused in
//! clear words.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use rustix::process::Signal;
use support::{Backend, Builder, Client, Handshake, Http, Proxy, Response, eventually};

/// What is passed, and as what.
type Named<'s> = (&'s str, &'s dyn AsFd);

/// What systemd does: descriptors from 3 on, their number and names in the environment, and the process's own id.
fn with_sockets(sockets: &[Named<'_>]) -> (Builder, Vec<OwnedFd>) {
    with_sockets_for(Proxy::demo(), sockets)
}

fn with_sockets_for(builder: Builder, sockets: &[Named<'_>]) -> (Builder, Vec<OwnedFd>) {
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
    (builder.shards(2).under(&["bash", "-c", &script, "activate"]), kept)
}

#[test]
fn one_socket_serves_all_shards_and_outlives_a_restart() {
    let [clients, ingress, admin] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let start = || {
        let sockets: [Named<'_>; 3] = [("listen", &clients), ("ingress", &ingress), ("admin", &admin)];
        // The configured addresses would be refused.
        let (builder, _kept) = with_sockets(&sockets);
        builder.set("listen", "192.0.2.1:1").set("admin", "192.0.2.1:2").start()
    };
    let mut proxy = start();
    assert_eq!(proxy.listen, clients.local_addr().unwrap());
    assert_eq!(proxy.ingress, ingress.local_addr().unwrap());
    assert_eq!(proxy.admin, admin.local_addr().unwrap());
    proxy.wait_log("listen: 1 socket was passed in");
    // None waits unseen, and they live on all shards.
    let mut connected: Vec<Client> = (0..64).map(|number| proxy.client(&format!("CP{number}"))).collect();
    connected.iter_mut().for_each(|client| client.call(1));
    let clients_count = proxy.metric("clients");
    assert!(
        clients_count.len() == 2 && clients_count.iter().all(|count| *count > 0.0),
        "{clients_count:?}"
    );
    for _ in 0..64 {
        proxy.http().get("/clients/CP1").expect(200);
    }
    assert!(proxy.terminate().success());

    // Nobody accepts now, and nobody is refused: the connection waits for the next one.
    let waiting = TcpStream::connect(clients.local_addr().unwrap()).unwrap();
    let _proxy = start();
    let mut http = Http::over(waiting);
    http.send(Handshake::new("CP1").bytes());
    let mut client = Client::upgrade(http);
    client.call(1);
}

#[test]
fn a_shard_that_takes_no_more_leaves_newcomers_to_the_other() {
    let backend = Backend::start();
    let gate = backend.hold("/connect", |_| Response::json("\"ok\""));
    let clients = TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets: [Named<'_>; 1] = [("listen", &clients)];
    let (builder, _kept) = with_sockets_for(Proxy::with(&backend), &sockets);
    let proxy = builder
        .set("handshakes_max", "4")
        .set("handshake_timeout", "10m")
        .start();
    // One after the other, as they come: the kernel wakes the same shard each time, as long as that listens.
    let newcomers: Vec<Http> = (0..64)
        .map(|number| {
            let http = Handshake::new(&format!("CP{number}")).send(proxy.listen);
            std::thread::yield_now();
            http
        })
        .collect();
    eventually("both shards to be full", || {
        (proxy.metric("handshakes") == [4.0, 4.0]).then_some(())
    });
    gate.open();
    newcomers.into_iter().for_each(|http| drop(Client::upgrade(http)));
}

#[test]
fn a_socket_for_each_shard_is_accepted_from_by_each() {
    let first = reusable("127.0.0.1:0".parse().unwrap());
    let address: SocketAddr = rustix::net::getsockname(&first).unwrap().try_into().unwrap();
    let second = reusable(address);
    let (builder, kept) = with_sockets(&[("listen", &first), ("listen", &second)]);
    let mut proxy = builder.start();
    proxy.wait_log("listen: 2 sockets were passed in");
    drop((first, second, kept));
    // The kernel spreads them by their ports.
    let mut number = 0;
    eventually("both shards to accept", || {
        number += 1;
        proxy.client(&format!("CP{number}")).call(1);
        let accepted = proxy.metric("connections_accepted_total");
        accepted.iter().all(|count| *count > 0.0).then_some(())
    });
    // Nobody else holds them: a drain closes them.
    proxy.signal(Signal::TERM);
    eventually("the sockets' end", || TcpStream::connect(address).err());
    assert!(proxy.wait().success());
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
            "a socket is passed in as \"ws2api.socket\": FileDescriptorName= in its unit must be listen, listen_tls, ingress or admin"
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
        let (builder, _kept) = with_sockets(sockets);
        let (code, _, said) = builder.run();
        assert_eq!(code, 1, "{said}");
        assert!(said.ends_with(&format!("ws2api: {words}\n")), "{said}");
    }
}

#[test]
fn a_wrong_count_is_refused_and_another_process_s_is_not_ours() {
    let start = |pid: &str, count: &str| {
        let script = format!("export LISTEN_PID={pid} LISTEN_FDS={count} LISTEN_FDNAMES=listen; exec \"$@\"");
        Proxy::demo().shards(2).under(&["bash", "-c", &script, "activate"])
    };
    for (count, words) in [
        ("1", "ws2api: LISTEN_FDS=1: descriptor 3 is not open\n"),
        ("many", "ws2api: LISTEN_FDS=many: it is a number up to 4096\n"),
    ] {
        let (_, _, said) = start("$$", count).run();
        assert_eq!(said, words);
    }
    start("1", "1").start();
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
