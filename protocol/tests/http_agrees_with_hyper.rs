//! Holds `protocol::http` against hyper (`http-8`): what we accept, hyper accepts too, and sees the same message.
//! Whatever hyper refuses, we refuse. The other way round we may be, and are, stricter.
//!
//! Messages are generated from a seed: proper parts, odd parts, and some bytes changed at the end. hyper runs over bytes
//! in memory, without a runtime.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{HeaderMap, Request, Response};
use protocol::http::{BodyDecoder, Framing, Headers, parse_request, parse_response};

const CASES: u64 = 20_000;
const HEAD_LEN_MAX: usize = 8192;
const BODY_LEN_MAX: usize = 1 << 20;

#[test]
fn requests_that_we_accept_are_the_same_requests_in_hyper() {
    let mut tally = Tally::default();
    for seed in seeds() {
        let bytes = Generator::new(seed).requests();
        let ours = our_requests(&bytes);
        let theirs = hyper_requests(&bytes, seed);
        let agree = ours.len() <= theirs.len() && ours.iter().zip(&theirs).all(|(one, other)| one == other);
        assert!(
            agree,
            "seed {seed}\n{}\nours {ours:#?}\nhyper {theirs:#?}",
            bytes.escape_ascii()
        );
        tally.add(&ours, &theirs);
    }
    tally.check();
}

#[test]
fn responses_that_we_accept_are_the_same_responses_in_hyper() {
    let mut tally = Tally::default();
    for seed in seeds() {
        let bytes = Generator::new(seed).response();
        let ours = our_response(&bytes);
        let theirs = hyper_response(&bytes, seed);
        let agree = ours.is_none() || ours == theirs;
        assert!(
            agree,
            "seed {seed}\n{}\nours {ours:#?}\nhyper {theirs:#?}",
            bytes.escape_ascii()
        );
        tally.add(ours.as_slice(), theirs.as_slice());
    }
    tally.check();
}

#[test]
fn proper_messages_that_hyper_accepts_are_accepted() {
    let (mut requests, mut responses) = (0, 0);
    for seed in seeds() {
        let bytes = Generator::proper(seed).requests();
        let (ours, theirs) = (our_requests(&bytes), hyper_requests(&bytes, seed));
        // Only the first: we close after HTTP/1.0, hyper may not.
        assert_eq!(ours.first(), theirs.first(), "seed {seed}\n{}", bytes.escape_ascii());
        requests += usize::from(!ours.is_empty());

        let bytes = Generator::proper(seed).response();
        let (ours, theirs) = (our_response(&bytes), hyper_response(&bytes, seed));
        assert_eq!(ours, theirs, "seed {seed}\n{}", bytes.escape_ascii());
        responses += usize::from(ours.is_some());
    }
    assert!(requests.min(responses) > CASES as usize / 2, "{requests} {responses}");
}

/// `HTTP_SEED=n` repeats one case; `HTTP_CASES=n` runs more of them.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    match number("HTTP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HTTP_CASES").unwrap_or(CASES).max(CASES),
    }
}

