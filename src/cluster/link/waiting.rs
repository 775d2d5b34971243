//! Keeps what a server has not taken yet.

use std::io::{self, ErrorKind};

use super::stream::Stream;

/// Bytes on their way out.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    bytes: Vec<u8>,
    taken: usize,
}

impl Waiting {
    /// Where more is appended.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// What has not been taken.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Writes as much as is taken, and no more than a turn's share.
    pub(super) fn write(&mut self, stream: &mut Stream) -> io::Result<()> {
        let mut written = 0;
        while self.len() > 0 && written < TURN_LEN {
            match stream.write(self.rest()) {
                Ok(taken) => {
                    self.taken += taken;
                    written += taken;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.len() == 0 {
            self.taken = 0;
            match self.bytes.capacity() {
                KEPT_LEN.. => self.bytes = Vec::new(),
                _ => self.bytes.clear(),
            }
        } else if self.taken > self.bytes.len() / 2 {
            // At most as much is moved as was written.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        Ok(())
    }
}

const TURN_LEN: usize = 1 << 20;
const KEPT_LEN: usize = 256 * 1024;
