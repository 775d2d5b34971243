//! The backend is told of a client's TLS what a load balancer knows: `header-11` to `header-13`.

use support::proxy_protocol::{header, ssl, value};
use support::{Backend, Builder, Client, Handshake, Http, Proxy, Request, percent_encode};

const NAMES: [&str; 4] = [
    "X-Tls-Version",
    "X-Tls-Cipher",
    "X-Client-Cert-Cn",
    "X-Client-Cert-Verified",
];

/// A node behind a balancer that ends TLS.
fn behind_a_balancer(backend: &Backend) -> Builder {
    Proxy::with(backend).shards(2).set("proxy_protocol", "true")
}

/// What a balancer says of a TLS 1.3 client; `client` and `verify` are those of the specification, 2.2.6.
fn tls(client: u8, verify: u32, common_name: Option<&[u8]>) -> Vec<u8> {
    let mut values = vec![value(0x21, b"TLSv1.3"), value(0x23, b"TLS_AES_256_GCM_SHA384")];
    values.extend(common_name.map(|name| value(0x22, name)));
    ssl(client, verify, &values)
}

fn connect(proxy: &Proxy, values: &[u8], handshake: &Handshake) -> Http {
    let mut http = Http::connect(proxy.listen);
    http.send([header([203, 0, 113, 8], values), handshake.bytes()].concat());
    http
}

fn told(request: &Request) -> [Option<&str>; 4] {
    NAMES.map(|name| {
        assert!(request.head.count(name) <= 1, "{request:?}");
        request.header(name)
    })
}

#[test]
fn the_backend_is_told_what_the_balancer_knows_of_a_clients_tls() {
    let backend = Backend::start();
    let proxy = behind_a_balancer(&backend).start();
    let (version, cipher) = (Some("TLSv1.3"), Some("TLS_AES_256_GCM_SHA384"));
    // Names of both shards: the facts travel with those that are handed over.
    for number in 0..8 {
        let id = format!("Ladesäule {number}");
        let cn = percent_encode(&id);
        let named = Some(id.as_bytes());
        for (values, expected) in [
            (tls(0x07, 0, named), [version, cipher, Some(&*cn), Some("true")]),
            // A resumed session.
            (tls(0x05, 0, named), [version, cipher, Some(&*cn), Some("true")]),
            // What nobody has verified is the client's own word.
            (tls(0x07, 18, named), [version, cipher, None, Some("false")]),
            (tls(0x01, 0, None), [version, cipher, None, None]),
            (
                ssl(0x01, 0, &[value(0x21, b"TLSv1.2")]),
                [Some("TLSv1.2"), None, None, None],
            ),
            (ssl(0, 0, &[]), [None; 4]),
            (vec![], [None; 4]),
        ] {
            let mut client = Client::upgrade(connect(&proxy, &values, &Handshake::new(&id)));
            assert_eq!(told(&backend.take("/connect")), expected, "{}", values.escape_ascii());
            // Of use to whoever lets it in, and told to nobody else.
            client.send_call("m1", "Echo", "{}");
            client.text();
            assert_eq!(told(&backend.take("/call")), [None; 4]);
        }
    }
}

#[test]
fn nothing_that_a_client_writes_passes_for_its_tls() {
    let backend = Backend::start();
    let proxy = behind_a_balancer(&backend).set("trusted_proxies", "127.0.0.1").start();
    let forged = NAMES.iter().fold(Handshake::new("CP1"), |handshake, name| {
        handshake.header(name, "forged")
    });
    let values = tls(0x01, 0, None);
    Client::upgrade(connect(&proxy, &values, &forged));
    let expected = [Some("TLSv1.3"), Some("TLS_AES_256_GCM_SHA384"), None, None];
    assert_eq!(told(&backend.take("/connect")), expected);
    Client::upgrade(connect(&proxy, &[], &forged));
    assert_eq!(told(&backend.take("/connect")), [None; 4]);
}

#[test]
fn a_verified_certificate_opens_the_connection_of_its_cn_and_no_other() {
    let backend = Backend::start();
    let strict = behind_a_balancer(&backend).start();
    let others = [
        Some(&b"CP2"[..]),
        Some(b"cp1"),
        Some(b"CP1\0"),
        Some(b"\xff\r\n"),
        Some(b""),
        None,
    ];
    for name in others {
        let reply = connect(&strict, &tls(0x07, 0, name), &Handshake::new("CP1")).any_reply();
        assert_eq!(reply.status, 403, "{name:?}");
        assert!(reply.body.contains("certificate"), "{reply:?}");
    }
    assert_eq!(strict.count_where("upgrades_refused", "certificate"), 6);
    assert_eq!(backend.seen("/connect").len(), 0);
    let lenient = behind_a_balancer(&backend).set("tls_cn_is_client_id", "false").start();
    let other = tls(0x07, 0, Some(b"CP2\r\n"));
    Client::upgrade(connect(&lenient, &other, &Handshake::new("CP1")));
    let told = backend.take("/connect").header("x-client-cert-cn").map(str::to_owned);
    assert_eq!(told.as_deref(), Some("CP2%0D%0A"), "no byte of it breaks the header");
}

#[test]
fn words_on_tls_that_are_broken_or_said_twice_end_the_connection() {
    let backend = Backend::start();
    let proxy = behind_a_balancer(&backend).start();
    let one = tls(0x01, 0, None);
    let broken = [
        [&*one, &one].concat(),
        ssl(0x01, 0, &[value(0x21, b"TLSv1.3"), value(0x21, b"TLSv1.2")]),
        ssl(0x01, 0, &[value(0x21, b"a\r\nX-Client-Id: b")]),
        ssl(0x01, 0, &[]),
        tls(0x07, 0, Some(&b"n".repeat(256))),
        value(0x20, b"\x01"),
        b"\x20\0\x40".to_vec(),
    ];
    for values in &broken {
        connect(&proxy, values, &Handshake::new("CP1")).expect_end();
    }
    let count = proxy.count_where("proxy_headers_bad", "listen_missing");
    assert_eq!(count, broken.len() as u64);
    assert_eq!(backend.seen("/connect").len(), 0);
}

#[test]
fn only_the_balancer_is_believed_what_it_says_of_tls() {
    let backend = Backend::start();
    let proxy = behind_a_balancer(&backend)
        .set("proxy_protocol_from", "192.0.2.1")
        .start();
    connect(&proxy, &tls(0x07, 0, Some(b"CP1")), &Handshake::new("CP1")).expect_end();
    assert_eq!(backend.seen("/connect").len(), 0);
}
