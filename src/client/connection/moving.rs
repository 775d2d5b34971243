//! Hands a client over to another process, and goes on with one that came from there. Neither it nor the backend is told.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shards::Socket;
use shards::socket::Descriptor;

use super::{Connection, Leaving, Phase, State};
use crate::client::clients::Clients;
use crate::client::conversation::Conversation;
use crate::client::frame::Frame;
use crate::client::websocket::WebSocket;
use crate::wire::Wire;
use protocol::ocpp::Outputs;
use protocol::record::{ClientParts, ClientRecord, PostRecord};

impl<C: Conversation> Connection<C> {
    /// It moves as soon as it is quiet: it is listed then, once.
    pub fn move_once_quiet(&self) {
        self.set_leaving(&[Leaving::No, Leaving::Listed], Leaving::OnceMovable);
    }

    /// It does not move any more.
    pub fn stay(&self) {
        self.set_leaving(&[Leaving::OnceMovable, Leaving::Listed], Leaving::No);
    }

    fn set_leaving(&self, from: &[Leaving], to: Leaving) {
        {
            let mut state = self.state.borrow_mut();
            if !from.contains(&state.leaving) {
                return;
            }
            state.leaving = to;
        }
        self.with_session(|session, now, out| session.handle_move(now, to != Leaving::No, out));
    }

    /// Whether it can be taken right now. What would leave at the end of this pass leaves before. If it is not quiet any more, it is
    /// listed again when it is.
    pub fn prepare_to_move(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if state.leaving != Leaving::Listed {
            // It was, and is to stay.
            return false;
        }
        if state.deferred_len > 0 {
            state.deferred_len = 0;
            let deferred = self.clients.deferred_writes.take_out(self);
            self.write(&mut state, Frame::whole(deferred), &mut Outputs::default());
        }
        self.settle(&mut state);
        if state.is_quiet() {
            return true;
        }
        state.leaving = Leaving::OnceMovable;
        false
    }

    /// Takes it out of this process, which goes on as if it had never been there. It is quiet; `posts` is what the backend has not
    /// taken of it. `None`: it is over.
    pub fn take(&self, posts: &[PostRecord]) -> Option<(Descriptor, Vec<u8>)> {
        let mut state = self.state.borrow_mut();
        debug_assert!(state.is_quiet(), "the rest of it would be lost");
        let stream = state.stream.take().filter(|_| !state.finished)?;
        let now = self.env().reactor.now();
        let (decoder, unread) = stream.received();
        let parts = ClientParts {
            identity: &self.identity,
            since_ms: millis(self.since),
            age: now.saturating_duration_since(state.opened),
            tls: stream.wire().records(),
            deflate: stream.deflate_state(),
            decoder,
            unread,
            posts,
        };
        let record = parts.record(|record| state.session.write_record(now, record));
        self.clients.unregister(self);
        state.session.handle_handed_over();
        state.finished = true;
        state.phase = Phase::Over;
        self.count_held(&mut state);
        state.timer.set(None);
        self.env().counters.clients_moved_out.add();
        // Its task ends.
        stream.waker().wake_by_ref();
        let (socket, _) = stream.into_wire().into_parts();
        Some((socket.into_fd(), record))
    }

    /// One that another process has handed over, with its `session`. It is in no registry yet.
    pub(in crate::client) fn from_record(
        clients: &Rc<Clients<C>>,
        socket: Option<Descriptor>,
        session: C,
        record: ClientRecord<'_>,
    ) -> Rc<Self> {
        let env = &clients.env;
        // Without one (epoll has no room) it is over, and has its end like any other.
        let socket = socket.and_then(|socket| Socket::adopt(&env.reactor, socket).ok());
        let stream = socket.map(|socket| {
            let wire = Wire::new(socket, record.tls);
            WebSocket::new(wire, record.deflate).with_received(record.decoder, record.unread)
        });
        let since = UNIX_EPOCH + Duration::from_millis(record.since_ms);
        let now = env.reactor.now();
        let opened = now.checked_sub(record.age).unwrap_or(now);
        Self::begin(clients, record.identity.into(), session, stream, (since, opened))
    }

    /// What may begin here begins. It is registered.
    pub(in crate::client) fn resume(&self) {
        self.with_session(|session, now, out| session.resume(now, out));
        let mut state = self.state.borrow_mut();
        if state.stream.is_none() {
            self.end_lost(&mut state);
        }
    }

    /// What the client has said and the backend has not taken.
    pub fn posts_count(&self) -> usize {
        self.state.borrow().session.posts_count()
    }
}

impl<C: Conversation> State<C> {
    /// Nothing is under way that another process could not go on with. What has come in part goes along, and what leaves at the end of
    /// this pass leaves before.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Open
            && !self.finished
            && self.queue.is_none()
            && self.stream.is_some()
            && self.session.is_quiet()
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
