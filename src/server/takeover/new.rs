//! Takes over from the process that has started this one.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{Channel, Packet, Received};
use super::dispatcher::Dispatcher;
use super::moving_in::WayHome;
use super::program::is_started_to_take_over;
use crate::server::sd_notify;
use crate::shard::control_plane::ControlPlane;
use protocol::takeover::{Hello, Listener, Message, New, NewOutput, TicketKeys};

/// The process that runs, as the new one sees it.
#[derive(Debug)]
pub struct Predecessor {
    channel: Arc<Channel>,
    packet: Packet,
    new: New,
    listeners: Vec<(Listener, OwnedFd)>,
    generation: u32,
    line: Option<u32>,
    /// What it seals tickets of TLS with, once it has said so.
    ticket_keys: Option<TicketKeys>,
    /// It has ended.
    is_gone: bool,
}

impl Predecessor {
    /// Meets it, if there is one: if this process was started to take over. It has all listeners then.
    ///
    /// # Errors
    /// In words, when they do not understand each other, or when the other one ends: this one ends, too.
    pub fn meet(version: &str) -> Result<Option<Self>, String> {
        if !is_started_to_take_over() {
            return Ok(None);
        }
        let Some(channel) = Channel::from_stdin() else {
            return Ok(None);
        };
        sd_notify::be_silent();
        let mut this = Self {
            channel: Arc::new(channel),
            packet: Packet::new(),
            new: New::begin(Hello::own(version, 0, 0)),
            listeners: Vec::new(),
            generation: 0,
            line: None,
            ticket_keys: None,
            is_gone: false,
        };
        let deadline = Instant::now() + MEET_TIMEOUT;
        loop {
            let mut out = Vec::new();
            match this.channel.receive(&mut this.packet, Some(deadline)) {
                Received::Message(message, socket) => {
                    match (&message, socket) {
                        (Message::Hello(hello), _) => (this.generation, this.line) = (hello.generation, hello.line),
                        (Message::Listener(listener), Some(socket)) => this.listeners.push((listener.clone(), socket)),
                        (Message::Listener(_), None) => {
                            return Err("no descriptor for a listener (RLIMIT_NOFILE)".into());
                        }
                        _ => {}
                    }
                    this.new.handle_message(message, &mut out);
                }
                Received::End => this.new.handle_end(&mut out),
                Received::Nonsense(words) => return Err(words),
                Received::Deadline => return Err("the process that runs says nothing".to_owned()),
            }
            for output in out {
                match output {
                    NewOutput::Send(message) => this.say(&message),
                    NewOutput::Prepare => return Ok(Some(this)),
                    NewOutput::End(words) => return Err(words),
                    NewOutput::Serve => {}
                }
            }
        }
    }

    /// Its listeners.
    pub fn take_listeners(&mut self) -> Vec<(Listener, OwnedFd)> {
        std::mem::take(&mut self.listeners)
    }

    /// How many takeovers there were with this one.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// With what the ids of its connections begin, so that those of this process begin so, too.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// What it seals tickets of TLS with, if it does: known once this process may serve.
    pub fn take_ticket_keys(&mut self) -> Option<TicketKeys> {
        self.ticket_keys.take()
    }

    /// This process would serve: waits until it may.
    ///
    /// # Errors
    /// In words, when they do not understand each other.
    pub fn wait_for_go(&mut self) -> Result<(), String> {
        let mut out = Vec::new();
        self.new.handle_ready(&mut out);
        loop {
            for output in std::mem::take(&mut out) {
                match output {
                    // That is said when it is true.
                    NewOutput::Send(Message::Serving) | NewOutput::Prepare => {}
                    NewOutput::Send(message) => self.say(&message),
                    NewOutput::Serve => return Ok(()),
                    NewOutput::End(words) => return Err(words),
                }
            }
            match self.channel.receive(&mut self.packet, None) {
                Received::Message(message, _) => {
                    if let Message::TicketKeys(keys) = &message {
                        self.ticket_keys = Some(keys.clone());
                    }
                    self.new.handle_message(message, &mut out);
                }
                Received::End | Received::Deadline | Received::Nonsense(_) => {
                    tracing::warn!("the process that was to be taken over has ended: this one serves in its place");
                    self.is_gone = true;
                    self.new.handle_end(&mut out);
                }
            }
        }
    }

    /// It serves: the other one hears of it, and its clients come. When it has ended, `control` is told.
    pub fn serve(self, control: Arc<ControlPlane>, mut way: WayHome, dispatcher: Dispatcher) {
        sd_notify::speak();
        self.say(&Message::Serving);
        let Self {
            channel,
            mut packet,
            is_gone,
            ..
        } = self;
        let end = {
            let dispatcher = dispatcher.clone();
            move || {
                dispatcher.disconnect();
                control.forget_predecessor();
            }
        };
        if is_gone {
            return end();
        }
        dispatcher.connect(channel.clone());
        let at_end = end.clone();
        let spawned = std::thread::Builder::new().name("predecessor".into()).spawn(move || {
            loop {
                match channel.receive(&mut packet, None) {
                    Received::Message(Message::Client { number, record }, socket) => {
                        // Without a descriptor for it the other one takes it back.
                        if !socket.is_some_and(|socket| way.send_home(number, record, socket)) {
                            refuse(&channel, number);
                        }
                    }
                    Received::Message(Message::Backend { about }, Some(socket)) => way.send_around(&about, socket),
                    Received::Message(message, _) => dispatcher.hear(message),
                    Received::End | Received::Deadline => break,
                    Received::Nonsense(words) => {
                        tracing::error!("the process before this one is not heard any more: {words}");
                        break;
                    }
                }
            }
            tracing::info!("the process before this one has ended");
            at_end();
        });
        if spawned.is_err() {
            end();
        }
    }

    /// This process can't take over, and ends.
    pub fn fail(&mut self, words: &str) {
        let mut out = Vec::new();
        self.new.handle_failed(words.to_owned(), &mut out);
        for output in out {
            if let NewOutput::Send(message) = output {
                self.say(&message);
            }
        }
    }

    /// One that does not hear it any more has ended, and the next look at the channel says so.
    fn say(&self, message: &Message) {
        let _ = self.channel.send(message, None, Instant::now() + SAY_TIMEOUT);
    }
}

/// This process can't have a client of the other one.
fn refuse(channel: &Channel, number: u64) {
    let is_taken = false;
    // One that does not hear it has ended.
    let _ = channel.send(&Message::Taken { number, is_taken }, None, Instant::now() + SAY_TIMEOUT);
}

/// The other one has everything at hand.
const MEET_TIMEOUT: Duration = Duration::from_secs(30);
const SAY_TIMEOUT: Duration = Duration::from_secs(5);
