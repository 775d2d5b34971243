//! `GET /tap`: the clients' frames, live, one JSON line each.
//!
//! Every shard gets the writing end of a ring; this thread looks into all of them some fifty times a second, and makes lines of what
//! it finds. A reader that is too slow holds up this thread and nobody else: the rings fill, what finds no room is counted, and a
//! line says how much is missing where it is missing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use shards::byte_ring::{self, Found, Reader};
use shards::mesh::NodeHandle;

use super::connection::{Chunks, Query, Response};
use super::running::{Current, Running};
use super::{Admin, REPORT_TIMEOUT};
use crate::observe::watch::Tap;
use crate::shard::control_plane::Phase;
use crate::shard::mail::{Control, Mail};
use protocol::ocpp::{Action, ClientId};
use protocol::tap::{Direction, Filter, Mask, Record, TEXT_LEN_MAX, line};

/// The taps that are open, and how many there ever were.
#[derive(Clone, Debug, Default)]
pub struct OpenTaps {
    count: Arc<AtomicUsize>,
    begun: Arc<AtomicU64>,
}

/// A place among them, until this is dropped.
struct Place {
    taps: OpenTaps,
    number: u64,
    outside: Arc<NodeHandle<Mail>>,
}

/// A tap's reading side.
struct Reading {
    /// By shard. They are gone before the place is.
    readers: Vec<Option<Reader>>,
    running: Running,
    /// What the mask was made of.
    current: Arc<Current>,
    mask: Mask,
    /// Clocks at the process's start.
    started: SystemTime,
    record: Vec<u8>,
    shown: String,
    lines: String,
    _place: Place,
}

impl OpenTaps {
    fn begin(&self, outside: &Arc<NodeHandle<Mail>>) -> Option<Place> {
        let place = Place {
            taps: self.clone(),
            number: self.begun.fetch_add(1, Ordering::Relaxed),
            outside: outside.clone(),
        };
        (self.count.fetch_add(1, Ordering::Relaxed) < TAPS_MAX).then_some(place)
    }
}

impl OpenTaps {
    /// Gives those that are open the time to tell their last lines, up to `bound`. No shard writes to them any more.
    pub fn finish(&self, bound: Duration) {
        let deadline = Instant::now() + bound;
        while self.count.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taps.count.fetch_sub(1, Ordering::Relaxed);
        for shard in 0..self.outside.shards_count() {
            // One whose ring is full finds out by itself, with the next frame.
            let _ = self.outside.try_send(shard, Mail::from(Control::EndTap(self.number)));
        }
    }
}

impl Admin {
    /// `GET /tap?client=&action=&direction=`: the answer begins when all shards write to it.
    pub(super) fn tap(&self, query: &Query<'_>) -> Response {
        let filter = match filter(query) {
            Ok(filter) => filter,
            Err(why) => return Response::text(400, why),
        };
        if query.is_head {
            return Response::new(200, CONTENT_TYPE, Vec::new());
        }
        let Some(place) = self.taps.begin(&self.outside) else {
            return Response::text(503, format!("{TAPS_MAX} taps are open already\n"));
        };
        let count = self.outside.shards_count();
        let (reply, replies) = mpsc::channel();
        let mut readers = Vec::with_capacity(count);
        for shard in 0..count {
            if self.control.phase(shard) == Phase::Ended {
                readers.push(None);
                continue;
            }
            if let Some(silent) = self.control.is_silent(shard, REPORT_TIMEOUT) {
                return Response::text(503, format!("{silent}\n"));
            }
            let (writer, reader) = byte_ring::new(RINGS_LEN / count);
            let tap = Tap::new(place.number, filter.clone(), writer, CALLS_LEN / count);
            let mail = Mail::from(Control::Tap {
                tap: Box::new(tap),
                reply: reply.clone(),
            });
            if self.outside.try_send(shard, mail).is_err() {
                return Response::text(503, format!("shard {shard} is overloaded: try again\n"));
            }
            readers.push(Some(reader));
        }
        drop(reply);
        let deadline = Instant::now() + REPORT_TIMEOUT;
        for _ in readers.iter().flatten() {
            let left = deadline.saturating_duration_since(Instant::now());
            if replies.recv_timeout(left).is_err() {
                return Response::text(503, "a shard does not answer: try again\n");
            }
        }
        let current = self.running.current();
        let mut reading = Reading {
            readers,
            running: self.running.clone(),
            mask: mask(&current),
            current,
            started: SystemTime::now() - self.started.elapsed(),
            record: Vec::new(),
            shown: String::new(),
            lines: String::new(),
            _place: place,
        };
        Response::lasting(CONTENT_TYPE, Box::new(move |chunks| reading.run(chunks))).with("X-Accel-Buffering", "no")
    }
}

