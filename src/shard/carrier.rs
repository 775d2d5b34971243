//! Carries clients between the processes of a simulation, which are all in one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};

use shards::handover::Handover;
use shards::parcel::Parcel;
use shards::spawn;

use super::Shard;
use super::mail::{HandOver, Moved};
use super::takeover::on_way_number;
use crate::client::parcel::Content;
use protocol::ocpp::ClientId;

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
                let client = connection.identity().client.clone();
                let id = connection.identity().connection;
                let number = self.on_way.add(client.clone(), id, record.len());
                let (shard, generation) = (self.env.index, self.env.generation);
                let reactor = self.env.reactor.clone();
                spawn(async move {
                    shards::timer::sleep(&reactor, takes).await;
                    let (there, handover) = process(to);
                    let content = Content::Moved {
                        // Whoever hears that it has arrived knows from where.
                        number: u64::from(generation) << PROCESS_SHIFT | on_way_number(shard, number),
                        record: record.into(),
                    };
                    let bytes = content.pack();
                    let sent = handover.try_send(there.env.home_of(&client), Parcel { socket, bytes });
                    assert!(sent.is_ok(), "there is room for a handful");
                });
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

/// In what a client on its way is known by: above the number of its shard.
pub const PROCESS_SHIFT: u32 = 48;
