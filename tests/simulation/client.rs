//! Plays a client, which says what it likes, and holds the proxy to what it answers.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use shards::simulation::network::{Network, Peer};
use shards::simulation::random::Random;

use super::compression::Compression;
use super::ledger::{Asked, Ledger};
use super::lengths::{MESSAGE_MAX, padding};
use super::world::{LISTEN, address};

/// One ClientId, and its connection if it has one.
pub struct Client {
    pub name: String,
    connection: Option<Connection>,
    connections_count: usize,
}

struct Connection {
    peer: Peer,
    /// To be sent.
    out: VecDeque<u8>,
    /// Received and not understood yet.
    incoming: Vec<u8>,
    open: bool,
    /// If it was agreed on; most of what it says is compressed then.
    compression: Option<Compression>,
    /// OCPP 2.1 was agreed on: it may say SENDs and CallResultErrors.
    is_21: bool,
    sends_count: usize,
    said_count: usize,
    /// It has said that it goes, or broken a rule: answers need not come.
    leaving: bool,
    /// It has said more than may be said.
    too_large: bool,
    asked: VecDeque<Asked>,
    calls_count: usize,
    /// Pushes that it has seen and not answered.
    pushes: Vec<String>,
    deaf_until: Instant,
}

impl Client {
    pub fn new(name: &str) -> Self {
        Client {
            name: name.to_owned(),
            connection: None,
            connections_count: 0,
        }
    }

    /// A new connection, whether or not there is one.
    pub fn come(&mut self, network: &Rc<Network>, now: Instant, random: &mut Random, ledger: &mut Ledger) {
        let Some(peer) = network.connect(address(LISTEN), address("192.0.2.1:40000")) else {
            return;
        };
        ledger.happen(if self.connection.is_some() {
            "client comes again"
        } else {
            "client comes"
        });
        self.connections_count += 1;
        let request = format!(
            "GET /{} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Extensions: {}\r\n{}\r\n",
            self.name,
            OFFERS[random.below(OFFERS.len())],
            ["", "Sec-WebSocket-Protocol: ocpp2.1\r\n"][random.below(2)]
        );
        self.connection = Some(Connection {
            peer,
            out: request.into_bytes().into(),
            incoming: Vec::new(),
            open: false,
            compression: None,
            is_21: false,
            sends_count: 0,
            said_count: 0,
            leaving: false,
            too_large: false,
            asked: VecDeque::new(),
            calls_count: 0,
            pushes: Vec::new(),
            deaf_until: now,
        });
    }

