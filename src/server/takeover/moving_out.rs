//! Hands the clients of this process on to the new one, from the shards, a window of them at a time; and hears what that says, to
//! its end.
//!
//! A client's socket stays open here until the new process has said that it has it: until then it can be taken back. One of which
//! the new process has said nothing, and may have it, is not taken back for as long as that lives: two processes would have it.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shards::handover::Outside;
use shards::mesh::{Full, NodeHandle};
use shards::parcel::{Lost, Passed};

use super::channel::{Channel, Packet, Received};
use super::dispatcher::Dispatcher;
use crate::client::parcel::Content;
use crate::shard::control_plane::{ControlPlane, Phase};
use crate::shard::mail::{Control, Mail};
use crate::shard::takeover::read_on_way_number;
use protocol::takeover::Message;

/// Clients on their way to the new process.
pub(super) struct MovingOut<'m> {
    channel: &'m Channel,
    dispatcher: &'m Dispatcher,
    sockets: &'m mut Outside,
    outside: &'m Arc<NodeHandle<Mail>>,
    control: &'m Arc<ControlPlane>,
    /// By the numbers that the shards gave them.
    on_way: HashMap<u64, Passed>,
    /// Per shard, who has arrived, or is here again, and it has not been told.
    settled: Vec<Vec<u32>>,
    moved: usize,
    /// The new process takes no more.
    is_broken: bool,
    has_ended: bool,
}

impl<'m> MovingOut<'m> {
    pub(super) fn new(
        (channel, dispatcher): (&'m Channel, &'m Dispatcher),
        sockets: &'m mut Outside,
        outside: &'m Arc<NodeHandle<Mail>>,
        control: &'m Arc<ControlPlane>,
    ) -> Self {
        Self {
            channel,
            dispatcher,
            sockets,
            outside,
            control,
            on_way: HashMap::new(),
            settled: vec![Vec::new(); outside.shards_count()],
            moved: 0,
            is_broken: false,
            has_ended: false,
        }
    }

    /// Until the new process has ended. (Mostly this one ends before, when it `has_passed_on` all that there was.) Those that can be
    /// are this one's again then.
    pub(super) fn run(mut self, has_passed_on: &AtomicBool) {
        let mut packet = Packet::new();
        let mut is_told = false;
        loop {
            // Asked first: what a shard has sent before it said so is here.
            let have_ended = self.control.have_all_reached(Phase::Ended);
            let are_done = self.control.have_all_reached(Phase::Draining) || !self.control.is_taken_over();
            let passed_on = self.pass_on();
            let heard = self.hear(&mut packet);
            self.tell();
            let is_settled = !passed_on && self.on_way.is_empty() && self.settled.iter().all(Vec::is_empty);
            if have_ended && !passed_on {
                has_passed_on.store(true, Ordering::Release);
            }
            if are_done && is_settled {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!("upgrade: {} clients have moved", self.moved);
                }
                if self.has_ended {
                    return;
                }
            }
            if self.has_ended {
                std::thread::sleep(LOOK);
            } else if !passed_on && !heard {
                let wants_more = self.is_broken || self.on_way.len() < WINDOW;
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
            match received {
                Ok(Passed { socket, bytes }) => match Content::unpack(&bytes) {
                    Some(Content::Moved { number, record }) => self.pass_client(number, socket, record.into_owned()),
                    Some(Content::Backend(about)) => self.pass_connection(socket, about),
                    _ => debug_assert!(false, "shards send nothing else"),
                },
                Err(Lost { bytes }) => self.end_lost(&bytes),
            }
        }
        count > 0
    }

    fn pass_client(&mut self, number: u64, socket: OwnedFd, record: Vec<u8>) {
        let passed = Passed {
            socket,
            bytes: record.clone(),
        };
        if !self.is_broken {
            let deadline = Instant::now() + SEND_TIMEOUT;
            let message = Message::Client { number, record };
            let sent = self.channel.send(&message, Some(passed.socket.as_fd()), deadline);
            if sent.is_ok() {
                self.on_way.insert(number, passed);
                return;
            }
            self.give_up("it does not hear");
        }
        self.take_back(number, passed);
    }

    /// One that the new process does not hear of comes back; one that it never gets is closed with it.
    fn pass_connection(&mut self, socket: OwnedFd, about: &[u8]) {
        let message = Message::Backend { about: about.to_vec() };
        let deadline = Instant::now() + SEND_TIMEOUT;
        if self.is_broken || self.channel.send(&message, Some(socket.as_fd()), deadline).is_err() {
            let bytes = Content::Backend(about).pack();
            // Whichever shard; without a way back it is closed.
            let _ = self.sockets.try_send(0, Passed { socket, bytes });
        }
    }

