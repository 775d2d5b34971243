//! Gives the shards new keys for TLS tickets from time to time, beside them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use shards::mesh::NodeHandle;

use crate::client::tickets::{ROTATION, TicketKey};
use crate::shard::mail::{Control, Mail};

/// The first key, and others for as long as the process lives.
///
/// # Errors
/// There can be no thread.
pub fn rotate(outside: &Arc<NodeHandle<Mail>>) -> io::Result<()> {
    turn(outside, false);
    let outside = outside.clone();
    std::thread::Builder::new().name("tickets".into()).spawn(move || {
        loop {
            std::thread::sleep(ROTATION);
            turn(&outside, false);
        }
    })?;
    Ok(())
}

/// Gives every shard a new key, beside the one before or, with `is_all`, in the place of all. A shard that does not get it goes on
/// with those that it has: who resumes there has a full handshake.
pub fn turn(outside: &NodeHandle<Mail>, is_all: bool) {
    let Some(key) = TicketKey::random() else {
        return;
    };
    for shard in 0..outside.shards_count() {
        for _ in 0..TRIES {
            let turn = Control::TicketKey {
                key: key.clone(),
                is_all,
            };
            if outside.try_send(shard, Mail::from(turn)).is_ok() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// For a shard whose ring is full.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);
