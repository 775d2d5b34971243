//! However a client ends its TLS, and whatever comes right behind its handshake or its request: it is answered or told why not, and its
//! end is one: `tls-2`, `tls-8`, `tls-9`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use rustls::{CipherSuite, SupportedProtocolVersion, version};
use support::certificates::Authority;
use support::client::{TEXT, frame_bytes};
use support::text_file::TextFile;
use support::tls::TlsStream;
use support::{Backend, Handshake, Proxy, Tls, eventually};

/// What nobody has sealed.
const FORGED: [u8; 45] = {
    let mut record = [0; 45];
    [record[0], record[1], record[2], record[4]] = [23, 3, 3, 40];
    record
};
const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

struct Scene {
    backend: Backend,
    authority: Authority,
    proxy: Proxy,
    _files: [TextFile; 2],
}

impl Scene {
    /// Two shards: a request travels to the other one as often as not.
    fn start() -> Self {
        let (backend, authority) = (Backend::start(), Authority::new("authority"));
        let leaf = authority.server(&["localhost"]);
        let files = [TextFile::new(&leaf.chain), TextFile::new(&leaf.key)];
        let [chain, key] = [&files[0], &files[1]].map(|file| file.as_str());
        let proxy = Proxy::with(&backend)
            .shards(2)
            .set("listen_tls", "127.0.0.1:0")
            .set(
                "tls_certificates",
                &format!("{{ chain = \"{chain}\", key = \"{key}\" }}"),
            )
            .start();
        Self {
            backend,
            authority,
            proxy,
            _files: files,
        }
    }

    fn address(&self) -> SocketAddr {
        self.proxy.listen_tls.expect("it is configured")
    }

    /// So many have sent what is no record.
    #[track_caller]
    fn expect_bad(&self, count: u64) {
        eventually("they are counted", || {
            (self.proxy.count("tls_records_bad") == count).then_some(())
        });
    }

    /// The backend hears that this client has ended.
    #[track_caller]
    fn expect_disconnect(&self, client: &str) {
        self.backend.take_where(client, |request| {
            request.target == "/disconnect" && request.header("x-client-id") == Some(client)
        });
    }
}

/// This text as it travels.
fn sealed(stream: &mut TlsStream, text: &[u8]) -> Vec<u8> {
    stream.connection.writer().write_all(text).unwrap();
    pending(stream)
}

/// What rustls has to send.
fn pending(stream: &mut TlsStream) -> Vec<u8> {
    let mut records = Vec::new();
    while stream.connection.wants_write() {
        stream.connection.write_tls(&mut records).unwrap();
    }
    records
}

fn close_notify(stream: &mut TlsStream) -> Vec<u8> {
    stream.connection.send_close_notify();
    pending(stream)
}

/// All that comes, to the word that it is all.
#[track_caller]
fn rest(stream: &mut TlsStream) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("its end is told");
    String::from_utf8_lossy(&rest).into_owned()
}

/// A connection whose handshake is over for the client, and its last words, which it has not sent. With TLS 1.2 these are the last ones
/// where a session is resumed.
fn almost_secured(tls: &Tls, address: SocketAddr) -> (TlsStream, Vec<u8>) {
    let mut stream = tls.begin(address);
    loop {
        let out = pending(&mut stream);
        if !stream.connection.is_handshaking() {
            assert!(!out.is_empty(), "the server had the last word");
            return (stream, out);
        }
        stream.socket.write_all(&out).unwrap();
        stream.connection.read_tls(&mut stream.socket).unwrap();
        stream.connection.process_new_packets().unwrap();
    }
}

