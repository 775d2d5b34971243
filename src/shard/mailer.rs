//! Sends other shards what must arrive.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use shards::mesh::{Full, Mesh};
use shards::spawn;

use super::mail::Mail;
use crate::env::Env;

/// A shard's replies and outcomes for others. One that finds a ring full waits here, in order, and is never lost.
/// Bounded by the requests that they answer.
pub struct Mailer {
    env: Rc<Env>,
    mesh: Rc<Mesh<Mail>>,
    unsent: RefCell<VecDeque<(usize, Mail)>>,
}

impl Mailer {
    /// Makes a mailer without any waiting mail.
    pub fn new(env: &Rc<Env>, mesh: &Rc<Mesh<Mail>>) -> Rc<Self> {
        Rc::new(Self {
            env: env.clone(),
            mesh: mesh.clone(),
            unsent: RefCell::default(),
        })
    }

    /// True when nothing waits for room in a ring.
    pub fn is_empty(&self) -> bool {
        self.unsent.borrow().is_empty()
    }

    /// Sends `mail` to shard `to`, now or as soon as its ring has room.
    pub fn send(self: &Rc<Self>, to: usize, mail: Mail) {
        let mut unsent = self.unsent.borrow_mut();
        if unsent.is_empty() {
            match self.mesh.try_send(to, mail) {
                Ok(()) => return,
                Err(Full(mail)) => unsent.push_back((to, mail)),
            }
            self.env.counters.mesh_delayed.add();
            spawn(self.clone().send_unsent());
        } else {
            unsent.push_back((to, mail));
        }
    }

    async fn send_unsent(self: Rc<Self>) {
        loop {
            shards::timer::sleep(&self.env.reactor, UNSENT_PAUSE).await;
            let mut unsent = self.unsent.borrow_mut();
            send_what_fits(&mut unsent, |to, mail| self.mesh.try_send(to, mail));
            if unsent.is_empty() {
                return;
            }
        }
    }
}

/// Sends what has room; the rest stays, for each receiver in its order.
fn send_what_fits<M>(unsent: &mut VecDeque<(usize, M)>, mut try_send: impl FnMut(usize, M) -> Result<(), Full<M>>) {
    let mut full = Vec::new();
    for _ in 0..unsent.len() {
        let Some((to, mail)) = unsent.pop_front() else { return };
        let sent = match full.contains(&to) {
            true => Err(Full(mail)),
            false => try_send(to, mail),
        };
        if let Err(Full(mail)) = sent {
            if !full.contains(&to) {
                full.push(to);
            }
            unsent.push_back((to, mail));
        }
    }
}

const UNSENT_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_one_receiver_keeps_its_order_whatever_has_room() {
        let mut unsent: VecDeque<(usize, u32)> = [(1, 10), (2, 20), (1, 11), (1, 12), (2, 21)].into();
        let mut sent = Vec::new();
        let mut tries = 0;
        // The first try finds no room, all others do.
        send_what_fits(&mut unsent, |to, mail| {
            tries += 1;
            if tries == 1 {
                return Err(Full(mail));
            }
            sent.push((to, mail));
            Ok(())
        });
        assert_eq!(sent, [(2, 20), (2, 21)]);
        assert_eq!(unsent, [(1, 10), (1, 11), (1, 12)]);
    }
}
