//! Checks what comes back to a client.

use std::mem;

use super::{Generator, State, Traffic, nonce};
use crate::counters::{Count, micros};
use crate::http;
use crate::poller::now_ns;
use crate::rpc::{self, Message};
use crate::websocket::{self, Header};

impl Generator {
    pub(super) fn handle_bytes(&mut self, slot: usize, fresh: &[u8]) {
        let mut kept = mem::take(&mut self.clients[slot].input);
        let mut bytes = if kept.is_empty() {
            fresh
        } else {
            kept.extend_from_slice(fresh);
            &kept[..]
        };
        if self.clients[slot].state == State::Handshaking {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                self.clients[slot].input = bytes.to_vec();
                if bytes.len() > http::HEAD_LEN_MAX {
                    self.lose(slot, "an endless answer to the handshake");
                }
                return;
            };
            self.handle_upgrade(slot, &bytes[..end + 4]);
            bytes = &bytes[end + 4..];
        }
        while self.clients[slot].state == State::Open {
            match Header::parse(bytes) {
                Ok(Some(header)) if bytes.len() >= header.frame_len() => {
                    let payload = &bytes[header.header_len..header.frame_len()];
                    bytes = &bytes[header.frame_len()..];
                    self.handle_frame(slot, header, payload);
                }
                Ok(_) => {
                    if !bytes.is_empty() {
                        self.clients[slot].input = bytes.to_vec();
                    }
                    return;
                }
                Err(error) => return self.lose(slot, &format!("not a frame: {error:?}")),
            }
        }
    }

    fn handle_upgrade(&mut self, slot: usize, head: &[u8]) {
        let accept = websocket::accept_key(&websocket::client_key(nonce(self.client_number(slot))));
        let subprotocol = http::find_header(head, "sec-websocket-protocol");
        if !head.starts_with(b"HTTP/1.1 101 ")
            || http::find_header(head, "sec-websocket-accept") != Some(&accept[..])
            || subprotocol != self.load.subprotocol.as_deref().map(str::as_bytes)
        {
            let head = String::from_utf8_lossy(&head[..head.len().min(200)]).into_owned();
            return self.lose(slot, &format!("upgrade refused or wrong: {head:?}"));
        }
        let now = now_ns();
        let client = &mut self.clients[slot];
        client.state = State::Open;
        self.handshaking -= 1;
        self.counts.bump(Count::Opened);
        self.counters
            .latencies
            .connects
            .saturating_record(micros(client.since_ns, now));
        let end = self.control.window_end();
        if self.load.traffic == Traffic::OpenLoop {
            loop {
                let due = self
                    .load
                    .schedule
                    .message_due(slot as u32, self.clients[slot].next_round);
                if due > now || due >= end || self.clients[slot].state != State::Open {
                    break;
                }
                self.send_call(slot);
            }
        } else if self.kicked && self.load.traffic == Traffic::ClosedLoop && now < end {
            self.send_call(slot);
        }
    }

    fn handle_frame(&mut self, slot: usize, header: Header, payload: &[u8]) {
        match header.opcode {
            websocket::TEXT if header.fin && header.mask.is_none() => self.handle_text(slot, payload),
            websocket::PING => {
                self.counts.bump(Count::Pings);
                self.text.clear();
                self.text.extend_from_slice(payload);
                self.send_frame(slot, websocket::PONG);
            }
            websocket::PONG => {}
            websocket::CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.text.clear();
                self.text.extend_from_slice(payload);
                self.send_frame(slot, websocket::CLOSE);
                self.lose(slot, &format!("closed with {code}"));
            }
            _ => self.lose(slot, "a frame that no server of ours sends"),
        }
    }

    fn handle_text(&mut self, slot: usize, text: &[u8]) {
        let compact = rpc::compact_result(text).map(|(id, payload)| Message::Result { id, payload });
        match compact.or_else(|| rpc::split(text)) {
            Some(Message::Result { id, payload }) => self.handle_result(slot, id, payload.trim_ascii(), text),
            Some(Message::Call { id, action, payload }) => self.handle_push(slot, id, action, payload),
            Some(Message::Error { .. }) | None => self.wrong(slot, text),
        }
    }

    fn handle_result(&mut self, slot: usize, id: &str, payload: &[u8], text: &[u8]) {
        let number = self.client_number(slot);
        let client = &mut self.clients[slot];
        let Some((_, round)) = rpc::parse_call_id(id)
            .filter(|(client_named, round)| *client_named == number && *round < client.next_round)
        else {
            return self.wrong(slot, text);
        };
        let bit = 1_u64.checked_shl(client.next_round - 1 - round).unwrap_or(0);
        if client.unanswered & bit == 0 {
            return self.counts.bump(Count::Duplicated);
        }
        client.unanswered &= !bit;
        let since = client.since_ns;
        self.text.clear();
        self.load.shape.write_payload(&mut self.text, number, round);
        if payload != self.text {
            return self.wrong(slot, text);
        }
        self.counts.bump(Count::Answered);
        let now = now_ns();
        let closed_loop = self.load.traffic == Traffic::ClosedLoop;
        let due = if closed_loop {
            since
        } else {
            self.load.schedule.message_due(slot as u32, round)
        };
        if now.saturating_sub(due) > self.load.late_ns {
            self.counts.bump(Count::Late);
        }
        let micros = micros(due, now);
        let latencies = &mut self.counters.latencies;
        let (start, end) = (self.control.window_start(), self.control.window_end());
        if due < start {
            latencies.calls_in_ramp.saturating_record(micros);
        } else {
            latencies.calls.saturating_record(micros);
        }
        self.slice_calls.saturating_record(micros);
        if closed_loop && now < end {
            self.send_call(slot);
        }
    }

    fn handle_push(&mut self, slot: usize, id: &str, action: &str, payload: &[u8]) {
        let number = self.client_number(slot);
        let named = rpc::parse_push_payload(payload);
        self.text.clear();
        rpc::write_client_id(&mut self.text, number);
        match named {
            Some((to, push, due)) if to.as_bytes() == self.text && rpc::parse_push_id(id) == Some(push) => {
                let micros = micros(due, now_ns());
                if action != rpc::PUSH_ACTION {
                    return self.counts.bump(Count::PushedWrong);
                }
                self.counts.bump(Count::Pushed);
                self.counters.latencies.pushes.saturating_record(micros);
                self.slice_pushes.saturating_record(micros);
            }
            _ => {
                self.counts.bump(Count::PushedWrong);
                self.counters.note(|| {
                    format!(
                        "client c{number} got the push {id} {:?}",
                        String::from_utf8_lossy(payload)
                    )
                });
            }
        }
        self.text.clear();
        self.text.extend_from_slice(b"[3,\"");
        self.text.extend_from_slice(id.as_bytes());
        self.text.extend_from_slice(b"\",{}]");
        self.send_frame(slot, websocket::TEXT);
    }

    fn wrong(&mut self, slot: usize, text: &[u8]) {
        let number = self.client_number(slot);
        self.counts.bump(Count::Wrong);
        self.counters.note(|| {
            format!(
                "client c{number} got {:?}",
                String::from_utf8_lossy(&text[..text.len().min(200)])
            )
        });
        // In a closed loop a wrong answer must not silence the client.
        if self.load.traffic == Traffic::ClosedLoop && now_ns() < self.control.window_end() {
            self.send_call(slot);
        }
    }
}
