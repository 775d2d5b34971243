//! Plays the backend, which answers at once, late, never, in pieces, too much, or with a reset.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shards::simulation::network::{Network, Peer};
use shards::simulation::random::Random;

use super::ledger::Ledger;
use super::lengths::MESSAGE_MAX;
use super::world::{BACKEND, address};

/// See the module.
pub struct Backend {
    connections: Vec<Connection>,
    /// It does what it should.
    pub behaves: bool,
    /// Otherwise it lets them wait for ever.
    pub answers_calls: bool,
    /// So long it works on each request; otherwise on each another time.
    pub takes: Option<Duration>,
}

struct Connection {
    /// `None`: to be dropped.
    peer: Option<Peer>,
    incoming: Vec<u8>,
    out: VecDeque<u8>,
    /// Then the answer goes out; `None`: never.
    due: Option<(Instant, Vec<u8>, End)>,
    busy: bool,
    /// The answer goes out in one piece.
    at_once: bool,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Stay,
    Finish,
    Reset,
}

impl Backend {
    pub fn new() -> Self {
        Backend {
            connections: Vec::new(),
            behaves: false,
            answers_calls: true,
            takes: None,
        }
    }

    pub fn act(&mut self, network: &Network, now: Instant, random: &mut Random, ledger: &mut Ledger) {
        let accepted = network.accepted(address(BACKEND)).into_iter();
        self.connections.extend(accepted.map(|peer| Connection {
            peer: Some(peer),
            incoming: Vec::new(),
            out: VecDeque::new(),
            due: None,
            busy: false,
            at_once: false,
            end: End::Stay,
        }));
        for connection in &mut self.connections {
            connection.act((self.behaves, self.answers_calls, self.takes), now, random, ledger);
        }
        self.connections.retain(|connection| connection.peer.is_some());
    }

    /// When something of it is due.
    pub fn next_due(&self) -> Option<Instant> {
        let due = |connection: &Connection| connection.due.as_ref().map(|(at, ..)| *at);
        self.connections.iter().filter_map(due).min()
    }

    /// All its connections break.
    pub fn restart(&mut self, ledger: &mut Ledger) {
        ledger.happen("backend restarts");
        self.connections.clear();
    }

    /// One that has nothing to do closes, without a word.
    pub fn close_idle(&mut self, random: &mut Random, ledger: &mut Ledger) {
        let mut idle = self.connections.iter_mut().filter(|connection| !connection.busy);
        if let Some(connection) = idle.next() {
            ledger.happen("backend closes idle");
            let peer = connection.peer.take().expect("it is there");
            if random.percent(50) {
                peer.reset();
            }
        }
        self.connections.retain(|connection| connection.peer.is_some());
    }
}

