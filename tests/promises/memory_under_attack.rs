//! Memory is bounded whatever clients and backends do: the peak of the program in RAM is held against what it had
//! before.

use std::io::Write;

use support::client::{CONTINUATION, PING, RSV1, TEXT, frame_bytes};
use support::{Backend, Client, Handshake, Proxy, Response, eventually};

const MIB: u64 = 1024 * 1024;

/// Runs `attack`, and says by how many bytes the program grew at most meanwhile. Whoever behaves is served before and
/// after.
#[track_caller]
fn growth(proxy: &Proxy, attack: impl FnOnce()) -> u64 {
    let mut bystander = proxy.client("bystander");
    let mut serve = |id: &str| {
        bystander.send_call(id, "Echo", "{\"a\":1}");
        bystander.expect(&format!("[3,\"{id}\",{{\"a\":1}}]"));
    };
    serve("before");
    proxy.forget_peak();
    let before = proxy.resident();
    attack();
    serve("after");
    let growth = proxy.peak().saturating_sub(before);
    // For who wants to see it: --nocapture.
    println!("grew by {} KiB from {} KiB", growth / 1024, before / 1024);
    growth
}

/// A client's payload of about `len` bytes.
fn payload(len: usize) -> String {
    format!("{{\"x\":\"{}\"}}", "x".repeat(len))
}

#[test]
fn a_hundred_mb_pushed_at_a_client_that_does_not_read() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let payload = payload(64 * 1024);
    let grown = growth(&proxy, || {
        let mut http = proxy.http();
        let mut client = proxy.client("deaf");
        let (mut accepted, mut cut_off) = (0, 0);
        for number in 0.. {
            let id = format!("p{number}");
            match http.push("deaf", "Data", &id, &payload).status {
                // It answers what it has not read, so that the next one is sent.
                202 => {
                    accepted += payload.len() as u64;
                    client.send_result(&id, "{}");
                }
                // Its answers may still be on their way.
                429 => {}
                404 => {
                    cut_off += 1;
                    client = proxy.client("deaf");
                }
                other => panic!("{other}"),
            }
            if accepted >= 100 * MIB {
                break;
            }
        }
        assert!(cut_off > 0, "who does not read is cut off");
    });
    assert!(grown <= 32 * MIB, "{grown} bytes");
    assert!(proxy.count_where("clients_closed", "not_reading") > 0);
}

#[test]
fn a_hundred_clients_that_do_not_read_and_get_all_that_can_be_pushed() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let payload = payload(1024 * 1024 - 1024);
    let mut clients = Vec::new();
    let grown = growth(&proxy, || {
        let mut http = proxy.http();
        for number in 0..100 {
            let id = format!("deaf{number}");
            clients.push(proxy.client(&id));
            // Until there is no more room.
            let pushed = (0..).find(|number| http.push(&id, "Data", &format!("p{number}"), &payload).status == 429);
            assert!(pushed >= Some(2), "one is sent and one may wait: {pushed:?}");
        }
    });
    // Of each one that is being written, of which the kernel takes little, and one that waits; and what is left between them.
    assert!(grown <= 320 * MIB, "{grown} bytes");
}

#[test]
fn six_hundred_thousand_pings_whose_pongs_nobody_reads() {
    const PINGS: usize = 600_000;
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let ping = frame_bytes(true, PING, &[b'p'; 125]);
    let grown = growth(&proxy, || {
        let mut client = proxy.client("deaf");
        let many = ping.repeat(1000);
        for _ in 0..PINGS / 1000 {
            client.send_raw(&many);
        }
        eventually("all pings", || {
            (proxy.metric_where("frames_total", "direction=\"in\",type=\"ping\"")[0] >= PINGS as f64).then_some(())
        });
    });
    assert!(grown <= 32 * MIB, "{grown} bytes");
}

