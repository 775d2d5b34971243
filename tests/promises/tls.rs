//! A client that connects with TLS is a client like any other: `tls-1` to `tls-10`, `tls-12`.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use rustls::{CipherSuite, ProtocolVersion, version};
use support::certificates::{Certificate, Wanted};
use support::client::{TEXT, frame_bytes};
use support::tls::TlsStream;
use support::{Authority, Backend, Builder, Client, Handshake, Http, Message, Proxy, Request, Tls, eventually};

/// A folder of the test's own.
fn folder() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}-tls-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    support::open_to_all(&folder);
    folder
}

/// A node with a certificate of this authority for localhost.
fn with_tls(backend: &Backend, authority: &Authority) -> Builder {
    let certificate = authority.server(&["localhost"]).save(&folder(), "own");
    Proxy::with(backend)
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &certificate)
}

fn address(proxy: &Proxy) -> SocketAddr {
    proxy.listen_tls.expect("it is configured")
}

fn open(tls: &Tls, proxy: &Proxy, client: &str) -> Client {
    tls.open(&Handshake::new(client), address(proxy))
}

/// What the backend was told about that client.
#[track_caller]
fn told(backend: &Backend, path: &str, client: &str) -> Request {
    backend.take_where(client, |request| {
        request.target == path && request.header("x-client-id") == Some(client)
    })
}

/// The status page says which certificates there are, and what became of handshakes.
#[test]
fn certificates_and_handshakes_are_on_the_status_page() {
    let backend = Backend::start();
    let authority = Authority::new("ours");
    let proxy = with_tls(&backend, &authority).start();
    let _client = open(&Tls::trusting(&authority), &proxy, "CP1");
    let shown = eventually("the handshake is shown", || {
        let answer = proxy.get("/status.json");
        let shown = answer.body.contains("[\"tls handshakes: full\",1]");
        (answer.status == 200 && shown).then(|| answer.json())
    });
    let certificate = &shown["certificates"][0];
    assert!(
        certificate["file"].as_str().unwrap().ends_with("own.pem"),
        "{certificate}"
    );
    assert!(certificate["notAfter"].as_i64().unwrap() > 0, "{certificate}");
}

/// Calls and pushes of every size, and a close.
fn live(mut client: Client, proxy: &Proxy, backend: &Backend, name: &str) {
    for len in [0, 1, 100, 16_300, 16_384, 100_000, 900_000] {
        let payload = format!("{{\"s\":\"{}\"}}", "x".repeat(len));
        client.send_call(&format!("c{len}"), "Echo", &payload);
        client.expect(&format!("[3,\"c{len}\",{payload}]"));
    }
    proxy.push(name, "Reset", "p1", "{}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{}]");
    client.send_result("p1", "{}");
    backend.take(&format!("/result/Reset/{name}/p1"));
    client.close(1000, "");
}

#[test]
fn a_client_with_tls_is_served_like_one_without_with_each_suite() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let folder = folder();
    let certificates = [
        authority.issue(Wanted::server(&["localhost"])).save(&folder, "ecdsa"),
        authority
            .issue(Wanted::server(&["localhost"]).rsa())
            .save(&folder, "rsa"),
    ];
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &format!("[{}]", certificates.join(", ")))
        .start();
    let suites = [
        (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
        (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
        (
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            "ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        (
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            "ECDHE-RSA-AES128-GCM-SHA256",
        ),
        (
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            "ECDHE-RSA-AES256-GCM-SHA384",
        ),
        (
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            "ECDHE-RSA-CHACHA20-POLY1305",
        ),
    ];
    for (number, (suite, name)) in suites.into_iter().enumerate() {
        let client = format!("CP{number}");
        let tls = Tls::suite(&authority, suite);
        let connected = open(&tls, &proxy, &client);
        let asked = told(&backend, "/connect", &client);
        let version = if number < 3 { "TLSv1.3" } else { "TLSv1.2" };
        assert_eq!(asked.header("x-tls-version"), Some(version));
        assert_eq!(asked.header("x-tls-cipher"), Some(name));
        assert_eq!(asked.header("x-client-cert-verified"), None);
        live(connected, &proxy, &backend, &client);
    }
    assert_eq!(proxy.count_where("tls_handshakes", "full"), 9);
}

#[test]
fn of_the_suites_in_common_it_takes_one_whose_keys_are_cheap() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).start();
    // The client would rather have AES-256.
    for (client, version, name) in [
        ("CP12", &version::TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("CP13", &version::TLS13, "TLS_AES_128_GCM_SHA256"),
    ] {
        let connected = open(&Tls::version(&authority, version), &proxy, client);
        let asked = told(&backend, "/connect", client);
        assert_eq!(asked.header("x-tls-cipher"), Some(name));
        live(connected, &proxy, &backend, client);
    }
}

