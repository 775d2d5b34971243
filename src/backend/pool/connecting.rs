//! Opens the pool's connections, and tells the balance how that went.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use shards::{Socket, Timer, spawn};

use super::{Pool, Upstream};
use crate::backend::connect;
use crate::backend::exchange::Exchange;
use crate::backend::link::Link;
use protocol::balance::{ConnectFailure, LinkId};

impl<E: Exchange> Pool<E> {
    pub(super) async fn connect(self: Rc<Self>, upstream: usize, is_awaited: bool, pause: Option<Duration>) {
        if let Some(pause) = pause {
            shards::timer::sleep(&self.reactor, pause).await;
        }
        let mut is_awaited = is_awaited;
        let connected = self.connect_patiently(upstream, &mut is_awaited).await;
        let counters = &self.shared.counters;
        match connected {
            Ok(socket) if !socket.peer_closed() => {
                counters.backend_connects.add();
                let Upstream { backend, template, .. } = self.upstreams.borrow()[upstream].clone();
                let tally = self.backends[backend].tally.clone();
                self.handle(|balance, now, out| {
                    let id = balance.handle_connected(now, upstream, is_awaited, out);
                    let link = Link::new(id, socket, self.shared.clone(), template, tally);
                    self.keep(id, &link);
                    spawn(link.run(self.clone()));
                });
            }
            // One that has ended before anything was written is none, either.
            failed => {
                counters.backend_connect_failures.add();
                let failure = match failed {
                    Err(error) if connect::is_for_want_of_descriptors(&error) => ConnectFailure::NoRoom,
                    _ => ConnectFailure::Backend,
                };
                self.handle(|balance, now, out| {
                    balance.handle_connect_failed(now, upstream, is_awaited, failure, out);
                });
            }
        }
    }

    /// Connects. If that takes long, the balance says whether a request still waits for it.
    async fn connect_patiently(self: &Rc<Self>, upstream: usize, is_awaited: &mut bool) -> io::Result<Socket> {
        let place = self.upstreams.borrow()[upstream].place.clone();
        let now = self.reactor.now();
        let deadline = now + self.shared.limits.connect_timeout;
        let mut patience = Timer::new(&self.reactor);
        patience.set(is_awaited.then(|| now + CONNECT_PATIENCE));
        let mut connecting = std::pin::pin!(connect::connect(&self.reactor, place, deadline));
        poll_fn(|context| {
            let connected = connecting.as_mut().poll(context);
            if connected.is_pending() && *is_awaited && patience.poll_expired(context).is_ready() {
                *is_awaited = self.handle(|balance, now, out| balance.handle_slow_connect(now, upstream, out));
            }
            connected
        })
        .await
    }

    fn keep(&self, id: LinkId, link: &Rc<Link<E>>) {
        let mut links = self.links.borrow_mut();
        let len = links.len().max(id.index() + 1);
        links.resize(len, None);
        links[id.index()] = Some(link.clone());
    }
}

/// A connect that takes longer is not relied on where there is another backend: a request that waits gets that one.
const CONNECT_PATIENCE: Duration = Duration::from_millis(250);
