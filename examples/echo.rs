//! A WebSocket server that sends back what it gets, for a judge of the protocol (scripts/autobahn).
//!
//! It is the proxy's connection without what the proxy means by a message: the same shard, reactor and socket, the same
//! HTTP parser and opening handshake, the same WebSocket constructor with the same limits but `message_max`, the same
//! writing, flushing, close codes and last words as `src/client/connection.rs`.
//!
//!     echo ADDRESS        prints `ready ADDRESS` once it listens, with the real port

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::{Error, Message};
use protocol::http::{parse_request, write_switching_protocols, write_upgrade_refusal};
use protocol::websocket::check_upgrade;
use shards::listener::{self, Listener};
use shards::{Reactor, Socket, Timer, node, spawn};
use ws2api::client::websocket::{self, CLOSE_TIMEOUT, WebSocket, Written};
use ws2api::config::{self, Core, Overrides};

/// The largest message of the judge's section 9.
const MESSAGE_MAX: &str = "16MiB";

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let address: SocketAddr = address.parse().expect("the argument is an address with a port");
    let mut overrides = Overrides::default();
    overrides.set("message_max", MESSAGE_MAX);
    let cpus = ws2api::server::host::usable_cpus();
    let config = config::resolve(None, &overrides, &cpus[..1]).expect("the defaults are sound");
    let core = config.cores[0].clone();
    let reserved = listener::reserve(address).expect("the address is free");
    let address = reserved.address();
    let node = node::start(&cpus[..1], 16, &[], move |shard: shards::Shard<()>| {
        serve(shard.reactor, core.clone(), address)
    });
    let node = node.unwrap_or_else(|error| panic!("{error}"));
    node.join().unwrap_or_else(|error| panic!("{error}"));
}

async fn serve(reactor: Rc<Reactor>, core: Core, address: SocketAddr) {
    let core = Rc::new(core);
    let backlog = u32::try_from(core.listen_backlog).unwrap_or(u32::MAX);
    let mut listener = Listener::bind(&reactor, address, backlog).expect("the address is reserved");
    println!("ready {address}");
    loop {
        let (fd, _) = listener.accept().await;
        let socket = Socket::adopt(&reactor, fd).expect("epoll takes a socket");
        spawn(shake_hands(reactor.clone(), core.clone(), socket));
    }
}

async fn shake_hands(reactor: Rc<Reactor>, core: Rc<Core>, socket: Socket) {
    let mut bytes = Vec::new();
    let mut answer = Vec::new();
    let accepted = loop {
        let mut piece = [0; 1024];
        let received = poll_fn(|context| socket.poll_recv(context, &mut piece)).await;
        let Ok(len @ 1..) = received else { return };
        bytes.extend_from_slice(&piece[..len]);
        match parse_request(&bytes, core.head_max) {
            Ok(None) => {}
            Ok(Some(request)) => match check_upgrade(&request) {
                Ok(upgrade) => {
                    write_switching_protocols(&mut answer, upgrade.key, None);
                    break true;
                }
                Err(refusal) => {
                    write_upgrade_refusal(&mut answer, refusal);
                    break false;
                }
            },
            Err(_) => return,
        }
    };
    let mut sent = 0;
    while sent < answer.len() {
        match poll_fn(|context| socket.poll_send(context, &answer[sent..])).await {
            Ok(len) => sent += len,
            Err(_) => return,
        }
    }
    if accepted {
        let mut echo = Echo {
            stream: Some(websocket::open(socket, &core).await),
            timer: Timer::new(&reactor),
            reactor,
            phase: Phase::Open,
            unsent: false,
        };
        poll_fn(|context| echo.poll(context)).await;
    }
}

/// As in `src/client/connection.rs`.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    Closing,
    Lingering,
    Over,
}

struct Echo {
    /// Always there.
    stream: Option<WebSocket>,
    timer: Timer,
    reactor: Rc<Reactor>,
    phase: Phase,
    /// The socket is full: nothing is read until it has taken the last message.
    unsent: bool,
}

impl Echo {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream().get_mut().set_waker(context.waker());
        let mut budget = MESSAGES_PER_TURN;
        while self.flush() && self.poll_message() {
            budget -= 1;
            if budget == 0 {
                context.waker().wake_by_ref();
                break;
            }
        }
        if self.phase == Phase::Open && !self.unsent && matches!(websocket::flush(self.stream()), Poll::Ready(Ok(()))) {
            websocket::shrink(&mut self.stream);
        }
        if self.phase == Phase::Over || self.timer.poll_expired(context).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// False: the socket takes no more now.
    fn flush(&mut self) -> bool {
        if self.unsent {
            match websocket::flush(self.stream()) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => self.unsent = false,
                Poll::Ready(Err(_)) => self.phase = Phase::Over,
            }
        }
        if self.phase == Phase::Lingering {
            self.stream().get_ref().socket().shutdown_write();
        }
        true
    }

    /// False: there is no message now, or none will be read.
    fn poll_message(&mut self) -> bool {
        match self.phase {
            Phase::Over => return false,
            Phase::Lingering => {
                return match websocket::discard(self.stream()) {
                    Poll::Pending => false,
                    Poll::Ready(true) => true,
                    Poll::Ready(false) => {
                        self.phase = Phase::Over;
                        false
                    }
                };
            }
            Phase::Open | Phase::Closing => {}
        }
        let message = match websocket::read(self.stream()) {
            Poll::Pending => return false,
            Poll::Ready(message) => message,
        };
        match message {
            Some(Ok(message)) => self.handle_message(message),
            Some(Err(error)) => self.handle_error(&error),
            None => self.phase = Phase::Over,
        }
        true
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Text(_) | Message::Binary(_) if self.phase == Phase::Open => self.send(message),
            Message::Close(_) => self.close_within(Phase::Closing),
            _ => {}
        }
    }

    fn handle_error(&mut self, error: &Error) {
        let Some((code, reason)) = websocket::close_code(error) else {
            self.phase = Phase::Over;
            return;
        };
        if self.phase == Phase::Open {
            let frame = CloseFrame {
                code: code.into(),
                reason: reason.into(),
            };
            self.close_within(Phase::Lingering);
            self.send(Message::Close(Some(frame)));
        } else {
            self.close_within(Phase::Lingering);
        }
    }

    fn send(&mut self, message: Message) {
        match websocket::write(self.stream(), message) {
            Written::Whole => {}
            Written::Partly => self.unsent = true,
            Written::Failed => self.phase = Phase::Over,
        }
    }

    fn stream(&mut self) -> &mut WebSocket {
        self.stream.as_mut().expect("the stream is taken only to be replaced")
    }

    fn close_within(&mut self, phase: Phase) {
        self.phase = phase;
        self.timer.set(Some(self.reactor.now() + CLOSE_TIMEOUT));
    }
}

const MESSAGES_PER_TURN: u32 = 32;
