//! Hostile bytes on every listener (broken, smuggled, oversize, dripped, pipelined, sent before the 101) leave nothing
//! behind: `bound-6`, `upgrade-3`, `http-7`.
//!
//! Each attack gets one answer that says no and the end of the connection, or the end alone. Nothing of it reaches the
//! backend or a client, whoever behaves is served afterwards, and no socket, timer or descriptor stays behind.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::{Backend, Client, DEADLINE, Handshake, Proxy, eventually};

/// What an attacker sends, and the answer: a status, or none (0).
type Case = (&'static str, Vec<u8>, u16);

/// The connection ends without an answer.
const SILENCE: u16 = 0;

/// Whoever behaves: a client that would see any push that an attack smuggled in.
struct Bystander {
    client: Client,
    calls: usize,
}

impl Bystander {
    fn new(proxy: &Proxy) -> Self {
        Bystander {
            client: proxy.client("bystander"),
            calls: 0,
        }
    }

    /// The next frame that it gets is the answer to its own Call.
    #[track_caller]
    fn is_served(&mut self) {
        self.calls += 1;
        let id = format!("own-{}", self.calls);
        self.client.send_call(&id, "Echo", "{\"a\":1}");
        self.client.expect(&format!("[3,\"{id}\",{{\"a\":1}}]"));
    }
}

/// Every byte that comes back until the end of the connection.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    // Who is refused early may find the connection closed before all was written.
    let _ = stream.write_all(bytes);
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return answer,
            Ok(len) => answer.extend_from_slice(&piece[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return answer,
            Err(error) => panic!("the connection stays open: {error}; so far {}", answer.escape_ascii()),
        }
    }
}

/// One answer with that status that announces the end, and nothing after it; `SILENCE`: nothing at all.
#[track_caller]
fn assert_refused(what: &str, answer: &[u8], status: u16) {
    let text = String::from_utf8_lossy(answer);
    if status == SILENCE {
        assert!(answer.is_empty(), "{what}: {text}");
        return;
    }
    let head_end = text.find("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {text:?}"));
    let (head, body) = text.split_at(head_end + 4);
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{what}: {text}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{what}: {text}");
    let length = head
        .split("\r\ncontent-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next());
    assert_eq!(
        length,
        Some(&*body.len().to_string()),
        "{what}: one answer alone: {text}"
    );
}

/// Runs the cases one after the other, then sees to it that all is as before.
#[track_caller]
fn attack(listener: fn(&Proxy) -> SocketAddr, cases: &[Case]) -> usize {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut bystander = Bystander::new(&proxy);
    bystander.is_served();
    let before = settled(&proxy);
    let shared = proxy.shared_descriptors();
    let names: HashSet<_> = cases.iter().map(|(what, ..)| what).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    for (what, bytes, status) in cases {
        let answer = answer_to(listener(&proxy), bytes);
        assert_refused(what, &answer, *status);
        bystander.is_served();
    }
    assert_backend_saw_only(&backend, "bystander");
    assert_nothing_leaked(&proxy, &before);
    // Scrapes come and go, so there may have been more before.
    eventually(&format!("{shared} descriptors outside the shards"), || {
        (proxy.shared_descriptors() <= shared).then_some(())
    });
    // New ones get in, too.
    let mut newcomer = proxy.client("newcomer");
    newcomer.send_call("n", "Echo", "{}");
    newcomer.expect("[3,\"n\",{}]");
    cases.len()
}

#[track_caller]
fn assert_backend_saw_only(backend: &Backend, client: &str) {
    for request in backend.seen("/") {
        assert_eq!(request.header("x-client-id"), Some(client), "{request:?}");
        assert!(
            request.target == "/connect" || request.target.starts_with("/call/Echo/"),
            "{request:?}"
        );
    }
}

