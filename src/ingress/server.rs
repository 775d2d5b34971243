//! Takes the backend's connections.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use shards::listener::Listener;
use shards::{Socket, spawn, yield_now};

use super::connection::Known;
use super::{Ingress, connection};
use crate::stream::{linger, send_all};
use protocol::http::write_response;

/// Accepts at the ingress from when the shard is open until nothing needs it any more; not while another process accepts from the
/// same listener.
pub async fn serve(ingress: Rc<Ingress>, mut listener: Listener) {
    let env = &ingress.env;
    let (open, taken_over, end) = (env.open.watch(), env.taken_over.watch(), env.end.watch());
    let mut since_yield = 0_u64;
    let mut left = env.core.listen_backlog;
    loop {
        let next = poll_fn(|context| {
            if taken_over.poll_triggered(context).is_ready() {
                listener.suspend();
                return end.poll_triggered(context).map(|()| None);
            }
            if open.poll_triggered(context).is_pending() {
                return Poll::Pending;
            }
            let accepted = listener.poll_accept(context);
            // Who came before the end is served; or by whoever has the socket, too.
            let is_over = end.poll_triggered(context).is_ready();
            if is_over && (accepted.is_pending() || listener.is_kept() || left == 0) {
                return Poll::Ready(None);
            }
            left -= usize::from(is_over);
            accepted.map(Some)
        });
        let Some((fd, peer)) = next.await else { return };
        let Ok(socket) = Socket::adopt(&env.reactor, fd) else {
            continue;
        };
        ingress.take_in(socket, peer, None);
        since_yield += 1;
        if since_yield.is_multiple_of(ACCEPTS_PER_TURN) {
            yield_now().await;
        }
    }
}

impl Ingress {
    /// Serves one more connection, if there is a place for it. Of one that another process had, something is known.
    pub(super) fn take_in(self: &Rc<Self>, socket: Socket, peer: SocketAddr, known: Option<Known>) {
        match self.places.make_room(self.env.core.ingress_connections_max) {
            Some(was_taken) => {
                if was_taken {
                    self.env.counters.ingress_evicted.add();
                }
                let (ingress, place) = (self.clone(), self.places.enter());
                spawn(async move { connection::serve(&ingress, place, socket, (peer, known)).await });
            }
            None => {
                self.env.counters.ingress_shed.add();
                if self.shed_count.get() < SHED_MAX {
                    spawn(shed(self.clone(), socket));
                }
            }
        }
    }
}

async fn shed(ingress: Rc<Ingress>, socket: Socket) {
    let env = &ingress.env;
    ingress.shed_count.set(ingress.shed_count.get() + 1);
    let mut answer = Vec::new();
    write_response(
        &mut answer,
        503,
        &[("Retry-After", "1")],
        br#"{"error":"too many connections"}"#,
        false,
    );
    let deadline = env.reactor.now() + env.core.handshake_timeout;
    if send_all(env, &socket, &answer, deadline).await.is_ok() {
        linger(env, &socket).await;
    }
    ingress.shed_count.set(ingress.shed_count.get() - 1);
}

const ACCEPTS_PER_TURN: u64 = 16;
/// More at once are closed without a word.
const SHED_MAX: usize = 64;
