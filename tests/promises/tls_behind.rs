//! A balancer may leave TLS to ws2api, and say before the handshake who comes: `header-14`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use support::certificates::Folder;
use support::proxy_protocol::{header, ssl, value};
use support::{Authority, Backend, Builder, Client, Handshake, Proxy, Request, Tls, eventually};

struct Scene {
    backend: Backend,
    authority: Authority,
    folder: Folder,
}

impl Scene {
    fn start() -> Self {
        Self {
            backend: Backend::start(),
            authority: Authority::new("authority"),
            folder: Folder::new("tls-behind"),
        }
    }

    /// A node with both listeners for clients.
    fn node(&self, proxy_protocol: &str) -> Builder {
        let certificate = self.authority.server(&["localhost"]).save(&self.folder, "own");
        Proxy::with(&self.backend)
            .shards(2)
            .set("listen_tls", "127.0.0.1:0")
            .set("tls_certificates", &certificate)
            .set("proxy_protocol", proxy_protocol)
    }

    fn tls(&self) -> Tls {
        Tls::trusting(&self.authority)
    }

    /// What the backend was told about it.
    fn told(&self, client: &str) -> Request {
        self.backend.take_where(client, |request| {
            request.target == "/connect" && request.header("x-client-id") == Some(client)
        })
    }
}

fn address(proxy: &Proxy) -> SocketAddr {
    proxy.listen_tls.expect("it is configured")
}

fn open(tls: &Tls, header: &[u8], proxy: &Proxy, client: &str) -> Client {
    let mut http = tls.try_connect_behind(header, address(proxy)).unwrap().into_http();
    http.send(Handshake::new(client).bytes());
    Client::upgrade(http)
}

