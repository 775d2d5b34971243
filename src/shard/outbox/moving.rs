//! Gives what waits to another process, and takes what one hands over. What is at the backend stays until it is answered.

use std::rc::{Rc, Weak};
use std::time::Instant;

use super::Outbox;
use super::post::Post;
use crate::client::Connection;
use protocol::ocpp::ClientId;
use protocol::record::{Notice, PostRecord};

impl Outbox {
    /// Takes all that waits of a client that is about to move. `None`: something of it is at the backend that has to be answered
    /// here.
    pub fn take_of(&self, connection: &Connection) -> Option<Vec<PostRecord>> {
        let client = &connection.identity().client;
        if self
            .shares()
            .iter()
            .any(|share| share.borrow().is_in_order_at_backend(client))
        {
            return None;
        }
        let is_own = |post: &Post| {
            let sender = post.sender.as_ref();
            sender.is_some_and(|(sender, _)| std::ptr::eq(sender.as_ptr(), connection))
        };
        let waiting = self.shares().map(|share| share.borrow().count_of(client, is_own));
        if waiting.iter().sum::<usize>() < connection.posts_count() {
            return None;
        }
        Some(self.take_all_of(client, is_own))
    }

    /// Takes what waits and is about nobody who `is_here`.
    pub fn take_of_gone(&self, is_here: impl Fn(&ClientId) -> bool) -> Vec<PostRecord> {
        let clients = self.shares().map(|share| share.borrow().clients());
        let mut clients = clients.concat();
        clients.sort_unstable();
        clients.dedup();
        clients.retain(|client| !is_here(client));
        clients
            .iter()
            .flat_map(|client| self.take_all_of(client, |_| false))
            .collect()
    }

    /// Goes on with what another process had not delivered. `sender` is told when it is over, if it is that client's own word.
    pub fn restore(&self, post: PostRecord, sender: Option<Weak<Connection>>) {
        let now = self.reactor.now();
        let sender = match &post.notice {
            Notice::Post(_, _, content, _) if post.is_clients_own => sender.zip(content.client_len()),
            _ => None,
        };
        let mut restored = Box::new(Post {
            identity: Rc::new(post.identity),
            notice: post.notice,
            key: post.key,
            number: self.next_number.replace(self.next_number.get() + 1),
            first_try: now.checked_sub(post.age).unwrap_or(now),
            deadline: now + self.limits.try_timeout,
            tries: post.tries,
            sender,
            held: self.buffers.hold(0),
        });
        let len = restored.len();
        restored.held.set(len);
        let due = now.checked_add(post.due_in).unwrap_or(now);
        let (kind, identity) = (restored.request_kind(), restored.identity.clone());
        self.share_of(kind).borrow_mut().restore(due, restored);
        self.wake();
        self.make_room(kind, &identity.client);
    }

    fn take_all_of(&self, client: &ClientId, is_own: impl Fn(&Post) -> bool) -> Vec<PostRecord> {
        let now = self.reactor.now();
        let taken = self.shares().map(|share| share.borrow_mut().take_of(client));
        taken
            .into_iter()
            .flatten()
            .map(|(due, post)| record(due, *post, now, &is_own))
            .collect()
    }
}

fn record(due: Instant, post: Post, now: Instant, is_own: impl Fn(&Post) -> bool) -> PostRecord {
    PostRecord {
        is_clients_own: is_own(&post),
        identity: (*post.identity).clone(),
        notice: post.notice,
        key: post.key,
        age: now.saturating_duration_since(post.first_try),
        due_in: due.saturating_duration_since(now),
        tries: post.tries,
    }
}