/// What a leak would show in: sockets, timers, handshakes, connections, and descriptors.
#[derive(Debug, PartialEq)]
struct Holdings {
    gauges: Vec<(&'static str, Vec<f64>)>,
    /// Of each shard.
    descriptors: Vec<usize>,
}

const GAUGES: &[&str] = &[
    "clients",
    "handshakes",
    "ingress_connections",
    "backend_connections",
    "backend_waiting",
    "push_waits",
    "sockets",
    "timers",
];

fn holdings(proxy: &Proxy) -> Holdings {
    Holdings {
        gauges: GAUGES.iter().map(|name| (*name, proxy.metric(name))).collect(),
        descriptors: proxy.descriptors(),
    }
}

/// The holdings once two looks agree.
fn settled(proxy: &Proxy) -> Holdings {
    let mut last = holdings(proxy);
    eventually("the proxy to settle", || {
        let before = std::mem::replace(&mut last, holdings(proxy));
        (before == last).then_some(())
    });
    last
}

#[track_caller]
fn assert_nothing_leaked(proxy: &Proxy, before: &Holdings) {
    let started = Instant::now();
    loop {
        let now = settled(proxy);
        if now == *before {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "{before:?} before, {now:?} now");
    }
}

/// The request lines, broken.
const HANDSHAKE_LINES: &[(&str, &str, u16)] = &[
    ("lower-case method", "get /CP1 HTTP/1.1", 405),
    ("unknown method", "PROPFIND /CP1 HTTP/1.1", 405),
    ("CONNECT", "CONNECT backend:80 HTTP/1.1", 400),
    ("TRACE", "TRACE /CP1 HTTP/1.1", 405),
    ("two spaces after the method", "GET  /CP1 HTTP/1.1", 400),
    ("two spaces before the version", "GET /CP1  HTTP/1.1", 400),
    ("a tab for a space", "GET\t/CP1 HTTP/1.1", 400),
    ("a space at the end", "GET /CP1 HTTP/1.1 ", 400),
    ("a space at the beginning", " GET /CP1 HTTP/1.1", 400),
    ("no version", "GET /CP1", 400),
    ("no target", "GET HTTP/1.1", 400),
    ("HTTP/0.9", "GET /CP1 HTTP/0.9", 505),
    ("HTTP/1.2", "GET /CP1 HTTP/1.2", 505),
    ("HTTP/2.0", "GET /CP1 HTTP/2.0", 505),
    ("HTTP/1.1x", "GET /CP1 HTTP/1.1x", 400),
    ("lower-case http", "GET /CP1 http/1.1", 400),
    ("HTTP/01.1", "GET /CP1 HTTP/01.1", 400),
    ("a control byte in the target", "GET /CP\x01 HTTP/1.1", 400),
    ("DEL in the target", "GET /CP\x7f HTTP/1.1", 400),
    ("raw UTF-8 in the target", "GET /CP\u{e9} HTTP/1.1", 400),
    ("a fragment", "GET /CP1#x HTTP/1.1", 400),
    ("a backslash", "GET /a\\CP1 HTTP/1.1", 400),
    ("the asterisk form", "GET * HTTP/1.1", 400),
    ("the authority form", "GET backend:80 HTTP/1.1", 400),
    (
        "an absolute form of another scheme",
        "GET ftp://backend/CP1 HTTP/1.1",
        400,
    ),
    ("no leading slash", "GET CP1 HTTP/1.1", 400),
    ("an empty id", "GET / HTTP/1.1", 404),
    ("slashes alone", "GET // HTTP/1.1", 404),
    ("two segments", "GET /a/CP1 HTTP/1.1", 404),
    ("two segments and two slashes", "GET /a//CP1 HTTP/1.1", 404),
    ("an encoded NUL", "GET /CP%00 HTTP/1.1", 404),
    ("an encoded line end", "GET /CP%0d%0aX HTTP/1.1", 404),
    ("an encoded slash", "GET /a%2FCP1 HTTP/1.1", 404),
    ("an encoded backslash", "GET /a%5CCP1 HTTP/1.1", 404),
    ("a dot", "GET /. HTTP/1.1", 404),
    ("two dots", "GET /.. HTTP/1.1", 404),
    ("encoded dots", "GET /%2e%2E HTTP/1.1", 404),
    ("half an escape", "GET /CP% HTTP/1.1", 404),
    ("no hexadecimal", "GET /CP%zz HTTP/1.1", 404),
    ("broken UTF-8", "GET /CP%ff HTTP/1.1", 404),
    ("overlong UTF-8", "GET /CP%c0%ae HTTP/1.1", 404),
    ("a surrogate", "GET /CP%ed%a0%80 HTTP/1.1", 404),
];

/// Header lines that a good handshake gets in addition.
const HANDSHAKE_HEADERS: &[(&str, &str, u16)] = &[
    ("obs-fold", "X-A: a\r\n b\r\n", 400),
    ("obs-fold with a tab", "X-A: a\r\n\tb\r\n", 400),
    ("a fold of nothing", "X-A: a\r\n \r\n", 400),
    ("a space before the colon", "X-A : a\r\n", 400),
    ("a tab before the colon", "X-A\t: a\r\n", 400),
    ("no colon", "X-A\r\n", 400),
    ("an empty name", ": a\r\n", 400),
    ("a space in the name", "X A: a\r\n", 400),
    ("a NUL in the name", "X\0A: a\r\n", 400),
    ("a NUL in the value", "X-A: a\0b\r\n", 400),
    ("a bare CR in the value", "X-A: a\rb\r\n", 400),
    ("a bare LF in the value", "X-A: a\nb: c\r\n", 400),
    ("a bare LF at the end", "X-A: a\n", 400),
    ("two CR at the end", "X-A: a\r\r\n", 400),
    ("a vertical tab", "X-A: \x0b\r\n", 400),
    ("a name with a bracket", "X(A: a\r\n", 400),
    ("a second Host", "Host: other\r\n", 400),
    ("a second key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
    ("a second version", "Sec-WebSocket-Version: 8\r\n", 426),
    (
        "both lengths",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        400,
    ),
    (
        "two lengths that agree",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        400,
    ),
    (
        "two lengths that do not",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        400,
    ),
    ("a negative length", "Content-Length: -1\r\n", 400),
    ("a signed length", "Content-Length: +0\r\n", 400),
    ("a hexadecimal length", "Content-Length: 0x0\r\n", 400),
    ("a list of lengths", "Content-Length: 0, 0\r\n", 400),
    ("an endless length", "Content-Length: 99999999999999999999999\r\n", 400),
    ("an unknown coding", "Transfer-Encoding: gzip\r\n", 501),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n", 400),
    (
        "two codings",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        400,
    ),
    ("chunked with a tab", "Transfer-Encoding: \x0bchunked\r\n", 400),
];

fn opening() -> Vec<u8> {
    Handshake::new("CP1").bytes()
}

fn text_of(handshake: &Handshake) -> String {
    String::from_utf8(handshake.bytes()).unwrap()
}

fn handshake_cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (what, line, status) in HANDSHAKE_LINES {
        cases.push((what, Handshake::new("CP1").start(line).bytes(), *status));
    }
    for (what, lines, status) in HANDSHAKE_HEADERS {
        let text = text_of(&Handshake::new("CP1"));
        let (start, rest) = text.split_once("\r\n").unwrap();
        cases.push((what, format!("{start}\r\n{lines}{rest}").into_bytes(), *status));
    }
    cases.push(("an empty line before", [b"\r\n", &opening()[..]].concat(), 400));
    cases.push((
        "line feeds alone",
        text_of(&Handshake::new("CP1")).replace("\r\n", "\n").into_bytes(),
        400,
    ));
    cases.push((
        "the last line end bare",
        text_of(&Handshake::new("CP1"))
            .replace("\r\n\r\n", "\r\n\n")
            .into_bytes(),
        400,
    ));
    // Other protocols.
    cases.push((
        "a TLS hello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random".to_vec(),
        400,
    ));
    cases.push((
        "the preface of HTTP/2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        505,
    ));
    cases.push(("an SSH banner", b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(), 400));
    cases.push(("MQTT", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00".to_vec(), 400));
    cases.push((
        "PROXY protocol unasked",
        [b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", &opening()[..]].concat(),
        400,
    ));
    cases.push((
        "PROXY protocol v2 unasked",
        [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", &opening()[..]].concat(),
        400,
    ));
    cases.push(("zeros", vec![0; 4096], 400));
    cases.push(("all bytes", (0..=255).collect(), 400));
    cases.push((
        "a WebSocket frame",
        support::client::frame_bytes(true, 1, b"[2,\"1\",\"Echo\",{}]"),
        400,
    ));
    // Too much.
    let oversize = [
        (
            "a target that never ends",
            [b"GET /".to_vec(), vec![b'a'; 70_000]].concat(),
            431,
        ),
        ("a method that never ends", vec![b'A'; 70_000], 431),
        (
            "a header that never ends",
            text_of(&Handshake::new("CP1").header("X-A", &"a".repeat(70_000))).into_bytes(),
            431,
        ),
        (
            "a name that never ends",
            text_of(&Handshake::new("CP1").header(&"a".repeat(70_000), "a")).into_bytes(),
            431,
        ),
        ("an id of 129 bytes", Handshake::new(&"a".repeat(129)).bytes(), 404),
        ("an id of 8000 bytes", Handshake::new(&"a".repeat(7900)).bytes(), 404),
    ];
    cases.extend(oversize);
    let mut many = Handshake::new("CP1");
    for number in 0..200 {
        many = many.header(&format!("X-{number}"), "a");
    }
    cases.push(("two hundred headers", many.bytes(), 431));
    let brim = |len: usize| {
        let without = Handshake::new("CP1").header("X-A", "").bytes().len();
        Handshake::new("CP1").header("X-A", &"a".repeat(len - without)).bytes()
    };
    cases.push(("a head of one byte more than 8 KiB", brim(8193), 431));
    // Before the 101, and smuggled in with the request.
    let after: &[(&'static str, &[u8], u16)] = &[
        ("a byte before the 101", b"x", 400),
        ("a frame before the 101", b"\x81\x80\0\0\0\0", 400),
        ("a line end before the 101", b"\r\n", 400),
        (
            "another handshake before the 101",
            b"GET /CP2 HTTP/1.1\r\nHost: t\r\n\r\n",
            400,
        ),
        (
            "a push before the 101",
            b"POST /call/Smuggled/bystander/s1 HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}",
            400,
        ),
        ("a NUL before the 101", b"\0", 400),
    ];
    for (what, bytes, status) in after {
        cases.push((what, Handshake::new("CP1").followed_by(bytes).bytes(), *status));
    }
    let smuggled = b"GET /CP2 HTTP/1.1\r\nHost: t\r\n\r\n";
    let with_body = |handshake: Handshake, body: &[u8]| handshake.followed_by(body).bytes();
    cases.push((
        "a request in a body",
        with_body(
            Handshake::new("CP1").header("Content-Length", &smuggled.len().to_string()),
            smuggled,
        ),
        400,
    ));
    cases.push((
        "a request after a chunked body",
        with_body(
            Handshake::new("CP1").header("Transfer-Encoding", "chunked"),
            &[b"0\r\n\r\n", &smuggled[..]].concat(),
        ),
        400,
    ));
    cases.push((
        "a request after no body",
        with_body(Handshake::new("CP1").header("Content-Length", "0"), smuggled),
        400,
    ));
    cases.push(("the request twice", [opening(), opening()].concat(), 400));
    cases.push((
        "refused and then another",
        [Handshake::target("/").bytes(), opening()].concat(),
        400,
    ));
    cases.push((
        "no upgrade and then one",
        [b"GET /CP1 HTTP/1.1\r\nHost: t\r\n\r\n".to_vec(), opening()].concat(),
        400,
    ));
    cases.push((
        "POST and then an upgrade",
        [
            b"POST /CP1 HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n".to_vec(),
            opening(),
        ]
        .concat(),
        405,
    ));
    cases
}

#[test]
fn hostile_handshakes_are_refused_and_leave_nothing_behind() {
    let cases = handshake_cases();
    assert!(attack(|proxy| proxy.listen, &cases) >= 95, "{} cases", cases.len());
}

/// What is smuggled: a push that the bystander would see.
const SMUGGLED: &str = "POST /call/Smuggled/bystander/s1 HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Start lines of a push, broken.
const PUSH_LINES: &[(&str, &str, u16)] = &[
    ("two spaces after the method", "POST  /call/A/bystander/m HTTP/1.1", 400),
    (
        "two spaces before the version",
        "POST /call/A/bystander/m  HTTP/1.1",
        400,
    ),
    ("a tab for a space", "POST\t/call/A/bystander/m HTTP/1.1", 400),
    ("no version", "POST /call/A/bystander/m", 400),
    ("HTTP/2.0", "POST /call/A/bystander/m HTTP/2.0", 505),
    ("HTTP/1.10", "POST /call/A/bystander/m HTTP/1.10", 400),
    (
        "an absolute form of another scheme",
        "POST ftp://x/call/A/bystander/m HTTP/1.1",
        400,
    ),
    ("a NUL in the target", "POST /call/A/bystander/m\0 HTTP/1.1", 400),
    ("a fragment", "POST /call/A/bystander/m#f HTTP/1.1", 400),
    ("raw UTF-8", "POST /call/A/bystander/\u{e9} HTTP/1.1", 400),
    ("a bare CR", "POST /call/A/bystander/m\rX HTTP/1.1", 400),
];

/// Header lines of a push besides `Host`, and its body: the framing has two readings, or none.
const PUSH_FRAMINGS: &[(&str, &str, &str, u16)] = &[
    (
        "CL.TE",
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "0\r\n\r\nP",
        400,
    ),
    (
        "TE.CL",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "2\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    (
        "TE.TE with a space",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding : x",
        "0\r\n\r\n",
        400,
    ),
    (
        "TE.TE",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
        400,
    ),
    (
        "chunked, identity",
        "Transfer-Encoding: chunked, identity",
        "0\r\n\r\n",
        400,
    ),
    (
        "identity, chunked",
        "Transfer-Encoding: identity, chunked",
        "0\r\n\r\n",
        501,
    ),
    ("xchunked", "Transfer-Encoding: xchunked", "0\r\n\r\n", 501),
    ("chunked in quotes", "Transfer-Encoding: \"chunked\"", "0\r\n\r\n", 400),
    (
        "chunked behind a vertical tab",
        "Transfer-Encoding: \x0bchunked",
        "0\r\n\r\n",
        400,
    ),
    (
        "chunked with a parameter",
        "Transfer-Encoding: chunked;q=1",
        "0\r\n\r\n",
        400,
    ),
    ("chunked after a comma", "Transfer-Encoding: ,chunked", "0\r\n\r\n", 400),
    ("an empty coding", "Transfer-Encoding:", "0\r\n\r\n", 400),
    ("a folded coding", "Transfer-Encoding:\r\n chunked", "0\r\n\r\n", 400),
    (
        "the coding's name with a space",
        "Transfer-Encoding : chunked",
        "0\r\n\r\n",
        400,
    ),
    (
        "the coding's name with a NUL",
        "Transfer-Encoding\0: chunked",
        "0\r\n\r\n",
        400,
    ),
    ("the length's name with a space", "Content-Length : 2", "{}", 400),
    (
        "two lengths that agree",
        "Content-Length: 2\r\nContent-Length: 2",
        "{}",
        400,
    ),
    (
        "two lengths that do not",
        "Content-Length: 2\r\nContent-Length: 0",
        "{}",
        400,
    ),
    ("a list of lengths", "Content-Length: 2, 2", "{}", 400),
    ("a signed length", "Content-Length: +2", "{}", 400),
    ("a negative length", "Content-Length: -2", "{}", 400),
    ("a hexadecimal length", "Content-Length: 0x2", "{}", 400),
    ("an octal-looking length with a blank", "Content-Length: 0 2", "{}", 400),
    ("a length with a point", "Content-Length: 2.0", "{}", 400),
    ("an empty length", "Content-Length:", "{}", 400),
    (
        "a length of 20 digits",
        "Content-Length: 18446744073709551618",
        "{}",
        400,
    ),
    ("a folded length", "Content-Length:\r\n 2", "{}", 400),
    ("a length with a NUL", "Content-Length: 2\0", "{}", 400),
    ("a length with a bare LF", "Content-Length: 2\nX: y", "{}", 400),
    ("a length above the limit", "Content-Length: 1048577", "{}", 413),
    (
        "a length above everything",
        "Content-Length: 9999999999999999999",
        "{}",
        413,
    ),
];

/// Bodies of a chunked push, broken; what follows must not be read as a request.
const PUSH_CHUNKS: &[(&str, &str, u16)] = &[
    ("no size", "\r\n{}\r\n0\r\n\r\n", 400),
    ("a size with a sign", "+2\r\n{}\r\n0\r\n\r\n", 400),
    ("a negative size", "-2\r\n{}\r\n0\r\n\r\n", 400),
    ("a size with 0x", "0x2\r\n{}\r\n0\r\n\r\n", 400),
    ("a size with a space before", " 2\r\n{}\r\n0\r\n\r\n", 400),
    ("a size with a space after", "2 \r\n{}\r\n0\r\n\r\n", 400),
    ("a size that is no number", "g\r\n{}\r\n0\r\n\r\n", 400),
    ("a size with an underscore", "0_2\r\n{}\r\n0\r\n\r\n", 400),
    ("a size of nine digits", "000000002\r\n{}\r\n0\r\n\r\n", 400),
    ("a size above 64 bits", "10000000000000002\r\n{}\r\n0\r\n\r\n", 400),
    ("a size above the limit", "100001\r\n{}\r\n0\r\n\r\n", 413),
    ("a size too small", "1\r\n{}\r\n0\r\n\r\n", 400),
    ("a size too large", "3\r\n{}\r\n0\r\n\r\n", 400),
    ("a bare LF after the size", "2\n{}\r\n0\r\n\r\n", 400),
    ("a bare CR after the size", "2\r{}\r\n0\r\n\r\n", 400),
    ("a bare LF after the data", "2\r\n{}\n0\r\n\r\n", 400),
    ("no line end after the data", "2\r\n{}0\r\n\r\n", 400),
    ("a bare LF in an extension", "2;a\nb\r\n{}\r\n0\r\n\r\n", 400),
    ("a NUL in an extension", "2;a\0\r\n{}\r\n0\r\n\r\n", 400),
    ("a bare LF at the end", "2\r\n{}\r\n0\r\n\n", 400),
    ("a bare LF after the last size", "2\r\n{}\r\n0\n\r\n", 400),
    ("a trailer without a colon", "2\r\n{}\r\n0\r\nX\r\n\r\n", 400),
    ("a folded trailer", "2\r\n{}\r\n0\r\nX: a\r\n b\r\n\r\n", 400),
    ("a space before a trailer's colon", "2\r\n{}\r\n0\r\nX : a\r\n\r\n", 400),
    ("a NUL in a trailer", "2\r\n{}\r\n0\r\nX: \0\r\n\r\n", 400),
];

/// Header lines besides a good length of 2.
const PUSH_HEADERS: &[(&str, &str, u16)] = &[
    ("obs-fold", "X-A: a\r\n b", 400),
    ("a header without a colon", "X-A", 400),
    ("a header without a name", ": a", 400),
    ("a header's name with a space", "X A: a", 400),
    ("a header with a NUL", "X-A: \0", 400),
    ("a header with a bare CR", "X-A: a\rb", 400),
    ("a header with a bare LF", "X-A: a\nb: c", 400),
    ("a second Host", "Host: other", 400),
    ("a Host that is none", "Host: a b", 400),
    ("a request line as a header", "GET / HTTP/1.1", 400),
];

fn push_cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let push = |line: &str, headers: &str, body: &str| -> Vec<u8> {
        let head = format!("{line}\r\nHost: t\r\nContent-Type: application/json\r\n{headers}\r\n\r\n");
        // What follows an attack must not be taken for a request.
        format!("{head}{body}{SMUGGLED}").into_bytes()
    };
    const LINE: &str = "POST /call/Broken/bystander/m HTTP/1.1";
    for (what, line, status) in PUSH_LINES {
        cases.push((what, push(line, "Content-Length: 2", "{}"), *status));
    }
    for (what, headers, body, status) in PUSH_FRAMINGS {
        cases.push((what, push(LINE, headers, body), *status));
    }
    for (what, body, status) in PUSH_CHUNKS {
        cases.push((what, push(LINE, "Transfer-Encoding: chunked", body), *status));
    }
    for (what, header, status) in PUSH_HEADERS {
        cases.push((
            what,
            push(LINE, &format!("Content-Length: 2\r\n{header}"), "{}"),
            *status,
        ));
    }
    let http10 = LINE.replace("HTTP/1.1", "HTTP/1.0");
    cases.push((
        "chunked in HTTP/1.0",
        push(&http10, "Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n"),
        400,
    ));
    cases.push((
        "no Host",
        format!("{LINE}\r\nContent-Length: 2\r\n\r\n{{}}{SMUGGLED}").into_bytes(),
        400,
    ));
    cases.push((
        "an empty line before",
        push(&format!("\r\n{LINE}"), "Content-Length: 2", "{}"),
        400,
    ));
    cases.push((
        "line feeds alone",
        push(LINE, "Content-Length: 2", "{}")
            .iter()
            .copied()
            .filter(|byte| *byte != b'\r')
            .collect(),
        400,
    ));
    cases.push((
        "a TLS hello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random".to_vec(),
        400,
    ));
    cases.push((
        "the preface of HTTP/2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        505,
    ));
    cases.push(("zeros", vec![0; 4096], 400));
    cases.push((
        "a header that never ends",
        push(LINE, &format!("X-A: {}", "a".repeat(70_000)), "{}"),
        431,
    ));
    cases.push((
        "a target that never ends",
        push(
            &format!("POST /{} HTTP/1.1", "a".repeat(70_000)),
            "Content-Length: 2",
            "{}",
        ),
        431,
    ));
    let many: Vec<_> = (0..200).map(|number| format!("X-{number}: a")).collect();
    cases.push(("two hundred headers", push(LINE, &many.join("\r\n"), "{}"), 431));
    let extension = format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(5000));
    cases.push((
        "extensions that never end",
        push(LINE, "Transfer-Encoding: chunked", &extension),
        400,
    ));
    let trailer = format!("2\r\n{{}}\r\n0\r\nX: {}\r\n\r\n", "x".repeat(5000));
    cases.push((
        "trailers that never end",
        push(LINE, "Transfer-Encoding: chunked", &trailer),
        400,
    ));
    let crumbs = "1;\r\n \r\n".repeat(5000);
    cases.push((
        "a crumb in each chunk",
        push(LINE, "Transfer-Encoding: chunked", &format!("{crumbs}0\r\n\r\n")),
        400,
    ));
    cases.push((
        "100-continue for too much",
        push(LINE, "Expect: 100-continue\r\nContent-Length: 1048577", ""),
        413,
    ));
    cases.push((
        "100-continue for no route",
        push(
            "POST /nowhere HTTP/1.1",
            "Expect: 100-continue\r\nContent-Length: 2",
            "{}",
        ),
        404,
    ));
    cases
}

#[test]
fn hostile_pushes_are_refused_and_leave_nothing_behind() {
    let cases = push_cases();
    assert!(attack(|proxy| proxy.ingress, &cases) >= 85, "{} cases", cases.len());
}

#[test]
fn hostile_requests_of_operators_are_refused_and_leave_nothing_behind() {
    let admin = |line: &str, rest: &str| format!("{line}\r\nHost: t\r\n{rest}\r\n\r\n").into_bytes();
    let cases: Vec<Case> = vec![
        ("a space before the colon", admin("GET /metrics HTTP/1.1", "X : a"), 400),
        ("obs-fold", admin("GET /metrics HTTP/1.1", "X: a\r\n b"), 400),
        (
            "both lengths",
            admin(
                "GET /metrics HTTP/1.1",
                "Content-Length: 0\r\nTransfer-Encoding: chunked",
            ),
            400,
        ),
        ("a NUL", admin("GET /metrics\0 HTTP/1.1", "X: a"), 400),
        ("line feeds alone", b"GET /metrics HTTP/1.1\nHost: t\n\n".to_vec(), 400),
        ("a head that never ends", vec![b'A'; 70_000], 431),
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random".to_vec(),
            400,
        ),
    ];
    assert!(attack(|proxy| proxy.admin, &cases) >= 7);
}

/// Cut short or dripped: each is ended by a deadline.
#[test]
fn whoever_does_not_finish_a_request_is_shown_out() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("handshake_timeout", "300ms")
        .start();
    let mut bystander = Bystander::new(&proxy);
    bystander.is_served();
    let before = settled(&proxy);
    let opening = opening();
    let push = |headers: &str, body: &str| {
        format!(
            "POST /call/A/bystander/m HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{headers}\r\n\r\n{body}"
        )
        .into_bytes()
    };
    let mut open = Vec::new();
    // A handshake is ended in silence, wherever it stops.
    for len in [0, 1, 3, 4, 9, 18, 19, 20, 40, opening.len() - 3, opening.len() - 1] {
        open.push((
            format!("{len} bytes of a handshake"),
            proxy.listen,
            opening[..len].to_vec(),
            SILENCE,
        ));
    }
    let whole = push("Content-Length: 2", "{}");
    for len in [1, 5, 30, 60, whole.len() - 3, whole.len() - 2, whole.len() - 1] {
        open.push((
            format!("{len} bytes of a push"),
            proxy.ingress,
            whole[..len].to_vec(),
            408,
        ));
    }
    for (what, headers, body) in [
        ("no body", "Content-Length: 2", ""),
        ("half a long body", "Content-Length: 1048576", &*"[".repeat(20_000)),
        ("no chunk", "Transfer-Encoding: chunked", ""),
        ("half a size", "Transfer-Encoding: chunked", "2"),
        ("half a chunk", "Transfer-Encoding: chunked", "2\r\n{"),
        ("no last chunk", "Transfer-Encoding: chunked", "2\r\n{}\r\n"),
        ("no last line", "Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n"),
        ("half a last line", "Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r"),
        ("half a trailer", "Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\nX: a"),
    ] {
        open.push((what.to_owned(), proxy.ingress, push(headers, body), 408));
    }
    let mut streams: Vec<_> = open
        .iter()
        .map(|(_, address, bytes, _)| {
            let mut stream = TcpStream::connect(*address).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(bytes).unwrap();
            stream
        })
        .collect();
    for ((what, _, _, status), stream) in open.iter().zip(&mut streams) {
        assert_refused(what, &rest(stream), *status);
    }
    drop(streams);
    // Whoever drips is not given more time for it.
    for (address, bytes, status) in [(proxy.listen, &opening, SILENCE), (proxy.ingress, &whole, 408)] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let answer = drip(&mut stream, bytes);
        assert_refused("dripped", &answer, status);
    }
    // Hung up in the middle, with a reset or without.
    for reset in [false, true] {
        for (_, address, bytes, _) in &open {
            let mut stream = TcpStream::connect(*address).unwrap();
            stream.write_all(bytes).unwrap();
            if reset {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            } else {
                stream.shutdown(Shutdown::Write).unwrap();
                rest(&mut stream);
            }
        }
    }
    bystander.is_served();
    assert_backend_saw_only(&backend, "bystander");
    assert_nothing_leaked(&proxy, &before);
}

/// One byte per read time-out, the last one held back, until the other side has had enough.
fn drip(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    let mut left = bytes[..bytes.len() - 1].iter();
    loop {
        if let Some(byte) = left.next()
            && stream.write_all(&[*byte]).is_err()
        {
            return answer;
        }
        match stream.read(&mut piece) {
            Ok(0) => return answer,
            Ok(len) => answer.extend_from_slice(&piece[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return answer,
        }
    }
}

#[test]
fn a_good_request_before_a_hostile_one_is_answered_and_nothing_after_it() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).start();
    let mut bystander = Bystander::new(&proxy);
    bystander.is_served();
    let before = settled(&proxy);
    let good = "GET /clients/bystander HTTP/1.1\r\nHost: t\r\n\r\n";
    let cases = push_cases();
    assert!(!cases.is_empty());
    for (what, bytes, status) in &cases {
        let answer = answer_to(proxy.ingress, &[good.as_bytes(), good.as_bytes(), bytes].concat());
        let mut rest = &*String::from_utf8(answer).unwrap();
        for _ in 0..2 {
            assert!(rest.starts_with("HTTP/1.1 200 "), "{what}: {rest}");
            let next = rest[1..].find("HTTP/1.1 ").unwrap_or_else(|| panic!("{what}: {rest}"));
            rest = &rest[next + 1..];
        }
        assert_refused(what, rest.as_bytes(), *status);
    }
    bystander.is_served();
    assert_nothing_leaked(&proxy, &before);
}
