//! Decides for the process that runs, and starts the new one.

use std::time::{Duration, Instant};

use super::message::{Hello, Message};

/// What the old process does until it is over, one way or the other.
#[derive(Debug)]
pub struct Old {
    own: Hello,
    state: State,
    deadline: Instant,
    /// What the new one has said that it is.
    version: Option<String>,
    #[cfg(test)]
    pub(super) broken: Option<super::simulation::Broken>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The new one has not said yet who it is.
    Greeting,
    /// It has the listeners, and makes itself ready.
    Preparing,
    /// It may serve.
    Going,
    /// It serves: no way back.
    Done,
    /// It is as if nothing had been asked.
    Undone,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OldOutput {
    /// Say this.
    Send(Message),
    /// Pass all listeners on, in any order.
    SendListeners,
    /// Pass on with what tickets of TLS are sealed, if they are.
    SendTicketKeys,
    /// Accept no more, and let go of everything: the new one serves. The last of all.
    LetGo,
    /// End the new process, whatever it does. The reason, for people. The last of all.
    Undo(String),
}

impl Old {
    /// The new process was started at `now`, and has `timeout` until it serves. `own` says how many listeners there are.
    #[must_use]
    pub fn new(own: Hello, now: Instant, timeout: Duration, out: &mut Vec<OldOutput>) -> Self {
        out.push(OldOutput::Send(Message::Hello(own.clone())));
        Self {
            own,
            state: State::Greeting,
            deadline: now + timeout,
            version: None,
            #[cfg(test)]
            broken: None,
        }
    }

    /// When [`handle_deadline`](Self::handle_deadline) is to be called, unless it is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (!self.is_over()).then_some(self.deadline)
    }

    /// True once [`OldOutput::LetGo`] or [`OldOutput::Undo`] has come out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Undone)
    }

    /// The version that the new process has said it is.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The new process says something.
    pub fn handle_message(&mut self, message: Message, now: Instant, out: &mut Vec<OldOutput>) {
        match (self.state, message) {
            (State::Done | State::Undone, _) => {}
            (_, Message::Failed(words)) => self.undo(words, out),
            (State::Greeting, Message::Hello(hello)) if self.own.agrees_with(&hello) => {
                self.version = Some(hello.version);
                self.state = State::Preparing;
                out.push(OldOutput::SendListeners);
            }
            (State::Greeting, Message::Hello(hello)) => {
                let words = format!(
                    "{} takes over by rules {} to {}, this version by {} to {}",
                    hello.version, hello.oldest, hello.protocol, self.own.oldest, self.own.protocol
                );
                self.undo(words, out);
            }
            (State::Preparing, Message::Ready) => {
                self.state = State::Going;
                // It has all that it needs: what it does now takes no time. It may have begun just when its time is up.
                self.deadline = self.deadline.max(now + GO_TIMEOUT);
                out.push(OldOutput::SendTicketKeys);
                out.push(OldOutput::Send(Message::Go));
                #[cfg(test)]
                if self.broken == Some(super::simulation::Broken::LetsGoWhenReady) {
                    self.state = State::Done;
                    out.push(OldOutput::LetGo);
                }
            }
            (State::Going, Message::Serving) => {
                self.state = State::Done;
                out.push(OldOutput::LetGo);
            }
            (_, message) => self.undo(format!("it said {}, which nobody had asked", message.name()), out),
        }
    }

    /// The new process has ended, or can't be heard any more; never started, among others.
    pub fn handle_end(&mut self, words: String, out: &mut Vec<OldOutput>) {
        if !self.is_over() {
            self.undo(words, out);
        }
    }

    /// Its time may be up.
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Vec<OldOutput>) {
        #[cfg(test)]
        if self.broken == Some(super::simulation::Broken::WaitsForEver) {
            return;
        }
        if self.is_over() || now < self.deadline {
            return;
        }
        let what = match self.state {
            State::Greeting => "had not said who it is",
            State::Preparing => "was not ready to serve",
            _ => "did not serve, though it was ready,",
        };
        self.undo(format!("it {what} when its time was up (upgrade_timeout)"), out);
    }

    fn undo(&mut self, words: String, out: &mut Vec<OldOutput>) {
        self.state = State::Undone;
        out.push(OldOutput::Undo(words));
    }
}

/// From "go" to "serving" the new process has this long at the least.
pub const GO_TIMEOUT: Duration = Duration::from_secs(5);
