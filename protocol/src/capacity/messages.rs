//! Defines what a shard and a backend's keeper say to each other, and how often.

use std::time::Duration;

use super::phase::Seen;
use crate::balance::KINDS;

/// What a shard says to a backend's keeper: how things are with it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claim {
    /// Of the last grant that it has heard.
    pub number: u32,
    /// As many as that gives it.
    pub places: usize,
    /// Requests at the backend.
    pub in_use: usize,
    /// Requests that wait, by kind.
    pub waiting: [u32; KINDS],
    /// The backend's answers since the last claim.
    pub seen: Seen,
}

/// What a backend's keeper says to a shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Greater than that of the grant before.
    pub number: u32,
    /// So many requests may be at the backend from now on.
    pub places: usize,
    /// The shard says from time to time how things are, whether it needs places or not.
    pub is_watched: bool,
}

/// The number of places that shard `index` of `count` has before anything was said.
pub(super) fn initial_share(limit: usize, index: usize, count: usize) -> usize {
    limit / count + usize::from(index < limit % count)
}

/// So often shards report, and the limit is looked at.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// A message that is not answered is sent again after this.
pub(super) const RESEND: Duration = Duration::from_millis(100);
/// A shard that does not answer for so long has lost its places; one that hears nothing does without.
pub(super) const LEASE: Duration = Duration::from_secs(1);
/// After nobody has waited for so long shards report no longer.
pub(super) const CALM: Duration = Duration::from_secs(1);
/// The same as long as little is known of the backend.
pub(super) const CALM_NEW: Duration = Duration::from_secs(10);
