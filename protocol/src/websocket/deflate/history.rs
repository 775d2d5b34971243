//! Keeps the last bytes of one direction's compressed messages, in the clear.

/// At most a window's worth of plain text; its memory is taken when the first message comes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct History {
    bytes: Vec<u8>,
}

impl History {
    /// The bytes, oldest first.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends `plain`; what falls out of a window of `window` bytes is forgotten.
    pub fn push(&mut self, plain: &[u8], window: usize) {
        let (_, kept) = plain.split_at(plain.len().saturating_sub(window));
        let stale = (self.bytes.len() + kept.len()).saturating_sub(window);
        self.bytes.drain(..stale.min(self.bytes.len()));
        // Never more than the window, and no more than the first messages need.
        if self.bytes.capacity() - self.bytes.len() < kept.len() {
            let wanted = (self.bytes.len() + kept.len()).next_power_of_two().min(window);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(kept);
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.bytes.capacity()
    }

    /// A history that was written down elsewhere; of a longer one the last `window` bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], window: usize) -> Self {
        let mut history = Self::default();
        history.push(bytes, window);
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_stay_and_no_memory_beyond_them_is_taken() {
        let mut history = History::default();
        let mut all = Vec::new();
        for len in [0, 1, 7, 500, 13, 512, 511, 513, 2000, 3, 0, 509] {
            let message: Vec<u8> = (0..len).map(|byte| (byte * 7 + len) as u8).collect();
            all.extend_from_slice(&message);
            history.push(&message, 512);
            assert_eq!(history.bytes(), &all[all.len().saturating_sub(512)..], "{len}");
            assert!(history.held_len() <= 512);
            assert_eq!(History::from_bytes(history.bytes(), 512).bytes(), history.bytes());
        }
    }
}
