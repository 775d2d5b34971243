//! Each way in which a TLS handshake fails is counted by its kind, and told in words: `tls-14`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::{CipherSuite, version};
use support::certificates::{Folder, Wanted};
use support::{Authority, Backend, Builder, Handshake, Proxy, Tls};

/// All labels but those of handshakes that are done.
const LABELS: [&str; 9] = [
    "plain_http",
    "not_tls",
    "too_long",
    "incompatible",
    "certificate",
    "alert",
    "protocol",
    "internal",
    "unfinished",
];

struct Scene {
    backend: Backend,
    authority: Authority,
    clients: Authority,
    folder: Folder,
}

impl Scene {
    fn start() -> Self {
        Self {
            backend: Backend::start(),
            authority: Authority::new("authority"),
            clients: Authority::new("clients"),
            folder: Folder::new("tls-failures"),
        }
    }

    /// A node that asks for certificates, with one of this kind.
    fn node(&self, wanted: Wanted) -> Builder {
        let certificate = self.authority.issue(wanted).save(&self.folder, "own");
        let ca = self.folder.join("clients.pem");
        std::fs::write(&ca, self.clients.pem()).unwrap();
        support::open_to_all(&ca);
        Proxy::with(&self.backend)
            .set("listen_tls", "127.0.0.1:0")
            .set("tls_certificates", &certificate)
            .set("tls_client_ca", ca.to_str().unwrap())
            .set("tls_client_auth", "optional")
    }

    /// A new process, which says what it has seen once: a handshake that fails so has this label, and no other one.
    #[track_caller]
    fn expect(&self, node: &Builder, label: &str, words: &str, fail: impl FnOnce(SocketAddr)) {
        let proxy = node.start();
        fail(proxy.listen_tls.unwrap());
        proxy.wait_count_where("tls_handshakes", label, 1);
        let counted: Vec<&str> = LABELS
            .into_iter()
            .filter(|label| proxy.count_where("tls_handshakes", label) > 0)
            .collect();
        assert_eq!(counted, [label], "{words}");
        assert_eq!(proxy.count_where("tls_handshakes", label), 1, "{words}");
        if !words.is_empty() {
            let line = proxy.wait_log("the TLS handshake fails");
            assert!(line.contains(words), "{words}: {line}");
        }
        assert_eq!(self.backend.seen("/connect").len(), 0);
    }
}

fn server() -> Wanted {
    Wanted::server(&["localhost"])
}

/// With TLS 1.3 a client learns that it is refused when it has said its own.
fn is_refused(tls: &Tls, address: SocketAddr) {
    if let Ok(stream) = tls.try_connect(address) {
        let mut http = stream.into_http();
        http.send(Handshake::new("CP1").bytes());
        assert!(http.connection.head().is_err());
    }
}

/// Says this, and hears whatever comes to its end.
fn say(address: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    let _ = socket.write_all(bytes);
    let _ = socket.read_to_end(&mut Vec::new());
}

/// The first record of a client.
fn hello(scene: &Scene, address: SocketAddr) -> Vec<u8> {
    let mut hello = Vec::new();
    let mut stream = Tls::trusting(&scene.authority).begin(address);
    stream.connection.write_tls(&mut hello).unwrap();
    hello
}

/// A ClientHello of an old client: this version, these suites, no extension.
fn old_hello(version: [u8; 2], suites: &[u16]) -> Vec<u8> {
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(suites.len()).unwrap().to_be_bytes());
    body.extend(suites);
    body.extend([1, 0]);
    let len = u16::try_from(body.len()).unwrap();
    let [high, low] = len.to_be_bytes();
    let message = [&[1, 0, high, low][..], &body].concat();
    let [high, low] = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&[22, 3, 1, high, low][..], &message].concat()
}

#[test]
fn who_has_nothing_in_common_with_us_is_incompatible() {
    let scene = Scene::start();
    let ecdsa = scene.node(server());
    let rsa = scene.node(server().rsa());
    // No certificate of a kind that it knows: our own fault by rustls' words.
    let suites = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    scene.expect(&rsa, "incompatible", "no certificate of ours", |address| {
        assert!(Tls::suite(&scene.authority, suites).try_connect(address).is_err());
    });
    let ecdsa = ecdsa.clone();
    for (words, hello) in [
        // RSA key exchange and CBC, TLS 1.0, TLS 1.2 without anything that was added to it.
        ("", old_hello([3, 3], &[0x002f, 0x0035, 0xc013, 0xc014])),
        ("", old_hello([3, 1], &[0x002f, 0xc013])),
        ("", old_hello([3, 3], &[0xc02b])),
    ] {
        scene.expect(&ecdsa, "incompatible", words, |address| say(address, &hello));
    }
    for (spoken, refused) in [("1.3", &version::TLS12), ("1.2", &version::TLS13)] {
        let node = scene.node(server()).set("tls_versions", spoken);
        scene.expect(&node, "incompatible", "tls_versions", |address| {
            assert!(Tls::version(&scene.authority, refused).try_connect(address).is_err());
        });
    }
}