#[test]
fn a_thousand_bombs_at_once() {
    const CLIENTS: usize = 1000;
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut clients: Vec<Client> = Vec::new();
    let mut bomb = Vec::new();
    let grown = growth(&proxy, || {
        for number in 0..CLIENTS {
            let handshake = Handshake::new(&format!("CP{number}")).offer("permessage-deflate");
            clients.push(handshake.open(proxy.listen));
        }
        // 64 MiB of which 64 KiB are left.
        bomb = clients[0].compression().deflate(&vec![b' '; 64 << 20]);
        let frame = frame_bytes(true, RSV1 | TEXT, &bomb);
        for client in &mut clients {
            client.send_raw(&frame);
        }
        for client in &mut clients {
            client.expect_close(1009);
        }
    });
    assert!(bomb.len() * 1000 < 64 << 20, "{} bytes", bomb.len());
    // What comes is kept until it is whole; what it would come to never is.
    assert!(grown <= (CLIENTS * bomb.len()) as u64 + 16 * MIB, "{grown} bytes");
}

/// A thousand clients that have sent half of a message of 1 MiB, as `half` says.
fn half_sent(half: &[u8]) {
    const CLIENTS: usize = 1000;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("buffers_max", "2GiB").start();
    let mut clients: Vec<Client> = Vec::new();
    let before = proxy.resident();
    let grown = growth(&proxy, || {
        clients.extend((0..CLIENTS).map(|number| proxy.client(&format!("CP{number}"))));
        for client in &mut clients {
            client.send_raw(half);
        }
        // The kernel keeps some of it for a while.
        let received = before + (CLIENTS * half.len()) as u64 * 9 / 10;
        eventually("all to be received", || (proxy.resident() >= received).then_some(()));
    });
    // What each may hold, and what a client costs in any case.
    assert!(grown <= CLIENTS as u64 * (MIB + 16 * 1024), "{grown} bytes");
}

#[test]
fn a_thousand_half_sent_messages() {
    let whole = frame_bytes(true, TEXT, &vec![b'x'; 1024 * 1024 - 1]);
    half_sent(&whole[..whole.len() / 2]);
}

#[test]
fn a_thousand_half_sent_messages_in_fragments() {
    let fragment = |opcode| frame_bytes(false, opcode, &[b'x'; 64 * 1024]);
    let mut half = fragment(TEXT);
    for _ in 0..7 {
        half.extend(fragment(CONTINUATION));
    }
    half_sent(&half);
}

/// Each is within its own bounds; together they hold more than the shard may.
#[test]
fn half_messages_stay_below_buffers_max_and_the_largest_go() {
    const CLIENTS: usize = 64;
    const MAX: u64 = 8 * MIB;
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(1).set("buffers_max", "8MiB").start();
    let whole = frame_bytes(true, TEXT, payload(512 * 1024).as_bytes());
    let mut bystander = proxy.client("bystander");
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| proxy.client(&format!("CP{number}")))
        .collect();
    for client in &mut clients {
        client.send_raw(&whole[..whole.len() / 2]);
    }
    // All are as large. Who comes late waits, and for them one of the first goes.
    let closed = eventually("room", || {
        let held = proxy.metric_where("buffers_bytes", "")[0];
        assert!(held <= MAX as f64, "{held} bytes");
        let closed = proxy.count_where("clients_closed", "no_room");
        (closed > 0).then_some(closed)
    });
    assert!(closed < CLIENTS as u64);
    // Whoever behaves, and does not hold the most itself, is served, with a large message too.
    let large = payload(128 * 1024);
    bystander.send_call("m1", "Echo", &large);
    bystander.expect(&format!("[3,\"m1\",{large}]"));
    drop(clients);
    eventually("nothing to be held", || {
        (proxy.metric_where("buffers_bytes", "")[0] == 0.0).then_some(())
    });
}

