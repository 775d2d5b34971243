//! Speaks TLS over a connection to a backend: the handshake, as one of its tasks, and the records after it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use shards::Socket;
use shards::turn::{self, TURN_LEN};

use super::connect::ConnectError;
use super::mistrust;
use protocol::tls::{ClientHandshake, End, HandshakeError, Records, Tickets};

/// One connection's TLS, once the backend is known to be who it should.
pub(super) struct Tls {
    records: Records,
    /// Who remembers the sessions that the backend offers, for the next connection.
    tickets: Option<Tickets>,
    /// The backend's place in the configuration and its name, until it has said anything.
    unheard: Option<(usize, Arc<str>)>,
    /// Whether it went on with the session of an earlier one.
    pub(super) is_resumed: bool,
}

/// What came in one piece.
pub(super) struct Received {
    /// So much plain text, at the front.
    pub(super) plain_len: usize,
    /// What comes behind it, if it is the end.
    pub(super) end: Option<Ended>,
}

/// How TLS ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// The backend has said that no more comes.
    Closed,
    /// It has said that something is wrong, or something is.
    Broken,
    /// It does not take us for who we are, or had not understood our handshake. The log was told.
    Refused,
}

impl Tls {
    /// Asks who the backend is. What is costly is one task's turn, and a pass has one of these. Received bytes go through `incoming`.
    pub(super) async fn begin(
        socket: &Socket,
        config: &ClientConfig,
        name: ServerName<'static>,
        incoming: &RefCell<Vec<u8>>,
    ) -> Result<Self, ConnectError> {
        let mut out = Vec::new();
        wait_for_turn().await;
        let mut handshake = ClientHandshake::new(config, name, &mut out)?;
        loop {
            send(socket, &out).await?;
            out.clear();
            poll_fn(|context| socket.poll_readable(context)).await;
            wait_for_turn().await;
            let advanced = poll_fn(|context| {
                let mut incoming = incoming.borrow_mut();
                let Poll::Ready(received) = socket.poll_recv(context, &mut incoming) else {
                    return Poll::Ready(Ok(Ok(false)));
                };
                Poll::Ready(received.map(|len| match len {
                    0 => Err(HandshakeError::Ended),
                    len => handshake.advance(incoming.get(..len).unwrap_or_default(), &mut out),
                }))
            });
            let advanced = advanced.await?;
            if !matches!(advanced, Ok(false)) {
                send(socket, &out).await?;
            }
            if advanced? {
                break;
            }
        }
        let (established, tickets) = handshake.finish()?;
        let mut tls = Self {
            records: established.records,
            tickets,
            unheard: None,
            is_resumed: established.facts.is_resumed,
        };
        let mut unopened = established.unopened;
        let Received { plain_len, end } = tls.open(&mut unopened);
        // Nobody has asked it anything.
        match (plain_len, end) {
            (0, None) => Ok(tls),
            _ => Err(HandshakeError::Ended.into()),
        }
    }

    /// Whose it is: for the log, should the backend refuse us.
    pub(super) fn about(&mut self, index: usize, name: Arc<str>) {
        self.unheard = Some((index, name));
    }

    /// Puts what has come of a record in part at the front of `buffer`, and says how long it is: what comes next belongs behind it.
    pub(super) fn prepare(&mut self, buffer: &mut [u8]) -> usize {
        self.records.begin(buffer)
    }

    /// Opens what was received, in its place: behind what [`prepare`](Self::prepare) has put there.
    pub(super) fn open(&mut self, received: &mut [u8]) -> Received {
        let opened = self.records.open(received);
        if let Some(tickets) = &mut self.tickets {
            for ticket in &opened.tickets {
                // One that is none is not used.
                let _ = tickets.handle(ticket);
            }
        }
        // Neither comes before it has looked at our certificate.
        let is_heard = opened.plain_len > 0 || !opened.tickets.is_empty();
        let end = opened.end.map(|end| match end {
            End::CloseNotify => Ended::Closed,
            End::Fault(_) => Ended::Broken,
            End::Alert(alert) => {
                // With TLS 1.3 it looks at our certificate when the handshake is over for us.
                match &self.unheard {
                    Some((index, name)) if !is_heard => {
                        let error = HandshakeError::Tls(Error::AlertReceived(alert.into()));
                        mistrust::tell(*index, name, &mistrust::words(&error));
                        Ended::Refused
                    }
                    _ => Ended::Broken,
                }
            }
        });
        if is_heard {
            self.unheard = None;
        }
        Received {
            plain_len: opened.plain_len,
            end,
        }
    }

    /// `plain` as it travels; `None` when no more can.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(self.records.sealed_len(plain.len()));
        self.records.seal(&[plain], &mut sealed).ok()?;
        Some(sealed)
    }

    /// The last word: that it is the last.
    pub(super) fn last_word(&mut self) -> Vec<u8> {
        let mut word = Vec::new();
        self.records.close(&mut word);
        word
    }
}

/// Lets others go first, and has the whole turn when it is its own.
async fn wait_for_turn() {
    turn::spend(TURN_LEN);
    poll_fn(|context| match turn::may_go_on(context.waker()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

async fn send(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while let Some(rest @ [_, ..]) = bytes.get(sent..) {
        sent += poll_fn(|context| socket.poll_send(context, rest)).await?;
    }
    Ok(())
}
