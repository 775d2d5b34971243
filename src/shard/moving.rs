//! Hands clients and what the backend has not taken over to another process, and goes on with what one hands over.

use std::rc::Rc;
use std::time::Duration;

use shards::socket::Descriptor;
use shards::spawn;

use super::Shard;
use super::other_process::unsaid_outcome;
use crate::client::Connection;
use crate::ingress::Home as _;
use protocol::ocpp::ClientId;
use protocol::question::Told;
use protocol::record::{PostRecord, RecordError};
use protocol::takeover::Message;

impl Shard {
    /// Takes a client out of this process: neither it nor the backend is told. `None`: it is not quiet; it is listed again when it
    /// is.
    pub fn take_client(&self, connection: &Rc<Connection>) -> Option<(Descriptor, Vec<u8>)> {
        if !connection.prepare_to_move() {
            return None;
        }
        let Some(posts) = self.outbox.take_of(connection) else {
            // What is at the backend may be of an earlier connection of it: nobody would tell this one when it is over.
            let reactor = self.env.reactor.clone();
            let connection = Rc::downgrade(connection);
            spawn(async move {
                shards::timer::sleep(&reactor, LOOK_AGAIN).await;
                if let Some(connection) = connection.upgrade() {
                    connection.move_once_quiet();
                }
            });
            return None;
        };
        connection.take(&posts)
    }

    /// Goes on with a client that another process has handed over, or that one would not have; without a socket if that was
    /// lost on the way: then it has its end here. This is its home.
    ///
    /// # Errors
    /// The record can't be read; nothing has happened.
    pub fn adopt_client(
        &self,
        socket: Option<Descriptor>,
        record: &[u8],
    ) -> Result<(), (Option<Descriptor>, RecordError)> {
        self.clients.adopt(socket, record)
    }

    /// Takes posts that wait and are about nobody who is connected here, some at a time: their records, each client's in order.
    pub fn take_posts(&self) -> Vec<Vec<u8>> {
        let is_here = |client: &ClientId| self.clients.find(client).is_some();
        let posts = self.outbox.take_of_gone(is_here, POSTS_AT_ONCE);
        posts.iter().map(PostRecord::record).collect()
    }

    /// Goes on with a post that another process had not delivered.
    ///
    /// # Errors
    /// The record can't be read; nothing has happened.
    pub fn adopt_post(&self, record: &[u8]) -> Result<(), RecordError> {
        self.outbox.restore(PostRecord::read(record)?, None);
        Ok(())
    }
}

/// The other process of a takeover.
impl Shard {
    /// Sends it what the backend has not taken, for as long as it is there: what waits for another try and is about nobody here.
    pub(super) async fn move_posts(self: Rc<Self>) {
        while self.is_in_takeover() {
            if self.control.plane().has_other_process() && self.other_process.posts_count() < POSTS_AT_ONCE {
                for post in self.take_posts() {
                    self.other_process.send_post(post);
                }
            }
            shards::timer::sleep(&self.env.reactor, LOOK_AGAIN).await;
        }
    }

    /// It is gone: what it was asked has no answer, and what it has not taken is this one's.
    pub(super) fn handle_other_process_gone(&self) {
        self.ingress.forget_elsewhere();
        for post in self.other_process.take_posts_back() {
            self.restore_unsaid(&post);
        }
    }

    /// It could not be told this.
    pub(super) fn handle_unsaid(&self, message: Message) {
        match message {
            Message::Question { token, .. } => self.ingress.handle_reply(token, None),
            Message::Post { number, .. } => {
                if let Some(post) = self.other_process.remove_post(number) {
                    self.restore_unsaid(&post);
                }
            }
            Message::Outcome { waiter, post } => {
                if let Some(outcome) = unsaid_outcome(waiter, &post) {
                    self.post_outcome(outcome);
                }
            }
            Message::Told { told, .. } => {
                if let Ok(Told::Replaced(replaced)) = Told::read(&told) {
                    self.take_back_replaced(*replaced);
                }
            }
            _ => {}
        }
    }

    fn restore_unsaid(&self, post: &[u8]) {
        let restored = self.adopt_post(post);
        debug_assert!(restored.is_ok(), "it was written here");
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// On their way to the other process, from one shard.
const POSTS_AT_ONCE: usize = 64;
