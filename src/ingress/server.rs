//! Takes the backend's connections.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use shards::listener::Listener;
use shards::{Socket, spawn, yield_now};

use super::connection;
use crate::client::handshake::{linger, send_all};
use crate::shard::Shard;
use protocol::http::write_response;

/// Accepts at the ingress until the shard drains.
pub async fn serve(shard: Rc<Shard>, mut listener: Listener) {
    let drain = shard.drain.watch();
    let mut since_yield = 0_u64;
    loop {
        let next = poll_fn(|context| {
            if drain.poll_triggered(context).is_ready() {
                return Poll::Ready(None);
            }
            listener.poll_accept(context).map(Some)
        });
        let Some((fd, peer)) = next.await else { return };
        let Ok(socket) = Socket::adopt(&shard.reactor, fd) else {
            continue;
        };
        let shard = shard.clone();
        if shard.ingress_connections.get() >= shard.core.ingress_connections_max {
            shard.counters.ingress_shed.add();
            spawn(shed(shard, socket));
        } else {
            shard.ingress_connections.set(shard.ingress_connections.get() + 1);
            spawn(async move {
                connection::serve(&shard, socket, peer).await;
                shard.ingress_connections.set(shard.ingress_connections.get() - 1);
            });
        }
        since_yield += 1;
        if since_yield.is_multiple_of(ACCEPTS_PER_TURN) {
            yield_now().await;
        }
    }
}

async fn shed(shard: Rc<Shard>, socket: Socket) {
    let mut answer = Vec::new();
    write_response(
        &mut answer,
        503,
        &[("Retry-After", "1")],
        br#"{"error":"too many connections"}"#,
        false,
    );
    let deadline = shard.reactor.now() + shard.core.handshake_timeout;
    if send_all(&shard, &socket, &answer, deadline).await.is_ok() {
        linger(&shard, &socket).await;
    }
}

const ACCEPTS_PER_TURN: u64 = 16;
