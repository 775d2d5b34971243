//! Carries records of bytes from a shard to an ordinary thread, which looks for them from time to time: a bounded ring that
//! drops and counts what finds no room. The shard waits for nobody, wakes nobody, and allocates nothing.
//!
//! Invariant: what was written is read in order, and what was dropped is told exactly once, before the first record that was
//! written after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

/// The shard's end.
#[derive(Debug)]
pub struct Writer {
    bytes: Producer<u8>,
    lost: Arc<AtomicU64>,
}

/// The other end.
#[derive(Debug)]
pub struct Reader {
    bytes: Consumer<u8>,
    lost: Arc<AtomicU64>,
    /// Of those lost, how many were told.
    told: u64,
}

/// What a [`Reader`] finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// A record.
    Record,
    /// So many were dropped here.
    Lost(u64),
    /// Nothing now.
    Nothing,
    /// The writer is gone, and all was read.
    End,
}

/// A ring of `capacity` bytes, of which each record takes [`HEADER_LEN`] more than its own.
#[must_use]
pub fn new(capacity: usize) -> (Writer, Reader) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let lost = Arc::<AtomicU64>::default();
    let writer = Writer {
        bytes: producer,
        lost: lost.clone(),
    };
    let reader = Reader {
        bytes: consumer,
        lost,
        told: 0,
    };
    (writer, reader)
}

impl Writer {
    /// Appends a record, which consists of two parts. False: there was no room; it is counted as lost.
    pub fn write(&mut self, parts: [&[u8]; 2]) -> bool {
        let len = parts[0].len() + parts[1].len();
        let needed = HEADER_LEN + len;
        let lost = self.lost.load(Ordering::Relaxed);
        let Ok(short_len) = u32::try_from(len) else {
            self.lost.store(lost + 1, Ordering::Release);
            return false;
        };
        // The second asks for the reader's own word.
        if self.bytes.cached_slots() < needed && self.bytes.slots() < needed {
            self.lost.store(lost + 1, Ordering::Release);
            return false;
        }
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&short_len.to_le_bytes());
        header[4..].copy_from_slice(&lost.to_le_bytes());
        for part in [&header[..], parts[0], parts[1]] {
            let pushed = self.bytes.push_entire_slice(part);
            debug_assert!(pushed.is_ok(), "there was room for all of it");
        }
        true
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.buffer().capacity()
    }

    /// True when nobody will read any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.bytes.is_abandoned()
    }
}

impl Reader {
    /// Looks for what comes next. A record takes the place of what was in `record`.
    pub fn read(&mut self, record: &mut Vec<u8>) -> Found {
        // Both before the ring: all that was written before they changed is there to be seen.
        let is_over = self.bytes.is_abandoned();
        let lost = self.lost.load(Ordering::Acquire);
        let mut header = [0; HEADER_LEN];
        if self.peek(&mut header).is_none() {
            return match self.tell_lost(lost) {
                Some(found) => found,
                None if is_over => Found::End,
                None => Found::Nothing,
            };
        }
        let [len @ .., _, _, _, _, _, _, _, _] = header;
        let [_, _, _, _, lost @ ..] = header;
        if let Some(found) = self.tell_lost(u64::from_le_bytes(lost)) {
            return found;
        }
        let needed = HEADER_LEN + u32::from_le_bytes(len) as usize;
        // It may be written only in part yet.
        let Ok(chunk) = self.bytes.read_chunk(needed) else {
            return Found::Nothing;
        };
        let (first, second) = chunk.as_slices();
        let skipped = HEADER_LEN.min(first.len());
        record.clear();
        record.extend_from_slice(&first[skipped..]);
        record.extend_from_slice(&second[HEADER_LEN - skipped..]);
        chunk.commit_all();
        Found::Record
    }

    fn peek(&mut self, header: &mut [u8; HEADER_LEN]) -> Option<()> {
        let chunk = self.bytes.read_chunk(HEADER_LEN).ok()?;
        let (first, second) = chunk.as_slices();
        header[..first.len()].copy_from_slice(first);
        header[first.len()..].copy_from_slice(second);
        Some(())
    }

    fn tell_lost(&mut self, lost: u64) -> Option<Found> {
        let new = lost.checked_sub(self.told).filter(|new| *new > 0)?;
        self.told = lost;
        Some(Found::Lost(new))
    }
}

/// A record's length, and how many were lost before it.
pub const HEADER_LEN: usize = 4 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_in_order_and_an_end_is_told() {
        let (mut writer, mut reader) = new(64);
        let mut record = vec![9; 3];
        assert_eq!(reader.read(&mut record), Found::Nothing);
        // Around the ring's end many times.
        for number in 0..100_u8 {
            assert!(writer.write([&[number], &[number; 9]]));
            assert_eq!(reader.read(&mut record), Found::Record);
            assert_eq!(record, [number; 10]);
        }
        assert!(writer.write([b"", b""]) && !writer.is_abandoned());
        drop(writer);
        assert_eq!(reader.read(&mut record), Found::Record);
        assert_eq!((reader.read(&mut record), record.len()), (Found::End, 0));
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let (mut writer, mut reader) = new(2 * (HEADER_LEN + 4));
        let mut record = Vec::new();
        let written: Vec<bool> = (0..5).map(|_| writer.write([b"ab", b"cd"])).collect();
        assert_eq!(written, [true, true, false, false, false]);
        assert_eq!(reader.read(&mut record), Found::Record);
        assert!(writer.write([b"late", b""]));
        assert!(!writer.write([b"lost", b""]));
        let found: Vec<Found> = (0..5).map(|_| reader.read(&mut record)).collect();
        assert_eq!(
            found,
            [
                Found::Record,
                Found::Lost(3),
                Found::Record,
                Found::Lost(1),
                Found::Nothing
            ]
        );
        assert!(!writer.write([&[0; 100], b""]), "larger than the ring");
        drop(writer);
        assert_eq!([(); 2].map(|()| reader.read(&mut record)), [Found::Lost(1), Found::End]);
    }

    #[test]
    fn what_was_read_and_what_was_lost_is_all_that_was_written_by_another_thread() {
        const COUNT: u64 = if cfg!(miri) { 300 } else { 200_000 };
        let (mut writer, mut reader) = new(512);
        let thread = std::thread::spawn(move || {
            for number in 0..COUNT {
                let len = (number % 7) as usize;
                writer.write([&number.to_le_bytes(), &[7; 6][..len.min(6)]]);
            }
        });
        let (mut record, mut next, mut seen, mut lost) = (Vec::new(), 0, 0, 0);
        loop {
            match reader.read(&mut record) {
                Found::Record => {
                    let number = u64::from_le_bytes(*record.first_chunk().expect("a number"));
                    assert!(number >= next, "in order");
                    assert_eq!(number, seen + lost, "what is missing was told before");
                    (next, seen) = (number + 1, seen + 1);
                }
                Found::Lost(count) => lost += count,
                Found::Nothing => std::hint::spin_loop(),
                Found::End => break,
            }
        }
        thread.join().expect("the writer ends");
        assert_eq!(seen + lost, COUNT);
    }

    #[test]
    fn a_writer_knows_that_nobody_reads() {
        let (writer, reader) = new(64);
        drop(reader);
        assert!(writer.is_abandoned());
    }
}
