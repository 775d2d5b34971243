//! Finds the clients of a shard that are the most of something, slice by slice.

use super::clients::Clients;
use super::conversation::Conversation;
use super::description::Description;
use protocol::ocpp::Traffic;

/// What clients are compared by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TopBy {
    /// Messages to and fro.
    Frames,
    /// Bytes in them.
    Bytes,
    /// Messages that could not be read.
    BadFrames,
}

/// The most of a slice of a shard's clients.
#[derive(Debug, Default)]
pub struct TopSlice {
    /// Each with its count, in no order.
    pub clients: Vec<(u64, Description)>,
    /// Where the next slice begins.
    pub next: Option<usize>,
}

impl TopBy {
    fn count(self, traffic: &Traffic) -> u64 {
        match self {
            Self::Frames => u64::from(traffic.frames_in) + u64::from(traffic.frames_out),
            Self::Bytes => traffic.bytes_in + traffic.bytes_out,
            Self::BadFrames => traffic.bad_frames.into(),
        }
    }
}

impl<C: Conversation> Clients<C> {
    /// Those of the slice that begins at `slot`, at most [`TOP_LEN`]: a fraction of a millisecond's work.
    pub fn top(&self, by: TopBy, slot: usize) -> TopSlice {
        let (page, next) = self.page(slot, SLICE_LEN);
        let counted = page
            .iter()
            .map(|connection| (by.count(&connection.traffic()), connection));
        let mut most: Vec<_> = counted.filter(|(count, _)| *count > 0).collect();
        most.sort_unstable_by_key(|(count, _)| std::cmp::Reverse(*count));
        most.truncate(TOP_LEN);
        let described = most
            .into_iter()
            .map(|(count, connection)| (count, self.describe(connection)));
        TopSlice {
            clients: described.collect(),
            next,
        }
    }
}

/// So many are told.
pub const TOP_LEN: usize = 20;
const SLICE_LEN: usize = 2048;
