//! Hands clients and what the backend has not taken over to another process, and goes on with what one hands over.

use std::rc::Rc;
use std::time::Duration;

use shards::socket::Descriptor;
use shards::spawn;

use super::Shard;
use crate::client::Connection;
use protocol::ocpp::ClientId;
use protocol::record::{PostRecord, RecordError};

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

    /// Takes the posts that wait and are about nobody who is connected here: their records, each client's in order.
    pub fn take_posts(&self) -> Vec<Vec<u8>> {
        let is_here = |client: &ClientId| self.clients.find(client).is_some();
        let posts = self.outbox.take_of_gone(is_here);
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

const LOOK_AGAIN: Duration = Duration::from_millis(50);
