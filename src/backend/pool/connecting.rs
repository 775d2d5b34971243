//! Opens the pool's connections, and tells the balance how that went.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shards::{Socket, Timer, spawn};

use super::{Backend, Pool, Upstream};
use crate::backend::connect::{self, ConnectError, Place};
use crate::backend::exchange::Exchange;
use crate::backend::link::Link;
use crate::backend::mistrust;
use crate::backend::tls::Tls;
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
            Ok((socket, tls)) if !socket.peer_closed() => {
                counters.backend_connects.add();
                let Upstream { backend, template, .. } = self.upstreams.borrow()[upstream].clone();
                let tally = self.backends[backend].tally.clone();
                self.handle(|balance, now, out| {
                    let id = balance.handle_connected(now, upstream, is_awaited, out);
                    let link = Link::new(id, (socket, tls), self.shared.clone(), template, tally);
                    self.keep(id, &link);
                    spawn(link.run(self.clone()));
                });
            }
            // One that has ended before anything was written is none, either.
            failed => {
                counters.backend_connect_failures.add();
                let failure = match failed {
                    Err(ConnectError::Io(error)) if connect::is_for_want_of_descriptors(&error) => {
                        ConnectFailure::NoRoom
                    }
                    Err(error @ (ConnectError::Tls(_) | ConnectError::Silent)) => {
                        let index = self.upstreams.borrow()[upstream].backend;
                        let words = match &error {
                            ConnectError::Tls(error) => mistrust::words(error),
                            _ => "it says nothing to the handshake in time: is it http:// there?".to_owned(),
                        };
                        counters.backend_tls_failed.add();
                        mistrust::tell(index, &self.backends[index].name, &words);
                        ConnectFailure::Tls
                    }
                    _ => ConnectFailure::Backend,
                };
                self.handle(|balance, now, out| {
                    balance.handle_connect_failed(now, upstream, is_awaited, failure, out);
                });
            }
        }
    }

    /// Connects. If that takes long, the balance says whether a request still waits for it.
    async fn connect_patiently(
        self: &Rc<Self>,
        upstream: usize,
        is_awaited: &mut bool,
    ) -> Result<(Socket, Option<Tls>), ConnectError> {
        let Upstream { backend, place, .. } = self.upstreams.borrow()[upstream].clone();
        let now = self.reactor.now();
        let deadline = now + self.shared.limits.connect_timeout;
        let mut patience = Timer::new(&self.reactor);
        patience.set(is_awaited.then(|| now + CONNECT_PATIENCE));
        let mut connecting = std::pin::pin!(self.open(place, backend, deadline));
        poll_fn(|context| {
            let connected = connecting.as_mut().poll(context);
            if connected.is_pending() && *is_awaited && patience.poll_expired(context).is_ready() {
                *is_awaited = self.handle(|balance, now, out| balance.handle_slow_connect(now, upstream, out));
            }
            connected
        })
        .await
    }

    /// The connection, and TLS on it where the backend has a certificate to show.
    async fn open(
        &self,
        place: Place,
        backend: usize,
        deadline: Instant,
    ) -> Result<(Socket, Option<Tls>), ConnectError> {
        let socket = connect::connect(&self.reactor, place, deadline).await?;
        let Backend { name, server_name, .. } = &self.backends[backend];
        let Some(server_name) = server_name else {
            return Ok((socket, None));
        };
        let config = self
            .tls
            .borrow()
            .clone()
            .expect("it is there where a backend speaks TLS");
        let beginning = Tls::begin(&socket, &config, server_name.clone(), &self.shared.incoming);
        let begun = connect::within(&self.reactor, deadline, beginning).await;
        let mut tls = begun.map_err(|error| match error {
            ConnectError::Io(error) if error.kind() == ErrorKind::TimedOut => ConnectError::Silent,
            error => error,
        })?;
        tls.about(backend, name.clone());
        let counters = &self.shared.counters;
        match tls.is_resumed {
            true => counters.backend_tls_resumed.add(),
            false => counters.backend_tls_full.add(),
        }
        Ok((socket, Some(tls)))
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