#[test]
fn a_version_that_is_not_spoken_is_refused_and_counted() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    for (spoken, refused, good) in [
        ("1.3", &version::TLS12, &version::TLS13),
        ("1.2", &version::TLS13, &version::TLS12),
    ] {
        let proxy = with_tls(&backend, &authority).set("tls_versions", spoken).start();
        assert!(Tls::version(&authority, refused).try_connect(address(&proxy)).is_err());
        proxy.wait_count_where("tls_handshakes", "incompatible", 1);
        assert_eq!(proxy.count_where("upgrades_refused", "tls"), 1);
        let connected = Tls::version(&authority, good).connect(address(&proxy));
        let expected = if spoken == "1.3" {
            ProtocolVersion::TLSv1_3
        } else {
            ProtocolVersion::TLSv1_2
        };
        assert_eq!(connected.version(), Some(expected));
    }
}

#[test]
fn a_plain_request_at_the_port_for_tls_is_told_so() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).start();
    let reply = Handshake::new("CP1").refused(address(&proxy));
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("wss://"), "{}", reply.body);
    proxy.wait_count_where("tls_handshakes", "plain_http", 1);
    // Nor is TLS understood at the other port.
    assert!(Tls::trusting(&authority).try_connect(proxy.listen).is_err());
    // What is neither gets an alert or nothing, and the end.
    for nonsense in [&[0_u8; 64][..], &[22, 3, 1, 255, 255, 1, 0], &[21, 3, 3, 0, 2, 2, 40]] {
        let mut socket = TcpStream::connect(address(&proxy)).unwrap();
        socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
        socket.write_all(nonsense).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() < 64 && !answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_eq!(backend.seen("/connect").len(), 0);
    open(&Tls::trusting(&authority), &proxy, "CP1").call(1);
}

#[test]
fn a_clients_certificate_is_asked_for_as_configured_and_the_backend_learns_its_name() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let ca = folder().join("clients.pem");
    std::fs::write(&ca, clients.pem()).unwrap();
    support::open_to_all(&ca);
    let proxy = |auth: &str| {
        with_tls(&backend, &authority)
            .shards(2)
            .set("tls_client_ca", ca.to_str().unwrap())
            .set("tls_client_auth", auth)
            .start()
    };
    // With TLS 1.3 the client learns that it is refused when it has said its own.
    let is_refused = |tls: &Tls, proxy: &Proxy| {
        let Ok(stream) = tls.try_connect(address(proxy)) else {
            return true;
        };
        let mut http = stream.into_http();
        http.send(Handshake::new("CP1").bytes());
        http.connection.head().is_err()
    };
    let (none, stranger) = (
        Tls::trusting(&authority),
        Tls::showing(&authority, &strangers.client("CP1")),
    );
    let known = |name: &str| Tls::showing(&authority, &clients.client(name));

    let required = proxy("required");
    assert!(is_refused(&none, &required) && is_refused(&stranger, &required));
    required.wait_count_where("tls_handshakes", "certificate", 2);
    for number in 0..8 {
        let name = format!("CP{number}");
        let mut client = open(&known(&name), &required, &name);
        let asked = told(&backend, "/connect", &name);
        assert_eq!(asked.header("x-client-cert-cn"), Some(&*name));
        assert_eq!(asked.header("x-client-cert-verified"), Some("true"));
        client.call(1);
    }

    let optional = proxy("optional");
    assert!(is_refused(&stranger, &optional));
    open(&none, &optional, "CP1").call(1);
    let asked = told(&backend, "/connect", "CP1");
    assert_eq!(asked.header("x-client-cert-verified"), None);

    // Another one's certificate is of no use, whichever shard is at home.
    let asked_before = backend.seen("/connect").len();
    for number in 0..8 {
        let mut http = known("CP").connect(address(&required)).into_http();
        http.send(Handshake::new(&format!("CP{number}")).bytes());
        assert_eq!(http.any_reply().status, 403);
    }
    assert_eq!(backend.seen("/connect").len(), asked_before);

    let unasked = proxy("none");
    open(&stranger, &unasked, "CP1").call(1);
    assert_eq!(told(&backend, "/connect", "CP1").header("x-client-cert-cn"), None);
}