    /// What the new process says. True: something.
    fn hear(&mut self, packet: &mut Packet) -> bool {
        let mut heard = false;
        while !self.has_ended {
            match self.channel.receive(packet, Some(Instant::now())) {
                Received::Message(Message::Taken { number, is_taken }, _) => {
                    let Some(passed) = self.on_way.remove(&number) else {
                        continue;
                    };
                    if is_taken {
                        self.moved += 1;
                        self.settle(number);
                    } else {
                        tracing::error!("upgrade: the new process can't have a client, which stays here");
                        self.stay(number, passed);
                    }
                }
                Received::Message(message, _) => self.dispatcher.hear(message),
                Received::Deadline => break,
                Received::Nonsense(words) => {
                    self.give_up(&words);
                    break;
                }
                Received::End => self.end(),
            }
            heard = true;
        }
        heard
    }

    /// No more clients move.
    fn give_up(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_broken, true) {
            tracing::error!(
                "upgrade: the new process takes no more clients: {why}; those that are left leave as at the end"
            );
            self.control.stop_moving(self.outside);
        }
    }

    /// The new process is not there any more: those that are on the way are here again, and this one serves if it still can.
    fn end(&mut self) {
        self.has_ended = true;
        self.is_broken = true;
        if !self.control.take_back(self.outside) {
            tracing::error!("upgrade: the new process has ended; those that are left leave as at the end");
        }
        self.dispatcher.disconnect();
        for (number, passed) in std::mem::take(&mut self.on_way) {
            self.take_back(number, passed);
        }
    }

    /// Its shard goes on with it, and may send it once more.
    fn take_back(&mut self, number: u64, passed: Passed) {
        let record = passed.bytes.into();
        self.send_back(number, passed.socket, Content::Client(record));
    }

    /// Its shard goes on with it to the end.
    fn stay(&mut self, number: u64, passed: Passed) {
        let record = passed.bytes.into();
        self.send_back(number, passed.socket, Content::Unmovable(record));
    }

    fn send_back(&mut self, number: u64, socket: OwnedFd, content: Content<'_>) {
        let (shard, _) = read_on_way_number(number);
        let mut passed = Passed {
            socket,
            bytes: content.pack(),
        };
        let deadline = Instant::now() + SEND_TIMEOUT;
        while let Err((back, error)) = self.sockets.try_send(shard, passed) {
            if Instant::now() >= deadline {
                tracing::error!("upgrade: a client can't be taken back and is lost: {error}");
                if let Some(Content::Client(record) | Content::Unmovable(record)) = Content::unpack(&back.bytes) {
                    self.mourn(shard, record.into_owned());
                }
                break;
            }
            passed = back;
            std::thread::sleep(PAUSE);
        }
        self.settle(number);
    }

    /// There was no descriptor for its socket: its shard has its end.
    fn end_lost(&mut self, bytes: &[u8]) {
        let Some(Content::Moved { number, record }) = Content::unpack(bytes) else {
            return;
        };
        tracing::error!("upgrade: a client was lost on its way to the new process: out of descriptors");
        self.mourn(read_on_way_number(number).0, record.into_owned());
        self.settle(number);
    }

    /// The shard is told that a client has no socket any more.
    fn mourn(&self, shard: usize, record: Vec<u8>) {
        let mut mail = Mail::from(Control::Lost(record));
        let deadline = Instant::now() + SEND_TIMEOUT;
        while let Err(Full(back)) = self.outside.try_send(shard, mail) {
            if Instant::now() >= deadline {
                return;
            }
            mail = back;
            std::thread::sleep(PAUSE);
        }
    }

    fn settle(&mut self, number: u64) {
        let (shard, number) = read_on_way_number(number);
        if let Some(settled) = self.settled.get_mut(shard) {
            settled.push(number);
        }
    }

    /// Shards may send as many more. One whose ring is full hears it later.
    fn tell(&mut self) {
        for (shard, numbers) in self
            .settled
            .iter_mut()
            .enumerate()
            .filter(|(_, numbers)| !numbers.is_empty())
        {
            let mail = Mail::from(Control::Settled(numbers.clone()));
            if self.outside.try_send(shard, mail).is_ok() {
                numbers.clear();
            }
        }
    }
}

/// On their way at the most; shards keep to their parts of it (src/shard/takeover.rs).
pub(super) const WINDOW: usize = 512;
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(1);
