//! Serves the clients' side of the floor: blind handshakes, frames in, frames out.

use std::io::Write;
use std::sync::PoisonError;

use super::{Job, Shard, UNSENT_MAX};
use crate::net::{self, Received};
use crate::poller::Event;
use crate::websocket::{self, Header};
use crate::{http, rpc};

impl Shard {
    pub(super) fn close_client(&mut self, key: usize) {
        let Some(client) = self.clients.try_remove(key) else {
            return;
        };
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if registry
            .get(&client.id)
            .is_some_and(|owner| *owner == (self.index, key, client.generation))
        {
            registry.remove(&client.id);
        }
    }

    pub(super) fn handle_client(&mut self, key: usize, event: Event) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if event.writable && net::flush(&client.socket, &mut client.unsent).is_err() {
            return self.close_client(key);
        }
        if !event.readable {
            return;
        }
        loop {
            let Some(client) = self.clients.get_mut(key) else {
                return;
            };
            match net::receive(&client.socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => return self.close_client(key),
                Received::Bytes(len) => {
                    // Taken out and put back, so that the bytes and the shard can be used at the same time.
                    let mut buffer = std::mem::take(&mut self.buffer);
                    let healthy = self.handle_client_bytes(key, &mut buffer[..len]);
                    let full = len == buffer.len();
                    self.buffer = buffer;
                    if !healthy {
                        return self.close_client(key);
                    }
                    if !full && !event.closed {
                        return;
                    }
                }
            }
        }
    }

    /// False: the client is to be closed.
    fn handle_client_bytes(&mut self, key: usize, fresh: &mut [u8]) -> bool {
        let client = &mut self.clients[key];
        let mut kept = std::mem::take(&mut client.input);
        let bytes = if kept.is_empty() {
            fresh
        } else {
            kept.extend_from_slice(fresh);
            &mut kept[..]
        };
        if !client.open {
            client.input = bytes.to_vec();
            return bytes.len() <= http::HEAD_LEN_MAX && self.handle_handshake(key);
        }
        let mut at = 0;
        loop {
            let header = match Header::parse(&bytes[at..]) {
                Ok(Some(header)) if bytes.len() - at >= header.frame_len() => header,
                Ok(_) => break,
                Err(_) => return false,
            };
            let payload = &mut bytes[at + header.header_len..at + header.frame_len()];
            websocket::apply_mask(payload, header.mask.unwrap_or_default());
            at += header.frame_len();
            match header.opcode {
                websocket::TEXT if payload.starts_with(b"[3,") => self.send_result(key, payload),
                websocket::TEXT => self.send_call(key, payload),
                websocket::CLOSE => return false,
                _ => {}
            }
            // Its backend connection may have failed and taken it along.
            if !self.clients.contains(key) {
                return false;
            }
        }
        if at < bytes.len()
            && let Some(client) = self.clients.get_mut(key)
        {
            client.input = bytes[at..].to_vec();
        }
        true
    }

    fn handle_handshake(&mut self, key: usize) -> bool {
        let client = &mut self.clients[key];
        if !client.id.is_empty() || !client.input.ends_with(b"\r\n\r\n") {
            return client.id.is_empty();
        }
        let head = std::mem::take(&mut client.input);
        let path = head
            .strip_prefix(b"GET /")
            .and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let (Some(id), Some(websocket_key)) = (path, http::find_header(&head, "sec-websocket-key")) else {
            return false;
        };
        client.id = id.into();
        client.accept = websocket::accept_key(websocket_key);
        client.protocol = http::find_header(&head, "sec-websocket-protocol")
            .and_then(|offered| offered.split(|byte| *byte == b',').next())
            .unwrap_or_default()
            .into();
        let job = Job::Connect {
            client: key,
            generation: client.generation,
        };
        self.request.clear();
        let _ = write!(
            self.request,
            "POST /connect HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\"",
            self.backend,
            id.len() + 2
        );
        self.request.extend_from_slice(id);
        self.request.push(b'"');
        self.send_request(job);
        true
    }

    fn send_call(&mut self, key: usize, payload: &[u8]) {
        let generation = self.clients[key].generation;
        self.request.clear();
        self.request.extend_from_slice(&self.call_head);
        let _ = write!(self.request, "{}\r\n\r\n", payload.len());
        self.request.extend_from_slice(payload);
        self.send_request(Job::Call {
            client: key,
            generation,
        });
    }

    fn send_result(&mut self, key: usize, frame: &[u8]) {
        let Some((id, payload)) = rpc::compact_result(frame) else {
            return;
        };
        self.request.clear();
        let _ = write!(self.request, "POST /result/{}/", rpc::PUSH_ACTION);
        self.request.extend_from_slice(&self.clients[key].id);
        let _ = write!(
            self.request,
            "/{id} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.backend,
            payload.len()
        );
        self.request.extend_from_slice(payload);
        self.send_request(Job::Result);
    }

    pub(super) fn finish_connect(&mut self, key: usize, generation: u64, ok: bool) {
        let Some(client) = self
            .clients
            .get_mut(key)
            .filter(|client| client.generation == generation)
        else {
            return;
        };
        if !ok {
            return self.close_client(key);
        }
        client.open = true;
        self.frame.clear();
        self.frame.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        self.frame.extend_from_slice(&client.accept);
        if !client.protocol.is_empty() {
            self.frame.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            self.frame.extend_from_slice(&client.protocol);
        }
        self.frame.extend_from_slice(b"\r\n\r\n");
        client.protocol = Box::default();
        let owner = (self.index, key, generation);
        self.registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(client.id.clone(), owner);
        let frame = std::mem::take(&mut self.frame);
        self.send_frame(key, generation, &frame);
        self.frame = frame;
    }

    pub(super) fn send_frame(&mut self, key: usize, generation: u64, frame: &[u8]) {
        let Some(client) = self
            .clients
            .get_mut(key)
            .filter(|client| client.generation == generation)
        else {
            return;
        };
        if net::transmit_or_keep(&client.socket, frame, &mut client.unsent, UNSENT_MAX).is_err() {
            self.close_client(key);
        }
    }
}
