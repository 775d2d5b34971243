//! Remembers the clients that the process which takes over has got, until others ask there.
//!
//! The new process has subscribed by then, but the servers of NATS may hear that later than they hear that this one has not: so this
//! one stays subscribed for a while, and passes on what is asked.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use protocol::mapping::ConnectionId;
use protocol::ocpp::ClientId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Going {
    /// Until when each stays.
    clients: HashMap<ClientId, (ConnectionId, Instant)>,
    order: VecDeque<(Instant, ClientId)>,
}

impl Going {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// It has gone.
    pub(super) fn add(&mut self, client: ClientId, connection: ConnectionId, now: Instant) {
        let until = now + STAYS;
        self.order.push_back((until, client.clone()));
        self.clients.insert(client, (connection, until));
    }

    /// It is here again, or has its end here.
    pub(super) fn remove(&mut self, client: &ClientId) {
        self.clients.remove(client);
    }

    /// The next whose time is over.
    pub(super) fn take_over(&mut self, now: Instant) -> Option<(ClientId, ConnectionId)> {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            let (until, client) = self.order.pop_front()?;
            let is_it = |(_, own): &(ConnectionId, Instant)| *own == until;
            if self.clients.get(&client).is_some_and(is_it) {
                let (connection, _) = self.clients.remove(&client)?;
                return Some((client, connection));
            }
        }
        None
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }
}

/// What a subscription takes to be known everywhere, and more.
const STAYS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_gone_stays_for_a_while_unless_it_comes_back() {
        let now = Instant::now();
        let client = |name: &str| ClientId::parse(name).unwrap();
        let connection = |number| ConnectionId::new(1, 0, number);
        let mut going = Going::default();
        going.add(client("a"), connection(1), now);
        going.add(client("b"), connection(2), now);
        going.remove(&client("a"));
        let later = now + STAYS / 2;
        going.add(client("a"), connection(3), later);
        assert_eq!((going.take_over(later), going.len()), (None, 2));
        assert_eq!(going.take_over(now + STAYS), Some((client("b"), connection(2))));
        assert_eq!(going.take_over(now + STAYS), None);
        assert_eq!(going.next_deadline(), Some(later + STAYS));
        assert_eq!(going.take_over(later + STAYS), Some((client("a"), connection(3))));
        assert_eq!((going.len(), going.next_deadline()), (0, None));
    }
}
