//! Plays the backend's other half: pushes at the ingress.

use std::collections::VecDeque;
use std::rc::Rc;

use shards::simulation::network::{Network, Peer};
use shards::simulation::random::Random;

use super::ledger::{Ledger, Push};
use super::lengths::padding;
use super::world::{INGRESS, address};

/// What a request was.
enum Asked {
    Push(String),
    /// An answer to a Call that was deferred.
    LateAnswer(String),
    /// How a client is.
    Description,
}

/// One connection at a time, requests pipelined.
#[derive(Default)]
pub struct Pusher {
    peer: Option<Peer>,
    out: VecDeque<u8>,
    incoming: Vec<u8>,
    /// Requests whose answer is due.
    waiting: VecDeque<Asked>,
    count: usize,
}

impl Pusher {
    /// A push, padded with so many bytes, whose outcome is waited for so many seconds, if at all.
    pub fn push(
        &mut self,
        network: &Rc<Network>,
        client: &str,
        (len, wait): (usize, Option<usize>),
        ledger: &mut Ledger,
    ) {
        if self.peer.is_none() {
            self.peer = network.connect(address(INGRESS), address("10.0.0.1:50000"));
        }
        if self.peer.is_none() || self.waiting.len() > 4 {
            return;
        }
        self.count += 1;
        let id = format!("p{}", self.count);
        let body = format!("{{\"n\":{},\"pad\":\"{}\"}}", self.count, padding(len));
        let prefer = wait.map_or_else(String::new, |seconds| format!("Prefer: wait={seconds}\r\n"));
        self.say(&format!("/call/Do/{client}/{id}"), &prefer, &body);
        ledger.pushes.insert(id.clone(), Push::default());
        self.waiting.push_back(Asked::Push(id));
    }

    /// The id of the last push.
    pub fn last_id(&self) -> String {
        format!("p{}", self.count)
    }

    /// Answers the Call that was deferred first.
    pub fn answer_late(&mut self, network: &Rc<Network>, ledger: &mut Ledger) {
        if self.peer.is_none() {
            self.peer = network.connect(address(INGRESS), address("10.0.0.1:50000"));
        }
        if self.peer.is_none() || self.waiting.len() > 4 {
            return;
        }
        if let Some((client, id)) = ledger.deferred.pop_front() {
            self.say(&format!("/result/Act/{client}/{id}"), "", &ledger.answers[&id]);
            self.waiting.push_back(Asked::LateAnswer(id));
        }
    }

    /// Asks how a client is.
    pub fn describe(&mut self, network: &Rc<Network>, client: &str) {
        if self.peer.is_none() {
            self.peer = network.connect(address(INGRESS), address("10.0.0.1:50000"));
        }
        if self.peer.is_none() || self.waiting.len() > 4 {
            return;
        }
        let request = format!("GET /clients/{client} HTTP/1.1\r\nHost: sim\r\n\r\n");
        self.out.extend(request.into_bytes());
        self.waiting.push_back(Asked::Description);
    }

    fn say(&mut self, path: &str, headers: &str, body: &str) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.out.extend(request.into_bytes());
    }

    pub fn act(&mut self, ledger: &mut Ledger) {
        let Some(peer) = &self.peer else { return };
        while !self.out.is_empty() {
            let sent = peer.send(self.out.as_slices().0);
            if sent == 0 {
                break;
            }
            self.out.drain(..sent);
        }
        self.incoming.extend(peer.receive());
        let over = peer.ended().is_some();
        while let Some((status, keep_alive, body)) = self.take_answer() {
            let id = match self.waiting.pop_front().expect("an answer is to a request") {
                Asked::Push(id) => id,
                Asked::Description => {
                    match status {
                        200 => ledger.described(&body),
                        _ => assert!([404, 408, 503].contains(&status), "{status}"),
                    }
                    if !keep_alive {
                        return self.forget();
                    }
                    continue;
                }
                Asked::LateAnswer(id) => {
                    if status < 300 {
                        ledger.late_answer_taken(&id);
                    } else {
                        assert!([404, 408, 409, 429, 503].contains(&status), "{status}");
                    }
                    if !keep_alive {
                        return self.forget();
                    }
                    continue;
                }
            };
            if [200, 422, 502, 504].contains(&status) {
                ledger.wait_answered(&id, status, &body);
                if !keep_alive {
                    return self.forget();
                }
                continue;
            }
            let push = ledger.pushes.get_mut(&id).expect("it was pushed");
            if status == 202 {
                push.accepted = true;
                ledger.happen("push accepted");
            } else {
                // 408: the shard hung while it was to be read.
                assert!([404, 408, 409, 429, 503].contains(&status), "{status}");
                push.refused = true;
                assert!(
                    push.outcomes.is_empty() && push.seen == 0,
                    "{id} was refused with {status}: {push:?}"
                );
                ledger.happen("push refused");
            }
            if !keep_alive {
                return self.forget();
            }
        }
        if over {
            self.forget();
        }
    }

    /// Breaks off: of what is under way nobody knows whether it was accepted.
    pub fn resets(&mut self, random: &mut Random, ledger: &mut Ledger) {
        if let Some(peer) = self.peer.take() {
            ledger.happen("pusher resets");
            if random.percent(50) {
                peer.reset();
            }
        }
        self.forget();
    }

    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn forget(&mut self) {
        *self = Pusher {
            count: self.count,
            ..Pusher::default()
        };
    }

    fn take_answer(&mut self) -> Option<(u16, bool, String)> {
        let head_len = self.incoming.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.incoming[..head_len]).expect("ASCII");
        let len = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("Content-Length: "));
        // A 204 has none.
        let len: usize = len.unwrap_or("0").parse().expect("a number");
        let status = head[9..12].parse().expect("a status");
        let keep_alive = !head.contains("Connection: close");
        if self.incoming.len() < head_len + len {
            return None;
        }
        let answer: Vec<u8> = self.incoming.drain(..head_len + len).collect();
        let body = String::from_utf8(answer[head_len..].to_vec()).expect("UTF-8");
        Some((status, keep_alive, body))
    }
}
