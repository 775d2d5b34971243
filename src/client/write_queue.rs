//! Queues frames while the client does not read.

use std::collections::VecDeque;
use std::time::Instant;

use async_tungstenite::tungstenite::Message;

use protocol::ocpp::PushKey;

/// The queue behind a socket that takes no more. It exists only while something waits.
#[derive(Debug)]
pub(super) struct WriteQueue {
    /// The push whose frame the WebSocket is writing.
    pub(super) writing: Option<PushKey>,
    writing_len: usize,
    queue: VecDeque<Waiting>,
    queued_len: usize,
    /// When the oldest frame began to wait.
    pub(super) since: Instant,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    push: Option<PushKey>,
    since: Instant,
}

impl WriteQueue {
    /// A frame of `len` bytes is being written and the socket is full.
    pub(super) fn new(writing: Option<PushKey>, writing_len: usize, now: Instant) -> Self {
        Self {
            writing,
            writing_len,
            queue: VecDeque::new(),
            queued_len: 0,
            since: now,
        }
    }

    /// The bytes of all frames that wait.
    pub(super) fn len(&self) -> usize {
        self.writing_len + self.queued_len
    }

    pub(super) fn push(&mut self, message: Message, push: Option<PushKey>, now: Instant) {
        self.queued_len += message.len();
        self.queue.push_back(Waiting {
            message,
            push,
            since: now,
        });
    }

    /// The next frame to write; from now on it is the oldest that waits.
    pub(super) fn next(&mut self) -> Option<(Message, Option<PushKey>)> {
        let Waiting { message, push, since } = self.queue.pop_front()?;
        self.queued_len -= message.len();
        self.writing_len = message.len();
        self.writing = push;
        self.since = since;
        Some((message, push))
    }
}