    pub fn is_connected(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.open && !connection.leaving)
    }

    /// It has broken a rule, or said that it goes, and is not let go.
    pub fn is_held_back(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.leaving)
    }

    pub fn is_gone(&self) -> bool {
        self.connection.is_none()
    }

    /// Whether an answer is due.
    pub fn waits(&self) -> Option<&Asked> {
        self.connection.as_ref()?.asked.front()
    }

    /// A Call, padded with so many bytes.
    pub fn calls(&mut self, now: Instant, len: usize, ledger: &mut Ledger) {
        let prefix = self.connection_name();
        let Some(connection) = self.open_connection() else {
            return;
        };
        // What the socket does not take is bounded here, too.
        if connection.out.len() > OUT_MAX {
            return;
        }
        connection.calls_count += 1;
        let id = format!("{prefix}-{}", connection.calls_count);
        let pad = padding(len);
        connection.say(
            1,
            &format!("[2,\"{id}\",\"Act\",{{\"id\":\"{id}\",\"pad\":\"{pad}\"}}]"),
        );
        connection.asked.push_back(Asked { id, at: now });
        ledger.happen("call");
        if len > 4096 {
            ledger.happen("large call");
        }
    }

    /// OCPP 2.1's SEND.
    pub fn sends(&mut self, len: usize, ledger: &mut Ledger) {
        let name = self.connection_name();
        let Some(connection) = self.open_connection() else {
            return;
        };
        if !connection.is_21 || connection.out.len() > OUT_MAX {
            return;
        }
        connection.sends_count += 1;
        let id = format!("{name}-{}", connection.sends_count);
        let pad = padding(len);
        connection.say(1, &format!("[6,\"{id}\",\"Note\",{{\"pad\":\"{pad}\"}}]"));
        ledger.happen("send");
    }

    /// All that it has said with SEND has got to the backend, if its connection has lived so long.
    pub fn check_sends(&self, ledger: &Ledger) {
        let Some(connection) = self.connection.as_ref().filter(|connection| connection.open) else {
            return;
        };
        if !connection.leaving && connection.out.is_empty() {
            ledger.check_sends(&self.connection_name(), connection.sends_count);
        }
    }

    fn connection_name(&self) -> String {
        format!("{}-{}", self.name, self.connections_count)
    }

    pub fn answers(&mut self, random: &mut Random, ledger: &mut Ledger) {
        let Some(connection) = self.open_connection() else {
            return;
        };
        if connection.pushes.is_empty() {
            return;
        }
        let id = connection.pushes.remove(random.below(connection.pushes.len()));
        let payload = format!("{{\"for\":\"{id}\"}}");
        connection.say(1, &format!("[3,\"{id}\",{payload}]"));
        ledger
            .pushes
            .get_mut(&id)
            .expect("it was pushed")
            .answer
            .get_or_insert(payload);
        ledger.happen("push answered");
    }

    pub fn pings(&mut self, ledger: &mut Ledger) {
        if let Some(connection) = self.open_connection() {
            connection.say(9, "?");
            ledger.happen("ping");
        }
    }

    pub fn talks_nonsense(&mut self, random: &mut Random, ledger: &mut Ledger) {
        let Some(connection) = self.open_connection() else {
            return;
        };
        ledger.happen("bad frame");
        match random.below(6) {
            0 => connection.say(1, "[2,"),
            1 => connection.say(1, "[3,\"nobody\",{}]"),
            2 => connection.say(1, ""),
            3 => {
                // It says that more will come than may.
                connection.out.extend([0x81, 0x80 | 127]);
                connection.out.extend((MESSAGE_MAX as u64 + 1).to_be_bytes());
                connection.out.extend([0; 4]);
                (connection.leaving, connection.too_large) = (true, true);
                ledger.happen("message too large");
            }
            4 => {
                // One that may be short on its way, and is too long.
                connection.said_count = 0;
                connection.say(1, &" ".repeat(MESSAGE_MAX + 1));
                (connection.leaving, connection.too_large) = (true, true);
                ledger.happen("message too large");
            }
            _ => {
                // Not masked: the connection is over.
                connection.out.extend([0x81, 1, b'x']);
                connection.leaving = true;
            }
        }
    }

    pub fn turns_deaf(&mut self, until: Instant, ledger: &mut Ledger) {
        if let Some(connection) = self.open_connection() {
            connection.deaf_until = until;
            ledger.happen("client deaf");
        }
    }

    pub fn hears_again(&mut self, now: Instant) {
        if let Some(connection) = &mut self.connection {
            connection.deaf_until = now;
        }
    }

    /// Goes, in one of the ways that there are.
    pub fn goes(&mut self, random: &mut Random, ledger: &mut Ledger) {
        let Some(connection) = &mut self.connection else { return };
        match random.below(4) {
            0 if connection.open => {
                connection.say(8, "\u{3}\u{e8}");
                connection.leaving = true;
                ledger.happen("client leaves");
            }
            1 => {
                connection.peer.finish();
                connection.leaving = true;
                ledger.happen("client finishes");
            }
            2 => {
                self.connection.take().expect("it is there").peer.reset();
                ledger.happen("client resets");
            }
            _ => self.connection = None,
        }
    }

    /// Sends and reads what it can.
    pub fn act(&mut self, now: Instant, ledger: &mut Ledger) {
        let Some(connection) = &mut self.connection else { return };
        while !connection.out.is_empty() {
            let (front, _) = connection.out.as_slices();
            let sent = connection.peer.send(front);
            if sent == 0 {
                break;
            }
            connection.out.drain(..sent);
        }
        if now < connection.deaf_until {
            return;
        }
        connection.incoming.extend(connection.peer.receive());
        if !connection.read_all(now, ledger) || connection.peer.ended().is_some() {
            ledger.happen(if connection.open {
                "client lost"
            } else {
                "client refused"
            });
            self.connection = None;
        }
    }

    fn open_connection(&mut self) -> Option<&mut Connection> {
        self.connection
            .as_mut()
            .filter(|connection| connection.open && !connection.leaving)
    }
}

impl Connection {
    fn say(&mut self, opcode: u8, text: &str) {
        self.said_count += 1;
        let (mark, bytes) = match (opcode, &mut self.compression) {
            (8, _) => (0, vec![3, 0xE8]),
            (1, Some(compression)) if !self.said_count.is_multiple_of(4) => {
                (RSV1, compression.deflate(text.as_bytes()))
            }
            _ => (0, text.as_bytes().to_vec()),
        };
        self.out.push_back(0x80 | mark | opcode);
        match bytes.len() {
            len @ 0..126 => self.out.push_back(0x80 | len as u8),
            len @ 126..0x1_0000 => {
                self.out.push_back(0x80 | 126);
                self.out.extend((len as u16).to_be_bytes());
            }
            len => {
                self.out.push_back(0x80 | 127);
                self.out.extend((len as u64).to_be_bytes());
            }
        }
        self.out.extend([0; 4]);
        self.out.extend(bytes);
    }

