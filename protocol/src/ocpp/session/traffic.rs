//! Counts what has gone to and fro on one client's connection, for whoever looks for the client that is too much.

/// Since the connection began. The smaller counts stop at their highest value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Bytes of the client's messages.
    pub bytes_in: u64,
    /// Bytes of the messages to it.
    pub bytes_out: u64,
    /// Its text and binary messages.
    pub frames_in: u32,
    /// Text messages to it.
    pub frames_out: u32,
    /// Calls and SENDs among its messages, repeated ones too.
    pub calls: u32,
    /// Pushes among the messages to it.
    pub pushes: u32,
    /// Messages that could not be read or answered nothing well.
    pub bad_frames: u32,
}

impl Traffic {
    pub(super) fn count_in(&mut self, len: usize) {
        self.frames_in = self.frames_in.saturating_add(1);
        self.bytes_in += len as u64;
    }

    pub(super) fn count_out(&mut self, len: usize) {
        self.frames_out = self.frames_out.saturating_add(1);
        self.bytes_out += len as u64;
    }

    pub(super) fn count_call(&mut self) {
        self.calls = self.calls.saturating_add(1);
    }

    pub(super) fn count_push(&mut self) {
        self.pushes = self.pushes.saturating_add(1);
    }

    pub(super) fn count_bad_frame(&mut self) {
        self.bad_frames = self.bad_frames.saturating_add(1);
    }
}
