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
            for _ in 0..unsent.len() {
                let Some((to, mail)) = unsent.pop_front() else { break };
                if let Err(Full(mail)) = self.mesh.try_send(to, mail) {
                    unsent.push_back((to, mail));
                }
            }
            if unsent.is_empty() {
                return;
            }
        }
    }
}

const UNSENT_PAUSE: Duration = Duration::from_millis(1);
