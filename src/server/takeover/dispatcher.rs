//! Says to the other process of a takeover what the shards want to say to it, and passes on to them what it says.
//!
//! One thread for as long as this process lives: there may be a process before it, and one after it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use shards::mesh::{Full, NodeHandle};

use super::channel::Channel;
use crate::env::home::{IdHasher, home_of};
use crate::shard::control_plane::{ControlPlane, Phase};
use crate::shard::mail::{Control, Mail};
use crate::shard::other_process::{mail_of, said_by};
use protocol::takeover::Message;

/// See the module. Clones are the same.
#[derive(Clone, Debug)]
pub struct Dispatcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line: Mutex<Line>,
    changed: Condvar,
    changed_last: Condvar,
    outside: Arc<NodeHandle<Mail>>,
    control: Arc<ControlPlane>,
    hasher: IdHasher,
    /// For the last word.
    sender: mpsc::Sender<Message>,
    has_finished: Mutex<bool>,
}

#[derive(Debug)]
enum Line {
    /// There is nobody.
    Dead,
    /// There will be somebody.
    Awaited,
    Live(Arc<Channel>),
}

impl Dispatcher {
    /// Begins with what the shards want to say. `is_awaited`: there is a process whose channel comes soon.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(
        outside: Arc<NodeHandle<Mail>>,
        control: Arc<ControlPlane>,
        hasher: IdHasher,
        (sender, said): (mpsc::Sender<Message>, mpsc::Receiver<Message>),
        is_awaited: bool,
    ) -> io::Result<Self> {
        if is_awaited {
            control.meet_other_process();
        }
        let this = Self(Arc::new(Inner {
            line: Mutex::new(if is_awaited { Line::Awaited } else { Line::Dead }),
            changed: Condvar::new(),
            changed_last: Condvar::new(),
            outside,
            control,
            hasher,
            sender,
            has_finished: Mutex::default(),
        }));
        let speaker = this.clone();
        std::thread::Builder::new()
            .name("dispatcher".into())
            .spawn(move || said.iter().for_each(|message| speaker.say(message)))?;
        Ok(this)
    }

    /// From now on the other process is there.
    pub(super) fn connect(&self, channel: Arc<Channel>) {
        *self.line() = Line::Live(channel);
        self.0.control.meet_other_process();
        self.0.changed.notify_all();
    }

    /// It is gone. What it was asked has no answer, and what was on its way there is here still.
    pub(super) fn disconnect(&self) {
        *self.line() = Line::Dead;
        self.0.changed.notify_all();
        self.0.control.lose_other_process(&self.0.outside);
    }

    /// The shards have ended: waits until what they have said last has left, if it does in that time.
    pub(in crate::server) fn finish(&self, timeout: Duration) {
        if !matches!(*self.line(), Line::Live(_)) {
            return;
        }
        // Its thread lives as long as this process.
        let _ = self.0.sender.send(Message::Bye);
        let has_finished = self.0.has_finished.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.0
                .changed_last
                .wait_timeout_while(has_finished, timeout, |has_finished| !*has_finished),
        );
    }

    /// Passes on what the other process says to a shard.
    pub(super) fn hear(&self, message: Message) {
        let asked = match &message {
            Message::Question { shard, token, .. } => Some((*shard, *token)),
            _ => None,
        };
        let count = self.0.outside.shards_count();
        let mail = mail_of(message, count, |client| home_of(&self.0.hasher, client, count));
        let is_refused = match (mail, asked) {
            (Some((shard, mail)), Some(_)) => self.0.outside.try_send(shard, mail).is_err(),
            (Some((shard, mail)), None) => {
                self.send(shard, mail);
                false
            }
            (None, _) => true,
        };
        if is_refused && let Some((shard, token)) = asked {
            let told = Vec::new();
            self.say(Message::Told { shard, token, told });
        }
    }

    fn say(&self, message: Message) {
        let mut line = self.line();
        while let Line::Awaited = *line {
            line = self.0.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        let channel = match &*line {
            Line::Live(channel) => Some(channel.clone()),
            _ => None,
        };
        drop(line);
        let is_last = message == Message::Bye;
        let deadline = Instant::now() + SAY_TIMEOUT;
        let is_said = channel.is_some_and(|channel| channel.send(&message, None, deadline).is_ok());
        if !is_said && let Some(shard) = said_by(&message) {
            self.send(shard, Control::Unsaid(Box::new(message)).into());
        }
        if is_last {
            *self.0.has_finished.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.0.changed_last.notify_all();
        }
    }

    /// Puts mail into a shard's ring, as soon as there is room. One that hangs for very long loses it.
    fn send(&self, shard: usize, mut mail: Mail) {
        let deadline = Instant::now() + SHARD_TIMEOUT;
        while let Err(Full(back)) = self.0.outside.try_send(shard, mail) {
            if self.0.control.phase(shard) == Phase::Ended || Instant::now() >= deadline {
                tracing::error!("shard {shard} takes no mail of the other process");
                return;
            }
            mail = back;
            std::thread::sleep(PAUSE);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SAY_TIMEOUT: Duration = Duration::from_secs(10);
const SHARD_TIMEOUT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(1);
