//! Asks the backend whether a client may come in.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use shards::{Socket, Timer};

use crate::client::clients::Clients;
use crate::client::conversation::Conversation;
use crate::client::questions::{Question, Turn};
use crate::client::verdict::Verdict;
use protocol::http::HeaderLines;
use protocol::mapping::{Admission, Identity, forwarded};

/// How it went.
pub(super) enum Asked {
    /// The backend's word, or why there is none.
    Answered(Admission),
    /// It was not asked: a newer connection of the same ClientId waits in its place.
    Superseded,
    /// It was not asked: the shard drains.
    Draining,
    /// The client has gone meanwhile.
    Gone,
}

/// Asks when it is this one's turn. One who has gone is not let in. A question that the backend has not got yet is withdrawn then;
/// the answer to another one is waited for, because an end follows an "ok".
pub(super) async fn ask<C: Conversation>(
    clients: &Clients<C>,
    socket: &Socket,
    identity: &Rc<Identity>,
    lines: HeaderLines,
    deadline: Instant,
) -> Asked {
    let _asking = Asking::begin(clients);
    let address = forwarded::client_address(identity.forwarded_for());
    let question = clients.questions.begin(&identity.client, address);
    match wait_for_turn(clients, socket, &question, deadline).await {
        None => return Asked::Gone,
        Some(Wait::TooLong) => return Asked::Answered(Admission::Unanswered { status: 504 }),
        Some(Wait::Over(Turn::Superseded)) => return Asked::Superseded,
        Some(Wait::Over(Turn::Come)) if clients.env.is_draining() => return Asked::Draining,
        Some(Wait::Over(Turn::Come)) => {}
    }
    let verdict = Rc::new(Verdict::default());
    let asked = clients
        .backend()
        .connect(identity.clone(), lines, deadline, verdict.clone());
    if asked.is_err() {
        return Asked::Answered(Admission::Unanswered { status: 503 });
    }
    let mut has_gone = false;
    let admission = poll_fn(|context| {
        if !has_gone && socket.poll_closed(context).is_ready() {
            has_gone = true;
            verdict.abandon();
            clients.backend().withdraw_connects();
        }
        verdict.poll(context)
    })
    .await;
    match admission {
        Admission::Admitted => Asked::Answered(admission),
        _ if has_gone => Asked::Gone,
        // What was not asked yet when the drain began was withdrawn.
        Admission::Unanswered { status: 503 } if clients.env.is_draining() => Asked::Draining,
        _ => Asked::Answered(admission),
    }
}

enum Wait {
    Over(Turn),
    TooLong,
}

/// `None`: the client has gone.
async fn wait_for_turn<C: Conversation>(
    clients: &Clients<C>,
    socket: &Socket,
    question: &Question,
    deadline: Instant,
) -> Option<Wait> {
    let mut timer = Timer::new(&clients.env.reactor);
    timer.set(Some(deadline));
    poll_fn(|context| {
        if let Poll::Ready(turn) = question.poll_turn(context) {
            return Poll::Ready(Some(Wait::Over(turn)));
        }
        if socket.poll_closed(context).is_ready() {
            return Poll::Ready(None);
        }
        timer.poll_expired(context).map(|()| Some(Wait::TooLong))
    })
    .await
}

/// A handshake that asks, or is about to: it counts against `clients_max`.
struct Asking<'c, C: Conversation>(&'c Clients<C>);

impl<'c, C: Conversation> Asking<'c, C> {
    fn begin(clients: &'c Clients<C>) -> Self {
        clients.count_asking(1);
        Self(clients)
    }
}

impl<C: Conversation> Drop for Asking<'_, C> {
    fn drop(&mut self) {
        self.0.count_asking(-1);
    }
}
