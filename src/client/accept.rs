//! Takes connections, bounded: what is too much waits in the kernel's backlog, or at the shard that has read its request.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use shards::handover::{Arrivals, Handover};
use shards::listener::Listener;
use shards::socket::Descriptor;
use shards::{Socket, Timer, spawn, yield_now};

use super::clients::Clients;
use super::conversation::Conversation;
use super::handshake;
use super::parcel::Content;
use super::permit::Door;
use crate::wire::Wire;

/// Where clients come in.
#[derive(Debug)]
pub struct Entrance {
    /// What accepts them.
    pub listener: Listener,
    /// They speak TLS.
    pub is_tls: bool,
}

/// Accepts clients from when the shard is open until it drains; who waits then is told. Not while another process accepts from the
/// same listener: who waits then is that one's.
pub async fn accept<C: Conversation>(clients: Rc<Clients<C>>, handover: Rc<Handover>, mut entrances: Vec<Entrance>) {
    let env = &clients.env;
    let (open, taken_over, drain) = (env.open.watch(), env.taken_over.watch(), env.drain.watch());
    let mut timer = Timer::new(&env.reactor);
    let mut since_yield = 0;
    loop {
        let mut paused = false;
        let next = poll_fn(|context| {
            if drain.poll_triggered(context).is_ready() {
                return Poll::Ready(None);
            }
            if taken_over.poll_triggered(context).is_ready() {
                entrances.iter_mut().for_each(|entrance| entrance.listener.suspend());
                return Poll::Pending;
            }
            if open.poll_triggered(context).is_pending() {
                return Poll::Pending;
            }
            let (max, now) = (env.core.handshakes_max, env.reactor.now());
            let room = clients
                .handshakes
                .poll_room(Door::Accepted, max, &mut timer, now, context);
            if room.is_pending() {
                if !std::mem::replace(&mut paused, true) {
                    env.counters.accept_pauses_full.add();
                }
                entrances.iter_mut().for_each(|entrance| entrance.listener.rest());
                return Poll::Pending;
            }
            // Each is first in its turn. All are asked until one has something: then all of them wake this task.
            let count = entrances.len().max(1);
            entrances.rotate_left(1 % count);
            let mut accepted = entrances.iter_mut().map(|entrance| {
                let accepted = entrance.listener.poll_accept(context);
                accepted.map(|(fd, peer)| (fd, peer, entrance.is_tls))
            });
            let accepted = accepted.find(Poll::is_ready).unwrap_or(Poll::Pending).map(Some);
            // Also while none can be accepted: that is when it matters.
            env.counters
                .accept_pauses
                .set(entrances.iter().map(|entrance| entrance.listener.pauses_count()).sum());
            accepted
        });
        let Some((fd, peer, is_tls)) = next.await else {
            if env.taken_over.is_triggered() {
                return;
            }
            for entrance in entrances {
                turn_away(&clients, entrance).await;
            }
            return;
        };
        env.counters.connections_accepted.add();
        match Socket::adopt(&env.reactor, fd) {
            Ok(socket) => {
                let permit = clients.handshakes.begin(env.core.handshakes_max, env.reactor.now());
                spawn(handshake::begin(
                    clients.clone(),
                    permit,
                    handover.clone(),
                    socket,
                    peer,
                    is_tls,
                ));
            }
            Err(_) => handshake::lose(env, peer),
        }
        since_yield += 1;
        if since_yield == ACCEPTS_PER_TURN {
            since_yield = 0;
            yield_now().await;
        }
    }
}

/// Tells those who wait in the listener's queue that nobody is taken any more: when it closes, the kernel resets them. Those of a
/// listener that was passed in wait for whoever gets it next.
async fn turn_away<C: Conversation>(clients: &Rc<Clients<C>>, entrance: Entrance) {
    let env = &clients.env;
    let Entrance { mut listener, is_tls } = entrance;
    let mut passes = 0;
    let mut told = 0;
    while !listener.is_kept() && passes < PASSES_WITHOUT && told < env.core.listen_backlog {
        match poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await {
            Poll::Pending => passes += 1,
            Poll::Ready((fd, peer)) => {
                env.counters.connections_accepted.add();
                match Socket::adopt(&env.reactor, fd) {
                    Ok(_) if is_tls => handshake::leave_out(env, peer),
                    Ok(socket) => spawn(handshake::turn_away(clients.clone(), Wire::Plain(socket), peer)),
                    Err(_) => handshake::lose(env, peer),
                }
                (passes, told) = (0, told + 1);
                if told % ACCEPTS_PER_TURN as usize != 0 {
                    continue;
                }
            }
        }
        yield_now().await;
    }
}

