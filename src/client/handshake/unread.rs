//! Waits for what a newcomer sends, as long as that is of use.

use std::task::{Context, Poll};

use crate::client::permit::HandshakePermit;
use crate::env::Env;
use crate::stream::until;

/// Why there is no request.
#[derive(Debug)]
pub(super) enum Unread {
    /// The client went, or was slow, or does not speak as it should.
    Gone,
    /// Its place was needed.
    PlaceLost,
    /// No request is of use any more.
    Draining,
}

/// Waits until something was received: `receiving` gives its length, 0 at the end.
pub(super) async fn receive(
    env: &Env,
    permit: &HandshakePermit,
    receiving: impl Future<Output = usize>,
) -> Result<(), Unread> {
    let drain = env.drain.watch();
    let is_no_use = |context: &mut Context<'_>| match drain.poll_triggered(context) {
        Poll::Pending => permit.poll_lost(context),
        triggered => triggered,
    };
    match until(is_no_use, receiving).await {
        None if permit.is_lost() => Err(Unread::PlaceLost),
        None => Err(Unread::Draining),
        Some(0) => Err(Unread::Gone),
        Some(_) => Ok(()),
    }
}