#[test]
fn a_record_in_part_behind_the_request_is_as_bad_as_a_whole_one() {
    let scene = Scene::start();
    let mut count = 0;
    for version in VERSIONS {
        let tls = Tls::version(&scene.authority, version);
        for cut in [1, 4, 5, 6, 20] {
            let mut stream = tls.connect(scene.address());
            let request = Handshake::new(&format!("CP{count}")).bytes();
            let mut bytes = sealed(&mut stream, &request);
            bytes.extend_from_slice(&sealed(&mut stream, b"early")[..cut]);
            stream.socket.write_all(&bytes).unwrap();
            let answer = rest(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{cut}: {answer}");
            count += 1;
        }
    }
    assert_eq!(scene.backend.seen("/connect").len(), 0);
    assert_eq!(scene.proxy.count_where("upgrades_refused", "early_bytes"), count);
}

#[test]
fn whoever_ends_its_side_behind_the_request_is_answered_and_at_its_end() {
    let scene = Scene::start();
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let tls = Tls::version(&scene.authority, version);
        for number in 0..8 {
            let name = format!("CP{index}{number}");
            let mut stream = tls.connect(scene.address());
            let mut bytes = sealed(&mut stream, &Handshake::new(&name).bytes());
            bytes.extend(close_notify(&mut stream));
            stream.socket.write_all(&bytes).unwrap();
            let answer = rest(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            scene.expect_disconnect(&name);
        }
    }
}

#[test]
fn what_comes_right_behind_a_handshake_is_judged_like_what_comes_later() {
    let scene = Scene::start();
    let mut bad = 0;
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let tls = Tls::version(&scene.authority, version);
        // It has a ticket for the next ones.
        let mut http = tls.connect(scene.address()).into_http();
        http.send(Handshake::target("/").bytes());
        assert_eq!(http.any_reply().status, 404);
        drop(http);
        for (target, status) in [("/".to_owned(), 404), (format!("/CP{index}"), 101)] {
            let (mut stream, mut bytes) = almost_secured(&tls, scene.address());
            bytes.extend(sealed(&mut stream, &Handshake::target(&target).bytes()));
            bytes.extend(close_notify(&mut stream));
            stream.socket.write_all(&bytes).unwrap();
            let answer = rest(&mut stream);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        scene.expect_disconnect(&format!("CP{index}"));
        for request in [None, Some(Handshake::new("BAD"))] {
            let (mut stream, mut bytes) = almost_secured(&tls, scene.address());
            if let Some(request) = request {
                bytes.extend(sealed(&mut stream, &request.bytes()));
            }
            bytes.extend(FORGED);
            stream.socket.write_all(&bytes).unwrap();
            let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains("BadRecordMac"), "{error}");
            bad += 1;
            scene.expect_bad(bad);
        }
    }
    let asked: Vec<_> = scene.backend.seen("/connect");
    assert!(asked.iter().all(|request| request.header("x-client-id") != Some("BAD")));
}

#[test]
fn a_forged_record_before_the_request_is_told_and_counted() {
    let scene = Scene::start();
    let mut stream = Tls::trusting(&scene.authority).connect(scene.address());
    stream.write_all(b"GET /CP1 HT").unwrap();
    stream.socket.write_all(&FORGED).unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    scene.expect_bad(1);
    scene.proxy.wait_count_where("upgrades_refused", "unfinished", 1);
}

/// How a client ends that has said all that it had to say.
#[derive(Clone, Copy, Debug)]
enum Way {
    CloseNotify,
    Fin,
    Both,
    /// In the middle of a record.
    Truncated,
}

#[test]
fn a_client_may_end_with_close_notify_with_a_bare_fin_or_with_both() {
    let scene = Scene::start();
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let tls = Tls::version(&scene.authority, version);
        for (number, way) in [Way::CloseNotify, Way::Fin, Way::Both, Way::Truncated]
            .into_iter()
            .enumerate()
        {
            let name = format!("CP{index}{number}");
            let mut client = tls.open(&Handshake::new(&name), scene.address());
            client.call(1);
            let stream = client.tls();
            // What was said before is heard.
            let call = frame_bytes(true, TEXT, b"[2,\"last\",\"Echo\",{}]");
            let mut bytes = sealed(stream, &call);
            match way {
                Way::CloseNotify | Way::Both => bytes.extend(close_notify(stream)),
                Way::Truncated => bytes.extend(&sealed(stream, &call)[..9]),
                Way::Fin => {}
            }
            stream.socket.write_all(&bytes).unwrap();
            if !matches!(way, Way::CloseNotify) {
                stream.socket.shutdown(Shutdown::Write).unwrap();
            }
            // Its own end is told, whatever the other one's was.
            rest(stream);
            scene.backend.take(&format!("/call/Echo/{name}/last"));
            scene.expect_disconnect(&name);
        }
    }
    assert_eq!(scene.proxy.count("tls_records_bad"), 0);
}

#[test]
fn who_knows_no_certificate_of_ours_is_told_that_nothing_is_in_common() {
    let scene = Scene::start();
    // The certificate is of the other kind.
    let suite = CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
    let refused = Tls::suite(&scene.authority, suite).try_connect(scene.address());
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("HandshakeFailure"), "{error}");
}
