//! Takes the clients of the process before: each goes to its home shard, which says whether it has it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use shards::handover::Outside;
use shards::parcel::Passed;

use crate::client::parcel::Content;
use crate::env::home::{IdHasher, home_of};
use protocol::record::client_of;

/// Clients that come from the process before.
#[derive(Debug)]
pub struct MovingIn {
    /// The way to their home shards.
    pub way: WayHome,
    /// Shards say which of them they have, by its number, or that they can't have it.
    pub adopted: mpsc::Receiver<(u64, bool)>,
}

/// The way of clients to their home shards.
#[derive(Debug)]
pub struct WayHome {
    /// Sockets go to shards.
    pub sockets: Arc<Mutex<Outside>>,
    /// Says which shard is a client's home.
    pub hasher: IdHasher,
    /// How many shards there are.
    pub shards_count: usize,
}

impl WayHome {
    /// Sends a client home. False: that can't be.
    pub(super) fn send_home(&self, number: u64, record: &[u8], socket: OwnedFd) -> bool {
        let Ok(client) = client_of(record) else {
            return false;
        };
        let home = home_of(&self.hasher, &client, self.shards_count);
        let mut passed = Passed {
            socket,
            bytes: Content::Moved { number, record }.pack(),
        };
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + SEND_TIMEOUT;
        while let Err((back, error)) = sockets.try_send(home, passed) {
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