/// Takes the sockets that other shards hand over, for as long as the shard lives. Handshakes have a place here like those that it
/// has accepted itself, and wait for one where they are. Clients of a process that is taken over need none; `adopted` hears by their
/// numbers whether they are here. Connections of the backend that such a process had are for `ingress`.
pub async fn receive<C: Conversation>(
    clients: Rc<Clients<C>>,
    mut arrivals: Arrivals,
    adopted: impl Fn(u64, bool) + 'static,
    ingress: impl Fn(Descriptor, &[u8]) + 'static,
) {
    let env = &clients.env;
    let drain = env.drain.watch();
    let mut timer = Timer::new(&env.reactor);
    let mut since_yield = 0;
    loop {
        let parcel = match arrivals.next().await {
            Ok(parcel) => parcel,
            Err(lost) => {
                lose(&clients, &lost.bytes, &adopted);
                continue;
            }
        };
        match Content::unpack(&parcel.bytes) {
            Some(Content::Handshake(request)) => {
                let Ok(socket) = Socket::adopt(&env.reactor, parcel.socket) else {
                    handshake::lose_parcel(&clients, request);
                    continue;
                };
                env.counters.handovers_received.add();
                poll_fn(|context| {
                    if drain.poll_triggered(context).is_ready() {
                        // It is told so, and asks nobody.
                        return Poll::Ready(());
                    }
                    let (max, now) = (env.core.handshakes_max, env.reactor.now());
                    clients
                        .handshakes
                        .poll_room(Door::HandedOver, max, &mut timer, now, context)
                })
                .await;
                let permit = clients.handshakes.resume(env.core.handshakes_max);
                spawn(handshake::resume(clients.clone(), permit, socket, request.to_vec()));
            }
            Some(Content::Client(record)) => {
                env.counters.handovers_received.add();
                if let Err((_, error)) = clients.adopt(Some(parcel.socket), &record) {
                    tracing::error!(%error, "the record of a client that was handed over can't be read");
                }
            }
            Some(Content::Unmovable(record)) => {
                env.counters.handovers_received.add();
                if let Err((_, error)) = clients.adopt_for_good(Some(parcel.socket), &record) {
                    tracing::error!(%error, "the record of a client that came back can't be read");
                }
            }
            Some(Content::Moved { number, record }) => {
                let is_here = clients.adopt(Some(parcel.socket), &record);
                if let Err((_, error)) = &is_here {
                    tracing::error!(%error, "the record of a client of the process before can't be read");
                }
                adopted(number, is_here.is_ok());
            }
            Some(Content::Backend(about)) => ingress(parcel.socket, about),
            None => unreachable!("shards pack what they hand over"),
        }
        since_yield += 1;
        if since_yield == ACCEPTS_PER_TURN {
            since_yield = 0;
            yield_now().await;
        }
    }
}

/// What another shard has handed over came without its socket.
fn lose<C: Conversation>(clients: &Rc<Clients<C>>, bytes: &[u8], adopted: &impl Fn(u64, bool)) {
    match Content::unpack(bytes) {
        Some(Content::Handshake(request)) => handshake::lose_parcel(clients, request),
        Some(Content::Client(record) | Content::Unmovable(record)) => {
            clients.env.counters.handovers_lost.add();
            if let Err((_, error)) = clients.adopt(None, &record) {
                tracing::error!(%error, "the record of a client that was lost on its way can't be read");
            }
        }
        Some(Content::Moved { number, .. }) => {
            // The process that it comes from has it still.
            clients.env.counters.handovers_lost.add();
            adopted(number, false);
        }
        // It is closed: as if it had ended between two requests.
        Some(Content::Backend(_)) => clients.env.counters.handovers_lost.add(),
        None => unreachable!("shards pack what they hand over"),
    }
}

const ACCEPTS_PER_TURN: u32 = 16;
/// What the kernel has taken before is known after a pass.
const PASSES_WITHOUT: u32 = 2;
