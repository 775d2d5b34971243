//! Whoever reaches the ingress takes no more than a share of it: places, memory, turns (`http-9`, `http-19` to `http-21`).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::http::{call_target, request_bytes};
use support::{Backend, Http, Proxy, Response, eventually};

const MIB: u64 = 1024 * 1024;

fn token_file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, "s3cret\n").unwrap();
    path
}

#[test]
fn a_body_that_comes_with_a_refused_head_is_not_kept() {
    let backend = Backend::start();
    let token = token_file("bodies");
    let proxy = Proxy::with(&backend)
        .set("ingress_token_file", token.to_str().unwrap())
        .start();
    let target = call_target("CP1", "Reset", "m1");
    let body = vec![b'x'; MIB as usize - 1];
    // Small bodies are read over, so that the connection can go on.
    let mut http = proxy.http();
    for len in [0, 1, 1000, 60_000] {
        http.post(&target, &body[..len]).expect(401);
    }
    proxy.forget_peak();
    let before = proxy.resident();
    // Each sends its head, and all of its body but the last byte.
    let mut open: Vec<Http> = (0..100)
        .map(|_| {
            let mut http = proxy.http();
            let request = request_bytes("POST", &target, &[], &body);
            let chunked =
                format!("POST {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n");
            match rand_bit() {
                true => http.send(&request[..request.len() - 1]),
                false => http.send([chunked.as_bytes(), &body[..]].concat()),
            }
            http
        })
        .collect();
    for http in &mut open {
        // They are told at once, and that it is the last answer.
        let reply = http.any_reply().expect(401);
        assert_eq!(reply.header("connection"), Some("close"));
        http.expect_end();
    }
    let grown = proxy.peak().saturating_sub(before);
    println!("grew by {} KiB", grown / 1024);
    assert!(grown <= 24 * MIB, "{grown} bytes");
}

/// Alternates.
fn rand_bit() -> bool {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)
}

#[test]
fn a_connection_without_a_request_makes_room() {
    let backend = Backend::start();
    let token = token_file("room");
    let proxy = Proxy::with(&backend)
        .set("ingress_token_file", token.to_str().unwrap())
        .set("ingress_connections_max", "8")
        .start();
    let right = [("Authorization", "Bearer s3cret")];
    let mut kept = proxy.http();
    kept.request("GET", "/clients", &right, "").expect(200);
    // Silent ones, halves of heads, halves of bodies, and those that are refused again and again.
    for round in 0..4 {
        let _silent: Vec<Http> = (0..20)
            .map(|number| {
                let mut http = proxy.http();
                match (number + round) % 5 {
                    0 => {}
                    1 => http.send("POST /call/A/CP1/m HTTP/1.1\r\nHost: te"),
                    2 => http.send("POST /call/A/CP1/m HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{"),
                    3 => http.get("/clients").expect(401).body.clear(),
                    _ => http.send("GET /clients HTTP/1.1\r\nHost: test\r\n\r\n"),
                }
                http
            })
            .collect();
        // Whoever comes later gets in, and whoever was let in before keeps its place.
        proxy.http().request("GET", "/clients", &right, "").expect(200);
        kept.request("GET", "/clients", &right, "").expect(200);
    }
    assert!(proxy.count("ingress_evicted") >= 20);
    assert_eq!(proxy.count("ingress_shed"), 0);
}

#[test]
fn of_connections_that_were_let_in_the_one_without_a_request_for_longest_makes_room() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("ingress_connections_max", "3").start();
    let mut client = proxy.client("CP1");
    // One that waits for a client's answer.
    let mut waiting = proxy.http();
    waiting.send_request(
        "POST",
        &call_target("CP1", "Reset", "m1"),
        &[("Prefer", "wait=60")],
        "{}",
    );
    client.expect("[2,\"m1\",\"Reset\",{}]");
    let mut older = proxy.http();
    older.get("/clients").expect(200);
    let mut newer = proxy.http();
    newer.get("/clients").expect(200);
    proxy.http().get("/clients").expect(200);
    older.expect_end();
    newer.get("/clients").expect(200);
    client.send_result("m1", "{\"a\":1}");
    assert_eq!(waiting.reply().expect(200).body, "{\"a\":1}");
}

