//! Serves the ingress of the floor: a push finds its client through the registry and another shard through its mailbox.

use std::io::Write;
use std::sync::{Arc, PoisonError};

use super::{ACCEPTED, Letter, NOT_FOUND, PUSHER, Pusher, Shard, UNSENT_MAX};
use crate::net::{self, Received};
use crate::poller::Event;
use crate::{http, websocket};

impl Shard {
    pub(super) fn accept_pushers(&mut self) {
        while let Ok(Some(socket)) = net::accept(&self.ingress) {
            let entry = self.pushers.vacant_entry();
            if self.poller.add(&socket, (entry.key() as u64) << 2 | PUSHER).is_ok() {
                entry.insert(Pusher {
                    socket,
                    input: Vec::new(),
                    unsent: Vec::new(),
                });
            }
        }
    }

    pub(super) fn handle_mail(&mut self) {
        let mail = Arc::clone(&self.mail);
        let _ = rustix::io::read(&mail[self.index].wake, &mut [0; 8]);
        let letters = std::mem::take(&mut *mail[self.index].letters.lock().unwrap_or_else(PoisonError::into_inner));
        for letter in letters {
            self.send_frame(letter.client, letter.generation, &letter.frame);
        }
    }

    pub(super) fn handle_pusher(&mut self, key: usize, event: Event) {
        let Some(pusher) = self.pushers.get_mut(key) else {
            return;
        };
        if event.writable && net::flush(&pusher.socket, &mut pusher.unsent).is_err() {
            self.pushers.remove(key);
            return;
        }
        if !event.readable {
            return;
        }
        loop {
            let Some(pusher) = self.pushers.get_mut(key) else {
                return;
            };
            let healthy = match net::receive(&pusher.socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => false,
                Received::Bytes(len) => {
                    pusher.input.extend_from_slice(&self.buffer[..len]);
                    self.handle_pushes(key)
                }
            };
            if !healthy {
                self.pushers.remove(key);
                return;
            }
        }
    }

    fn handle_pushes(&mut self, key: usize) -> bool {
        let mut input = std::mem::take(&mut self.pushers[key].input);
        let mut at = 0;
        while at < input.len() {
            let request = match http::parse_request(&input[at..]) {
                Ok(Some(request)) if input.len() - at >= request.head_len + request.body_len => request,
                Ok(_) => break,
                Err(http::Malformed) => return false,
            };
            let body = at + request.head_len..at + request.head_len + request.body_len;
            let found = self.push(request.path, &input[body.clone()]);
            at = body.end;
            let answer = if found { ACCEPTED } else { NOT_FOUND };
            let pusher = &mut self.pushers[key];
            if net::transmit_or_keep(&pusher.socket, answer, &mut pusher.unsent, UNSENT_MAX).is_err() {
                return false;
            }
        }
        input.drain(..at);
        self.pushers[key].input = input;
        true
    }

    fn push(&mut self, path: &str, body: &[u8]) -> bool {
        let mut parts = path.split('/').skip(2);
        let (Some(action), Some(id), Some(message_id)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let owner = self
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id.as_bytes())
            .copied();
        let Some((shard, client, generation)) = owner else {
            return false;
        };
        let mut message = Vec::with_capacity(body.len() + 64);
        let _ = write!(message, "[2,\"{message_id}\",\"{action}\",");
        message.extend_from_slice(body);
        message.push(b']');
        let mut frame = Vec::with_capacity(message.len() + 10);
        websocket::write_server_frame(&mut frame, websocket::TEXT, &message);
        if shard == self.index {
            self.send_frame(client, generation, &frame);
            return true;
        }
        let mail = &self.mail[shard];
        mail.letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Letter {
                client,
                generation,
                frame,
            });
        rustix::io::write(&mail.wake, &1_u64.to_ne_bytes()).is_ok()
    }
}
