//! Of twice the load that the shard carries, what is too much is refused or waits in the clients' sockets, the rest is
//! served as before, memory stays where it was, and afterwards all is as it was.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{TEXT, frame_bytes};
use support::http::{Connection, Stream};
use support::{Handshake, Proxy, eventually};

const CLIENTS: usize = 64;
const CONNECTIONS: usize = 4;
const MIB: u64 = 1024 * 1024;

/// A backend that costs next to nothing: the shard is what gets too much.
fn quick_backend() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut connection = Connection::new(Stream::Tcp(stream));
                while let Ok(Some(head)) = connection.head() {
                    let len = head.header("content-length").unwrap().parse().unwrap();
                    let Ok(_) = connection.exactly(len) else { return };
                    let body = if head.start.contains("/connect") {
                        "\"ok\""
                    } else {
                        "{}"
                    };
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if connection.stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// A client that never waits: what its socket does not take stays with it.
struct Caller {
    stream: TcpStream,
    out: Vec<u8>,
    incoming: Vec<u8>,
    sent: usize,
    /// Ids whose answer is due, in order.
    asked: VecDeque<usize>,
}

/// What a load came to.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    results: usize,
    refusals: usize,
}

impl Caller {
    fn new(proxy: &Proxy, name: &str) -> Self {
        let client = Handshake::new(name).open(proxy.listen);
        let Stream::Tcp(stream) = client.stream() else {
            unreachable!()
        };
        let stream = stream.try_clone().unwrap();
        stream.set_nonblocking(true).unwrap();
        // The other copy of the socket may go.
        drop(client);
        Caller {
            stream,
            out: Vec::new(),
            incoming: Vec::new(),
            sent: 0,
            asked: VecDeque::new(),
        }
    }

    fn call(&mut self) {
        self.sent += 1;
        let frame = format!("[2,\"{}\",\"Act\",{{\"meterValue\":[1,2,3]}}]", self.sent);
        self.out.extend(frame_bytes(true, TEXT, frame.as_bytes()));
        self.asked.push_back(self.sent);
    }

    fn act(&mut self, served: &mut Served) {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(len) => drop(self.out.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("a client was dropped: {error}"),
            }
        }
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => panic!("a client was closed: {:?}", String::from_utf8_lossy(&self.incoming)),
                Ok(len) => self.incoming.extend_from_slice(&piece[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("a client was dropped: {error}"),
            }
        }
        let mut at = 0;
        while let Some((len, text)) = frame(&self.incoming[at..]) {
            at += len;
            let id = self.asked.pop_front().expect("an answer to a Call");
            if text == format!("[3,\"{id}\",{{}}]") {
                served.results += 1;
            } else {
                assert!(
                    text.starts_with(&format!("[4,\"{id}\",\"InternalError\",")),
                    "{text} for {id}"
                );
                served.refusals += 1;
            }
        }
        self.incoming.drain(..at);
    }
}

/// The first text frame: its length, and its text.
fn frame(bytes: &[u8]) -> Option<(usize, &str)> {
    let (first, len) = (*bytes.first()?, usize::from(*bytes.get(1)?));
    assert_eq!(first, 0x81, "a text frame");
    assert!(len < 126, "a short one");
    let text = bytes.get(2..2 + len)?;
    Some((2 + len, std::str::from_utf8(text).unwrap()))
}

/// Each client has one Call under way, for so long.
fn closed_loop(callers: &mut [Caller], time: Duration) -> f64 {
    let mut served = Served::default();
    let begun = Instant::now();
    while begun.elapsed() < time {
        for caller in callers.iter_mut() {
            if caller.asked.is_empty() {
                caller.call();
            }
            caller.act(&mut served);
        }
    }
    let rate = served.results as f64 / begun.elapsed().as_secs_f64();
    finish(callers, &mut served);
    rate
}

