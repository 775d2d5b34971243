//! Starts a shard, serves on it, and ends it (shard/drain.rs). Here clients, ingress and backend are put together: they
//! do not know each other, and none of them knows the shard.

#[cfg(simulation)]
pub mod carrier;
pub mod control_plane;
mod drain;
mod for_clients;
mod for_ingress;
mod for_nodes;
pub mod mail;
mod mailer;
mod moving;
mod on_way;
mod other_nodes;
pub mod other_process;
mod outbox;
mod reload;
mod replacing;
mod report;
mod requests;
mod send_away;
pub mod takeover;

pub use drain::Drained;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use shards::Reactor;
use shards::handover::Handover;
use shards::listener::{Listener, Sharing};
use shards::mesh::Mesh;
use shards::pass::PassEnd;
use shards::spawn;

use self::control_plane::{ControlPlane, Phase, ShardControl, ShardSecrets};
use self::mail::{Asker, ClientRequest, Control, Mail, Query, Reply};
use self::mailer::Mailer;
use self::on_way::OnWay;
use self::other_nodes::OtherNodes;
use self::other_process::OtherProcess;
use self::outbox::{Outbox, OutboxLimits};
use self::requests::Request;

use crate::backend::{Neighbours, Pool, PoolLimits, targets};
use crate::client::accept::Entrance;
use crate::client::{Clients, accept, room};
use crate::cluster::line::{Line, Way};
use crate::config::{Core, Node};
use crate::env::Env;
use crate::env::home::IdHasher;
use crate::ingress::{self, Home as _, Ingress};
use protocol::ocpp::ClientId;
use protocol::takeover::Message;

/// What every shard is told at the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When the process started: shards count from then on.
    pub started: Instant,
    /// How many processes have handed their clients on before this one.
    pub generation: u32,
    /// Common to those processes and this one, and to no others.
    pub line: u32,
    /// The whole node's config.
    pub node: Arc<Node>,
    /// Each shard's part of the configuration, by its index.
    pub cores: Arc<[Core]>,
    /// The listeners that clients connect to.
    pub listen: Option<Listening>,
    /// The same, with TLS.
    pub listen_tls: Option<Listening>,
    /// Where the backend comes.
    pub ingress: Listening,
    /// Per backend, what its name had.
    pub addresses: Arc<[Vec<SocketAddr>]>,
    /// What was read beside the configuration.
    pub secrets: ShardSecrets,
    /// Keyed at the start: nobody can choose ids that crowd one shard.
    pub hasher: IdHasher,
    /// The client whose frames are shown in the log.
    pub traced: Option<ClientId>,
    /// What the process wants, and where the shard says how it is.
    pub control: Arc<ControlPlane>,
    /// What shards say to the other process of a takeover.
    pub to_other_process: mpsc::Sender<Message>,
    /// How this node is called, for the backend and for other nodes.
    pub node_name: Arc<str>,
    /// What shards say to other nodes; each has a bell for it behind its listeners.
    pub cluster: Option<Way>,
}

/// Where a shard gets a listening socket from.
#[derive(Clone, Copy, Debug)]
pub enum Listening {
    /// It makes its own; the address is real, its port chosen.
    On(SocketAddr),
    /// All shards together were born with so many, in the order of the plan: some have several, or several have one.
    Inherited {
        /// How many they are.
        sockets: usize,
        /// Who else has them.
        sharing: Sharing,
    },
}

impl Listening {
    /// Which of the sockets are those of shard `index` of `count`.
    pub fn of_shard(sockets: usize, index: usize, count: usize) -> impl Iterator<Item = usize> {
        // As many as come with `count` steps, or the one whose turn it is.
        (index % sockets.min(count)..sockets).step_by(count)
    }
}

