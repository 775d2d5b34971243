//! Leaves a shard's listeners to another process, then its clients, and then the shard: the part of a takeover that is one
//! shard's.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use shards::Timer;
use shards::handover::Handover;
use shards::parcel::Parcel;
use shards::spawn;

use super::Shard;
use super::control_plane::Phase;
use crate::client::Connection;
use crate::client::parcel::Content;
use protocol::takeover::RECORD_LEN_MAX;

enum Next {
    Client(Rc<Connection>),
    Look,
}

impl Shard {
    /// Whenever another process accepts in this one's place: has every client move there as soon as it is quiet, and drains what is
    /// left when that has had its time. If the other one ends before, this one goes on.
    pub(super) async fn leave_to_another(self: Rc<Self>, handover: Rc<Handover>) {
        let env = &self.env;
        let (taken_over, drain) = (env.taken_over.watch(), env.drain.watch());
        while !env.is_draining() {
            poll_fn(|context| match drain.poll_triggered(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => taken_over.poll_triggered(context),
            })
            .await;
            // Those that accept have heard it, too, when they have had their turn.
            shards::yield_now().await;
            shards::yield_now().await;
            if env.is_draining() {
                return;
            }
            self.control.set_phase(Phase::Closed);
            self.hand_clients_over(&handover).await;
            if env.is_draining() {
                return;
            }
            if self.control.plane().begin_leaving() {
                return self.drain();
            }
            self.control.set_phase(Phase::Serving);
        }
    }

    /// The clients move. Opening handshakes are finished here: nobody who has come is refused.
    async fn hand_clients_over(self: &Rc<Self>, handover: &Handover) {
        let env = &self.env;
        let deadline = env.reactor.now() + env.node.upgrade_timeout;
        spawn(self.clone().move_posts());
        self.clients.start_moving();
        for some in self.clients.all().chunks(CLIENTS_PER_TURN) {
            some.iter().for_each(|client| client.move_once_quiet());
            shards::yield_now().await;
        }
        self.move_clients(handover, deadline).await;
        self.clients.stop_moving();
        for some in self.clients.all().chunks(CLIENTS_PER_TURN) {
            some.iter().for_each(|client| client.stay());
            shards::yield_now().await;
        }
        let is_over = || env.is_draining() || env.reactor.now() >= deadline + ON_WAY_TIMEOUT;
        while self.on_way.count() > 0 && !is_over() {
            shards::timer::sleep(&env.reactor, LOOK).await;
        }
        // Those that are here again have been read by then.
        shards::timer::sleep(&env.reactor, LOOK).await;
    }

    /// Until nobody is left, on any shard: another one may have read the request of a client of this one. Or until the deadline.
    async fn move_clients(&self, handover: &Handover, deadline: Instant) {
        let env = &self.env;
        let drain = env.drain.watch();
        let mut timer = Timer::new(&env.reactor);
        let on_way_max = (ON_WAY_MAX / env.count).max(1);
        let mut passes = 0_u32;
        loop {
            let plane = self.control.plane();
            if env.is_draining() || plane.has_stopped_moving() || env.reactor.now() >= deadline {
                return;
            }
            if self.clients.is_empty() && self.on_way.count() == 0 {
                self.control.set_phase(Phase::Empty);
                if plane.have_all_reached(Phase::Empty) {
                    passes += 1;
                }
                if passes > PASSES_WITHOUT {
                    return;
                }
            } else {
                passes = 0;
            }
            timer.set(Some((env.reactor.now() + LOOK).min(deadline)));
            let next = poll_fn(|context| {
                self.on_way.wait(context);
                if drain.poll_triggered(context).is_ready() || timer.poll_expired(context).is_ready() {
                    return Poll::Ready(Next::Look);
                }
                if self.on_way.count() >= on_way_max || self.on_way.len() >= ON_WAY_LEN_MAX {
                    return Poll::Pending;
                }
                self.clients.poll_quiet(context).map(Next::Client)
            });
            if let Next::Client(client) = next.await {
                self.move_one(handover, &client);
            }
        }
    }

    fn move_one(&self, handover: &Handover, client: &Rc<Connection>) {
        let Some((socket, record)) = self.take_client(client) else {
            return;
        };
        if record.len() > RECORD_LEN_MAX {
            return self.keep(socket, &record);
        }
        let identity = client.identity();
        let number = self
            .on_way
            .add(identity.client.clone(), identity.connection, record.len());
        let content = Content::Moved {
            number: on_way_number(self.env.index, number),
            record: record.into(),
        };
        let bytes = content.pack();
        if let Err(Parcel { socket, bytes }) = handover.try_send_outside(Parcel { socket, bytes }) {
            self.on_way.handle_settled(&[number]);
            if let Some(Content::Moved { record, .. }) = Content::unpack(&bytes) {
                self.keep(socket, &record);
            }
        }
    }

    /// It can't move, and stays until all leave.
    fn keep(&self, socket: shards::socket::Descriptor, record: &[u8]) {
        if let Err((_, error)) = self.clients.adopt_for_good(Some(socket), record) {
            tracing::error!("upgrade: a client is lost: {error}");
        }
    }
}

/// What the threads know a client on its way by: the shard, and its number there.
#[must_use]
pub fn on_way_number(shard: usize, number: u32) -> u64 {
    (shard as u64) << u32::BITS | u64::from(number)
}

/// Reads what [`on_way_number`] has written.
#[must_use]
pub fn read_on_way_number(number: u64) -> (usize, u32) {
    ((number >> u32::BITS) as usize, number as u32)
}

const LOOK: Duration = Duration::from_millis(20);
/// Clients on their way to the other process, of all shards together.
const ON_WAY_MAX: usize = 512;
/// Bytes of the records of a shard's clients that are on their way, unless one alone has more.
const ON_WAY_LEN_MAX: usize = 4 << 20;
const CLIENTS_PER_TURN: usize = 32;
/// What another shard has read last is here after one.
const PASSES_WITHOUT: u32 = 2;
/// A process that has been sent a client says soon whether it has it.
const ON_WAY_TIMEOUT: Duration = Duration::from_secs(15);