/// What a message is, for both readers: start line, headers by name, body.
#[derive(Debug, Eq, PartialEq)]
struct Message {
    start: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn our_headers(headers: &Headers<'_>) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn hyper_headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// The body at the start of `input` and its length there, if it is complete when the peer closes after `input`.
fn our_body(framing: Framing, input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut decoder = BodyDecoder::new(framing, BODY_LEN_MAX).ok()?;
    let decoded = decoder.decode(input, &mut body).ok()?;
    decoder.finish().ok()?;
    Some((body, decoded.consumed))
}

fn our_requests(mut bytes: &[u8]) -> Vec<Message> {
    let mut requests = Vec::new();
    while let Ok(Some(head)) = parse_request(bytes, HEAD_LEN_MAX) {
        let Some((body, body_len)) = our_body(head.framing, &bytes[head.len..]) else {
            break;
        };
        let start = format!(
            "{} {} {}",
            head.method,
            head.target,
            if head.http11 { "HTTP/1.1" } else { "HTTP/1.0" }
        );
        requests.push(Message {
            start,
            headers: our_headers(&head),
            body,
        });
        if !head.keep_alive {
            break;
        }
        bytes = &bytes[head.len + body_len..];
    }
    requests
}

fn our_response(bytes: &[u8]) -> Option<Message> {
    let head = parse_response(bytes, HEAD_LEN_MAX).ok()??;
    let (body, _) = our_body(head.framing, &bytes[head.len..])?;
    Some(Message {
        start: head.status.to_string(),
        headers: our_headers(&head),
        body,
    })
}

fn hyper_requests(bytes: &[u8], seed: u64) -> Vec<Message> {
    let requests = Rc::new(RefCell::new(Vec::new()));
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let requests = requests.clone();
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                requests.borrow_mut().push(Message {
                    // A target in absolute form is its path and query (RFC 9112, 3.2.2).
                    start: format!("{} {} {:?}", head.method, path_of(&head.uri), head.version),
                    headers: hyper_headers(&head.headers),
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let wire = Wire {
        input: bytes.to_vec(),
        read: 0,
        open: true,
        pieces: Generator::new(seed),
    };
    // Without half_close, hyper drops a request whose sender has nothing more to say.
    let server = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(wire, service);
    let mut connection = pin!(server);
    let mut context = Context::from_waker(Waker::noop());
    let ended = (0..POLLS_MAX).any(|_| connection.as_mut().poll(&mut context).is_ready());
    assert!(ended, "hyper reads to the end: seed {seed}");
    requests.take()
}

fn hyper_response(bytes: &[u8], seed: u64) -> Option<Message> {
    let wire = Wire {
        input: bytes.to_vec(),
        read: 0,
        open: false,
        pieces: Generator::new(seed),
    };
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok((mut sender, connection))) =
        pin!(hyper::client::conn::http1::handshake(wire)).poll(&mut context)
    else {
        panic!("hyper is ready at once");
    };
    let mut connection = pin!(connection);
    let mut connection_ended = false;
    let request = Request::post("/")
        .header("host", "h")
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap();
    let mut answer = pin!(async move {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes().to_vec();
        Some(Message {
            start: head.status.as_str().to_owned(),
            headers: hyper_headers(&head.headers),
            body,
        })
    });
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(message) = answer.as_mut().poll(&mut context) {
            return message;
        }
        connection_ended = connection_ended || connection.as_mut().poll(&mut context).is_ready();
    }
    panic!("hyper reads to the end: seed {seed}");
}

const POLLS_MAX: usize = 100_000;

/// The other end of hyper's connection: gives the input in pieces, then its end; takes whatever is written.
struct Wire {
    input: Vec<u8>,
    read: usize,
    /// A client reads nothing before it has asked.
    open: bool,
    pieces: Generator,
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.open {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = buf.remaining().min(self.input.len() - self.read);
        let len = if self.pieces.one_in(2) {
            most
        } else {
            most.min(1 + self.pieces.below(20))
        };
        buf.put_slice(&self.input[self.read..self.read + len]);
        self.read += len;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.open = true;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How often who accepted what: a generator that makes only rubbish, or none, proves nothing.
#[derive(Debug, Default)]
struct Tally {
    cases: u64,
    both: u64,
    both_with_body: u64,
    only_hyper: u64,
    neither: u64,
}

impl Tally {
    fn add(&mut self, ours: &[Message], theirs: &[Message]) {
        self.cases += 1;
        self.both += u64::from(!ours.is_empty());
        self.both_with_body += u64::from(ours.iter().any(|message| !message.body.is_empty()));
        self.only_hyper += u64::from(theirs.len() > ours.len());
        self.neither += u64::from(theirs.is_empty());
    }

    fn check(&self) {
        println!("{self:?}");
        let enough = self.both_with_body > CASES / 10 && self.only_hyper > CASES / 50 && self.neither > CASES / 10;
        assert!(self.cases == 1 || enough, "{self:?}");
    }
}

/// Makes messages from a seed (xorshift64*).
struct Generator {
    state: u64,
    /// One part in so many is odd; none at 0.
    oddness: usize,
}

impl Generator {
    /// Some messages are very odd, some hardly.
    fn new(seed: u64) -> Self {
        let mut generator = Generator::proper(seed);
        generator.oddness = [8, 20, 60, 200][generator.below(4)];
        generator
    }

    /// Nothing odd.
    fn proper(seed: u64) -> Self {
        Generator {
            state: (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            oddness: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn is_odd(&mut self) -> bool {
        self.oddness > 0 && self.one_in(self.oddness)
    }

    /// One of `usual`, now and then one of `odd`.
    fn pick<'a>(&mut self, usual: &[&'a str], odd: &[&'a str]) -> &'a str {
        let from = if self.is_odd() { odd } else { usual };
        from[self.below(from.len())]
    }

    fn requests(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=self.below(3) {
            let method = self.pick(
                &["GET", "POST", "POST", "PUT"],
                &["get", "M-SEARCH", "", "G(T", "HEAD", "G\tT"],
            );
            let target = self.pick(
                &["/", "/call/A/b", "/a?b=c&d", "/%41~!$'()*+,;=:@", "/[]{}|^"],
                ODD_TARGETS,
            );
            let version = self.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"], ODD_VERSIONS);
            let space = self.pick(&[" "], &["  ", "\t", "", "\r"]);
            let host = self.pick(
                &["Host: h\r\n", "host: h:80\r\n"],
                &["", "Host: h\r\nHost: h\r\n", "Host: a b\r\n"],
            );
            let end = self.pick(&["\r\n"], &["\n", "\r", "\r\r\n", " \r\n"]);
            let start = [method, " ", target, space, version, end, host].concat();
            self.message(&mut bytes, &start);
        }
        self.damage(&mut bytes);
        bytes
    }

    fn response(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.one_in(5) {
            let interim = [
                "HTTP/1.1 100 Continue\r\n\r\n",
                "HTTP/1.1 103\r\nLink: a\r\n\r\n",
                "HTTP/1.0 102 x\r\n\r\n",
            ];
            bytes.extend_from_slice(interim[self.below(interim.len())].as_bytes());
        }
        let version = self.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"], ODD_VERSIONS);
        let status = self.pick(
            &["200", "200", "202", "204", "304", "404", "500"],
            &["101", "000", "99", "1000", "999", "2 0", "600", "199"],
        );
        let reason = self.pick(
            &[" OK", "", " ", " Not Found"],
            &["  a", " \u{e4}", " a\rb", " a\0", "\t"],
        );
        let end = self.pick(&["\r\n"], &["\n", "\r", "\r\r\n"]);
        let start = [version, " ", status, reason, end].concat();
        self.message(&mut bytes, &start);
        if self.one_in(8) {
            bytes.extend_from_slice(b"surplus");
        }
        self.damage(&mut bytes);
        bytes
    }

    /// The start line, more headers, and a body that fits them more often than not.
    fn message(&mut self, bytes: &mut Vec<u8>, start: &str) {
        bytes.extend_from_slice(start.as_bytes());
        for _ in 0..self.below(4) {
            bytes.extend_from_slice(self.pick(USUAL_LINES, ODD_LINES).as_bytes());
        }
        let body = &"{\"key\":[1,2,3]}, and more"[..self.below(25)];
        // Chunks are proper in HTTP/1.1 alone.
        let framings = if start.contains("HTTP/1.0") && !self.is_odd() {
            3
        } else {
            6
        };
        match self.below(framings) {
            0 => {}
            1 | 2 => {
                let name = self.pick(
                    &["Content-Length: ", "content-length:\t"],
                    &["Content-Length : ", "Content-Length:"],
                );
                let len = match (self.is_odd(), self.below(6)) {
                    (true, 0) => format!("+{}", body.len()),
                    (true, 1) => format!("{0}, {0}", body.len()),
                    (true, 2) => format!("{0}\r\nContent-Length: {0}", body.len()),
                    (true, 3) => format!("{0}\r\nTransfer-Encoding: chunked", body.len()),
                    (true, 4) => format!("{:#x}", body.len()),
                    (true, _) => "18446744073709551616".to_owned(),
                    (false, 0) => format!("00{}", body.len()),
                    (false, _) => body.len().to_string(),
                };
                let end = self.pick(&["\r\n"], &["\n", " \r\n", "\x0b\r\n"]);
                bytes.extend_from_slice([name, len.as_str(), end, "\r\n", body].concat().as_bytes());
                return;
            }
            _ => {
                bytes.extend_from_slice(self.pick(&["Transfer-Encoding: chunked\r\n"], ODD_CODINGS).as_bytes());
                bytes.extend_from_slice(b"\r\n");
                self.chunks(bytes, body);
                return;
            }
        }
        bytes.extend_from_slice(b"\r\n");
        if self.one_in(3) {
            bytes.extend_from_slice(body.as_bytes());
        }
    }

    fn chunks(&mut self, bytes: &mut Vec<u8>, mut body: &str) {
        while !body.is_empty() {
            let (chunk, rest) = body.split_at(1 + self.below(body.len()));
            body = rest;
            let prefix = self.pick(&["", "", "0", "00"], &["+", "0x", " ", "-", "00000000"]);
            let size = if self.one_in(2) {
                format!("{:x}", chunk.len())
            } else {
                format!("{:X}", chunk.len())
            };
            let extension = self.pick(
                &["", "", "", ";a", ";a=\"b\""],
                &[" ", "\t", " ;a", ";a\n", ";\0", ";\r", "g"],
            );
            let end = self.pick(&["\r\n"], &["\n", "\r", "", "\r\r\n"]);
            let after = self.pick(&["\r\n"], &["\n", "\r", "", "x\r\n", "\r\n\r\n"]);
            bytes.extend_from_slice([prefix, &size, extension, end, chunk, after].concat().as_bytes());
        }
        bytes.extend_from_slice(
            self.pick(&["0\r\n", "000\r\n"], &["", "0\n", "0", "0 \r\n", "0\r"])
                .as_bytes(),
        );
        for _ in 0..self.below(3) {
            bytes.extend_from_slice(self.pick(&["", "T: u\r\n", "V:\r\n"], ODD_LINES).as_bytes());
        }
        bytes.extend_from_slice(self.pick(&["\r\n"], &["", "\n", "\r"]).as_bytes());
    }

    /// Changes some bytes of every third message that may be odd.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const NASTY: &[u8] = b"\r\n\0 :;,\t\x0b\x7f\x80\xff0f+-/#?A";
        if self.oddness == 0 || !self.one_in(3) {
            return;
        }
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(5) {
                0 | 1 => bytes[at] = NASTY[self.below(NASTY.len())],
                2 => bytes.insert(at, NASTY[self.below(NASTY.len())]),
                3 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
    }
}

/// The target without a scheme and an authority; as it is where it has no path.
fn path_of(uri: &hyper::Uri) -> String {
    match uri.path_and_query() {
        Some(path) if uri.scheme().is_some() => path.to_string(),
        _ => uri.to_string(),
    }
}

const ODD_TARGETS: &[&str] = &[
    "*",
    "http://h/",
    "http://h",
    "ws://h:80/a?b",
    "http://u@h/a",
    "http://h?a",
    "h:80",
    "",
    "/a#b",
    "/a b",
    "/\u{e4}",
    "/<>",
    "/`",
    "/a?`",
    "/\"",
    "/?\"",
    "/\\",
    "/\x01",
    "//",
];
const ODD_VERSIONS: &[&str] = &[
    "HTTP/2.0",
    "HTTP/1.2",
    "http/1.1",
    "HTTP/1.10",
    "HTTP/11",
    "HTTP/0.9",
    "",
];
const USUAL_LINES: &[&str] = &[
    "A: b\r\n",
    "a:c \t\r\n",
    "X-Empty:\r\n",
    "Connection: keep-alive\r\n",
    "Connection: close\r\n",
    "Connection: x, Close\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Obs-Text: \u{e4}\r\n",
    "!#$%&'*+-.^_`|~9: tab\tin it\r\n",
];
const ODD_LINES: &[&str] = &[
    "A : b\r\n",
    " A: b\r\n",
    "A: b\r\n c\r\n",
    "A: b\n",
    "A: b\rc\r\n",
    "A: \0\r\n",
    "A\r\n",
    ": b\r\n",
    "A(: b\r\n",
    "A: \x01\r\n",
    "A: \x7f\r\n",
    "\u{e4}: b\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection:\r\n",
];
const ODD_CODINGS: &[&str] = &[
    "Transfer-Encoding: Chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding:\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Transfer-Encoding: chunked;a=b\r\n",
];