/// One shard: one thread, and everything it owns.
pub struct Shard {
    me: Weak<Self>,
    env: Rc<Env>,
    clients: Rc<Clients>,
    ingress: Rc<Ingress>,
    /// Requests to the backend.
    pool: Rc<Pool<Request>>,
    /// What the backend must learn.
    outbox: Rc<Outbox>,
    /// What other shards must learn.
    mailer: Rc<Mailer>,
    mesh: Rc<Mesh<Mail>>,
    handover: Rc<Handover>,
    /// What the process wants, and where the shard says how it is.
    control: ShardControl,
    /// The last rebalance, and the slot of the registry where it goes on.
    sent_away: Cell<(u64, usize)>,
    /// Clients on their way to the process that takes over.
    on_way: OnWay,
    /// The other process of a takeover.
    other_process: Rc<OtherProcess>,
    /// The other nodes of the cluster, if this one is in any.
    other_nodes: Option<OtherNodes>,
    /// How this one is called.
    node_name: Arc<str>,
    /// How many of them it knows to be gone.
    others_gone: Cell<u64>,
    /// Calls that have begun a trace.
    traces_begun: Cell<u64>,
    /// What a simulation wants to be handed over.
    #[cfg(simulation)]
    hand_over: std::cell::RefCell<Option<mail::HandOver>>,
    /// There are questions to be withdrawn: once in a pass, however many have gone.
    has_withdrawals: Cell<bool>,
}

/// A shard's whole life. Says on `started` whether it serves, and in the end how it went.
pub async fn run(core_parts: shards::Shard<Mail>, plan: Plan, started: mpsc::Sender<Result<(), String>>) -> Drained {
    let shards::Shard { arrivals, inbox, .. } = core_parts;
    let reactor = core_parts.reactor;
    let core = plan.cores[core_parts.index].clone();
    let place = (core_parts.index, core_parts.count);
    let mut inherited = core_parts.inherited;
    let bell = plan.cluster.as_ref().and_then(|_| inherited.pop());
    let other_nodes = plan.cluster.clone().zip(bell);
    let other_nodes = other_nodes.map(|(way, bell)| OtherNodes::new(Line::new(way, bell)));
    let listeners = bind(&reactor, &plan, &core, place, inherited);
    let env = Env::new(
        place,
        (plan.started, plan.generation, plan.line),
        Node::clone(&plan.node),
        core,
        reactor,
        plan.hasher.clone(),
    );
    let handover = core_parts.handover;
    let shard = Shard::new(&env, (core_parts.mesh, handover.clone()), other_nodes, &plan);
    let weak = Rc::downgrade(&shard);
    env.reactor.at_pass_end(weak);
    let mailed = shard.clone();
    inbox.set(move |mail| mailed.handle_mail(mail));
    let (entrances, ingress_listeners) = match listeners {
        Ok(listeners) => listeners,
        Err(error) => {
            // Nobody listens for this when another shard has failed before.
            let _ = started.send(Err(error));
            return Drained::default();
        }
    };
    spawn(room::keep_room(shard.clients.clone()));
    #[cfg(simulation)]
    {
        spawn(shard.clone().carry_around(handover.clone()));
        spawn(shard.clone().move_posts());
    }
    let (taker, ingress) = (shard.clone(), shard.ingress.clone());
    spawn(accept::receive(
        shard.clients.clone(),
        arrivals,
        move |number, is_taken| taker.other_process.say(Message::Taken { number, is_taken }),
        move |socket, about| ingress.adopt(socket, about),
    ));
    if shard.control.plane().is_open() {
        env.open.trigger(env.reactor.now());
    }
    spawn(accept::accept(shard.clients.clone(), handover.clone(), entrances));
    for listener in ingress_listeners {
        spawn(ingress::serve(shard.ingress.clone(), listener));
    }
    spawn(shard.clone().leave_to_another(handover));
    let _ = started.send(Ok(()));
    drop(started);
    let drain = env.drain.watch();
    std::future::poll_fn(|context| drain.poll_triggered(context)).await;
    let drained = shard.leave().await;
    env.watch.end();
    shard.control.end(shard.report());
    drained
}

fn bind(
    reactor: &Rc<Reactor>,
    plan: &Plan,
    core: &Core,
    (index, count): (usize, usize),
    inherited: Vec<OwnedFd>,
) -> Result<(Vec<Entrance>, Vec<Listener>), String> {
    let backlog = u32::try_from(core.listen_backlog).unwrap_or(u32::MAX);
    let mut inherited = inherited.into_iter();
    let mut bind = |listening| match listening {
        Listening::On(address) => {
            let bound = Listener::bind(reactor, address, backlog);
            bound
                .map(|listener| vec![listener])
                .map_err(|error| format!("can't listen on {address}: {error}"))
        }
        Listening::Inherited { sockets, sharing } => {
            let own = Listening::of_shard(sockets, index, count);
            let adopted = own.map(|_| {
                let socket = inherited.next().expect("a socket for each that is inherited");
                let mut listener = Listener::adopt(reactor, socket, backlog, sharing)?;
                if !plan.control.is_open() {
                    listener.rest();
                }
                Ok(listener)
            });
            let adopted: io::Result<Vec<Listener>> = adopted.collect();
            adopted.map_err(|error| format!("can't listen on a socket that is there: {error}"))
        }
    };
    let mut entrances = Vec::new();
    for (listening, is_tls) in [(plan.listen, false), (plan.listen_tls, true)] {
        let listeners = listening.map_or_else(|| Ok(Vec::new()), &mut bind)?;
        entrances.extend(listeners.into_iter().map(|listener| Entrance { listener, is_tls }));
    }
    Ok((entrances, bind(plan.ingress)?))
}

