//! Decides for the process that was started to take over.

use super::message::{Hello, Message};
use crate::record;

/// What the new process does until it serves, or ends.
#[derive(Debug)]
pub struct New {
    own: Hello,
    state: State,
    #[cfg(test)]
    pub(super) broken: Option<super::simulation::Broken>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The old one has not said yet who it is.
    Greeting,
    /// So many listeners are still to come.
    Receiving(u32),
    /// It makes itself ready. `alone`: the old one has ended.
    Preparing { alone: bool },
    /// It may not serve yet.
    Ready,
    /// It serves.
    Serving,
    /// It can't.
    Over,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NewOutput {
    /// Say this.
    Send(Message),
    /// Everything has come: start, but accept nothing. Say [`New::handle_ready`] or [`New::handle_failed`] then.
    Prepare,
    /// Accept.
    Serve,
    /// End: it can't take over. The reason, for people.
    End(String),
}

impl New {
    /// It has just begun.
    #[must_use]
    pub fn begin(own: Hello) -> Self {
        Self {
            own,
            state: State::Greeting,
            #[cfg(test)]
            broken: None,
        }
    }

    /// The old process says something.
    pub fn handle_message(&mut self, message: Message, out: &mut Vec<NewOutput>) {
        match (self.state, message) {
            (State::Greeting, Message::Hello(hello)) if !record::is_readable(hello.records) => {
                let words = format!("this version can't read clients of version {}", hello.records);
                out.push(NewOutput::Send(Message::Failed(words.clone())));
                self.state = State::Over;
                out.push(NewOutput::End(words));
            }
            (State::Greeting, Message::Hello(hello)) => {
                // The old one decides whether both can talk: it is the one that goes on.
                out.push(NewOutput::Send(Message::Hello(self.own.clone())));
                self.state = State::Receiving(hello.listeners);
                self.prepare_if_complete(out);
            }
            (State::Receiving(left @ 1..), Message::Listener(_)) => {
                self.state = State::Receiving(left - 1);
                self.prepare_if_complete(out);
            }
            // The caller's.
            (State::Ready, Message::TicketKeys(_)) => {}
            (State::Ready, Message::Go) => {
                self.state = State::Serving;
                out.push(NewOutput::Serve);
                out.push(NewOutput::Send(Message::Serving));
            }
            (State::Serving | State::Over, _) => {}
            (_, message) => {
                let words = format!("the process that runs said {}, which is not its turn", message.name());
                self.handle_failed(words.clone(), out);
                out.push(NewOutput::End(words));
            }
        }
    }

    /// It would serve.
    pub fn handle_ready(&mut self, out: &mut Vec<NewOutput>) {
        match self.state {
            State::Preparing { alone: false } => {
                self.state = State::Ready;
                out.push(NewOutput::Send(Message::Ready));
                #[cfg(test)]
                if self.broken == Some(super::simulation::Broken::ServesWhenReady) {
                    out.push(NewOutput::Serve);
                }
            }
            State::Preparing { alone: true } => {
                self.state = State::Serving;
                out.push(NewOutput::Serve);
            }
            _ => {}
        }
    }

    /// It never will. The caller ends, with these words.
    pub fn handle_failed(&mut self, words: String, out: &mut Vec<NewOutput>) {
        if !matches!(self.state, State::Serving | State::Over) {
            self.state = State::Over;
            out.push(NewOutput::Send(Message::Failed(words)));
        }
    }

    /// The old process has ended. Whoever has its listeners serves in its place.
    pub fn handle_end(&mut self, out: &mut Vec<NewOutput>) {
        match self.state {
            State::Greeting | State::Receiving(_) => {
                self.state = State::Over;
                out.push(NewOutput::End(
                    "the process that was to be taken over has ended".to_owned(),
                ));
            }
            State::Preparing { .. } => self.state = State::Preparing { alone: true },
            State::Ready => {
                self.state = State::Serving;
                out.push(NewOutput::Serve);
            }
            State::Serving | State::Over => {}
        }
    }

    fn prepare_if_complete(&mut self, out: &mut Vec<NewOutput>) {
        if self.state == State::Receiving(0) {
            self.state = State::Preparing { alone: false };
            out.push(NewOutput::Prepare);
        }
    }
}