#[test]
fn an_answer_of_the_backend_that_is_too_large() {
    const LEN: usize = 64 * 1024 * 1024;
    // The configured limit: `message_max`.
    const LIMIT: u64 = MIB;
    let backend = Backend::start();
    let body = vec![b'x'; LEN];
    let with_head = |head: &str| Response::raw([head.as_bytes(), b"\r\n\r\n", &body].concat()).then_close();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat();
    let chunks = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        &*chunk.repeat(LEN / 65536),
    ]
    .concat();
    let answers = [
        (
            "Announced",
            with_head(&format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}")),
        ),
        ("UntilClose", with_head("HTTP/1.1 200 OK")),
        ("Chunked", Response::raw(chunks).then_close()),
        (
            "Head",
            Response::raw([b"HTTP/1.1 200 OK\r\nX: ", &*body].concat()).then_close(),
        ),
    ];
    for (action, answer) in answers {
        backend.on(&format!("/call/{action}"), move |_| answer.clone());
    }
    // Not one byte too large.
    let fits = payload(LIMIT as usize - "{\"x\":\"\"}".len());
    backend.on("/call/Fits", move |_| Response::json(&fits));
    let proxy = Proxy::start(&backend);
    for action in ["Announced", "UntilClose", "Chunked", "Head"] {
        let mut client = proxy.client("CP1");
        let grown = growth(&proxy, || {
            client.send_call("m1", action, "{}");
            client.expect_error("m1", "InternalError");
        });
        assert!(grown <= 3 * LIMIT, "{action}: {grown} bytes");
    }
    let mut client = proxy.client("CP1");
    let grown = growth(&proxy, || {
        client.send_call("m1", "Fits", "{}");
        assert_eq!(client.text().len(), "[3,\"m1\",]".len() + LIMIT as usize);
    });
    assert!(grown <= 3 * LIMIT + MIB, "the largest that passes: {grown} bytes");
}

#[test]
fn calls_of_the_largest_size_behind_a_stuck_backend() {
    const CLIENTS: usize = 50;
    let backend = Backend::start();
    backend.on("/call/Data", |_| Response::never());
    // On a slow machine the last client is silent for as long as the others take.
    let proxy = Proxy::with(&backend)
        .set("ping_after", "1h")
        .set("dead_after", "2h")
        .start();
    let body = payload(1024 * 1024 - 1024);
    let mut clients: Vec<Client> = Vec::new();
    let grown = growth(&proxy, || {
        clients.extend((0..CLIENTS).map(|number| proxy.client(&format!("CP{number}"))));
        for client in &mut clients {
            // As many as its socket takes: `calls_queued` would be 16.
            let support::http::Stream::Tcp(stream) = client.stream() else {
                unreachable!()
            };
            stream.set_nonblocking(true).unwrap();
            let mut frames = Vec::new();
            for number in 0..18 {
                frames.extend(frame_bytes(
                    true,
                    TEXT,
                    format!("[2,\"m{number}\",\"Data\",{body}]").as_bytes(),
                ));
            }
            send_what_fits(stream, &frames);
        }
    });
    // One at the backend, one that waits, one that is being received, and the buffer that the second was cut from.
    assert!(grown <= CLIENTS as u64 * 5 * MIB, "{grown} bytes");
}

#[test]
fn sends_of_the_largest_size_behind_a_stuck_backend() {
    const SENDS: usize = 100;
    let backend = Backend::start();
    backend.on("/send", |_| Response::never());
    let proxy = Proxy::start(&backend);
    let body = payload(1024 * 1024 - 1024);
    let client = proxy.client_of("ocpp2.1", "CP1");
    let grown = growth(&proxy, || {
        let support::http::Stream::Tcp(stream) = client.stream() else {
            unreachable!()
        };
        stream.set_nonblocking(true).unwrap();
        let mut frames = Vec::new();
        for number in 0..SENDS {
            let text = format!("[6,\"m{number}\",\"Data\",{body}]");
            frames.extend(frame_bytes(true, TEXT, text.as_bytes()));
        }
        send_what_fits(stream, &frames);
    });
    client.reset();
    // As many as may wait, each of the largest size, and what is being received.
    assert!(grown <= 24 * MIB, "{grown} bytes");
}

/// Writes until the other side has not taken anything for a while.
fn send_what_fits(mut stream: &std::net::TcpStream, mut bytes: &[u8]) {
    let mut idle = 0;
    while !bytes.is_empty() && idle < 100 {
        match stream.write(bytes) {
            Ok(len) => (bytes, idle) = (&bytes[len..], 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                idle += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
}