impl PassEnd for Shard {
    fn end_pass(&self) -> bool {
        let has_news = self.control.has_news();
        if has_news {
            self.obey();
        }
        if self.has_withdrawals.take() {
            self.pool
                .withdraw(|request| matches!(request, Request::Connect(connect) if connect.verdict.is_abandoned()));
        }
        let goes_on = self.ingress.end_pass() || has_news;
        if self.pool.is_batch_empty() && self.clients.has_no_deferred_writes() {
            return goes_on;
        }
        // The backend first: it works while the clients get theirs.
        self.pool.send_batch();
        self.clients.send_deferred_writes();
        true
    }
}

impl Shard {
    fn new(
        env: &Rc<Env>,
        (mesh, handover): (Rc<Mesh<Mail>>, Rc<Handover>),
        other_nodes: Option<OtherNodes>,
        plan: &Plan,
    ) -> Rc<Self> {
        let core = &env.core;
        let limits = PoolLimits {
            connections_max: core.backend_connections_max,
            pipeline_max: core.backend_pipeline_max,
            waiters_max: core.backend_waiters_max,
            retry: core.backend_retry,
            idle_timeout: core.backend_idle_timeout,
            connect_timeout: core.connect_timeout,
            head_max: core.head_max,
            content_max: core.message_max,
        };
        let backends = plan.node.backends.iter().zip(plan.addresses.iter());
        let targets = backends
            .map(|(url, addresses)| targets::backend(url, addresses, &plan.node_name))
            .collect();
        let pool = Pool::new(
            &env.reactor,
            limits,
            (env.counters.clone(), env.buffers.clone()),
            targets,
            Neighbours {
                index: env.index,
                count: env.count,
                hasher: plan.hasher.clone(),
                concurrency: plan.node.backend_concurrency,
                connections_max: plan.cores.iter().map(|core| core.backend_connections_max).sum(),
                send: Box::new({
                    let mesh = mesh.clone();
                    // One that finds no room is said again.
                    move |to, letter| drop(mesh.try_send(to, Mail::Places(Box::new(letter))))
                }),
            },
        );
        pool.set_trust(plan.secrets.trust.as_ref());
        let limits = OutboxLimits {
            ttl: core.result_ttl,
            waiting_max: core.results_queued_max,
            waiting_len_max: core.results_queued_bytes,
            try_timeout: core.call_timeout,
        };
        let outbox = Outbox::new(env, &pool, limits);
        let shard = Rc::new_cyclic(|me: &Weak<Self>| Self {
            me: me.clone(),
            clients: Clients::new(env, me.clone(), plan.traced.clone()),
            ingress: Ingress::new(env, me.clone(), &mesh, plan.secrets.ingress_token.clone()),
            mailer: Mailer::new(env, &mesh),
            env: env.clone(),
            pool,
            outbox,
            mesh,
            handover,
            control: ShardControl::new(plan.control.clone(), env.index),
            sent_away: Cell::new((0, 0)),
            on_way: OnWay::default(),
            other_process: OtherProcess::new(plan.to_other_process.clone(), env.index).into(),
            other_nodes,
            node_name: plan.node_name.clone(),
            others_gone: Cell::new(0),
            traces_begun: Cell::new(0),
            #[cfg(simulation)]
            hand_over: Default::default(),
            has_withdrawals: Cell::new(false),
        });
        shard.clients.tls.set(plan.secrets.tls.as_ref());
        shard
    }