impl Reading {
    /// Until the reader goes, or no shard is left.
    fn run(&mut self, chunks: &mut Chunks) -> std::io::Result<()> {
        loop {
            let current = self.running.current();
            if !Arc::ptr_eq(&current, &self.current) {
                self.mask = mask(&current);
                self.current = current;
            }
            let (mut has_more, mut is_over) = (false, true);
            for shard in 0..self.readers.len() {
                has_more |= self.take(shard);
                is_over &= self.readers[shard].is_none();
                if !self.lines.is_empty() {
                    chunks.write(self.lines.as_bytes())?;
                    self.lines.clear();
                }
            }
            if is_over {
                return Ok(());
            }
            if !has_more {
                chunks.wait(PAUSE)?;
            }
        }
    }

    /// Makes lines of what a shard has written, up to a chunk's worth. True: there may be more.
    fn take(&mut self, shard: usize) -> bool {
        let Some(reader) = &mut self.readers[shard] else {
            return false;
        };
        while self.lines.len() < CHUNK_LEN {
            match reader.read(&mut self.record) {
                Found::Record => {
                    let Some(record) = Record::read(&self.record) else {
                        debug_assert!(false, "a shard's own record");
                        continue;
                    };
                    let at = self.started + Duration::from_micros(record.at_us);
                    let at = humantime::format_rfc3339_micros(at).to_string();
                    let place = line::Place { at: &at, shard };
                    line::write(&record, place, &self.mask, &mut self.shown, &mut self.lines);
                }
                Found::Lost(count) => line::write_lost(count, &mut self.lines),
                Found::Nothing => return false,
                Found::End => {
                    self.readers[shard] = None;
                    return false;
                }
            }
        }
        true
    }
}

fn filter(query: &Query<'_>) -> Result<Filter, &'static str> {
    let client = query.parameter("client").map(|id| ClientId::parse(&id));
    let action = query.parameter("action").map(|action| Action::parse(&action));
    let direction = query.parameter("direction").map(|name| Direction::parse(&name));
    Ok(Filter {
        client: client.transpose().map_err(|_| "this is no ClientId\n")?,
        action: action.transpose().map_err(|_| "this is no Action\n")?,
        direction: match direction {
            None => None,
            Some(direction) => Some(direction.ok_or("direction is in or out\n")?),
        },
    })
}

fn mask(current: &Current) -> Mask {
    Mask::new(current.config.node.tap_mask.iter().cloned())
}

const CONTENT_TYPE: &str = "application/x-ndjson";
const TAPS_MAX: usize = 8;
/// In the rings of all shards.
const RINGS_LEN: usize = 2 << 20;
const CALLS_LEN: usize = 512 * 1024;
const CHUNK_LEN: usize = 32 * 1024;
// What a tap holds: the rings, the Actions, a chunk, and the longest message in its three forms: as it came, masked (at most twice as
// long: `0` becomes `"***"`, and has a name), and in a line (a control character takes six bytes there).
const _: () = assert!(RINGS_LEN + CALLS_LEN + CHUNK_LEN + (1 + 2 + 6) * TEXT_LEN_MAX <= 4 << 20);
/// Between two looks into the rings: at 20,000 Calls a second they hold twenty times as much.
const PAUSE: Duration = Duration::from_millis(20);