impl Connection {
    fn act(
        &mut self,
        (behaves, answers_calls, takes): (bool, bool, Option<Duration>),
        now: Instant,
        random: &mut Random,
        ledger: &mut Ledger,
    ) {
        let Some(peer) = &self.peer else { return };
        self.incoming.extend(peer.receive());
        if !self.busy
            && let Some((target, headers, body)) = take_request(&mut self.incoming)
        {
            self.busy = true;
            let misbehaves = !behaves && random.percent(35);
            let (answer, mut content) = answer_to(&target, &body);
            let id = target.rsplit('/').next().unwrap_or_default().to_owned();
            let mut bytes = ok(answer, &content);
            let mut is_huge = false;
            let mut due = now + takes.unwrap_or_else(|| Duration::from_micros(random.below(3000) as u64));
            let mut end = End::Stay;
            let mut confirms = true;
            let mut at_once = false;
            if misbehaves {
                match random.below(9) {
                    0 => {
                        ledger.happen("backend answers late");
                        due = now + Duration::from_millis(random.below(9_000) as u64);
                    }
                    1 => {
                        ledger.happen("backend never answers");
                        self.due = None;
                        confirms = false;
                        bytes.clear();
                    }
                    2 => {
                        ledger.happen("backend cuts");
                        bytes.truncate(random.below(bytes.len()));
                        (end, confirms) = (End::Finish, false);
                    }
                    3 => {
                        ledger.happen("backend resets");
                        bytes.truncate(random.below(bytes.len()));
                        (end, confirms) = (End::Reset, false);
                    }
                    4 => {
                        ledger.happen("backend says too much");
                        // With the answer: what comes later may find the next request written, and nobody could
                        // tell it from an answer to that.
                        at_once = true;
                        bytes.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"stolen\":1}\n");
                    }
                    5 => {
                        ledger.happen("backend says 500");
                        confirms = false;
                        bytes = b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n<>".to_vec();
                    }
                    6 => {
                        ledger.happen("backend says a huge thing");
                        (confirms, content) = (false, format!("{{\"stolen\":\"{}\"}}", "x".repeat(MESSAGE_MAX)));
                        bytes = ok(answer, &content);
                        is_huge = true;
                    }
                    7 if target.starts_with("/call/") => {
                        ledger.happen("backend defers");
                        let client = target.split('/').nth(3).unwrap_or_default();
                        ledger.deferred.push_back((client.to_owned(), id.clone()));
                        bytes = b"HTTP/1.1 202 Later\r\nX-Deferred: 1\r\nContent-Length: 0\r\n\r\n".to_vec();
                    }
                    _ => end = End::Finish,
                }
            }
            if !answers_calls && target.starts_with("/call/") {
                bytes.clear();
            }
            let header = |name: &str| {
                headers
                    .iter()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default()
            };
            match target.split('/').nth(1) {
                Some("call") => {
                    ledger.call_arrived(&id);
                    if !is_huge {
                        ledger.answers.insert(id, content);
                    }
                }
                Some(kind @ ("result" | "error")) => {
                    ledger.outcome_arrived(&id, header("Idempotency-Key: "), kind, &body, confirms);
                }
                Some("send") => ledger.send_arrived(&id, header("Idempotency-Key: "), confirms),
                Some("resulterror") => ledger.result_error_arrived(&id, header("Idempotency-Key: ")),
                Some("disconnect") => {
                    ledger.disconnect_arrived(header("X-Connection-Id: "), header("Idempotency-Key: "));
                }
                _ => {}
            }
            if !bytes.is_empty() || end != End::Stay {
                self.due = Some((due, bytes, end));
                self.at_once = at_once;
            }
        }
        if self.due.as_ref().is_some_and(|(at, ..)| *at <= now) {
            let (_, bytes, end) = self.due.take().expect("it is due");
            if self.at_once {
                peer.send_whole(&bytes);
            } else {
                self.out.extend(bytes);
            }
            self.end = end;
        }
        while !self.out.is_empty() {
            let sent = peer.send(self.out.as_slices().0);
            if sent == 0 {
                break;
            }
            self.out.drain(..sent);
        }
        if self.out.is_empty() && self.busy && self.due.is_none() {
            match self.end {
                End::Stay => self.busy = false,
                End::Finish => self.peer = None,
                End::Reset => self.peer.take().expect("it is there").reset(),
            }
        }
        if self.peer.as_ref().is_some_and(|peer| peer.ended().is_some()) {
            self.peer = None;
        }
    }
}

fn ok(status: &str, content: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    )
    .into_bytes()
}

/// Status line and content.
fn answer_to(target: &str, body: &str) -> (&'static str, String) {
    match target.split('/').nth(1) {
        Some("connect") => ("200 OK", "\"ok\"".to_owned()),
        Some("call") => ("200 OK", body.to_owned()),
        _ => ("200 OK", "{}".to_owned()),
    }
}

/// A whole request: target, header lines, body.
fn take_request(incoming: &mut Vec<u8>) -> Option<(String, Vec<String>, String)> {
    let head_len = incoming.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&incoming[..head_len]).expect("ASCII");
    let mut lines = head.trim_end().split("\r\n").map(str::to_owned);
    let start = lines.next().expect("a request line");
    let headers: Vec<String> = lines.collect();
    let len = headers.iter().find_map(|line| line.strip_prefix("Content-Length: "));
    let len: usize = len.expect("a length").parse().expect("a number");
    if incoming.len() < head_len + len {
        return None;
    }
    let body = String::from_utf8(incoming[head_len..head_len + len].to_vec()).expect("UTF-8");
    incoming.drain(..head_len + len);
    let target = start.split(' ').nth(1).expect("a target").to_owned();
    Some((target, headers, body))
}