#[test]
fn each_client_gets_the_certificate_of_the_host_that_it_asks_for_and_of_a_kind_that_it_knows() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let folder = folder();
    let issue = |hosts: &[&str], is_rsa: bool, name: &str| {
        let request = Wanted::server(hosts);
        let certificate = authority.issue(if is_rsa { request.rsa() } else { request });
        (certificate.save(&folder, name), der(&certificate))
    };
    let (a, a_der) = issue(&["a.example"], false, "a");
    let (wild, wild_der) = issue(&["*.b.example"], false, "wild");
    let (a_rsa, a_rsa_der) = issue(&["a.example"], true, "a-rsa");
    let proxy = Proxy::with(&backend)
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &format!("[{a}, {wild}, {a_rsa}]"))
        .start();
    let tls = Tls::trusting(&authority);
    let got = |tls: &Tls, host: &str| tls.host(host).connect(address(&proxy)).certificate();
    assert_eq!(got(&tls, "a.example"), a_der);
    assert_eq!(got(&tls, "x.b.example"), wild_der);
    let rsa = Tls::suite(&authority, CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
    assert_eq!(got(&rsa, "a.example"), a_rsa_der);
    // A name that nobody knows, or none: the first.
    assert!(
        tls.host("c.example")
            .try_connect(address(&proxy))
            .is_err_and(|error| error.to_string().contains("valid for"))
    );
}

#[test]
fn sighup_reads_certificates_anew_and_a_bad_file_changes_nothing() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let folder = folder();
    let first = authority.server(&["localhost"]);
    let files = first.save(&folder, "own");
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &files)
        .start();
    let tls = Tls::trusting(&authority);
    let got = || tls.connect(address(&proxy)).certificate();
    let mut client = open(&tls, &proxy, "CP1");
    assert_eq!(got(), der(&first));

    // Another one's key.
    std::fs::write(folder.join("own.key"), authority.server(&["localhost"]).key).unwrap();
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("the configuration stays as it was");
    assert!(line.contains("is not that of the certificate"), "{line}");
    assert_eq!(got(), der(&first));

    let second = authority.server(&["localhost"]);
    second.save(&folder, "own");
    proxy.signal(Signal::HUP);
    eventually("the new certificate", || (got() == der(&second)).then_some(()));
    client.call(1);
    let metrics = proxy.get("/metrics").expect(200).body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("ws2api_tls_certificate_not_after_timestamp_seconds{"));
    assert!(line.is_some_and(|line| line.contains("own.pem")), "{line:?}");
}

#[test]
fn a_session_is_resumed_on_whichever_shard() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).shards(5).start();
    for version in [&version::TLS12, &version::TLS13] {
        let tls = Tls::version(&authority, version);
        let resumed = (0..40)
            .filter(|number| {
                let stream = tls.connect(address(&proxy));
                let is_resumed = stream.is_resumed();
                let mut http = stream.into_http();
                http.send(Handshake::new(&format!("CP{number}")).bytes());
                Client::upgrade(http).call(1);
                is_resumed
            })
            .count();
        assert_eq!(resumed, 39, "{version:?}");
    }
    assert_eq!(proxy.count_where("tls_handshakes", "resumed"), 78);
    let accepted = proxy.metric("connections_accepted_total");
    assert!(
        accepted.iter().filter(|count| **count > 0.0).count() > 1,
        "{accepted:?}"
    );
}

/// Whether a client that knows a session has gone on with it; it gets a ticket for the next one.
fn resumes(tls: &Tls, proxy: &Proxy) -> bool {
    let stream = tls.connect(address(proxy));
    let is_resumed = stream.is_resumed();
    let mut http = stream.into_http();
    http.send(Handshake::new("CP1").bytes());
    Client::upgrade(http).call(1);
    is_resumed
}

