//! Gives the tests random inputs from a seed.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64: enough for choosing among cases, and the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of this run: `SIMULATION_SEED`, else another one each time. Print it when something fails.
    pub(crate) fn seed() -> u64 {
        match std::env::var("SIMULATION_SEED") {
            Ok(seed) => seed.parse().expect("SIMULATION_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0),
        }
    }

    /// How many seeds a simulation plays: `SIMULATION_SEEDS`, else as many as usual.
    pub(crate) fn seeds_count(usual: u64) -> u64 {
        match std::env::var("SIMULATION_SEEDS") {
            Ok(count) => count.parse().expect("SIMULATION_SEEDS is a number"),
            Err(_) => usual,
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `limit` - 1.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Appends a valid JSON value of at most `depth` levels, with anything that RFC 8259 allows.
    pub(crate) fn json(&mut self, depth: usize, text: &mut String) {
        self.space(text);
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0 => text.push_str(self.pick(&["null", "true", "false"])),
            1 | 2 => self.json_number(text),
            3..6 => self.json_string(text),
            6 | 7 => {
                text.push('[');
                for index in 0..self.below(4) {
                    if index > 0 {
                        text.push(',');
                    }
                    self.json(depth - 1, text);
                }
                self.space(text);
                text.push(']');
            }
            _ => {
                text.push('{');
                for index in 0..self.below(4) {
                    if index > 0 {
                        text.push(',');
                    }
                    self.space(text);
                    self.json_string(text);
                    self.space(text);
                    text.push(':');
                    self.json(depth - 1, text);
                }
                self.space(text);
                text.push('}');
            }
        }
        self.space(text);
    }

    pub(crate) fn json_string(&mut self, text: &mut String) {
        text.push('"');
        for _ in 0..self.below(12) {
            text.push_str(self.pick(STRING_PARTS));
        }
        text.push('"');
    }

    fn json_number(&mut self, text: &mut String) {
        text.push_str(self.pick(&["", "-"]));
        text.push_str(self.pick(&[
            "0",
            "7",
            "10",
            "123456789012345678901234567890123456789012345678901234567890123456",
        ]));
        text.push_str(self.pick(&[
            "",
            ".0",
            ".5",
            ".00000000000000000000000000000000000000000000000000000000001",
        ]));
        text.push_str(self.pick(&["", "e1", "E+999", "e-400", "E0"]));
    }

    fn space(&mut self, text: &mut String) {
        for _ in 0..self.below(3).saturating_sub(1) {
            text.push_str(self.pick(&[" ", "\t", "\n", "\r", "                                    "]));
        }
    }

    /// Breaks (or not) a text in one to three places.
    pub(crate) fn mutate(&mut self, text: &mut String) {
        for _ in 0..1 + self.below(3) {
            let mut at = self.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match self.below(3) {
                0 => text.insert_str(at, self.pick(BROKEN_PARTS)),
                1 => text.truncate(at),
                _ => {
                    if at < text.len() {
                        text.remove(at);
                    }
                }
            }
        }
    }

    /// Changes, cuts off or adds a byte, once to three times. At least one byte stays; there must be one.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = self.next() as u8,
                _ => bytes.insert(at, self.next() as u8),
            }
        }
    }
}

const STRING_PARTS: &[&str] = &[
    "a",
    "b",
    "code",
    " ",
    "ä",
    "€",
    "😀",
    "\u{7f}",
    "\\n",
    "\\\\",
    "\\\"",
    "\\/",
    "\\b",
    "\\f",
    "\\r",
    "\\t",
    "\\u0041",
    "\\u00e9",
    "\\ud83d\\ude00",
    "\\uD83D",
    "\\udE00",
    "\\u0000",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "abcdefghijklmnopqrstuvwxyz0123456789",
];

const BROKEN_PARTS: &[&str] = &[
    "\"", "\\", "\\u", "\\u12", "\\ug000", "\\x", "[", "]", "{", "}", ",", ":", "0", "-", ".", "e", "+", "t", "true",
    "nul", "\0", "\u{1}", "\u{1f}", " ", "\u{a0}", "\u{feff}", "ä", "1", "[2,", "\"\\u\"", "//", "'", "NaN", "\u{b}",
    "\u{c}",
];
