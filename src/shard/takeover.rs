//! Leaves a shard's listeners to another process, and then the shard: the part of a takeover that is one shard's.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::control_plane::Phase;

impl Shard {
    /// Once another process accepts in this one's place: waits until no opening handshake is under way on any shard, so that nobody
    /// who has come here is refused, and drains.
    pub(super) async fn leave_to_another(self: Rc<Self>) {
        let env = &self.env;
        let (taken_over, drain) = (env.taken_over.watch(), env.drain.watch());
        poll_fn(|context| {
            if drain.poll_triggered(context).is_ready() {
                return std::task::Poll::Ready(());
            }
            taken_over.poll_triggered(context)
        })
        .await;
        // Those that accept have heard it, too, when they have had their turn.
        shards::yield_now().await;
        shards::yield_now().await;
        if !env.is_draining() {
            self.control.set_phase(Phase::Closed);
        }
        let deadline = env.reactor.now() + env.core.handshake_timeout;
        let is_over = || env.is_draining() || env.reactor.now() >= deadline;
        while self.clients.handshakes_count() > 0 && !is_over() {
            shards::timer::sleep(&env.reactor, LOOK).await;
        }
        if !env.is_draining() {
            self.control.set_phase(Phase::Unasked);
        }
        while !self.control.plane().have_all_reached(Phase::Unasked) && !is_over() {
            shards::timer::sleep(&env.reactor, LOOK).await;
        }
        // What another shard has read last is here by then.
        shards::timer::sleep(&env.reactor, LOOK).await;
        while self.clients.handshakes_count() > 0 && !is_over() {
            shards::timer::sleep(&env.reactor, LOOK).await;
        }
        if !env.is_draining() {
            self.drain();
        }
    }
}

const LOOK: Duration = Duration::from_millis(20);