#[test]
fn connections_beyond_the_limit_are_refused_while_all_others_are_answered() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("ingress_connections_max", "2").start();
    let mut clients = [proxy.client("CP1"), proxy.client("CP2")];
    let mut waiting: Vec<Http> = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let mut http = proxy.http();
        let target = call_target(&format!("CP{}", number + 1), "Reset", "m1");
        http.send_request("POST", &target, &[("Prefer", "wait=60")], "{}");
        client.expect("[2,\"m1\",\"Reset\",{}]");
        waiting.push(http);
    }
    let mut third = proxy.http();
    let reply = third.any_reply();
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").is_some());
    third.expect_end();
    clients[0].send_result("m1", "{}");
    waiting[0].reply().expect(200);
    proxy.http().get("/clients").expect(200);
    clients[1].send_result("m1", "{}");
    waiting[1].reply().expect(200);
}

#[test]
fn a_connection_that_asks_nothing_at_first_is_closed() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("handshake_timeout", "200ms").start();
    let mut silent = proxy.http();
    let mut kept = proxy.http();
    kept.get("/clients").expect(200);
    silent.expect_end();
    // One that was let in is kept for its next request.
    kept.get("/clients").expect(200);
}

/// Whoever asks and reads without end leaves the shard to others after each slice: they are served before it is.
#[test]
fn whoever_pipelines_without_end_does_not_hold_the_shard() {
    let backend = Backend::start();
    backend.on("/call/Echo", |_| Response::json("{}"));
    let proxy = Proxy::start(&backend);
    let _many: Vec<_> = (0..600).map(|number| proxy.client(&format!("L{number}"))).collect();
    let mut client = proxy.client("CP1");
    let list = "GET /clients?limit=1000 HTTP/1.1\r\nHost: test\r\n\r\n";
    let nothing = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunk = "1\r\nx\r\n";
    let chunked = format!(
        "POST /call/A/nobody/m HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(100_000)
    );
    let cases = [
        ("lists", 1, list.repeat(100), 30),
        ("small requests", 4, nothing.repeat(10_000), 30),
        ("bodies of small chunks", 4, chunked, 200),
    ];
    for (what, connections, bytes, times) in cases {
        let (begun, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| pipeline(&proxy, bytes.as_bytes(), times, &begun, &is_over));
            }
            eventually(what, || (begun.load(Ordering::Relaxed) == connections).then_some(()));
            for number in 0..30 {
                client.send_call(&format!("{what}-{number}"), "Echo", "{}");
                client.expect(&format!("[3,\"{what}-{number}\",{{}}]"));
            }
            let was_over = is_over.swap(true, Ordering::Relaxed);
            assert!(
                !was_over,
                "{what}: the Calls had to wait until all of them were answered"
            );
        });
    }
}

/// Sends `bytes` so many times and reads until all is answered, or somebody else is done.
fn pipeline(proxy: &Proxy, bytes: &[u8], times: usize, begun: &AtomicUsize, is_over: &AtomicBool) {
    let stream = TcpStream::connect(proxy.ingress).unwrap();
    let (mut reading, mut writing) = (stream.try_clone().unwrap(), stream);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut answers = vec![0; 1 << 20];
            let mut first = true;
            while !is_over.load(Ordering::Relaxed) {
                if matches!(reading.read(&mut answers), Ok(0) | Err(_)) {
                    break;
                }
                if std::mem::take(&mut first) {
                    begun.fetch_add(1, Ordering::Relaxed);
                }
            }
            let _ = reading.shutdown(Shutdown::Both);
        });
        let _ = (0..times).try_for_each(|_| writing.write_all(bytes));
        // When all is answered, that is the end of what there is to read.
        let _ = writing.shutdown(Shutdown::Write);
    });
    is_over.store(true, Ordering::Relaxed);
}
