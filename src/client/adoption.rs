//! Lets clients go to another process, and takes those that one hands over.

use std::rc::Rc;
use std::task::{Context, Poll};

use shards::socket::Descriptor;
use shards::spawn;

use super::clients::Clients;
use super::connection::Connection;
use super::conversation::Conversation;
use protocol::record::{ClientRecord, RecordError, client_of};

impl<C: Conversation> Clients<C> {
    /// From now on who is let in moves on to another process as soon as it is quiet. Who is there already has to be told:
    /// [`Connection::move_once_quiet`].
    pub fn start_moving(&self) {
        self.quiet.set_wanted(true);
    }

    /// Nobody moves any more. Who was told so has to be told otherwise: [`Connection::stay`].
    pub fn stop_moving(&self) {
        self.quiet.set_wanted(false);
    }

    /// The next client that has become quiet. One task waits for it.
    pub fn poll_quiet(&self, context: &Context<'_>) -> Poll<Rc<Connection<C>>> {
        self.quiet.poll_next(context)
    }

    /// Goes on with a client that another process has handed over, or takes back one that it would not have. One whose socket was lost
    /// on the way has its end here.
    ///
    /// # Errors
    /// The record can't be read; nothing has happened.
    pub fn adopt(
        self: &Rc<Self>,
        socket: Option<Descriptor>,
        record: &[u8],
    ) -> Result<(), (Option<Descriptor>, RecordError)> {
        let now = self.env.reactor.now();
        let read = ClientRecord::read(record, self.next_adopted()).and_then(|record| {
            let session = C::from_record(record.session.clone(), self.session_limits(), now)?;
            Ok((record, session))
        });
        let (mut record, session) = match read {
            Ok(read) => read,
            Err(error) => return Err((socket, error)),
        };
        let posts = std::mem::take(&mut record.posts);
        let connection = Connection::from_record(self, socket, session, record);
        self.env.counters.clients_moved_in.add();
        let backend = self.backend();
        for post in posts {
            backend.restore_post(&connection, post);
        }
        spawn(connection.clone().run());
        self.admit(&connection);
        connection.resume();
        Ok(())
    }

    /// As [`adopt`](Self::adopt), of one that no other process can have: it does not move once more.
    ///
    /// # Errors
    /// The record can't be read; nothing has happened.
    pub fn adopt_for_good(
        self: &Rc<Self>,
        socket: Option<Descriptor>,
        record: &[u8],
    ) -> Result<(), (Option<Descriptor>, RecordError)> {
        self.adopt(socket, record)?;
        if let Ok(client) = client_of(record)
            && let Some(connection) = self.find(&client)
        {
            connection.stay();
        }
        Ok(())
    }

    /// The newest connection wins, now that the backend has said ok.
    pub(super) fn admit(&self, connection: &Rc<Connection<C>>) {
        let id = connection.identity().connection;
        let present = self.find(&connection.identity().client);
        if let Some(present) = present {
            let newest = present.identity().connection;
            if newest.is_newer_than(&id) {
                // The backend answered the two in the other order, or this one comes from another process.
                present.adopt(connection.handle_replaced(newest, None));
                return;
            }
            let pushes = present.handle_replaced(id, None);
            self.register(connection.clone());
            connection.adopt(pushes);
        } else {
            self.register(connection.clone());
        }
        let earlier_calls = self.earlier_calls(&connection.identity().client);
        if earlier_calls > 0 {
            connection.handle_earlier_calls(earlier_calls);
        }
        if self.env.is_draining() {
            connection.handle_shutdown();
            connection.leave_in_turn();
        } else if self.quiet.is_wanted() {
            connection.move_once_quiet();
        }
    }
}
