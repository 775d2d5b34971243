//! With `backend_pipeline_max` above 1, requests that are ready together share a connection, and every answer finds its
//! own: `retry-13`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use support::{Backend, Client, Proxy, Request, Response};

const MEMBERS: usize = 8;

/// One connection to the backend, busy with the first client's Call; the Calls of the others wait for it together.
fn batch(backend: &Backend, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> (Proxy, Vec<Client>) {
    let proxy = Proxy::with(backend)
        .set("backend_connections_max", "1")
        .set("backend_pipeline_max", &MEMBERS.to_string())
        .start();
    let mut first = proxy.client("first");
    let mut clients: Vec<Client> = (0..MEMBERS)
        .map(|number| proxy.client(&format!("CP{number}")))
        .collect();
    backend.on("/call", answer);
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    first.send_call("m", "Slow", "{}");
    backend.take("/call/Slow");
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_call("m", "Echo", &format!("{{\"number\":{number}}}"));
        // Its pong is behind the Call: the Call waits at the pool now.
        client.expect_nothing();
    }
    gate.open();
    first.expect("[3,\"m\",{}]");
    (proxy, clients)
}

#[test]
fn requests_that_wait_together_leave_together_and_each_gets_its_own_answer() {
    let backend = Backend::start();
    let (_proxy, mut clients) = batch(&backend, |request| Response::json(&request.body));
    for (number, client) in clients.iter_mut().enumerate() {
        client.expect(&format!("[3,\"m\",{{\"number\":{number}}}]"));
    }
    assert_eq!(backend.connections(), 1);
    let seen: Vec<_> = backend
        .seen("/call/Echo")
        .iter()
        .map(|request| request.target.clone())
        .collect();
    let due: Vec<_> = (0..MEMBERS).map(|number| format!("/call/Echo/CP{number}/m")).collect();
    assert_eq!(seen, due, "in the order of arrival, each once");
}

#[test]
fn after_a_connection_that_ends_early_the_rest_gets_internal_error_and_none_is_sent_twice() {
    type Ending = fn(Response) -> Response;
    for end in [(|response| response.then_close()) as Ending, |response| {
        response.then_reset()
    }] {
        let backend = Backend::start();
        let (_proxy, mut clients) = batch(&backend, move |request| {
            let response = Response::json(&request.body);
            if request.target.contains("/CP2/") {
                end(response)
            } else {
                response
            }
        });
        for (number, client) in clients.iter_mut().enumerate() {
            if number <= 2 {
                client.expect(&format!("[3,\"m\",{{\"number\":{number}}}]"));
            } else {
                client.expect_error("m", "InternalError");
            }
        }
        assert!(backend.seen("/call/Echo").len() <= MEMBERS, "none was sent twice");
        clients[7].send_call("again", "Echo", "{}");
        clients[7].expect("[3,\"again\",{}]");
    }
}

#[test]
fn an_answer_that_announces_the_end_is_the_last_one() {
    let backend = Backend::start();
    let (_proxy, mut clients) = batch(&backend, |request| {
        if request.target.contains("/CP0/") {
            // What comes after it belongs to nobody.
            Response::with_headers(200, &[("Connection", "close")], &request.body)
        } else {
            Response::json("{\"stray\":true}")
        }
    });
    clients[0].expect("[3,\"m\",{\"number\":0}]");
    for client in &mut clients[1..] {
        client.expect_error("m", "InternalError");
    }
}

#[test]
fn answers_may_come_in_one_piece_or_byte_by_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (all_wait, wait) = mpsc::channel();
    let backend = thread::spawn(move || {
        let mut peer = Peer {
            stream: listener.accept().unwrap().0,
            unread: Vec::new(),
        };
        peer.stream.set_nodelay(true).unwrap();
        for _ in 0..=MEMBERS {
            peer.take();
            peer.send(answer("\"ok\"").as_bytes());
        }
        for piece_len in [usize::MAX, 1, 7] {
            peer.take();
            wait.recv().unwrap();
            peer.send(answer("{}").as_bytes());
            let bodies: Vec<String> = (0..MEMBERS).map(|_| peer.take()).collect();
            let answers = bodies.iter().enumerate().map(|(index, body)| match index % 3 {
                2 => chunked(body),
                _ => answer(body),
            });
            let answers = answers.collect::<String>().into_bytes();
            for piece in answers.chunks(piece_len) {
                peer.send(piece);
            }
        }
    });
    let proxy = Proxy::with_url(url)
        .set("backend_connections_max", "1")
        .set("backend_pipeline_max", &MEMBERS.to_string())
        .set("notify_disconnect", "false")
        .start();
    let mut first = proxy.client("first");
    let mut clients: Vec<Client> = (0..MEMBERS)
        .map(|number| proxy.client(&format!("CP{number}")))
        .collect();
    for round in 0..3 {
        first.send_call("m", "Slow", "{}");
        first.expect_nothing();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send_call("m", "Echo", &format!("{{\"number\":{number},\"round\":{round}}}"));
            client.expect_nothing();
        }
        all_wait.send(()).unwrap();
        first.expect("[3,\"m\",{}]");
        for (number, client) in clients.iter_mut().enumerate() {
            client.expect(&format!("[3,\"m\",{{\"number\":{number},\"round\":{round}}}]"));
        }
    }
    backend.join().unwrap();
}

/// The proxy's connection, as a backend sees it that answers how it likes.
struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Peer {
    /// The next request's body.
    fn take(&mut self) -> String {
        loop {
            let text = String::from_utf8(self.unread.clone()).unwrap();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let (_, len) = head.split_once("Content-Length: ").expect("a length");
                let len: usize = len.lines().next().unwrap().parse().unwrap();
                if rest.len() >= len {
                    self.unread.drain(..head.len() + 4 + len);
                    return rest[..len].to_owned();
                }
            }
            let mut piece = [0; 4096];
            let len = self.stream.read(&mut piece).unwrap();
            assert!(len > 0, "the proxy keeps the connection");
            self.unread.extend_from_slice(&piece[..len]);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn chunked(body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n{body}\r\n0\r\n\r\n")
}
