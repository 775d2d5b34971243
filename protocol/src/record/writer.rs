//! Writes fields.

use std::time::Duration;

use super::{LIST, VERSION};

/// Appends fields, in the order of their numbers.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    last: u32,
}

impl<'o> Writer<'o> {
    /// Begins a record at the end of `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self::of_version(VERSION, out)
    }

    /// The same of another version.
    pub(super) fn of_version(version: u8, out: &'o mut Vec<u8>) -> Self {
        out.push(version);
        Self::fields_only(out)
    }

    /// Begins fields without a version: a part of a record.
    pub fn fields_only(out: &'o mut Vec<u8>) -> Self {
        Self { out, last: 0 }
    }

    /// A field of these bytes.
    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.begin(number);
        write_number(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A field that is a number. 0 is not written: where a field is missing, it is 0.
    pub fn number(&mut self, number: u32, value: u64) {
        if value > 0 {
            self.begin(number);
            self.out.push(number_len(value));
            write_number(self.out, value);
        }
    }

    /// A field that is there or not.
    pub fn flag(&mut self, number: u32, is_set: bool) {
        self.number(number, is_set.into());
    }

    /// A length of time, in nanoseconds; at most 584 years.
    pub fn duration(&mut self, number: u32, duration: Duration) {
        self.number(number, u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A field that is fields.
    #[allow(clippy::indexing_slicing, reason = "it is written there")]
    pub fn fields(&mut self, number: u32, write: impl FnOnce(&mut Writer<'_>)) {
        self.begin(number);
        let start = self.out.len();
        write(&mut Writer::fields_only(self.out));
        // The length is known now, and goes before it.
        let len = self.out.len() - start;
        write_number(self.out, len as u64);
        self.out[start..].rotate_left(len);
    }

    fn begin(&mut self, number: u32) {
        debug_assert!(
            number > self.last || number == self.last && number >= LIST,
            "fields come in order, and most of them once"
        );
        self.last = number;
        write_number(self.out, number.into());
    }
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes it takes.
fn number_len(number: u64) -> u8 {
    let bits = u64::BITS - number.leading_zeros();
    bits.div_ceil(7).max(1) as u8
}
