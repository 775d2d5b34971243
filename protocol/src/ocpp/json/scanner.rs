//! Finds where JSON values end, and checks them on the way: grammar, escapes and depth in one pass, without recursion.
//! RFC 8259, to the letter.

use super::{DEPTH_MAX, JsonError};

/// A place in a text.
pub(super) struct Scanner<'t> {
    text: &'t [u8],
    pub(super) at: usize,
    depth: usize,
    depth_max: usize,
    /// Of each array or object that is open, outermost first, a bit: whether it is an object.
    objects: [u64; DEPTH_MAX / 64],
}

impl<'t> Scanner<'t> {
    /// In front of the byte at this index. What is open there does not count.
    pub(super) fn at(text: &'t [u8], at: usize, depth_max: usize) -> Self {
        Self {
            text,
            at,
            depth: 0,
            depth_max: depth_max.min(DEPTH_MAX),
            objects: [0; DEPTH_MAX / 64],
        }
    }

    /// In front of the first byte that is not white space.
    pub(super) fn new(text: &'t str, depth_max: usize) -> Self {
        let mut scanner = Self::at(text.as_bytes(), 0, depth_max);
        scanner.skip_space();
        scanner
    }

    /// The next byte.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Takes this byte, if it is the next one.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// Goes one level deeper: behind the bracket that is the next byte.
    pub(super) fn open(&mut self, is_object: bool) -> Result<(), JsonError> {
        if self.depth == self.depth_max {
            return Err(JsonError::TooDeep {
                limit: self.depth_max,
                at: self.at,
            });
        }
        if let Some(word) = self.objects.get_mut(self.depth / 64) {
            let bit = 1 << (self.depth % 64);
            *word = if is_object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn is_in_object(&self) -> bool {
        let last = self.depth.wrapping_sub(1);
        let word = self.objects.get(last / 64).copied().unwrap_or_default();
        word >> (last % 64) & 1 == 1
    }

    /// To the end of the value that begins here.
    pub(super) fn skip_value(&mut self) -> Result<(), JsonError> {
        let outside = self.depth;
        loop {
            match self.peek() {
                Some(b'"') => self.skip_string()?,
                Some(b'{') => {
                    self.open(true)?;
                    self.skip_space();
                    if self.peek() != Some(b'}') {
                        self.skip_name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.open(false)?;
                    self.skip_space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.skip_number()?,
                Some(b't') => self.skip_literal(b"true")?,
                Some(b'f') => self.skip_literal(b"false")?,
                Some(b'n') => self.skip_literal(b"null")?,
                _ => return Err(JsonError::Syntax),
            }
            if !self.skip_ends(outside)? {
                return Ok(());
            }
        }
    }

    /// Behind a value, or before a bracket that closes what is empty: to where the next one begins. False when there is none
    /// because the whole has ended.
    fn skip_ends(&mut self, outside: usize) -> Result<bool, JsonError> {
        while self.depth > outside {
            self.skip_space();
            let is_in_object = self.is_in_object();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.skip_space();
                    if is_in_object {
                        self.skip_name()?;
                    }
                    return Ok(true);
                }
                Some(b'}') if is_in_object => {}
                Some(b']') if !is_in_object => {}
                _ => return Err(JsonError::Syntax),
            }
            self.at += 1;
            self.depth -= 1;
        }
        Ok(false)
    }

    /// Over a member's name and the colon, to where its value begins.
    fn skip_name(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(JsonError::Syntax);
        }
        self.skip_string()?;
        self.skip_space();
        if !self.take(b':') {
            return Err(JsonError::Syntax);
        }
        self.skip_space();
        Ok(())
    }

    /// From the opening quote to behind the closing one.
    pub(super) fn skip_string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let (plain_len, rest) = skip_plain(rest);
            self.at += plain_len;
            match rest {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) => self.at += 6,
                [b'\\', ..] => return Err(JsonError::Escape { at: self.at }),
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    fn skip_number(&mut self) -> Result<(), JsonError> {
        self.take(b'-');
        // No digit follows a zero that is in front.
        if !self.take(b'0') {
            self.skip_digits()?;
        }
        if self.take(b'.') {
            self.skip_digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.skip_digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn skip_digits(&mut self) -> Result<(), JsonError> {
        let begin = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > begin {
            Ok(())
        } else {
            Err(JsonError::Syntax)
        }
    }

    fn skip_literal(&mut self, literal: &[u8]) -> Result<(), JsonError> {
        if !self.text.get(self.at..).unwrap_or_default().starts_with(literal) {
            return Err(JsonError::Syntax);
        }
        self.at += literal.len();
        Ok(())
    }
}

/// White space of RFC 8259, 2.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// How many bytes may stand in a string as they are, and what is behind them.
#[inline]
fn skip_plain(text: &[u8]) -> (usize, &[u8]) {
    let mut rest = text;
    let skip_words = |rest: &mut &[u8], words_max: usize| {
        for _ in 0..words_max {
            let Some((word, behind)) = rest.split_first_chunk() else {
                return false;
            };
            let special = special_bytes(u64::from_le_bytes(*word));
            if special != 0 {
                let (_, behind) = rest.split_at(special.trailing_zeros() as usize / 8);
                *rest = behind;
                return true;
            }
            *rest = behind;
        }
        false
    };
    // Most strings are short; in long ones whole chunks are quicker.
    let mut is_found = skip_words(&mut rest, 5);
    if !is_found {
        while let Some((chunk, behind)) = rest.split_first_chunk::<32>()
            && chunk.iter().fold(true, |plain, byte| plain & is_plain(*byte))
        {
            rest = behind;
        }
        is_found = skip_words(&mut rest, usize::MAX);
    }
    if !is_found {
        let plain = rest.iter().position(|byte| !is_plain(*byte));
        (_, rest) = rest.split_at(plain.unwrap_or(rest.len()));
    }
    (text.len() - rest.len(), rest)
}

/// Whether a byte may stand in a string as it is (RFC 8259, 7).
pub(super) fn is_plain(byte: u8) -> bool {
    (byte >= 0x20) & (byte != b'"') & (byte != b'\\')
}

/// Of eight bytes those that are not plain, by their highest bits; above the lowest such bit more may be set.
fn special_bytes(bytes: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let is_below = |bytes: u64, limit: u64| bytes.wrapping_sub(ONES * limit) & !bytes;
    let is_byte = |byte: u8| is_below(bytes ^ (ONES * u64::from(byte)), 1);
    (is_below(bytes, 0x20) | is_byte(b'"') | is_byte(b'\\')) & HIGH
}