    /// Does what the process wants and has not been done yet.
    fn obey(&self) {
        if let Some(reload) = self.control.take_reload() {
            self.reload(&reload);
        }
        let (plane, now) = (self.control.plane(), self.env.reactor.now());
        if plane.is_open() && !self.env.open.is_triggered() {
            self.env.open.trigger(now);
        }
        match (plane.is_taken_over(), self.env.taken_over.is_triggered()) {
            (true, false) => self.env.taken_over.trigger(now),
            (false, true) => self.env.taken_over.revoke(),
            _ => {}
        }
        if plane.has_stopped_moving() {
            self.on_way.wake();
        }
        let others_gone = plane.other_processes_gone();
        if self.others_gone.replace(others_gone) != others_gone {
            self.handle_other_process_gone();
        }
        if plane.is_draining() && !self.env.is_draining() {
            self.drain();
        }
    }

    fn drain(&self) {
        self.control.set_phase(Phase::Draining);
        self.env.drain.trigger(self.env.reactor.now());
    }

    fn handle_mail(&self, mail: Mail) {
        match mail {
            Mail::Query(query) => self.handle_query(*query),
            Mail::Reply(reply) => self.ingress.handle_reply(reply.token, reply.reply),
            Mail::Outcome(outcome) if outcome.waiter.process != self.env.generation => self.post_outcome(*outcome),
            Mail::Outcome(outcome) => self.handle_outcome(*outcome),
            Mail::Places(letter) => self.pool.handle_letter(*letter),
            Mail::Control(control) => self.handle_control(*control),
            Mail::Cluster(word) => self.handle_cluster(*word),
        }
    }

    fn handle_query(&self, query: Query) {
        let Query {
            from,
            token,
            answer_by,
            request,
        } = query;
        // By the clock as it is now: a pass that hung has an old one.
        let is_in_time = self.env.reactor.exact_now() < answer_by;
        if !is_in_time {
            self.env.counters.mesh_stale.add();
        }
        match (from, request) {
            (Asker::Shard(shard), request) => {
                let reply = is_in_time.then(|| self.answer(request));
                let mail = Mail::Reply(Box::new(Reply { token, reply }));
                self.mailer.send(shard.into(), mail);
            }
            (Asker::OtherProcess(shard), ClientRequest::About(question)) => {
                let told = is_in_time.then(|| self.answer_other_process(question));
                self.other_process.tell(shard, token, told.as_ref());
            }
            (Asker::OtherProcess(_), _) => {}
        }
    }

    fn handle_control(&self, control: Control) {
        match control {
            Control::Report(reply) => drop(reply.send(Box::new(self.report()))),
            Control::Describe { client, reply } => {
                let description = self
                    .clients
                    .find(&client)
                    .map(|connection| self.clients.describe(&connection));
                drop(reply.send(description));
            }
            Control::Settled(numbers) => {
                for (client, connection) in self.on_way.handle_settled(&numbers) {
                    self.tell_moved(client, connection);
                }
            }
            Control::Lost(record) => {
                self.env.counters.handovers_lost.add();
                if let Err((_, error)) = self.adopt_client(None, &record) {
                    tracing::error!(%error, "the record of a client that was lost can't be read");
                }
            }
            Control::Unsaid(message) => self.handle_unsaid(*message),
            Control::Adopt { shard, number, post } => {
                if let Err(error) = self.adopt_post(&post) {
                    tracing::error!(%error, "the record of a post of the other process can't be read");
                }
                self.other_process.say(Message::PostTaken { shard, number });
            }
            Control::PostTaken(number) => drop(self.other_process.remove_post(number)),
            Control::Page {
                shard,
                token,
                answer_by,
                question,
            } => self.tell_page((shard, token), answer_by, question),
            Control::SendAway(wanted) => {
                let found = self.send_away(&wanted);
                let _ = wanted.reply.send((self.env.index, found));
            }
            Control::Top { by, slot, reply } => {
                drop(reply.send((self.env.index, self.clients.top(by, slot))));
            }
            Control::Trace(client) => self.env.watch.trace(client),
            Control::Tap { tap, reply } => {
                self.env.watch.open(*tap);
                let _ = reply.send(self.env.index);
            }
            Control::TicketKey(key) => self.clients.tls.turn(&key),
            Control::EndTap(number) => self.env.watch.close(number),
            #[cfg(simulation)]
            Control::HandOver(hand_over) => self.hand_around(hand_over),
            Control::Addresses { index, addresses } => self.pool.set_addresses(index, &addresses),
        }
    }
}
