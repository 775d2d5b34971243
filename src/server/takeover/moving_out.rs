//! Hands the clients of this process on to the new one: from the shards, a window of them at a time.
//!
//! A client's socket stays open here until the new process has said that it has it: until then it can be taken back.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shards::handover::Outside;
use shards::mesh::NodeHandle;
use shards::parcel::{Lost, Passed};

use super::channel::{Channel, Packet, Received};
use crate::client::parcel::Content;
use crate::shard::control_plane::{ControlPlane, Phase};
use crate::shard::mail::{Control, Mail};
use crate::shard::on_way::read_moved;
use protocol::takeover::Message;

/// Clients on their way to the new process.
pub(super) struct MovingOut<'m> {
    pub(super) channel: &'m Channel,
    pub(super) sockets: &'m mut Outside,
    pub(super) outside: &'m Arc<NodeHandle<Mail>>,
    pub(super) control: &'m Arc<ControlPlane>,
    on_way: HashMap<u64, OnWay>,
    next: u64,
    /// Per shard, how many have arrived, or are here again, and it has not been told.
    settled: Vec<usize>,
    moved: usize,
    is_broken: bool,
}

struct OnWay {
    shard: usize,
    passed: Passed,
}

impl<'m> MovingOut<'m> {
    pub(super) fn new(
        channel: &'m Channel,
        sockets: &'m mut Outside,
        outside: &'m Arc<NodeHandle<Mail>>,
        control: &'m Arc<ControlPlane>,
    ) -> Self {
        Self {
            channel,
            sockets,
            outside,
            control,
            on_way: HashMap::new(),
            next: 0,
            settled: vec![0; outside.shards_count()],
            moved: 0,
            is_broken: false,
        }
    }

    /// Until no shard has any more to move. Returns how many have moved.
    pub(super) fn run(mut self) -> usize {
        let mut packet = Packet::new();
        loop {
            // Asked first: what a shard has sent before it said so is here.
            let are_done = self.control.have_all_reached(Phase::Draining);
            let passed_on = self.pass_on();
            let heard = self.hear(&mut packet);
            self.tell();
            if are_done && !passed_on && self.on_way.is_empty() && self.settled.iter().all(|count| *count == 0) {
                return self.moved;
            }
            if !passed_on && !heard {
                let wants_more = !self.is_broken && self.on_way.len() < WINDOW;
                self.channel.wait_with(wants_more.then_some(&*self.sockets), LOOK);
            }
        }
    }

    /// What shards have sent goes to the new process, as much as there may be on the way. True: something has.
    fn pass_on(&mut self) -> bool {
        let mut count = 0;
        while count < WINDOW && (self.on_way.len() < WINDOW || self.is_broken) {
            let Some(received) = self.sockets.try_receive() else {
                break;
            };
            count += 1;
            let mut passed = match received {
                Ok(passed) => passed,
                Err(Lost { bytes }) => {
                    tracing::error!("upgrade: a client was lost on its way to the new process: out of descriptors");
                    if let Some((shard, _)) = read_moved(&bytes) {
                        self.settled[shard] += 1;
                    }
                    continue;
                }
            };
            let Some((shard, record)) = read_moved(&passed.bytes) else {
                debug_assert!(false, "shards say who they are");
                continue;
            };
            let (number, record) = (self.next, record.to_vec());
            self.next += 1;
            passed.bytes = record.clone();
            let deadline = Instant::now() + SEND_TIMEOUT;
            let message = Message::Client { number, record };
            let sent = !self.is_broken
                && self
                    .channel
                    .send(&message, Some(passed.socket.as_fd()), deadline)
                    .is_ok();
            self.on_way.insert(number, OnWay { shard, passed });
            if !sent {
                self.give_up("it takes no more clients");
                self.take_back(number);
            }
        }
        count > 0
    }

    /// What the new process says. True: something.
    fn hear(&mut self, packet: &mut Packet) -> bool {
        let mut heard = false;
        while !self.is_broken {
            match self.channel.receive(packet, Some(Instant::now())) {
                Received::Message(Message::Taken { number, .. }, _) if !self.on_way.contains_key(&number) => {}
                Received::Message(Message::Taken { number, is_taken: true }, _) => {
                    if let Some(on_way) = self.on_way.remove(&number) {
                        self.settled[on_way.shard] += 1;
                        self.moved += 1;
                    }
                }
                Received::Message(
                    Message::Taken {
                        number,
                        is_taken: false,
                    },
                    _,
                ) => {
                    self.take_back(number);
                    self.give_up("it can't read a client's record");
                    continue;
                }
                Received::Message(..) => {}
                Received::Deadline => break,
                Received::Nonsense(words) => {
                    self.give_up(&words);
                    break;
                }
                Received::End => {
                    self.give_up("it has ended");
                    break;
                }
            }
            heard = true;
        }
        heard
    }

    /// No more clients move. Those that are on the way are here again.
    fn give_up(&mut self, why: &str) {
        if std::mem::replace(&mut self.is_broken, true) {
            return;
        }
        tracing::error!(
            "upgrade: the new process takes no more clients: {why}; those that are left leave as at the end"
        );
        self.control.stop_moving(self.outside);
        let on_way: Vec<u64> = self.on_way.keys().copied().collect();
        for number in on_way {
            self.take_back(number);
        }
    }

    fn take_back(&mut self, number: u64) {
        let Some(OnWay { shard, passed }) = self.on_way.remove(&number) else {
            return;
        };
        let mut passed = Passed {
            bytes: Content::Client(&passed.bytes).pack(),
            ..passed
        };
        let deadline = Instant::now() + SEND_TIMEOUT;
        while let Err((back, error)) = self.sockets.try_send(shard, passed) {
            if Instant::now() >= deadline {
                tracing::error!("upgrade: a client can't be taken back and is lost: {error}");
                break;
            }
            passed = back;
            std::thread::sleep(PAUSE);
        }
        self.settled[shard] += 1;
    }

    /// Shards may send as many more. One whose ring is full hears it later.
    fn tell(&mut self) {
        for (shard, count) in self.settled.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            let mail = Mail::from(Control::Settled(*count));
            if self.outside.try_send(shard, mail).is_ok() {
                *count = 0;
            }
        }
    }
}

/// On their way at the most; shards keep to their parts of it (src/shard/takeover.rs).
pub(super) const WINDOW: usize = 512;
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(1);
