//! Notices that connections of one ClientId replace each other again and again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocol::mapping::{Identity, forwarded};
use protocol::ocpp::ClientId;

/// Whose connections have replaced each other of late.
#[derive(Debug, Default)]
pub(super) struct Twins(RefCell<HashMap<ClientId, Replaced>>);

#[derive(Debug)]
struct Replaced {
    since: Instant,
    count: usize,
    /// Of the one before.
    address: String,
}

impl Twins {
    /// A connection was replaced. What is to be told if that happens again and again.
    pub(super) fn note(&self, identity: &Identity, now: Instant) -> Option<String> {
        let address = forwarded::client_address(identity.forwarded_for());
        let mut all = self.0.borrow_mut();
        let is_recent = |replaced: &Replaced| now.saturating_duration_since(replaced.since) < WINDOW;
        if !all.contains_key(&identity.client) {
            if all.len() >= WATCHED_MAX {
                all.retain(|_, replaced| is_recent(replaced));
            }
            if all.len() >= WATCHED_MAX {
                return None;
            }
        }
        let replaced = all.entry(identity.client.clone()).or_insert_with(|| Replaced {
            since: now,
            count: 0,
            address: String::new(),
        });
        if !is_recent(replaced) {
            (replaced.since, replaced.count) = (now, 0);
        }
        replaced.count += 1;
        let before = std::mem::replace(&mut replaced.address, address.to_owned());
        let seconds = now.saturating_duration_since(replaced.since).as_secs();
        (replaced.count >= MANY).then(|| {
            format!(
                "{} times in {seconds} s, from {before} and {address} in turn",
                replaced.count
            )
        })
    }
}

/// So often in so much time. One that has lost its connection replaces it once.
const MANY: usize = 3;
const WINDOW: Duration = Duration::from_secs(120);
/// ClientIds that are watched at once.
const WATCHED_MAX: usize = 256;
