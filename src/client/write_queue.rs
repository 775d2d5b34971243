//! Queues frames while the client does not read.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::frame::Frame;
use crate::wire::Wire;

/// The queue behind a socket that takes no more. It exists only while something waits.
#[derive(Debug)]
pub(super) struct WriteQueue {
    writing: Frame,
    waiting: VecDeque<Frame>,
    waiting_len: usize,
    /// The answer to the latest ping. It goes before the frames that wait (RFC 6455, 5.5.3: the answers to earlier ones need not
    /// be sent), and counts as none of them.
    pong: Option<Frame>,
    /// When the socket took something last.
    progress_at: Instant,
}

impl WriteQueue {
    /// A frame is being written and the socket is full.
    pub(super) fn new(mut writing: Frame, now: Instant) -> Self {
        writing.shrink();
        Self {
            writing,
            waiting: VecDeque::new(),
            waiting_len: 0,
            pong: None,
            progress_at: now,
        }
    }

    /// The bytes that the socket has not taken.
    pub(super) fn len(&self) -> usize {
        self.writing.len() + self.waiting_len
    }

    /// Whether more than `len_max` bytes wait behind the frame that is being written. One frame alone may be longer.
    pub(super) fn is_longer_than(&self, len_max: usize) -> bool {
        self.waiting_len > len_max && self.waiting.len() > 1
    }

    /// When the socket took something last, or had to.
    pub(super) fn progress_at(&self) -> Instant {
        self.progress_at
    }

    pub(super) fn push(&mut self, mut frame: Frame) {
        frame.shrink();
        self.waiting_len += frame.len();
        self.waiting.push_back(frame);
    }

    pub(super) fn push_pong(&mut self, frame: Frame) {
        self.pong = Some(frame);
    }

    /// Writes on. Ready with a frame that has left and whether it was the last.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        wire: &mut Wire,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Poll<io::Result<(Frame, Left)>> {
        let before = self.writing.len();
        let written = self.writing.poll_write(context, wire, scratch);
        if self.writing.len() < before {
            self.progress_at = now;
        }
        ready!(written)?;
        let next = self.pong.take().or_else(|| {
            let next = self.waiting.pop_front()?;
            self.waiting_len -= next.len();
            Some(next)
        });
        Poll::Ready(Ok(match next {
            Some(next) => (std::mem::replace(&mut self.writing, next), Left::Some),
            None => (
                std::mem::replace(&mut self.writing, Frame::whole(Vec::new())),
                Left::Nothing,
            ),
        }))
    }
}

/// What waits behind a frame that has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Left {
    /// More.
    Some,
    /// Nothing: the queue is of no more use.
    Nothing,
}