#[test]
fn other_authorities_and_another_demand_end_all_sessions() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let folder = folder();
    let (ca, file) = (folder.join("clients.pem"), folder.join("ws2api.toml"));
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).unwrap();
        support::open_to_all(path);
    };
    let configure = |auth: &str| write(&file, format!("tls_client_auth = \"{auth}\"\ntls_client_ca = {ca:?}\n"));
    write(&ca, Authority::new("clients").pem());
    configure("optional");
    let proxy = with_tls(&backend, &authority)
        .shards(2)
        .arg("--config")
        .arg(file.to_str().unwrap())
        .start();
    let clients = [&version::TLS12, &version::TLS13].map(|version| Tls::version(&authority, version));
    let other = || write(&ca, Authority::new("clients").pem());
    let changes: [(&str, &dyn Fn()); 2] = [
        ("others are believed", &other),
        ("nobody is asked", &|| configure("none")),
    ];
    for (what, change) in changes {
        for tls in &clients {
            resumes(tls, &proxy);
        }
        assert!(clients.iter().all(|tls| resumes(tls, &proxy)), "{what}");
        change();
        proxy.signal(Signal::HUP);
        for tls in &clients {
            eventually(what, || (!resumes(tls, &proxy)).then_some(()));
        }
    }
    assert!(clients.iter().all(|tls| resumes(tls, &proxy)));
}

/// Sends what rustls has to send one byte at a time.
fn drip(stream: &mut TlsStream) {
    let mut records = Vec::new();
    while stream.connection.wants_write() {
        stream.connection.write_tls(&mut records).unwrap();
    }
    for byte in records {
        stream.socket.write_all(&[byte]).unwrap();
    }
}

#[test]
fn records_may_come_byte_by_byte_split_and_together() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).shards(2).start();
    for (number, version) in [&version::TLS12, &version::TLS13].into_iter().enumerate() {
        // Also the handshake.
        let mut stream = Tls::version(&authority, version).begin(address(&proxy));
        while stream.connection.is_handshaking() {
            drip(&mut stream);
            if stream.connection.is_handshaking() {
                stream.connection.read_tls(&mut stream.socket).unwrap();
                stream.connection.process_new_packets().unwrap();
            }
        }
        let request = Handshake::new(&format!("CP{number}")).bytes();
        stream.connection.writer().write_all(&request).unwrap();
        drip(&mut stream);
        let mut client = Client::upgrade(stream.into_http());
        let call = |id: &str| frame_bytes(true, TEXT, format!("[2,\"{id}\",\"Echo\",{{}}]").as_bytes());
        // Two messages in one record, one message in three, all byte by byte.
        let stream = client.tls();
        stream
            .connection
            .writer()
            .write_all(&[call("1"), call("2")].concat())
            .unwrap();
        drip(stream);
        for part in call("3").chunks(9) {
            stream.connection.writer().write_all(part).unwrap();
            drip(stream);
        }
        for id in 1..=3 {
            client.expect(&format!("[3,\"{id}\",{{}}]"));
        }
    }
}

#[test]
fn a_key_update_changes_nothing() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).start();
    let mut client = open(&Tls::version(&authority, &version::TLS13), &proxy, "CP1");
    for number in 0..5 {
        client.call(2 * number);
        client.tls().connection.refresh_traffic_keys().unwrap();
        client.call(2 * number + 1);
        proxy.push("CP1", "Reset", &format!("p{number}"), "{}").expect(202);
        client.expect(&format!("[2,\"p{number}\",\"Reset\",{{}}]"));
        client.send_result(&format!("p{number}"), "{}");
        backend.take(&format!("/result/Reset/CP1/p{number}"));
    }
}

#[test]
fn what_is_no_record_ends_the_connection_with_an_alert_and_a_cut_off_one_without() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).start();
    let tls = Tls::trusting(&authority);
    let mut client = open(&tls, &proxy, "CP1");
    client.call(1);
    // Application data that nobody has sealed.
    let forged = [&[23, 3, 3, 0, 40][..], &[0; 40]].concat();
    client.tls().socket.write_all(&forged).unwrap();
    let error = client.tls().read(&mut [0; 16]).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    told(&backend, "/disconnect", "CP1");
    assert_eq!(proxy.count("tls_records_bad"), 1);

    let mut client = open(&tls, &proxy, "CP2");
    client.tls().socket.write_all(&[23, 3, 3, 0]).unwrap();
    client.vanish();
    told(&backend, "/disconnect", "CP2");
    assert_eq!(proxy.count("tls_records_bad"), 1);

    // An orderly end of TLS, without one of the WebSocket.
    let mut client = open(&tls, &proxy, "CP3");
    client.tls().connection.send_close_notify();
    client.tls().flush().unwrap();
    assert_eq!(client.message(), Message::End);
    told(&backend, "/disconnect", "CP3");
}

