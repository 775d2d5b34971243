//! Knows the clients that a shard has sent to another process, and says what goes with each.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::{Context, Waker};

use protocol::mapping::ConnectionId;
use protocol::ocpp::ClientId;

/// What a shard knows of clients that it has sent to another process.
#[derive(Debug, Default)]
pub struct OnWay {
    /// By the numbers that it gave them: who they are, and how long their records.
    clients: RefCell<HashMap<u32, (ClientId, ConnectionId, usize)>>,
    len: Cell<usize>,
    next: Cell<u32>,
    waker: RefCell<Option<Waker>>,
}

impl OnWay {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.clients.borrow().len()
    }

    /// Bytes of their records.
    pub fn len(&self) -> usize {
        self.len.get()
    }

    /// Whether this client is one of them.
    pub fn has(&self, client: &ClientId) -> bool {
        self.clients.borrow().values().any(|(other, ..)| other == client)
    }

    /// Those of them that are meant.
    pub fn those(&self, is_meant: impl Fn(&ClientId) -> bool) -> Vec<ClientId> {
        let clients = self.clients.borrow();
        let clients = clients.values().map(|(client, ..)| client);
        clients.filter(|client| is_meant(client)).cloned().collect()
    }

    /// One more, with a record of so many bytes. Returns its number.
    pub fn add(&self, client: ClientId, connection: ConnectionId, len: usize) -> u32 {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        self.len.set(self.len.get() + len);
        self.clients.borrow_mut().insert(number, (client, connection, len));
        number
    }

    /// The one task that waits is woken when anything changes.
    pub fn wait(&self, context: &Context<'_>) {
        self.waker.replace(Some(context.waker().clone()));
    }

    /// These have arrived, or are here again. Returns who they are.
    pub fn handle_settled(&self, numbers: &[u32]) -> Vec<(ClientId, ConnectionId)> {
        let mut clients = self.clients.borrow_mut();
        let mut settled = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some((client, connection, len)) = clients.remove(number) {
                self.len.set(self.len.get() - len);
                settled.push((client, connection));
            }
        }
        drop(clients);
        self.wake();
        settled
    }

    /// Something that the task waits for may have changed.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
