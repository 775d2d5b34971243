//! Starts the program anew and lets it take over; or goes on as if nothing had been asked, and says why.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use shards::handover::Outside;
use shards::mesh::NodeHandle;

use super::channel::{Channel, Packet, Received};
use super::dispatcher::Dispatcher;
use super::moving_out::MovingOut;
use super::program::Program;
use crate::server::listeners::KeptListeners;
use crate::server::sd_notify;
use crate::server::stop_word::StopWord;
use crate::server::ticket_keys::TicketKeys;
use crate::shard::control_plane::{ControlPlane, Phase};
use crate::shard::mail::Mail;
use protocol::takeover::{Hello, Listener, Message, Old, OldOutput};

/// The one upgrade that is under way, if any. Clones are the same.
#[derive(Clone, Debug)]
pub struct Upgrades(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    state: Mutex<State>,
    /// The shards have ended, and all that they have given to the new process is there.
    has_passed_on: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    is_under_way: bool,
    /// From when the new process runs.
    channel: Option<Arc<Channel>>,
    /// The process is about to end.
    is_cancelled: bool,
    begun: u32,
    failed: u64,
    last: Option<Result<TakenOver, String>>,
}

/// Who has taken over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TakenOver {
    /// Its process id.
    pub pid: u32,
    /// What it has said that it is.
    pub version: String,
}

/// Why no upgrade was begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotBegun {
    /// There is one.
    #[error("an upgrade is under way")]
    UnderWay,
    /// This process will not be here for long.
    #[error("it ends: another process has taken over, or it drains")]
    Ending,
    /// The one before would have to go first.
    #[error("the process before this one has not ended yet")]
    HasPredecessor,
    /// Everything in its namespace ends with it.
    #[error(
        "it is process 1, and with that everything in its container ends: start it under an init (docker run --init), or replace the container"
    )]
    IsInit,
    /// Nobody knows what to start.
    #[error("the path of this program is not known: is /proc mounted?")]
    NoPath,
    /// There can be no thread.
    #[error("there is no thread for it")]
    NoThread,
}

/// How upgrades have gone.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// One is under way.
    pub is_under_way: bool,
    /// So many were undone.
    pub failed: u64,
    /// How the last one has ended.
    pub last: Option<Result<TakenOver, String>>,
    /// This process was started by one.
    pub is_successor: bool,
}

/// What a process has that may be taken over.
#[derive(Debug)]
pub struct Parts {
    /// How it was started, as far as that is known.
    pub program: Option<Program>,
    /// For people.
    pub version: String,
    /// How many takeovers there were before.
    pub generation: u32,
    /// With what the ids of its connections begin, and of those of whoever takes over.
    pub line: u32,
    /// The way to the shards.
    pub outside: Arc<NodeHandle<Mail>>,
    /// What they are to do.
    pub control: Arc<ControlPlane>,
    /// What is passed on.
    pub listeners: KeptListeners,
    /// What tickets of TLS are sealed with, which is passed on, too.
    pub ticket_keys: TicketKeys,
    /// What the shards and the other process say to each other.
    pub dispatcher: Dispatcher,
    /// Where clients come from the shards.
    pub sockets: Arc<Mutex<Outside>>,
    /// Said when operators are another process's.
    pub admin_stop: Arc<StopWord>,
}

