//! Shows operators the frames of a shard's clients: those of one client in the log, and whatever fits the filter of a tap. While
//! there is neither, that costs a look at one flag.
//!
//! A tap is a filter and the writing end of a ring; an ordinary thread reads the other one. What finds no room there is dropped
//! and counted: no client waits for a reader.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use foldhash::quality::RandomState;
use shards::byte_ring;

use super::counters::Counters;
use protocol::mapping::{Identity, forwarded};
use protocol::ocpp::ClientId;
use protocol::tap::{Calls, Direction, Filter, Head, Kind, Record, TEXT_LEN_MAX};

/// Who looks at a shard's clients.
#[derive(Debug, Default)]
pub struct Watch {
    /// Whether anybody does.
    is_on: Cell<bool>,
    traced: RefCell<Option<ClientId>>,
    taps: RefCell<Vec<Tap>>,
}

/// One tap's share of a shard.
#[derive(Debug)]
pub struct Tap {
    number: u64,
    filter: Filter,
    writer: byte_ring::Writer,
    calls: Calls<RandomState>,
    /// Where a record is put together.
    head: Vec<u8>,
    /// The longest message that is shown: where there are many shards, each has a small ring.
    text_len_max: usize,
}

/// A frame, as far as it is shown.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'f> {
    /// A text message, plain.
    Text(&'f str),
    /// Another frame with so many bytes of payload.
    Other(Kind, usize),
    /// A close frame, with its code and its reason.
    Close(u16, &'f str),
}

impl Tap {
    /// One of that number, with `calls_len` bytes for what is known of Calls under way.
    #[must_use]
    pub fn new(number: u64, filter: Filter, writer: byte_ring::Writer, calls_len: usize) -> Self {
        Self {
            number,
            filter,
            text_len_max: TEXT_LEN_MAX.min(writer.capacity() / 2),
            writer,
            calls: Calls::new(calls_len, RandomState::default()),
            head: Vec::with_capacity(HEAD_LEN),
        }
    }

    fn write(&mut self, record: &Record<'_>, counters: &Counters) {
        let text = record.text.filter(|text| text.len() <= self.text_len_max);
        Record { text, ..*record }.write_head(&mut self.head);
        let text = text.unwrap_or_default();
        if self.writer.write([&self.head, text.as_bytes()]) {
            counters.tap_lines_written.add();
        } else {
            counters.tap_lines_lost.add();
        }
    }

    fn frame(&mut self, record: &Record<'_>, direction: Direction, connection: u64, counters: &Counters) {
        let mut answered = None;
        match record.kind {
            Some(Kind::Call) => self
                .calls
                .remember(connection, direction, record.message_id, record.action),
            Some(Kind::CallResult | Kind::CallError) => {
                answered = self.calls.take(connection, direction.back(), record.message_id);
            }
            _ => {}
        }
        let action = answered.as_ref().map_or(record.action, |action| action.as_str());
        let own = Some(action).filter(|action| !action.is_empty());
        if self.filter.takes_frame(direction, own) {
            self.write(&Record { action, ..*record }, counters);
        }
    }
}

impl Watch {
    /// Whether anybody looks. Cheap: everybody asks this for each frame.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// Taps that are open.
    #[must_use]
    pub fn taps_count(&self) -> usize {
        self.taps.borrow().len()
    }

    /// Shows the frames of `client` in the log from now on, and those of no other.
    pub fn trace(&self, client: Option<ClientId>) {
        self.traced.replace(client);
        self.settle();
    }

    /// Whether this client's frames are shown in the log.
    #[must_use]
    pub fn is_traced(&self, client: &ClientId) -> bool {
        self.traced.borrow().as_ref() == Some(client)
    }

    /// One tap more.
    pub fn open(&self, tap: Tap) {
        self.taps.borrow_mut().push(tap);
        self.settle();
    }

    /// The tap of that number is over.
    pub fn close(&self, number: u64) {
        self.taps.borrow_mut().retain(|tap| tap.number != number);
        self.settle();
    }

    /// Nothing follows.
    pub fn end(&self) {
        self.taps.borrow_mut().clear();
        self.settle();
    }

    /// A frame of a client or to it.
    #[cold]
    pub fn frame(
        &self,
        at: Duration,
        identity: &Identity,
        direction: Direction,
        shown: Shown<'_>,
        counters: &Counters,
    ) {
        let is_of_interest = |tap: &Tap| tap.filter.takes_client(Some(&identity.client)) || tap.writer.is_abandoned();
        if !self.taps.borrow().iter().any(is_of_interest) {
            return;
        }
        let mut record = Record {
            at_us: micros(at),
            direction: Some(direction),
            client: identity.client.as_str(),
            connection: identity.connection.as_str(),
            ..Record::default()
        };
        let head = match shown {
            Shown::Text(text) => {
                record.size = text.len() as u64;
                record.text = Some(text);
                let head = Head::read(text);
                record.kind = Some(head.kind);
                Some(head)
            }
            Shown::Other(kind, len) => {
                record.size = len as u64;
                record.kind = Some(kind);
                None
            }
            Shown::Close(code, reason) => {
                record.size = if code == 0 { 0 } else { 2 + reason.len() as u64 };
                record.kind = Some(Kind::Close);
                (record.code, record.reason) = (code, reason);
                None
            }
        };
        if let Some(head) = &head {
            record.message_id = head.message_id.as_deref().unwrap_or_default();
            record.action = head.action.as_deref().unwrap_or_default();
        }
        self.for_each(|tap| {
            if tap.filter.takes_client(Some(&identity.client)) {
                tap.frame(&record, direction, identity.connection.number(), counters);
            }
        });
    }

    /// A client has come.
    #[cold]
    pub fn connected(&self, at: Duration, identity: &Identity, counters: &Counters) {
        let record = Record {
            at_us: micros(at),
            kind: Some(Kind::Connect),
            client: identity.client.as_str(),
            connection: identity.connection.as_str(),
            address: forwarded::client_address(identity.forwarded_for()),
            subprotocol: identity.subprotocol().unwrap_or_default(),
            ..Record::default()
        };
        self.event(Some(&identity.client), &record, counters);
    }

    /// A client has gone.
    #[cold]
    pub fn disconnected(&self, at: Duration, identity: &Identity, (code, reason): (u16, &str), counters: &Counters) {
        let record = Record {
            at_us: micros(at),
            kind: Some(Kind::Disconnect),
            client: identity.client.as_str(),
            connection: identity.connection.as_str(),
            code,
            reason,
            ..Record::default()
        };
        self.event(Some(&identity.client), &record, counters);
    }

    /// A request did not become a client. `status`: what it was told; `None`: nothing.
    #[cold]
    pub fn refused(
        &self,
        at: Duration,
        client: Option<&ClientId>,
        address: SocketAddr,
        (status, reason): (Option<u16>, &str),
        counters: &Counters,
    ) {
        let address = address.to_string();
        let record = Record {
            at_us: micros(at),
            kind: Some(Kind::Refused),
            client: client.map(ClientId::as_str).unwrap_or_default(),
            address: &address,
            code: status.unwrap_or_default(),
            reason,
            ..Record::default()
        };
        self.event(client, &record, counters);
    }

    fn event(&self, client: Option<&ClientId>, record: &Record<'_>, counters: &Counters) {
        self.for_each(|tap| {
            if tap.filter.takes_client(client) && tap.filter.takes_events() {
                tap.write(record, counters);
            }
        });
    }

    fn for_each(&self, mut show: impl FnMut(&mut Tap)) {
        let mut is_one_over = false;
        for tap in self.taps.borrow_mut().iter_mut() {
            if tap.writer.is_abandoned() {
                is_one_over = true;
            } else {
                show(tap);
            }
        }
        if is_one_over {
            // Its last word was refused by a full ring, or is still on its way.
            self.taps.borrow_mut().retain(|tap| !tap.writer.is_abandoned());
            self.settle();
        }
    }

    fn settle(&self) {
        self.is_on
            .set(self.traced.borrow().is_some() || !self.taps.borrow().is_empty());
    }
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

/// Most records' heads.
const HEAD_LEN: usize = 512;
