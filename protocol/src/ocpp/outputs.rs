//! Collects what a session decides, and lends it the memory of a frame that has left.

use std::ops::{Deref, DerefMut};

use super::output::Output;

/// What is to be done, in order: a list, with room for one frame beside it. Whoever does what is in it gives a frame back
/// that has left, so that the next one needs no memory of its own.
#[derive(Debug, Default)]
pub struct Outputs {
    list: Vec<Output>,
    spare: Vec<u8>,
}

impl Outputs {
    /// An empty text for a frame.
    pub(super) fn frame(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.spare)).expect("it is empty")
    }

    /// Takes the memory of a frame that has left.
    pub fn recycle(&mut self, mut frame: Vec<u8>) {
        if (self.spare.capacity()..=SPARE_LEN_MAX).contains(&frame.capacity()) {
            frame.clear();
            self.spare = frame;
        }
    }

    /// Takes over the room for a frame from another list.
    pub fn recycle_from(&mut self, other: &mut Self) {
        self.recycle(std::mem::take(&mut other.spare));
    }
}

impl Deref for Outputs {
    type Target = Vec<Output>;

    fn deref(&self) -> &Vec<Output> {
        &self.list
    }
}

impl DerefMut for Outputs {
    fn deref_mut(&mut self) -> &mut Vec<Output> {
        &mut self.list
    }
}

/// What is kept of a frame's memory, in bytes.
const SPARE_LEN_MAX: usize = 16 * 1024;