#[test]
fn nothing_may_follow_the_request_before_it_is_answered_with_tls_either() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).start();
    let mut http = Tls::trusting(&authority).connect(address(&proxy)).into_http();
    http.send(Handshake::new("CP1").followed_by("early").bytes());
    assert_eq!(http.any_reply().status, 400);
    http.expect_end();
    assert_eq!(proxy.count_where("upgrades_refused", "early_bytes"), 1);
}

#[test]
fn a_refused_request_has_its_answer_and_an_orderly_end() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).shards(2).start();
    backend.on("/connect", |_| support::Response::json("\"no\""));
    let tls = Tls::trusting(&authority);
    for (handshake, status) in [
        (Handshake::new("CP1"), 403),
        (Handshake::target("/"), 404),
        (Handshake::new("CP2").without("Upgrade"), 400),
        (Handshake::new("CP3").start("nonsense"), 400),
    ] {
        let mut stream = tls.connect(address(&proxy));
        stream.write_all(&handshake.bytes()).unwrap();
        let mut answer = String::new();
        // That it ends without close_notify would be an error.
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[test]
fn handshakes_that_are_never_finished_make_room() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).set("handshakes_max", "4").start();
    // The front of a ClientHello, and nothing more.
    let stuck: Vec<TcpStream> = (0..12)
        .map(|number| {
            let mut socket = TcpStream::connect(address(&proxy)).unwrap();
            socket.write_all(&[22, 3, 1, 1, 0, 1, 0][..number % 7 + 1]).unwrap();
            socket
        })
        .collect();
    let mut client = open(&Tls::trusting(&authority), &proxy, "CP1");
    client.call(1);
    assert!(proxy.count_where("upgrades_refused", "made_room") > 0);
    drop(stuck);
}

#[test]
fn more_handshakes_than_the_rate_are_closed_before_anything_is_computed() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority)
        .set("tls_handshakes_per_second_max", "1")
        .start();
    let tls = Tls::trusting(&authority);
    let refused = (0..200).filter(|_| tls.try_connect(address(&proxy)).is_err()).count();
    assert!(refused > 0, "200 in far less than 200 s");
    assert_eq!(
        proxy.count_where("upgrades_refused", "tls_handshakes_per_second_max"),
        refused as u64
    );
    // The other port knows no such bound.
    proxy.client("CP1").call(1);
}

#[test]
fn a_client_that_does_not_read_gets_all_of_it_in_the_end() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority)
        .set("send_queue_bytes", "64MiB")
        .set("calls_in_flight", "8")
        .start();
    let mut client = open(&Tls::trusting(&authority), &proxy, "CP1");
    let payload = format!("{{\"s\":\"{}\"}}", "y".repeat(900_000));
    for number in 0..8 {
        client.send_call(&number.to_string(), "Echo", &payload);
    }
    backend.wait_seen("/call", 8);
    let mut answered = HashSet::new();
    for _ in 0..8 {
        let answer = client.text();
        assert!(answer.ends_with(&format!("{payload}]")));
        answered.insert(answer[..6].to_owned());
    }
    assert_eq!(answered.len(), 8);
    client.close(1000, "");
}

#[test]
fn there_may_be_tls_alone() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).set("listen", "").start();
    assert_eq!(proxy.listen.port(), 0, "there is no other listener");
    open(&Tls::trusting(&authority), &proxy, "CP1").call(1);
}

#[test]
fn half_closed_and_reset_connections_are_at_their_end() {
    let (backend, authority) = (Backend::start(), Authority::new("authority"));
    let proxy = with_tls(&backend, &authority).start();
    let tls = Tls::trusting(&authority);
    for part in ["", "GET / HT"] {
        let mut stream = tls.connect(address(&proxy));
        stream.write_all(part.as_bytes()).unwrap();
        stream.socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.socket.read_to_end(&mut rest);
    }
    proxy.wait_count_where("upgrades_refused", "unfinished", 2);
    open(&tls, &proxy, "CP1").reset();
    told(&backend, "/disconnect", "CP1");
    let mut http = Http::connect(address(&proxy));
    http.connection.stream.shutdown(Shutdown::Write);
    http.expect_end();
}

/// The certificate itself.
fn der(certificate: &Certificate) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(certificate.chain.as_bytes())
        .unwrap()
        .to_vec()
}