/// `rate` Calls a second, whatever becomes of them; only what the clients' own memory allows is held back.
fn open_loop(callers: &mut [Caller], rate: f64, time: Duration) -> (f64, Served) {
    let mut served = Served::default();
    let (begun, mut offered) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let due = (begun.elapsed().as_secs_f64() * rate) as usize;
        while offered < due {
            callers[offered % CLIENTS].call();
            offered += 1;
        }
        for caller in callers.iter_mut() {
            caller.act(&mut served);
        }
    }
    (served.results as f64 / begun.elapsed().as_secs_f64(), served)
}

/// Everybody gets the answers that are due.
fn finish(callers: &mut [Caller], served: &mut Served) {
    eventually("every answer", || {
        for caller in callers.iter_mut() {
            caller.act(served);
        }
        callers.iter().all(|caller| caller.asked.is_empty()).then_some(())
    });
}

/// What one run showed.
struct Shown {
    /// Results a second with one Call of each client under way.
    carried: f64,
    /// Results a second with twice that offered.
    goodput: f64,
    /// Results a second afterwards, as at first.
    again: f64,
    refusals: usize,
    grown: u64,
}

fn overload(waiters: usize) -> Shown {
    let proxy = Proxy::with_url(quick_backend())
        .set("backend_connections_max", &CONNECTIONS.to_string())
        .set("backend_waiters_max", &waiters.to_string())
        .start();
    let mut callers: Vec<Caller> = (0..CLIENTS)
        .map(|number| Caller::new(&proxy, &format!("CP{number}")))
        .collect();
    let mut bystander = proxy.client("bystander");
    closed_loop(&mut callers, Duration::from_millis(300));
    proxy.forget_peak();
    let before = proxy.resident();
    let carried = closed_loop(&mut callers, Duration::from_secs(1));
    let (goodput, mut served) = open_loop(&mut callers, 2.0 * carried, Duration::from_secs(2));
    // While all that waits is worked off: somebody new is let in or told to come back, a push arrives.
    let newcomer = Handshake::new("newcomer").send(proxy.listen);
    proxy.push("bystander", "Reset", "p1", "{}").expect(202);
    bystander.expect("[2,\"p1\",\"Reset\",{}]");
    bystander.send_result("p1", "{}");
    let reply = { newcomer }.any_reply();
    assert!([101, 503, 504].contains(&reply.status), "{reply:?}");
    finish(&mut callers, &mut served);
    let grown = proxy.peak().saturating_sub(before);
    let again = closed_loop(&mut callers, Duration::from_secs(1));
    println!(
        "carried {carried:.0}/s; twice that offered: {goodput:.0}/s answered, {served:?} in all, grew by {} KiB; \
         afterwards {again:.0}/s",
        grown / 1024
    );
    assert_eq!(proxy.metric("backend_waiting"), [0.0]);
    Shown {
        carried,
        goodput,
        again,
        refusals: served.refusals,
        grown,
    }
}

/// Every answer was checked; of the rates the best of some runs counts, for the machine may have other things to do.
#[track_caller]
fn assert_no_collapse(waiters: usize) -> Shown {
    let mut tries = 0;
    loop {
        let shown = overload(waiters);
        assert!(shown.grown <= 32 * MIB, "{} bytes", shown.grown);
        if shown.goodput >= shown.carried / 2.0 && shown.again >= shown.carried / 2.0 {
            return shown;
        }
        tries += 1;
        assert!(
            tries < 4,
            "{:.0}/s, then {:.0}/s and {:.0}/s",
            shown.carried,
            shown.goodput,
            shown.again
        );
    }
}

#[test]
fn what_is_too_much_waits_with_the_clients() {
    let shown = assert_no_collapse(16_384);
    assert_eq!(shown.refusals, 0, "there was room for a Call of each");
}

#[test]
fn what_is_too_much_is_refused_where_fewer_may_wait() {
    let shown = assert_no_collapse(8);
    assert!(shown.refusals > 0);
}
