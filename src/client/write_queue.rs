//! Queues frames while the client does not read.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use shards::Socket;

use super::frame::Frame;

/// The queue behind a socket that takes no more. It exists only while something waits.
#[derive(Debug)]
pub(super) struct WriteQueue {
    /// The first is being written.
    frames: VecDeque<Frame>,
    /// The answer to the latest ping. It goes before the frames whose turn has not come (RFC 6455, 5.5.3: the answers to earlier
    /// ones need not be sent).
    pong: Option<Frame>,
    /// Bytes of the frames that the socket has not taken.
    len: usize,
    /// When the oldest frame began to wait.
    pub(super) since: Instant,
}

impl WriteQueue {
    /// A frame is being written and the socket is full.
    pub(super) fn new(mut writing: Frame, now: Instant) -> Self {
        writing.shrink();
        Self {
            len: writing.len(),
            frames: VecDeque::from([writing]),
            pong: None,
            since: now,
        }
    }

    /// The bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, mut frame: Frame) {
        frame.shrink();
        self.len += frame.len();
        self.frames.push_back(frame);
    }

    /// There is never more than one: it does not count among the bytes that wait.
    pub(super) fn push_pong(&mut self, frame: Frame) {
        self.pong = Some(frame);
    }

    /// Writes on. Ready with a frame that has left; with none when all have.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        socket: &Socket,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Poll<io::Result<Option<Frame>>> {
        let Some(writing) = self.frames.front_mut() else {
            return Poll::Ready(Ok(None));
        };
        let before = writing.len();
        let written = writing.poll_write(context, socket, scratch);
        self.len -= before - writing.len();
        ready!(written)?;
        let left = self.frames.pop_front();
        self.since = now;
        if let Some(pong) = self.pong.take() {
            self.len += pong.len();
            self.frames.push_front(pong);
        }
        Poll::Ready(Ok(left))
    }
}
