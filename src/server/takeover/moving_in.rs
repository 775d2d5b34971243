//! Brings the clients of the process before to their home shards, which say whether they have them.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shards::handover::Outside;
use shards::parcel::Passed;

use crate::client::parcel::Content;
use crate::env::home::{IdHasher, home_of};
use protocol::record::client_of;

/// The way of clients to their home shards.
#[derive(Debug)]
pub struct WayHome {
    /// Sockets go to shards.
    pub sockets: Arc<Mutex<Outside>>,
    /// Says which shard is a client's home.
    pub hasher: IdHasher,
    /// How many shards there are.
    pub shards_count: usize,
    /// Which of them has got something last that is nobody's in particular.
    pub next: usize,
}

impl WayHome {
    /// Sends a client home. False: that can't be.
    pub(super) fn send_home(&self, number: u64, record: Vec<u8>, socket: OwnedFd) -> bool {
        let Ok(client) = client_of(&record) else {
            return false;
        };
        let home = home_of(&self.hasher, &client, self.shards_count);
        self.send(
            home,
            socket,
            Content::Moved {
                number,
                record: record.into(),
            },
        )
    }

    /// Sends a connection of the backend to one shard after the other. One that can't be sent is closed.
    pub(super) fn send_around(&mut self, about: &[u8], socket: OwnedFd) {
        self.next = (self.next + 1) % self.shards_count;
        self.send(self.next, socket, Content::Backend(about));
    }

    fn send(&self, shard: usize, socket: OwnedFd, content: Content<'_>) -> bool {
        let mut passed = Passed {
            socket,
            bytes: content.pack(),
        };
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + SEND_TIMEOUT;
        while let Err((back, error)) = sockets.try_send(shard, passed) {
            if Instant::now() >= deadline {
                tracing::error!("a client of the process before can't be taken: {error}");
                return false;
            }
            passed = back;
            // The shard works on those before.
            std::thread::sleep(PAUSE);
        }
        true
    }
}

const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
