//! Keeps a connection to NATS: makes it, makes it anew when it is lost, reads and writes.
//!
//! One thread owns it and waits for what it [`wants`](Link::wants), or until its [`next_deadline`](Link::next_deadline); then it calls
//! [`handle`](Link::handle), which never blocks and does a bounded share of what there is to do. Of several servers one is connected to. After
//! [`Event::Connected`] nothing is subscribed to.

mod connecting;
mod event;
mod servers;
mod session;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod waiting;
mod words;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use protocol::nats::is_subject;

pub use self::event::{Event, Refused};
pub use self::settings::LinkSettings;

use self::connecting::{Connecting, Threads};
use self::servers::Servers;
use self::session::Session;

/// One node's connection.
pub struct Link {
    settings: LinkSettings,
    servers: Servers,
    state: State,
    threads: Threads,
    buffer: Box<[u8]>,
    /// When one was told last.
    complained: Option<Instant>,
}

enum State {
    /// There is none until then.
    Resting {
        until: Instant,
    },
    Connecting(Connecting),
    Connected(Box<Session>),
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wants<'l> {
    /// Where; `None`: for nothing but the time.
    pub fd: Option<BorrowedFd<'l>>,
    /// Until something can be read.
    pub reads: bool,
    /// Until something can be written.
    pub writes: bool,
}

impl Link {
    /// A connection that begins with the first [`handle`](Self::handle).
    #[must_use]
    pub fn new(settings: LinkSettings) -> Self {
        Self {
            servers: Servers::new(&settings.urls),
            settings,
            state: State::Resting { until: Instant::now() },
            threads: Threads::default(),
            buffer: vec![0; READ_LEN].into(),
            complained: None,
        }
    }

    /// What it waits for.
    #[must_use]
    pub fn wants(&self) -> Wants<'_> {
        match &self.state {
            State::Resting { .. } => Wants {
                fd: None,
                reads: false,
                writes: false,
            },
            State::Connecting(connecting) => Wants {
                fd: Some(connecting.as_fd()),
                reads: true,
                writes: false,
            },
            State::Connected(session) => Wants {
                fd: Some(session.as_fd()),
                reads: true,
                writes: session.wants_write(),
            },
        }
    }

    /// When [`handle`](Self::handle) is to be called if nothing happens before. `now` if it has not done all that there was.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Instant {
        match &self.state {
            State::Resting { until } => *until,
            State::Connecting(connecting) => connecting.deadline(),
            State::Connected(session) => session.next_deadline(now, &self.settings),
        }
    }

    /// Connects, reads, writes and looks at the time: a bounded share of it.
    pub fn handle(&mut self, now: Instant, events: &mut Vec<Event>) {
        let before = events.len();
        if let Err(why) = self.advance(now, events) {
            self.fall(now, why, events);
        }
        self.spare_complaints(now, before, events);
    }

    /// Whether a server has let us in.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session().is_some_and(|session| session.open_since().is_some())
    }

    /// Subscribes, where a server has let us in; `sid` is not to be in use. What it takes not is not lost in silence: if too much waits, the
    /// connection is given up, and another one follows. No [subject](is_subject): nothing.
    pub fn subscribe(&mut self, sid: u64, subject: &str, queue: Option<&str>) {
        if let State::Connected(session) = &mut self.state
            && is_subject(subject)
            && queue.is_none_or(is_subject)
        {
            session.subscribe(sid, subject, queue);
        }
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, sid: u64) {
        if let State::Connected(session) = &mut self.state {
            session.unsubscribe(sid);
        }
    }

    /// Publishes. Where nobody subscribes to `subject`, the server says so at `reply`.
    ///
    /// # Errors
    /// [`Refused`]: nothing is said of it to NATS.
    pub fn publish(&mut self, subject: &str, reply: Option<&str>, payload: &[u8]) -> Result<(), Refused> {
        if !is_subject(subject) || !reply.is_none_or(is_subject) {
            return Err(Refused::Subject);
        }
        match &mut self.state {
            State::Connected(session) => session.publish(subject, reply, payload),
            _ => Err(Refused::Away),
        }
    }

    /// Writes what the server takes now; [`handle`](Self::handle) does so, too.
    pub fn flush(&mut self) {
        if let State::Connected(session) = &mut self.state {
            session.flush();
        }
    }

    /// Bytes that NATS has not taken yet.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.session().map_or(0, Session::waiting_len)
    }

    /// Ends the connection in order: blocks until the last of what was published has arrived, or for `timeout`.
    pub fn finish(self, timeout: Duration) {
        if let State::Connected(session) = self.state {
            session.finish(timeout);
        }
    }

    fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Connected(session) => Some(session),
            _ => None,
        }
    }

    fn advance(&mut self, now: Instant, events: &mut Vec<Event>) -> Result<(), String> {
        match &mut self.state {
            State::Resting { until } if now < *until => Ok(()),
            State::Resting { until } => {
                let url = &self.servers.current().url;
                let timeout = self.settings.connect_timeout;
                let place = (url.host.as_str(), url.port);
                match Connecting::begin(&self.threads, place, now, timeout) {
                    Ok(Some(connecting)) => {
                        self.state = State::Connecting(connecting);
                        Ok(())
                    }
                    Ok(None) => {
                        *until = now + timeout;
                        Ok(())
                    }
                    Err(error) => Err(format!("there is no thread to connect with: {error}")),
                }
            }
            State::Connecting(connecting) => match connecting.poll(now) {
                None => Ok(()),
                Some(socket) => {
                    let server = self.servers.current().clone();
                    let session = Session::new(server, socket?, now, &self.settings);
                    self.state = State::Connected(Box::new(session));
                    self.talk(now, events)
                }
            },
            State::Connected(_) => self.talk(now, events),
        }
    }

    fn talk(&mut self, now: Instant, events: &mut Vec<Event>) -> Result<(), String> {
        let State::Connected(session) = &mut self.state else {
            return Ok(());
        };
        let handled = session.handle(now, &self.settings, &mut self.buffer, events);
        if let Some(news) = session.news.take() {
            self.servers.learn(&news.addresses, news.is_believed);
        }
        let lasts = |since: Instant| now.saturating_duration_since(since) >= LASTING;
        if session.open_since().is_some_and(lasts) {
            self.servers.succeed();
        }
        handled
    }

    fn fall(&mut self, now: Instant, why: String, events: &mut Vec<Event>) {
        let server = self.servers.current().url.to_string();
        events.push(match self.is_connected() {
            true => Event::Lost { why },
            false => Event::Failed { server, why },
        });
        let until = now + self.servers.fail();
        self.state = State::Resting { until };
    }

    /// Leaves one of many complaints.
    fn spare_complaints(&mut self, now: Instant, before: usize, events: &mut Vec<Event>) {
        let mut at = 0;
        events.retain(|event| {
            at += 1;
            if at <= before || !matches!(event, Event::Complaint { .. }) {
                return true;
            }
            let is_due = self
                .complained
                .is_none_or(|complained| now.saturating_duration_since(complained) >= COMPLAINTS_EVERY);
            if is_due {
                self.complained = Some(now);
            }
            is_due
        });
    }
}

/// Received in one go.
const READ_LEN: usize = 64 * 1024;
/// A connection that has been there for so long was a good one.
const LASTING: Duration = Duration::from_secs(10);
const COMPLAINTS_EVERY: Duration = Duration::from_secs(10);