impl Upgrades {
    /// None is under way.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            state: Mutex::default(),
            has_passed_on: AtomicBool::new(false),
        }))
    }

    /// Begins one; the new process has `timeout` until it serves. How it ends comes through what is returned.
    ///
    /// # Errors
    /// See [`NotBegun`].
    pub fn begin(&self, timeout: Duration) -> Result<mpsc::Receiver<Result<TakenOver, String>>, NotBegun> {
        let program = self.0.parts.program.clone().ok_or(NotBegun::NoPath)?;
        if std::process::id() == 1 {
            return Err(NotBegun::IsInit);
        }
        let mut state = self.state();
        if state.is_under_way {
            return Err(NotBegun::UnderWay);
        }
        if state.is_cancelled || self.0.parts.control.is_ending() {
            return Err(NotBegun::Ending);
        }
        if self.0.parts.control.has_predecessor() {
            return Err(NotBegun::HasPredecessor);
        }
        state.is_under_way = true;
        state.begun += 1;
        let hello = (
            self.0.parts.version.clone(),
            self.0.parts.generation.saturating_add(state.begun),
        );
        drop(state);
        let (reply, replies) = mpsc::channel();
        let this = self.clone();
        let spawned = std::thread::Builder::new()
            .name("upgrade".into())
            .spawn(move || this.run(&program, hello, timeout, &reply));
        if spawned.is_err() {
            self.state().is_under_way = false;
            return Err(NotBegun::NoThread);
        }
        Ok(replies)
    }

    /// The process is about to end: what is under way is undone, and none is begun any more.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        if let Some(channel) = &state.channel {
            channel.hang_up();
        }
    }

    /// The shards have ended: waits until the new process, if there is one, has what they have given last; so long at the most.
    pub fn finish(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.0.parts.control.is_taken_over()
            && !self.0.has_passed_on.load(Ordering::Acquire)
            && Instant::now() < deadline
        {
            std::thread::sleep(CLOSE_LOOK);
        }
        self.0.parts.dispatcher.finish(timeout);
    }

    /// How it goes.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let state = self.state();
        Progress {
            is_under_way: state.is_under_way,
            failed: state.failed,
            last: state.last.clone(),
            is_successor: self.0.parts.generation > 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        &self,
        program: &Program,
        (version, generation): (String, u32),
        timeout: Duration,
        reply: &mpsc::Sender<Result<TakenOver, String>>,
    ) {
        tracing::info!("upgrade: {} is started", program.path().display());
        sd_notify::reloading();
        let (result, child) = match self.attempt(program, version, generation, timeout) {
            Ok((taken_over, child)) => (Ok(taken_over), Some(child)),
            Err(words) => (Err(words), None),
        };
        match &result {
            Ok(TakenOver { pid, version }) => {
                tracing::info!("upgrade: process {pid} ({version}) has taken over; the clients move there");
            }
            Err(words) => {
                tracing::error!("upgrade: undone, this process goes on: {words}");
                sd_notify::ready();
            }
        }
        let mut state = self.state();
        state.is_under_way = false;
        state.failed += u64::from(result.is_err());
        state.last = Some(result.clone());
        if result.is_err() {
            state.channel = None;
        }
        drop(state);
        // Nobody waits for it after a signal.
        let _ = reply.send(result);
        if let Some(child) = child {
            self.hand_on(child);
        }
    }

    /// The clients, and what the new process wants to know, to its end; mostly this process ends before.
    fn hand_on(&self, mut child: Child) {
        let channel = self.state().channel.clone();
        if let Some(channel) = channel {
            let mut sockets = self.0.parts.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            let Parts {
                outside,
                control,
                dispatcher,
                ..
            } = &self.0.parts;
            MovingOut::new((&channel, dispatcher), &mut sockets, outside, control).run(&self.0.has_passed_on);
            self.0.has_passed_on.store(true, Ordering::Release);
        }
        let status = child
            .wait()
            .map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = format!("the process that had taken over has ended ({status})");
        if self.0.parts.control.is_taken_over() {
            tracing::error!("upgrade: {words}");
            return;
        }
        tracing::error!(
            "upgrade: undone, this process serves again: {words}; clients that it had come back by themselves"
        );
        sd_notify::main_process_again();
        let mut state = self.state();
        state.channel = None;
        state.failed += 1;
        state.last = Some(Err(words));
    }

    fn attempt(
        &self,
        program: &Program,
        version: String,
        generation: u32,
        timeout: Duration,
    ) -> Result<(TakenOver, Child), String> {
        let listeners = self.listeners()?;
        let (channel, other) = Channel::pair().map_err(|error| format!("no channel: {error}"))?;
        let channel = Arc::new(channel);
        let path = program.path().display();
        let mut child = program.start(other).map_err(|error| format!("{path}: {error}"))?;
        let mut state = self.state();
        state.channel = Some(channel.clone());
        if state.is_cancelled {
            channel.hang_up();
        }
        drop(state);
        let count = u32::try_from(listeners.len()).unwrap_or(u32::MAX);
        let (mut out, mut packet) = (Vec::new(), Packet::new());
        let now = Instant::now();
        let hello = Hello {
            line: Some(self.0.parts.line),
            ..Hello::own(version, count, generation)
        };
        let mut old = Old::new(hello, now, timeout, &mut out);
        loop {
            for output in std::mem::take(&mut out) {
                let deadline = old.deadline().unwrap_or(now);
                let sent = match output {
                    OldOutput::Send(message) => channel.send(&message, None, deadline),
                    OldOutput::SendListeners => send_listeners(&channel, &listeners, deadline),
                    OldOutput::SendTicketKeys => match self.0.parts.ticket_keys.to_pass_on() {
                        Some(keys) => channel.send(&Message::TicketKeys(keys), None, deadline),
                        None => Ok(()),
                    },
                    OldOutput::LetGo => {
                        self.let_go(child.id());
                        let version = old.version().unwrap_or_default().to_owned();
                        let pid = child.id();
                        return Ok((TakenOver { pid, version }, child));
                    }
                    OldOutput::Undo(words) => {
                        // It may have ended by itself.
                        let _ = child.kill();
                        let _ = child.wait();
                        return Err(words);
                    }
                };
                // One that can't be sent to has said its last word already, or says none any more.
                if let Err(error) = sent {
                    tracing::debug!("upgrade: {error}");
                }
            }
            if old.is_over() {
                continue;
            }
            match channel.receive(&mut packet, old.deadline()) {
                Received::Message(message, _) => old.handle_message(message, Instant::now(), &mut out),
                Received::Nonsense(words) => old.handle_end(words, &mut out),
                Received::Deadline => old.handle_deadline(Instant::now(), &mut out),
                Received::End if self.state().is_cancelled => old.handle_end("this process ends".to_owned(), &mut out),
                Received::End => old.handle_end(end_words(&mut child), &mut out),
            }
        }
    }

    /// Copies, so that nobody has to wait for those that the process keeps.
    fn listeners(&self) -> Result<Vec<(Listener, OwnedFd)>, String> {
        let kept = self.0.parts.listeners.lock();
        let all = kept.as_ref().ok_or("this process ends")?.each();
        let copies = all.map(|(told, socket)| Ok((told, socket.try_clone_to_owned()?)));
        let copies: std::io::Result<Vec<_>> = copies.collect();
        copies.map_err(|error| format!("no descriptors for the listeners: {error}"))
    }

    /// The point of no return.
    fn let_go(&self, pid: u32) {
        sd_notify::main_process(pid);
        if let Some(channel) = self.state().channel.clone() {
            self.0.parts.dispatcher.connect(channel);
        }
        self.0.parts.control.hand_over(&self.0.parts.outside);
        self.0.parts.admin_stop.say();
        // Whoever asks from now on asks the new one. A shard that hangs holds up nobody.
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while !self.0.parts.control.have_all_reached(Phase::Closed) && Instant::now() < deadline {
            std::thread::sleep(CLOSE_LOOK);
        }
    }
}

fn send_listeners(channel: &Channel, listeners: &[(Listener, OwnedFd)], deadline: Instant) -> std::io::Result<()> {
    listeners.iter().try_for_each(|(told, socket)| {
        let message = Message::Listener(told.clone());
        channel.send(&message, Some(socket.as_fd()), deadline)
    })
}

/// Why it says nothing any more.
fn end_words(child: &mut Child) -> String {
    let deadline = Instant::now() + END_TIMEOUT;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return describe(status),
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) => return error.to_string(),
        }
    }
    "it has closed the channel without having served".to_owned()
}

fn describe(status: ExitStatus) -> String {
    format!("it has ended before it served ({status}); what it said is in the log, if it said anything")
}

/// From the end of the channel to that of the process.
const END_TIMEOUT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);
/// What a shard that lives needs to close its listeners.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const CLOSE_LOOK: Duration = Duration::from_millis(1);