    /// False: it is over.
    fn read_all(&mut self, now: Instant, ledger: &mut Ledger) -> bool {
        if !self.open {
            let Some(end) = self.incoming.windows(4).position(|end| end == b"\r\n\r\n") else {
                return true;
            };
            if !self.incoming.starts_with(b"HTTP/1.1 101 ") {
                assert!(
                    self.incoming.starts_with(b"HTTP/1.1 "),
                    "{}",
                    self.incoming.escape_ascii()
                );
                return false;
            }
            let head = String::from_utf8(self.incoming.drain(..end + 4).collect()).expect("ASCII");
            let agreed = head
                .lines()
                .find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
            self.compression = agreed.map(Compression::agreed);
            self.is_21 = head.contains("Sec-WebSocket-Protocol: ocpp2.1\r\n");
            self.open = true;
        }
        while let Some((opcode, payload)) = self.take_frame(ledger) {
            match opcode {
                1 => self.read_text(&payload, now, ledger),
                8 => {
                    ledger.happen("client closed");
                    return false;
                }
                9 => self.say(10, &payload),
                10 => {}
                other => panic!("opcode {other}"),
            }
        }
        true
    }

    fn take_frame(&mut self, ledger: &mut Ledger) -> Option<(u8, String)> {
        let (first, second) = (*self.incoming.first()?, *self.incoming.get(1)?);
        assert!(
            first & 0xB0 == 0x80 && second & 0x80 == 0,
            "whole frames without a mask"
        );
        let (at, len) = match second {
            126 => (
                4,
                usize::from(u16::from_be_bytes([*self.incoming.get(2)?, *self.incoming.get(3)?])),
            ),
            127 => {
                let len = u64::from_be_bytes(*self.incoming.get(2..)?.first_chunk()?);
                (10, usize::try_from(len).expect("a length"))
            }
            len => (2, usize::from(len)),
        };
        if self.incoming.len() < at + len {
            return None;
        }
        let mut payload = if first & 15 == 8 {
            let code = self.incoming[at..at + len]
                .first_chunk()
                .map(|code| u16::from_be_bytes(*code));
            // Or it had to go for another reason just then.
            assert!(
                !self.too_large || matches!(code, Some(1009 | 1001 | 1008 | 1013 | 4001)),
                "closed with {code:?} for a message that is too large"
            );
            Vec::new()
        } else {
            self.incoming[at..at + len].to_vec()
        };
        if first & RSV1 != 0 {
            ledger.happen("compressed frame");
            let compression = self.compression.as_mut().expect("it was agreed on");
            payload = compression.inflate(&payload);
        }
        self.incoming.drain(..at + len);
        Some((first & 15, String::from_utf8(payload).expect("UTF-8")))
    }

    fn read_text(&mut self, text: &str, now: Instant, ledger: &mut Ledger) {
        let frame: Vec<serde_json::Value> = serde_json::from_str(text).expect("a frame is JSON");
        let id = frame[1].as_str().expect("an id");
        match frame[0].as_u64() {
            Some(2) => {
                ledger.push_seen(id);
                self.pushes.push(id.to_owned());
            }
            // To a frame without a readable id.
            Some(4) if id == "-1" => {}
            Some(kind) => {
                let asked = self.asked.pop_front();
                ledger.took.extend(asked.as_ref().map(|asked| now - asked.at));
                assert_eq!(
                    asked.map(|asked| asked.id).as_deref(),
                    Some(id),
                    "answers come once, in order: {text}"
                );
                ledger.call_answered(id, kind == 3, &frame[2].to_string());
                if kind == 3 && self.is_21 && self.said_count.is_multiple_of(5) {
                    ledger.result_errors.insert(id.to_owned(), None);
                    self.say(1, &format!("[5,\"{id}\",\"GenericError\",\"\",{{}}]"));
                }
            }
            None => panic!("{text}"),
        }
    }
}

/// What it may offer; the last two come to nothing.
const OFFERS: [&str; 6] = [
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
    "permessage-deflate; server_max_window_bits=8",
    "none",
];
const RSV1: u8 = 0x40;
/// More than one large message need not wait here.
const OUT_MAX: usize = 20_000;
