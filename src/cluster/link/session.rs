//! Talks with one server, from its first word to the end of the connection.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use protocol::nats::{self, Connect, Decoder, Info, Login, Message, Operation};
use rustls::pki_types::ServerName;

use super::event::{Event, Refused};
use super::servers::Server;
use super::settings::LinkSettings;
use super::stream::Stream;
use super::waiting::Waiting;
use super::words;
use crate::cluster::credentials;
use crate::config::NatsLogin;

/// A connection.
pub(super) struct Session {
    server: Server,
    stream: Stream,
    decoder: Decoder,
    waiting: Waiting,
    phase: Phase,
    /// Where others are, as it was said last; taken by whoever learns of them.
    pub(super) news: Option<News>,
    payload_len_max: usize,
    waiting_len_max: usize,
    /// The server's last word, perhaps.
    said: Option<String>,
    /// Why nothing can be written any more. What can be read is read first.
    broken: Option<String>,
    /// More has come than was read in one turn.
    has_more: bool,
}

/// Where other servers are.
pub(super) struct News {
    pub(super) addresses: Vec<String>,
    /// Whether nobody but the server can have said so: it came behind TLS.
    pub(super) is_believed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing has been heard.
    Greeting { deadline: Instant },
    /// It has been told who we are.
    LoggingIn { deadline: Instant },
    /// It has let us in.
    Open { since: Instant, ping: Ping },
}

#[derive(Clone, Copy, Debug)]
enum Ping {
    Due { at: Instant },
    Sent { at: Instant },
}

impl Session {
    pub(super) fn new(server: Server, socket: TcpStream, now: Instant, settings: &LinkSettings) -> Self {
        Self {
            server,
            stream: Stream::Plain(socket),
            decoder: Decoder::new(settings.payload_len_max),
            waiting: Waiting::default(),
            phase: Phase::Greeting {
                deadline: now + settings.connect_timeout,
            },
            news: None,
            payload_len_max: 0,
            waiting_len_max: settings.waiting_len_max,
            said: None,
            broken: None,
            has_more: false,
        }
    }

