//! Says which shard is a client's home.

use std::hash::BuildHasher;

use protocol::ocpp::ClientId;

/// Hashes ClientIds to their homes: SipHash with a key drawn at the start.
#[cfg(not(simulation))]
pub type IdHasher = std::hash::RandomState;
/// In a simulation every run is the same.
#[cfg(simulation)]
pub type IdHasher = foldhash::quality::FixedState;

/// Which of `count` shards owns `client`; the same on every thread.
#[must_use]
pub fn home_of(hasher: &IdHasher, client: &ClientId, count: usize) -> usize {
    (hasher.hash_one(client.as_str()) % count as u64) as usize
}
