//! Carries clients between the processes of a simulation, which are all in one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};

use shards::handover::Handover;
use shards::parcel::{BYTES_MAX, Parcel};
use shards::spawn;

use super::Shard;
use super::mail::{HandOver, Moved};
use crate::client::parcel::Content;
use protocol::ocpp::ClientId;
use protocol::record::client_of;

thread_local! {
    /// A shard of each process, and its way to the others there.
    static PROCESSES: RefCell<Vec<(Weak<Shard>, Rc<Handover>)>> = const { RefCell::new(Vec::new()) };
}

impl Shard {
    /// Clients are taken when they are quiet, and are in another process a little later.
    pub(super) fn hand_around(&self, hand_over: HandOver) {
        let find = |client: &ClientId| self.clients.find(client).into_iter().collect();
        let clients = hand_over.client.as_ref().map_or_else(|| self.clients.all(), find);
        self.hand_over.replace(Some(hand_over));
        clients.iter().for_each(|connection| connection.move_once_quiet());
    }

    /// Carries those that are quiet, for as long as the shard lives.
    pub(super) async fn carry_around(self: Rc<Self>, handover: Rc<Handover>) {
        PROCESSES.with_borrow_mut(|processes| {
            processes.retain(|(shard, _)| shard.strong_count() > 0);
            processes.push((Rc::downgrade(&self), handover));
        });
        loop {
            let connection = poll_fn(|context| self.clients.poll_quiet(context)).await;
            let HandOver { to, takes, moved, .. } = self.hand_over.borrow().clone().expect("nobody moves before");
            let what = Moved {
                pending: connection.pending(),
                posts: connection.posts_count(),
            };
            if let Some((socket, record)) = self.take_client(&connection) {
                let _ = moved.send(what);
                if record.len() >= BYTES_MAX {
                    // No parcel is so large: it is taken back.
                    assert!(self.adopt_client(Some(socket), &record).is_ok(), "it was just written");
                    continue;
                }
                let reactor = self.env.reactor.clone();
                spawn(async move {
                    shards::timer::sleep(&reactor, takes).await;
                    let (shard, handover) = process(to);
                    let client = client_of(&record).expect("it was just written");
                    let bytes = Content::Client(&record).pack();
                    let sent = handover.try_send(shard.env.home_of(&client), Parcel { socket, bytes });
                    assert!(sent.is_ok(), "there is room for a handful");
                });
            }
            for post in self.take_posts() {
                process(to).0.adopt_post(&post).expect("it was just written");
            }
        }
    }
}

/// A shard of that process.
fn process(generation: u32) -> (Rc<Shard>, Rc<Handover>) {
    let found = PROCESSES.with_borrow(|processes| {
        let living = processes
            .iter()
            .rev()
            .filter_map(|(shard, handover)| Some((shard.upgrade()?, handover.clone())));
        let mut wanted = living.filter(|(shard, _)| shard.env.generation == generation);
        wanted.next()
    });
    found.expect("the process lives")
}
