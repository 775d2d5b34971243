//! Tries whether NATS servers let us in: for `ws2api check`.

use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::link::{Event, Link, LinkSettings};
use crate::config::NatsUrl;

/// A server that lets us in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reached {
    /// What it calls itself, its version, and where it is.
    pub server: String,
    /// The longest payload that it takes, in bytes.
    pub max_payload: usize,
}

/// Connects to one of the servers and ends the connection again. Blocks for at most twice the settings' `connect_timeout`.
///
/// # Errors
/// Why it does not let us in, in words.
pub fn reach(url: &NatsUrl, settings: &LinkSettings) -> Result<Reached, String> {
    let mut link = Link::new(LinkSettings {
        urls: vec![url.clone()],
        ..settings.clone()
    });
    let mut events = Vec::new();
    loop {
        link.handle(Instant::now(), &mut events);
        for event in events.drain(..) {
            match event {
                Event::Connected { server, max_payload } => return Ok(Reached { server, max_payload }),
                Event::Failed { why, .. } | Event::Lost { why } => return Err(why),
                Event::Message { .. } | Event::Complaint { .. } => {}
            }
        }
        wait(&link);
    }
}

/// For what the connection wants, or until its time has come.
fn wait(link: &Link) {
    let now = Instant::now();
    let left = link.next_deadline(now).saturating_duration_since(now);
    let wants = link.wants();
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, wants.reads);
    flags.set(PollFlags::OUT, wants.writes);
    let mut fds: Vec<PollFd<'_>> = wants
        .fd
        .map(|fd| PollFd::from_borrowed_fd(fd, flags))
        .into_iter()
        .collect();
    // Woken by a signal, it looks again.
    let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
}
