//! Serves WebSockets and sends back what it gets, for a judge of the protocol (scripts/autobahn).
//!
//! It is the program's own client side, from accepting to the last word: listener, opening handshake, connection, every
//! limit but `message_max`; and it compresses whatever it can, with as large a window as it is let. Two things are different: the [`Conversation`] gives every message back in place of passing
//! it on, and the [`Backend`] lets everybody in without being asked over HTTP. The path is a ClientId, as always:
//! `/judge`.
//!
//!     echo ADDRESS              prints `ready ADDRESS` once it listens, with the real port
//!     echo ADDRESS CHAIN KEY    the same for clients with TLS, who are shown that certificate

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use protocol::http::HeaderLines;
use protocol::mapping::{Admission, Identity};
use protocol::ocpp::{
    Action, CallKey, CallText, Limits, MessageId, Outcome, Outputs, PostContent, Subprotocol, Waiter,
};
use protocol::record::PostRecord;
use protocol::trace_context::TraceParent;
use shards::listener::{self, Listener};
use shards::pass::PassEnd;
use shards::{Settings, Shard, node, spawn};
use ws2api::client::accept::Entrance;
use ws2api::client::{Backend, Clients, Connection, Conversation, Message, Overloaded, Verdict, accept};
use ws2api::config::{self, Config, Overrides};
use ws2api::env::Env;
use ws2api::env::home::IdHasher;
use ws2api::server::certificates::{self, Loaded};
use ws2api::server::host;

/// The largest message of the judge's section 9.
const MESSAGE_MAX: &str = "16MiB";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, files) = arguments.split_first().expect("ADDRESS is missing");
    let address: SocketAddr = address.parse().expect("the argument is an address with a port");
    let mut overrides = Overrides::default();
    if let [chain, key] = files {
        overrides.set("listen_tls", address.to_string());
        overrides.set(
            "tls_certificates",
            format!("{{ chain = \"{chain}\", key = \"{key}\" }}"),
        );
    }
    overrides.set("message_max", MESSAGE_MAX);
    overrides.set("deflate_window", "32KiB");
    overrides.set("deflate_min", "0B");
    let cpus = host::usable_cpus();
    let config = config::resolve(None, &overrides, &cpus[..1]).expect("the defaults are sound");
    let tls = certificates::load(&config.node).unwrap_or_else(|error| panic!("{error}"));
    let reserved = listener::reserve(address).expect("the address is free");
    let address = reserved.address();
    let node = node::start(&Settings::modest(&cpus[..1], 16), move |shard: Shard<()>| {
        serve(shard, config.clone(), address, tls.clone())
    });
    let node = node.unwrap_or_else(|error| panic!("{error}"));
    node.join().unwrap_or_else(|error| panic!("{error}"));
}

async fn serve(parts: Shard<()>, config: Config, address: SocketAddr, tls: Option<Loaded>) {
    let core = config.cores[0].clone();
    let backlog = u32::try_from(core.listen_backlog).unwrap_or(u32::MAX);
    let listener = Listener::bind(&parts.reactor, address, backlog).expect("the address is reserved");
    let env = Env::new(
        (0, 1),
        (Instant::now(), 0, 0),
        config.node,
        core,
        parts.reactor,
        IdHasher::default(),
    );
    let backend: Rc<dyn Backend<Echo>> = Rc::new(Everybody);
    let clients = Clients::new(&env, Rc::downgrade(&backend), None);
    clients.tls.set(tls.as_ref().map(|tls| &tls.terms));
    let pass_end = Rc::new(DeferredWrites(clients.clone()));
    let weak = Rc::downgrade(&pass_end);
    env.reactor.at_pass_end(weak);
    spawn(accept::receive(clients.clone(), parts.arrivals, |_, _| {}, |_, _| {}));
    println!("ready {address}");
    env.open.trigger(env.reactor.now());
    let entrance = Entrance {
        listener,
        is_tls: tls.is_some(),
    };
    accept::accept(clients, parts.handover, vec![entrance]).await;
}

/// Gives back what it gets.
struct Echo;

impl Conversation for Echo {
    fn new(_: Subprotocol, _: Rc<Limits>, _: u32, _: Instant) -> Self {
        Self
    }

    fn handle_message<'m>(&mut self, _: Instant, message: Message<'m>, _: &mut Outputs) -> Option<Message<'m>> {
        Some(message)
    }
}

/// A backend that lets everybody in, and has nothing else to do.
struct Everybody;

impl Backend<Echo> for Everybody {
    fn connect(&self, _: Rc<Identity>, _: HeaderLines, _: Instant, verdict: Rc<Verdict>) -> Result<(), Overloaded> {
        verdict.set(Admission::Admitted);
        Ok(())
    }

    fn withdraw_connects(&self) {}

    fn call(&self, _: Rc<Connection<Echo>>, _: CallKey, _: CallText, _: Instant, _: Instant) -> Result<(), Overloaded> {
        unreachable!("an echo makes no Calls")
    }

    fn begun(&self, _: &Rc<Identity>) {}

    fn disconnect(&self, _: Rc<Identity>, _: Vec<u8>) {}

    fn post(&self, _: &Connection<Echo>, _: (Action, MessageId), _: PostContent, _: Option<Box<TraceParent>>) {
        unreachable!("an echo posts nothing")
    }

    fn restore_post(&self, _: &Connection<Echo>, _: PostRecord) {
        unreachable!("no other process hands clients over")
    }

    fn answer_push(&self, _: &Identity, _: Waiter, _: (Action, MessageId), _: Outcome, _: Option<Box<TraceParent>>) {
        unreachable!("an echo gets no pushes")
    }

    fn here(&self, _: &Connection<Echo>) {}

    fn gone(&self, _: &Identity) {}
}

/// What was deferred in a pass leaves at its end, as in a shard.
struct DeferredWrites(Rc<Clients<Echo>>);

impl PassEnd for DeferredWrites {
    fn end_pass(&self) -> bool {
        if self.0.has_no_deferred_writes() {
            return false;
        }
        self.0.send_deferred_writes();
        true
    }
}
