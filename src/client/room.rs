//! Makes room when the shard holds too many bytes for others: the clients that hold the most are closed with 1013.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use shards::{Timer, yield_now};

use super::clients::Clients;
use super::connection::Connection;
use super::conversation::Conversation;
use crate::env::buffers::Holder as _;
use protocol::buffers::Go;

/// Runs for as long as the shard does.
pub async fn keep_room<C: Conversation>(clients: Rc<Clients<C>>) {
    let env = clients.env.clone();
    let mut timer = Timer::new(&env.reactor);
    loop {
        let go = poll_fn(|context| {
            loop {
                let mut deadline = None;
                if let Poll::Ready(go) = env.buffers.poll_next_to_go(context, env.reactor.now(), &mut deadline) {
                    return Poll::Ready(go);
                }
                timer.set(deadline);
                if deadline.is_none() || timer.poll_expired(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
        match go {
            Go::One(number) => {
                if let Some(holder) = env.buffers.holder(number) {
                    holder.make_room();
                }
            }
            Go::From(least) => sweep(&clients, least).await,
        }
        yield_now().await;
    }
}

/// Closes whoever holds at least so many bytes, until it is no longer tight.
async fn sweep<C: Conversation>(clients: &Clients<C>, least: usize) {
    let mut slot = Some(0);
    while let Some(from) = slot {
        let (page, next) = clients.page(from, PAGE_LEN);
        for connection in page {
            if clients.env.buffers.is_tight() && Connection::held_len(&connection) >= least {
                connection.make_room();
            }
        }
        slot = next.filter(|_| clients.env.buffers.is_tight());
        yield_now().await;
    }
}

const PAGE_LEN: usize = 1000;