#[test]
fn the_header_comes_before_the_tls_handshake_in_both_versions_and_in_any_pieces() {
    let scene = Scene::start();
    let proxy = scene.node("true").start();
    let with_values = header(
        [203, 0, 113, 9],
        &[value(0xF0, b"x"), value(0x02, b"host.example")].concat(),
    );
    let mut local = header([203, 0, 113, 9], &[]);
    local[12] = 0x20;
    for (number, (header, expected)) in [
        (
            b"PROXY TCP4 203.0.113.8 127.0.0.1 12345 443\r\n".to_vec(),
            "203.0.113.8",
        ),
        (
            b"PROXY TCP6 2001:db8::8 2001:db8::1 12345 443\r\n".to_vec(),
            "2001:db8::8",
        ),
        (with_values.clone(), "203.0.113.9"),
        (local, "127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let client = format!("CP{number}");
        let mut connected = open(&scene.tls(), &header, &proxy, &client);
        let asked = scene.told(&client);
        assert_eq!(asked.header("x-forwarded-for"), Some(expected));
        assert_eq!(asked.header("x-tls-version"), Some("TLSv1.3"), "its own handshake's");
        connected.call(1);
    }
    // Byte by byte, and the handshake with its last byte.
    let mut stream = scene.tls().begin(address(&proxy));
    let mut hello = Vec::new();
    stream.connection.write_tls(&mut hello).unwrap();
    let (last, front) = with_values.split_last().unwrap();
    for byte in front {
        stream.socket.write_all(&[*byte]).unwrap();
    }
    stream.socket.write_all(&[&[*last], &*hello].concat()).unwrap();
    while stream.connection.is_handshaking() {
        stream.connection.complete_io(&mut stream.socket).unwrap();
    }
    let mut http = stream.into_http();
    http.send(Handshake::new("pieces").bytes());
    Client::upgrade(http).call(1);
    assert_eq!(scene.told("pieces").header("x-forwarded-for"), Some("203.0.113.9"));
}

#[test]
fn who_speaks_tls_with_the_balancer_is_who_it_says_and_who_does_not_is_who_he_shows() {
    let scene = Scene::start();
    let clients = Authority::new("clients");
    let ca = scene.folder.join("clients.pem");
    std::fs::write(&ca, clients.pem()).unwrap();
    support::open_to_all(&ca);
    let proxy = scene
        .node("true")
        .set("tls_client_ca", ca.to_str().unwrap())
        .set("tls_client_auth", "required")
        .start();
    let showing = |name: &str| Tls::showing(&scene.authority, &clients.client(name));
    let version = value(0x21, b"TLSv1.2");
    let said = |client: u8, values: &[Vec<u8>]| header([203, 0, 113, 8], &ssl(client, 0, values));
    let cn = |name: &str| value(0x22, name.as_bytes());
    // A balancer that passes TLS on: the client's own certificate counts.
    for number in 0..8 {
        let name = format!("CP{number}");
        open(&showing(&name), &said(0, &[]), &proxy, &name).call(1);
        let asked = scene.told(&name);
        assert_eq!(asked.header("x-client-cert-cn"), Some(&*name));
        assert_eq!(asked.header("x-tls-version"), Some("TLSv1.3"));
        assert_eq!(asked.header("x-forwarded-for"), Some("203.0.113.8"));
    }
    // One that ends it and begins it anew: the certificate here is the balancer's.
    let balancer = showing("balancer");
    for number in 0..8 {
        let name = format!("behind{number}");
        open(&balancer, &said(0x07, &[version.clone(), cn(&name)]), &proxy, &name).call(1);
        let asked = scene.told(&name);
        assert_eq!(asked.header("x-client-cert-cn"), Some(&*name));
        assert_eq!(asked.header("x-tls-version"), Some("TLSv1.2"));
    }
    // Another one's is refused either way.
    for (tls, header) in [
        (showing("CP1"), said(0, &[])),
        (balancer, said(0x07, &[version, cn("CP1")])),
    ] {
        let mut http = tls.try_connect_behind(&header, address(&proxy)).unwrap().into_http();
        http.send(Handshake::new("CP2").bytes());
        assert_eq!(http.any_reply().status, 403);
    }
}

/// The end, without a word of TLS.
fn ends(address: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // It may be reset: what was sent is not read to its end.
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}

#[test]
fn a_header_that_is_missing_broken_or_a_strangers_ends_the_connection_before_tls() {
    let scene = Scene::start();
    let proxy = scene.node("true").start();
    let mut hello = Vec::new();
    scene
        .tls()
        .begin(address(&proxy))
        .connection
        .write_tls(&mut hello)
        .unwrap();
    let broken = header([203, 0, 113, 8], b"\x20\0\x40");
    for bytes in [&*hello, b"GET / HTTP/1.1\r\n\r\n", &broken] {
        ends(address(&proxy), bytes);
    }
    proxy.wait_count_where("proxy_headers_bad", "listen_tls_missing", 3);
    let line = proxy.wait_log("What connects to listen_tls begins without a PROXY protocol header");
    assert!(line.contains("proxy_protocol"), "{line}");
    // Nobody has computed anything.
    let computed: f64 = proxy.metric("tls_handshakes_total").iter().sum();
    assert!(computed < 0.5, "{computed}");

    let strict = scene.node("true").set("proxy_protocol_from", "192.0.2.1").start();
    ends(address(&strict), &[&*header([203, 0, 113, 8], &[]), &hello].concat());
    strict.wait_count_where("proxy_headers_bad", "listen_tls_untrusted", 1);
    let line = strict.wait_log("sends a PROXY protocol header to listen_tls");
    assert!(line.contains("127.0.0.1:"), "{line}");
    assert_eq!(scene.backend.seen("/connect").len(), 0);
    let expected = scene.node("true").set("proxy_protocol_from", "127.0.0.0/8").start();
    open(&scene.tls(), &header([203, 0, 113, 8], &[]), &expected, "CP1").call(1);
}

#[test]
fn a_header_that_is_not_expected_ends_the_connection_and_is_told() {
    let scene = Scene::start();
    let proxy = scene.node("false").start();
    for bytes in [
        header([203, 0, 113, 8], &[]),
        b"PROXY TCP4 203.0.113.8 127.0.0.1 12345 443\r\n".to_vec(),
    ] {
        ends(address(&proxy), &bytes);
    }
    proxy.wait_count_where("proxy_headers_bad", "listen_tls_unexpected", 2);
    assert_eq!(proxy.count_where("tls_handshakes", "not_tls"), 2);
    proxy.wait_log("What connects to listen_tls begins with a PROXY protocol header");
    open(&scene.tls(), b"", &proxy, "CP1").call(1);
}

#[test]
fn who_never_finishes_the_header_makes_room() {
    let scene = Scene::start();
    let proxy = scene.node("true").set("handshakes_max", "4").start();
    let header = header([203, 0, 113, 8], &[]);
    let stuck: Vec<TcpStream> = (0..24)
        .map(|number| {
            let mut socket = TcpStream::connect(address(&proxy)).unwrap();
            socket.write_all(&header[..number % 28]).unwrap();
            socket
        })
        .collect();
    open(&scene.tls(), &header, &proxy, "CP1").call(1);
    eventually("room", || {
        (proxy.count_where("upgrades_refused", "made_room") > 0).then_some(())
    });
    drop(stuck);
}