#[test]
fn check_says_what_is_wrong_with_certificates() {
    let (folder, authority) = (folder(), Authority::new("authority"));
    let check = |files: &str| {
        let config = folder.join("check.toml");
        let text = format!("listen_tls = \"127.0.0.1:0\"\ntls_certificates = {files}\n");
        std::fs::write(&config, text).unwrap();
        let (code, stdout, stderr) = support::program::run(&["check", config.to_str().unwrap()]);
        (code, stdout, stderr)
    };
    let issue = |name: &str, wanted: Wanted| authority.issue(wanted).save(&folder, name);
    let good = issue("good", Wanted::server(&["a.example", "b.example"]));
    let (code, stdout, stderr) = check(&good);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("good.pem: ECDSA, for a.example, b.example; it expires in"),
        "{stdout}"
    );

    let expired = issue("old", Wanted::server(&["a.example"]).valid((2020, 1, 1), (2021, 1, 1)));
    let early = issue(
        "early",
        Wanted::server(&["a.example"]).valid((2500, 1, 1), (2600, 1, 1)),
    );
    let nameless = issue("nameless", Wanted::client(""));
    let open = folder.join("good.key");
    for (files, words) in [
        (&expired, "old.pem: it has expired, 2021-01-01T00:00:00Z"),
        (&early, "early.pem: it is not good yet"),
        (&nameless, "nameless.pem: it names no host"),
        (&good, "good.key: every user of this machine can read this key"),
    ] {
        let (code, _, stderr) = check(files);
        assert!(code == 0 && stderr.contains(words), "{words}: {stderr}");
    }
    let weak = |name: &str| {
        let place = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/support/weak")
            .join(name);
        format!("{{ chain = \"{0}.pem\", key = \"{0}.key\" }}", place.display())
    };
    let (code, _, stderr) = check(&weak("sha1"));
    for words in [
        "its certificate 1 is signed with SHA-1",
        "its certificate 2 has an RSA key of 1024 bits",
    ] {
        assert!(code == 0 && stderr.contains(words), "{words}: {stderr}");
    }
    let (code, _, stderr) = check(&weak("small"));
    assert!(
        code == 1 && stderr.contains("small.key: an RSA key of 1024 bits can't be used: 2048 at least"),
        "{stderr}"
    );
    let chain = folder.join("good.pem");
    let reversed = format!("{}{}", authority.pem(), std::fs::read_to_string(&chain).unwrap());
    let own = std::fs::read_to_string(&chain).unwrap();
    std::fs::write(&chain, format!("{own}{own}")).unwrap();
    let (_, _, stderr) = check(&good);
    assert!(
        stderr.contains("its certificate 1 was not issued by its certificate 2"),
        "{stderr}"
    );

    let replace = |what: &str| std::fs::write(&chain, what).unwrap();
    for (text, words) in [
        (&*reversed, "is not that of the certificate"),
        ("", "there is no certificate in it"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "good.pem",
        ),
    ] {
        replace(text);
        let (code, _, stderr) = check(&good);
        assert!(code == 1 && stderr.contains(words), "{words}: {stderr}");
    }
    replace(&own);
    std::fs::write(&open, "no key").unwrap();
    let (code, _, stderr) = check(&good);
    assert!(
        code == 1 && stderr.contains("there is no private key in it"),
        "{stderr}"
    );
    std::fs::remove_file(&open).unwrap();
    let (code, _, stderr) = check(&good);
    assert!(code == 1 && stderr.contains("good.key: No such file"), "{stderr}");
    assert!(check("[]").2.contains("set tls_certificates, too"));
}

#[test]
fn the_demo_makes_a_certificate_and_says_how_to_trust_it() {
    let proxy = Proxy::demo().arg("--tls").start();
    let address = address(&proxy);
    let lines = eventually("the guide", || {
        let lines = proxy.stdout();
        lines.iter().any(|line| line.contains("python3 -c")).then_some(lines)
    });
    let file = lines.iter().find_map(|line| line.split("-CAfile ").nth(1)).unwrap();
    let file = PathBuf::from(file.split(' ').next().unwrap());
    let trusted = Certificate {
        chain: std::fs::read_to_string(&file).unwrap(),
        key: String::new(),
    };
    let tls = Tls::trusting_itself(&trusted);
    let mut client = tls.open(&Handshake::new("CP1").subprotocols("ocpp1.6"), address);
    client.call(1);
    assert!(lines.iter().any(|line| line.contains("wscat -c wss://localhost:")));
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
}