    /// Since when it lets us speak.
    pub(super) fn open_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { since, .. } => Some(since),
            _ => None,
        }
    }

    pub(super) fn wants_write(&self) -> bool {
        self.waiting.len() > 0 || self.stream.wants_write()
    }

    pub(super) fn next_deadline(&self, now: Instant, settings: &LinkSettings) -> Instant {
        match self.phase {
            _ if self.has_more => now,
            Phase::Greeting { deadline } | Phase::LoggingIn { deadline } => deadline,
            Phase::Open {
                ping: Ping::Due { at }, ..
            } => at,
            Phase::Open {
                ping: Ping::Sent { at },
                ..
            } => at + settings.ping_every,
        }
    }

    /// Reads, writes and looks at the time, once; what was read goes through `buffer`.
    ///
    /// # Errors
    /// The connection is over: why, in words.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        settings: &LinkSettings,
        buffer: &mut [u8],
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        self.flush();
        self.read(now, settings, buffer, events)?;
        self.keep_time(now, settings)?;
        self.flush();
        if let Some(why) = self.broken.take() {
            return Err(self.said.take().unwrap_or(why));
        }
        match self.waiting.len() > 2 * self.waiting_len_max {
            // What it was to know of subscriptions is more than can wait: it will be told again.
            true => Err(format!(
                "it does not take what it is told: {} bytes wait",
                self.waiting.len()
            )),
            false => Ok(()),
        }
    }

    /// Writes what it takes.
    pub(super) fn flush(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let flushed = match self.waiting.len() {
            0 => self.stream.flush(),
            _ => self.waiting.write(&mut self.stream),
        };
        match flushed {
            Err(error) if error.kind() != ErrorKind::WouldBlock => self.broken = Some(words::of_io(&error)),
            _ => {}
        }
    }

    fn read(
        &mut self,
        now: Instant,
        settings: &LinkSettings,
        buffer: &mut [u8],
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        let mut left = buffer.len();
        self.has_more = false;
        loop {
            let Some(place @ [_, ..]) = buffer.get_mut(..left) else {
                self.has_more = true;
                return Ok(());
            };
            match self.stream.read(place) {
                Ok(0) => {
                    return Err(self
                        .said
                        .take()
                        .unwrap_or_else(|| "it has closed the connection".to_owned()));
                }
                Ok(len) => {
                    left -= len;
                    self.decoder.feed(place.get(..len).unwrap_or_default());
                    self.listen(now, settings, events)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.said.take().unwrap_or_else(|| words::of_io(&error))),
            }
        }
    }

    fn listen(&mut self, now: Instant, settings: &LinkSettings, events: &mut Vec<Event>) -> Result<(), String> {
        loop {
            let operation = self
                .decoder
                .next()
                .map_err(|fault| format!("what it says is not NATS: {fault}"))?;
            let Some(operation) = operation else {
                return Ok(());
            };
            match operation {
                Operation::Info(info) => self.handle_info(*info, settings)?,
                Operation::Message(message) => match self.phase {
                    Phase::Open { .. } => events.extend(event(&message)),
                    _ => return Err("it sends messages before anybody has asked for any".to_owned()),
                },
                Operation::TooLong { len, .. } => events.push(Event::Complaint {
                    what: format!(
                        "a message of {len} bytes was passed over: longer than {}, it is none of a node's",
                        settings.payload_len_max
                    ),
                }),
                Operation::Ping => self.waiting.bytes().extend_from_slice(nats::PONG),
                Operation::Pong => self.handle_pong(now, settings, events),
                Operation::Ok => {}
                Operation::Error(text) => {
                    let what = words::of_error(text);
                    if !words::is_passing(text) {
                        self.said = Some(what.clone());
                    }
                    if matches!(self.phase, Phase::Open { .. }) {
                        events.push(Event::Complaint { what });
                    }
                }
            }
        }
    }

    fn handle_info(&mut self, info: Info, settings: &LinkSettings) -> Result<(), String> {
        self.payload_len_max = info.payload_len_max;
        let is_believed = self.server.url.is_tls && !matches!(self.phase, Phase::Greeting { .. });
        if let Phase::Greeting { deadline } = self.phase {
            self.greet(&info, settings)?;
            self.phase = Phase::LoggingIn { deadline };
            self.server.called = match info.name.is_empty() {
                true => format!("{} (NATS {})", self.server.url.address(), info.version),
                false => format!("{} at {} (NATS {})", info.name, self.server.url.address(), info.version),
            };
        }
        self.news = Some(News {
            addresses: info.addresses,
            is_believed,
        });
        Ok(())
    }

    /// Tells it who we are, behind TLS if that is to be.
    fn greet(&mut self, info: &Info, settings: &LinkSettings) -> Result<(), String> {
        if !info.has_headers {
            return Err(format!(
                "it is too old, {}: 2.2 is the first that can be used",
                info.version
            ));
        }
        let url = &self.server.url;
        match (url.is_tls, info.is_tls_required || info.is_tls_available) {
            (true, false) => return Err("it speaks no TLS: have it configured there, or write nats://".to_owned()),
            (false, _) if info.is_tls_required => return Err("it wants TLS: write tls:// in cluster".to_owned()),
            _ => {}
        }
        if url.is_tls {
            // What was said before could be anybody's.
            if self.decoder.held_len() > 0 {
                return Err("more is said before TLS than there should be".to_owned());
            }
            let config = settings
                .tls
                .as_ref()
                .ok_or("there is nothing to verify its certificate by")?;
            let name = ServerName::try_from(self.server.name.clone());
            let name = name.map_err(|_| "no certificate can have this host's name".to_owned())?;
            self.stream.secure(config, name).map_err(|error| words::of_io(&error))?;
        }
        let credentials = match &settings.credentials_file {
            None => None,
            Some(file) => Some(credentials::read(file).map_err(|error| error.to_string())?),
        };
        let mut signature = String::new();
        let login = match (&credentials, &info.nonce, &url.login) {
            (Some(credentials), Some(nonce), _) => credentials.login(nonce, &mut signature),
            // It asks for no signature: whoever comes is let in, or it wants a password.
            (_, _, Some(NatsLogin::User { name, password })) => Login::User { name, password },
            (_, _, Some(NatsLogin::Token(token))) => Login::Token(token),
            (_, _, None) => Login::None,
        };
        let connect = Connect {
            name: &settings.name,
            version: env!("CARGO_PKG_VERSION"),
            is_tls: url.is_tls,
            login,
        };
        connect.write(self.waiting.bytes());
        self.waiting.bytes().extend_from_slice(nats::PING);
        Ok(())
    }

    fn handle_pong(&mut self, now: Instant, settings: &LinkSettings, events: &mut Vec<Event>) {
        let ping = Ping::Due {
            at: now + settings.ping_every,
        };
        match &mut self.phase {
            Phase::Greeting { .. } => {}
            Phase::LoggingIn { .. } => {
                self.phase = Phase::Open { since: now, ping };
                events.push(Event::Connected {
                    server: self.server.called.clone(),
                    max_payload: self.payload_len_max,
                });
            }
            Phase::Open { ping: last, .. } => *last = ping,
        }
    }

    fn keep_time(&mut self, now: Instant, settings: &LinkSettings) -> Result<(), String> {
        match &mut self.phase {
            Phase::Greeting { deadline } if now >= *deadline => Err(format!(
                "it has said nothing for {}: is that NATS?",
                Seconds(settings.connect_timeout)
            )),
            Phase::LoggingIn { deadline } if now >= *deadline => Err(format!(
                "it has not let us in within {}",
                Seconds(settings.connect_timeout)
            )),
            Phase::Open { ping, .. } => match *ping {
                Ping::Due { at } if now >= at => {
                    *ping = Ping::Sent { at: now };
                    self.waiting.bytes().extend_from_slice(nats::PING);
                    Ok(())
                }
                // What has come is read before: it is not for want of reading here.
                Ping::Sent { at } if now >= at + settings.ping_every && !self.has_more => {
                    Err(format!("it has not answered for {}", Seconds(settings.ping_every)))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    pub(super) fn subscribe(&mut self, sid: u64, subject: &str, queue: Option<&str>) {
        if self.takes_more() {
            nats::subscribe(self.waiting.bytes(), subject, queue, sid);
        }
    }

    pub(super) fn unsubscribe(&mut self, sid: u64) {
        if self.takes_more() {
            nats::unsubscribe(self.waiting.bytes(), sid);
        }
    }

    pub(super) fn publish(&mut self, subject: &str, reply: Option<&str>, payload: &[u8]) -> Result<(), Refused> {
        if self.open_since().is_none() {
            return Err(Refused::Away);
        }
        if payload.len() > self.payload_len_max {
            return Err(Refused::TooLong {
                len: payload.len(),
                limit: self.payload_len_max,
            });
        }
        let waiting = self.waiting.len();
        if waiting > 0 && waiting + payload.len() > self.waiting_len_max {
            return Err(Refused::Full { waiting });
        }
        nats::publish(self.waiting.bytes(), subject, reply, payload);
        Ok(())
    }

    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// Has the last of what it was told arrive.
    pub(super) fn finish(self, timeout: Duration) {
        // What does not arrive is lost, as with a connection that breaks.
        let _ = self.stream.finish(self.waiting.rest(), timeout);
    }

    /// A connection that is given up for what it does not take is told nothing more.
    fn takes_more(&self) -> bool {
        matches!(self.phase, Phase::Open { .. }) && self.waiting.len() <= 2 * self.waiting_len_max
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A message whose subject is no text is none of a node's: `None`.
fn event(message: &Message<'_>) -> Option<Event> {
    let reply = message.reply.map(str::from_utf8).transpose().ok()?;
    Some(Event::Message {
        sid: message.sid,
        subject: str::from_utf8(message.subject).ok()?.to_owned(),
        reply: reply.map(str::to_owned),
        is_no_responders: message.is_no_responders(),
        payload: message.payload.to_vec(),
    })
}

struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0.as_secs_f32())
    }
}