#[test]
fn a_clients_certificate_that_is_not_good_is_counted_as_that_and_the_log_says_why() {
    let scene = Scene::start();
    let node = scene.node(server());
    let stranger = Authority::new("stranger");
    let namesake = Authority::new("clients");
    let dated = |from, until| scene.clients.issue(Wanted::client("CP1").valid(from, until));
    for (certificate, words) in [
        (
            stranger.client("CP1"),
            "signed by nobody who is known: is who signs it in tls_client_ca",
        ),
        (namesake.client("CP1"), "another one of the same name has signed it"),
        (dated((2020, 1, 1), (2021, 1, 1)), "its certificate has expired"),
        (dated((2500, 1, 1), (2600, 1, 1)), "is not valid yet"),
        // It is for a server.
        (scene.clients.server(&["localhost"]), "its certificate is not good"),
    ] {
        let tls = Tls::showing(&scene.authority, &certificate);
        scene.expect(&node, "certificate", words, |address| is_refused(&tls, address));
    }
    let required = node.set("tls_client_auth", "required");
    let none = Tls::trusting(&scene.authority);
    scene.expect(&required, "certificate", "no certificate of its own", |address| {
        is_refused(&none, address);
    });
}

#[test]
fn a_client_that_refuses_our_certificate_is_an_alert_in_both_versions() {
    let scene = Scene::start();
    let node = scene.node(server());
    for version in [&version::TLS12, &version::TLS13] {
        let tls = Tls::version(&Authority::new("another"), version);
        scene.expect(&node, "alert", "does not take our certificate (UnknownCA)", |address| {
            assert!(tls.try_connect(address).is_err());
        });
    }
    // Its certificate is good, and for somebody else.
    let other = Tls::trusting(&scene.authority).host("other.example");
    scene.expect(&node, "alert", "does not take our certificate", |address| {
        assert!(other.try_connect(address).is_err());
    });
}

#[test]
fn what_is_no_handshake_is_told_apart() {
    let scene = Scene::start();
    let node = scene.node(server());
    scene.expect(&node, "plain_http", "", |address| {
        say(address, b"GET / HTTP/1.1\r\n\r\n");
    });
    scene.expect(&node, "not_tls", "no TLS", |address| say(address, &[0; 64]));
    // Records of a handshake that never is one.
    let record = |fragment: &[u8]| {
        let [high, low] = u16::try_from(fragment.len()).unwrap().to_be_bytes();
        [&[22, 3, 3, high, low][..], fragment].concat()
    };
    scene.expect(&node, "protocol", "", |address| {
        say(address, &record(&[99, 0, 0, 1, 0]));
    });
    scene.expect(&node, "protocol", "", |address| {
        // What is sealed in place of what follows, with no key that anybody has.
        let sealed = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
        say(address, &[hello(&scene, address), sealed].concat());
    });
    scene.expect(&node, "too_long", "too long", |address| {
        // One message of 60,000 bytes.
        let mut bytes = record(&[&[1, 0, 0xea, 0x60][..], &[0; 16_000]].concat());
        for _ in 0..3 {
            bytes.extend(record(&[0; 16_000]));
        }
        say(address, &bytes);
    });
}

#[test]
fn a_handshake_that_is_cut_off_closed_or_too_slow_is_unfinished() {
    let scene = Scene::start();
    let node = scene.node(server());
    scene.expect(&node, "unfinished", "", |address| {
        let mut socket = TcpStream::connect(address).unwrap();
        let hello = hello(&scene, address);
        socket.write_all(&hello).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    scene.expect(&node, "unfinished", "", |address| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(&[22, 3, 1]).unwrap();
        drop(socket);
    });
    // An orderly end, in the middle.
    scene.expect(&node, "unfinished", "", |address| {
        say(address, &[hello(&scene, address), vec![21, 3, 3, 0, 2, 1, 0]].concat());
    });
    let hasty = node.set("handshake_timeout", "300ms");
    scene.expect(&hasty, "unfinished", "", |address| say(address, &[22, 3, 1]));
}

#[test]
fn who_only_looks_whether_the_port_is_open_has_begun_no_handshake() {
    let scene = Scene::start();
    let proxy = scene.node(server()).start();
    let address = proxy.listen_tls.unwrap();
    for _ in 0..3 {
        TcpStream::connect(address).unwrap().shutdown(Shutdown::Write).unwrap();
    }
    proxy.wait_count_where("upgrades_refused", "unfinished", 3);
    for label in LABELS {
        assert_eq!(proxy.count_where("tls_handshakes", label), 0, "{label}");
    }
}
