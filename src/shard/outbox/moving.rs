//! Gives what waits to another process, and takes what one hands over. What is at the backend stays until it is answered.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Instant;

use super::Outbox;
use super::post::Post;
use crate::client::Connection;
use protocol::ocpp::ClientId;
use protocol::record::{Notice, PostRecord};

/// Whether SENDs and `/disconnect` of a client are held.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Hold([bool; 2]);

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

    /// Takes what waits and is about nobody who `is_here`: of some clients, until there are `enough`.
    pub fn take_of_gone(&self, is_here: impl Fn(&ClientId) -> bool, enough: usize) -> Vec<PostRecord> {
        let clients = self.shares().map(|share| share.borrow().clients());
        let mut clients = clients.concat();
        clients.sort_unstable();
        clients.dedup();
        let mut taken = Vec::new();
        for client in clients.iter().filter(|client| !is_here(client)) {
            if taken.len() >= enough {
                break;
            }
            taken.extend(self.take_all_of(client, |_| false));
        }
        taken
    }

    /// Nothing of the client that has an order leaves from now on, unless something before it is under way already.
    pub fn hold(&self, client: &ClientId) -> Hold {
        let [_, sends, disconnects] = self.shares();
        Hold([sends, disconnects].map(|share| share.borrow_mut().hold(client)))
    }

    /// What was held leaves, `before` first.
    pub fn release(self: &Rc<Self>, client: &ClientId, Hold(is_held): Hold, before: Vec<PostRecord>) {
        let [_, sends, disconnects] = self.shares();
        let held = [(sends, is_held[0]), (disconnects, is_held[1])];
        let mut first: [VecDeque<Box<Post>>; 2] = Default::default();
        for record in before {
            let (due, post) = self.revive(record, None);
            let kind = post.request_kind();
            let place = held
                .iter()
                .position(|(share, is_held)| *is_held && std::ptr::eq(*share, self.share_of(kind)));
            match place {
                Some(place) => first[place].push_back(post),
                None => self.enter_again(due, post),
            }
        }
        for ((share, is_held), first) in held.into_iter().zip(first) {
            let next = is_held.then(|| share.borrow_mut().release(client, first)).flatten();
            if let Some(next) = next {
                self.try_post(next);
            }
        }
    }

    /// Takes what waits of the client, and what is held of it.
    pub fn take_held(&self, client: &ClientId, Hold(is_held): Hold) -> Vec<PostRecord> {
        let now = self.reactor.now();
        let [_, sends, disconnects] = self.shares();
        let mut taken = self.take_all_of(client, |_| false);
        for (share, _) in [sends, disconnects]
            .into_iter()
            .zip(is_held)
            .filter(|(_, is_held)| *is_held)
        {
            let held = share.borrow_mut().take_held(client);
            taken.extend(held.into_iter().map(|post| record(now, *post, now, |_| false)));
        }
        taken
    }

    /// Goes on with what another process had not delivered. `sender` is told when it is over, if it is that client's own word.
    pub fn restore(&self, post: PostRecord, sender: Option<Weak<Connection>>) {
        let (due, post) = self.revive(post, sender);
        self.enter_again(due, post);
    }

    fn enter_again(&self, due: Instant, post: Box<Post>) {
        let (kind, identity) = (post.request_kind(), post.identity.clone());
        self.share_of(kind).borrow_mut().restore(due, post);
        self.wake();
        self.make_room(kind, &identity.client);
    }

    /// With when it is due.
    fn revive(&self, post: PostRecord, sender: Option<Weak<Connection>>) -> (Instant, Box<Post>) {
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
        (now.checked_add(post.due_in).unwrap_or(now), restored)
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
