//! Runs whole nodes on real sockets: handover, mesh, private tables, timers, and no stall under steady traffic.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shards::listener::{self, Listener, UNSENT_LEN};
use shards::node::{self, Node};
use shards::parcel::Parcel;
use shards::pass::PassEnd;
use shards::turn::{self, TURN_LEN};
use shards::{Executor, Reactor, Settings, Shard, Socket, Tables, Timer, spawn};

const DEADLINE: Duration = Duration::from_secs(60);
const FLOODS: u64 = 16;
const ROUNDS: u64 = 100;

enum Mail {
    Add(u64),
    Sum(mpsc::Sender<u64>),
    Stop,
}

/// Every shard listens; the first byte of a connection names its home shard, which then echoes. `+` mails all others.
async fn serve(mut shard: Shard<Mail>, address: SocketAddr, started: mpsc::Sender<()>) {
    let sum = Rc::new(std::cell::Cell::new(0));
    let stop = Rc::new(std::cell::Cell::new(false));
    let (mail_sum, mail_stop) = (sum.clone(), stop.clone());
    shard.inbox.set(move |mail| match mail {
        Mail::Add(number) => mail_sum.set(mail_sum.get() + number),
        Mail::Sum(reply) => reply.send(mail_sum.get()).unwrap(),
        Mail::Stop => mail_stop.set(true),
    });
    let mut listener = Listener::bind(&shard.reactor, address, 128).unwrap();
    let (reactor, handover, mesh) = (shard.reactor.clone(), shard.handover.clone(), shard.mesh.clone());
    let (index, count) = (shard.index, shard.count);
    let accept_mesh = mesh.clone();
    spawn(async move {
        loop {
            let (fd, _) = listener.accept().await;
            let socket = Socket::adopt(&reactor, fd).unwrap();
            let (handover, mesh) = (handover.clone(), accept_mesh.clone());
            spawn(async move {
                let mut first = [0];
                if recv(&socket, &mut first).await == 0 {
                    return;
                }
                let home = usize::from(first[0]) % count;
                if home == index {
                    echo(socket, mesh, index, count).await;
                } else {
                    handover
                        .try_send(
                            home,
                            Parcel {
                                socket: socket.into_fd(),
                                bytes: first.to_vec(),
                            },
                        )
                        .unwrap();
                }
            });
        }
    });
    let reactor = shard.reactor.clone();
    spawn(async move {
        loop {
            let parcel = shard.arrivals.next().await.unwrap();
            assert_eq!(usize::from(parcel.bytes[0]) % count, index);
            let socket = Socket::adopt(&reactor, parcel.socket).unwrap();
            spawn(echo(socket, mesh.clone(), index, count));
        }
    });
    started.send(()).unwrap();
    while !stop.get() {
        shards::timer::sleep(&shard.reactor, Duration::from_millis(5)).await;
    }
}

async fn echo(socket: Socket, mesh: Rc<shards::mesh::Mesh<Mail>>, index: usize, count: usize) {
    let mut buffer = [0; 256];
    loop {
        let len = recv(&socket, &mut buffer).await;
        if len == 0 {
            return;
        }
        for _ in buffer[..len].iter().filter(|byte| **byte == b'+') {
            for to in (0..count).filter(|to| *to != index) {
                assert!(mesh.try_send(to, Mail::Add(1)).is_ok());
            }
        }
        let mut sent = 0;
        while sent < len {
            sent += std::future::poll_fn(|context| socket.poll_send(context, &buffer[sent..len]))
                .await
                .unwrap();
        }
    }
}

/// Tells how many passes there were while tasks flooded, and how many turns these had.
async fn floods(reactor: Rc<Reactor>, done: mpsc::Sender<(u64, u64)>) {
    let turns = Rc::new(Cell::new(0));
    for _ in 0..FLOODS {
        let turns = turns.clone();
        spawn(std::future::poll_fn(move |context| {
            turns.set(turns.get() + 1);
            turn::spend(TURN_LEN);
            assert!(!turn::may_go_on(context.waker()));
            Poll::Pending
        }));
    }
    let begun = reactor.load().passes;
    while reactor.load().passes < begun + ROUNDS {
        shards::yield_now().await;
    }
    done.send((reactor.load().passes - begun, turns.get())).unwrap();
    reactor.stop();
}

async fn recv(socket: &Socket, buffer: &mut [u8]) -> usize {
    std::future::poll_fn(|context| socket.poll_recv(context, buffer))
        .await
        .unwrap_or(0)
}

/// What a node runs on: each test is run on all that the system allows.
#[derive(Clone, Copy)]
struct Runtime(Executor, Tables);

impl Runtime {
    fn is_allowed(self) -> bool {
        let refused = node::probe(self.0).err().map(|error| error.to_string());
        let refused = refused.or_else(|| node::probe_tables(self.1).err().map(|error| error.to_string()));
        if let Some(error) = &refused {
            eprintln!("not checked: {error}");
        }
        refused.is_none()
    }

    fn settings(self, cpus: &[usize], mesh_capacity: usize) -> Settings<'_> {
        Settings {
            executor: self.0,
            tables: self.1,
            ..Settings::modest(cpus, mesh_capacity)
        }
    }

    fn start(self, cpus: &[usize]) -> (Node<Mail>, SocketAddr, listener::Reservation) {
        let reservation = listener::reserve("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = reservation.address();
        let (started, starts) = mpsc::channel();
        let settings = self.settings(cpus, 1024);
        let node = node::start(&settings, move |shard| serve(shard, address, started.clone())).unwrap();
        for _ in cpus {
            starts.recv_timeout(DEADLINE).unwrap();
        }
        (node, address, reservation)
    }
}

macro_rules! on_each_runtime {
    ($( $(#[$doc:meta])* fn $name:ident($runtime:ident) $body:block )+) => {
        $( $(#[$doc])* fn $name($runtime: Runtime) $body )+

        on_each_runtime!(@ plain_with_own_tables, Plain, Private; $($name)+);
        on_each_runtime!(@ plain_with_one_table, Plain, Shared; $($name)+);
        on_each_runtime!(@ glommio_with_own_tables, Glommio, Private; $($name)+);
    };
    (@ $runtime:ident, $executor:ident, $tables:ident; $($name:ident)+) => {
        mod $runtime {
            use super::{Executor, Runtime, Tables};
            const RUNTIME: Runtime = Runtime(Executor::$executor, Tables::$tables);
            $( #[test] fn $name() { if RUNTIME.is_allowed() { super::$name(RUNTIME); } } )+
        }
    };
}

fn stop(node: Node<Mail>) {
    for shard in 0..node.outside.shards_count() {
        assert!(node.outside.try_send(shard, Mail::Stop).is_ok());
    }
    node.join().unwrap();
}

fn connect(address: SocketAddr, home: u8) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[home]).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut echoed = vec![0; bytes.len()];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, bytes);
}

on_each_runtime! {
    fn every_shard_hands_sockets_to_every_other_and_mail_arrives_once(runtime) {
        let (node, address, _reservation) = runtime.start(&[0, 1, 0, 1, 0]);
        let mut streams: Vec<TcpStream> = (0..100).map(|home| connect(address, home)).collect();
        for round in 0..5_u8 {
            for stream in &mut streams {
                exchange(stream, &[b'a' + round, b'+', b'x']);
            }
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (reply, replies) = mpsc::channel();
            for shard in 0..5 {
                assert!(node.outside.try_send(shard, Mail::Sum(reply.clone())).is_ok());
            }
            let sums: Vec<u64> = replies.iter().take(5).collect();
            // 20 streams at home on each shard, 5 rounds, and mail from the four other shards.
            assert!(sums.iter().all(|sum| *sum <= 400), "{sums:?}");
            if sums == [400; 5] {
                break;
            }
            assert!(Instant::now() < deadline, "mail was lost: {sums:?}");
        }
        stop(node);
    }

    /// The test that would hang: executors that park with runnable tasks, or lose an edge or a wake-up, stop answering.
    fn steady_keep_alive_traffic_on_a_busy_machine_never_stalls(runtime) {
        let (node, address, _reservation) = runtime.start(&[0, 1]);
        let burning = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while burning.load(std::sync::atomic::Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let talkers: Vec<_> = (0..8_u8)
                .map(|home| {
                    scope.spawn(move || {
                        let mut stream = connect(address, home);
                        for round in 0..4_000_u32 {
                            exchange(&mut stream, &[b'.'; 200][..1 + (round % 199) as usize]);
                        }
                    })
                })
                .collect();
            for talker in talkers {
                talker.join().unwrap();
            }
            burning.store(false, std::sync::atomic::Ordering::Relaxed);
        });
        stop(node);
    }

    fn a_closed_socket_is_closed_though_other_shards_were_born_with_it(runtime) {
        let (node, address, reservation) = runtime.start(&[0, 1]);
        let mut stream = connect(address, 1);
        exchange(&mut stream, b"hello");
        stop(node);
        assert_eq!(
            stream.read(&mut [0]).unwrap_or(0),
            0,
            "the shard's end closed the connection"
        );
        drop(reservation);
        // A node of another test may have been born with a copy, which it closes at once.
        let deadline = Instant::now() + DEADLINE;
        while listener::reserve(address).is_err() {
            assert!(Instant::now() < deadline, "somebody holds the port");
            std::thread::yield_now();
        }
    }

    fn a_port_that_another_server_shares_is_refused(runtime) {
        let (node, address, _reservation) = runtime.start(&[0]);
        let error = listener::reserve(address).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        stop(node);
    }

    fn an_unusable_cpu_is_named(runtime) {
        let error = node::start::<Mail, _, _>(&runtime.settings(&[0, 4_000], 8), |_| async {})
            .map(Node::join)
            .unwrap_err();
        assert!(error.to_string().contains("CPU 4000"), "{error}");
    }

    fn the_first_shard_that_ends_wrongly_is_told_while_the_others_run(runtime) {
        let settings = runtime.settings(&[0, 0, 0], 8);
        let node = node::start::<Mail, _, _>(&settings, |shard| async move {
            assert_ne!(shard.index, 1, "what no shard may do");
            std::future::pending::<()>().await;
        });
        let error = node.unwrap().join().unwrap_err();
        assert_eq!(error.to_string(), "shard 1 has ended: it panicked");
    }

    fn timers_fire_in_order_can_be_moved_and_leave_nothing_behind(runtime) {
        let (done, dones) = mpsc::channel();
        let settings = runtime.settings(&[0], 8);
        let node = node::start::<Mail, _, _>(&settings, move |shard| timers(shard.reactor.clone(), done.clone())).unwrap();
        node.join().unwrap();
        assert_eq!(dones.iter().collect::<Vec<_>>(), [20, 40, 60, 0]);
    }

    fn what_is_put_off_is_done_when_everybody_has_run_and_before_the_shard_sleeps(runtime) {
        let (done, dones) = mpsc::channel();
        let node = node::start::<Mail, _, _>(&runtime.settings(&[0], 8), move |shard| {
            deferring(shard.reactor.clone(), done.clone())
        });
        let node = node.unwrap();
        for expected in ["ran", "1 left", "2 left"] {
            assert_eq!(dones.recv_timeout(DEADLINE), Ok(expected));
        }
        let ended = dones.recv_timeout(DEADLINE);
        assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected), "it has ended");
        node.join().unwrap();
    }

    fn who_reads_and_writes_without_end_lets_others_have_their_turn(runtime) {
        let (done, dones) = mpsc::channel();
        let node = node::start::<Mail, _, _>(&runtime.settings(&[0], 8), move |shard| {
            turns(shard.reactor.clone(), done.clone())
        });
        for what in ["received", "sent"] {
            let (name, len) = dones.recv_timeout(DEADLINE).unwrap();
            assert_eq!(name, what);
            assert!((1..=2 * TURN_LEN).contains(&len), "{what}: {len} bytes before the other task ran");
        }
        node.unwrap().join().unwrap();
    }

    fn of_those_who_always_have_more_one_goes_on_in_each_pass(runtime) {
        let (done, dones) = mpsc::channel();
        let node = node::start::<Mail, _, _>(&runtime.settings(&[0], 8), move |shard| {
            floods(shard.reactor.clone(), done.clone())
        });
        let (passes, turns) = dones.recv_timeout(DEADLINE).unwrap();
        assert!(passes >= ROUNDS, "{passes} passes");
        assert!((passes / 2..=passes + FLOODS).contains(&turns), "{turns} turns in {passes} passes");
        node.unwrap().join().unwrap();
    }

    fn little_is_kept_unsent_for_a_peer_that_does_not_read(runtime) {
        let reservation = listener::reserve("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = reservation.address();
        let (told, news) = mpsc::channel();
        let node = node::start::<Mail, _, _>(&runtime.settings(&[0], 8), move |shard| {
            overfill(shard.reactor.clone(), address, told.clone())
        });
        assert_eq!(news.recv_timeout(DEADLINE), Ok(0), "it listens");
        let peer = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        peer.set_recv_buffer_size(16 * 1024).unwrap();
        peer.connect(&address.into()).unwrap();
        let len = news.recv_timeout(DEADLINE).unwrap();
        assert!(len > 0 && len <= 2 * UNSENT_LEN as usize, "the kernel took {len} bytes");
        node.unwrap().join().unwrap();
    }
}

struct Deferred {
    waiting: RefCell<Vec<u32>>,
    done: mpsc::Sender<&'static str>,
    left: Notice,
}

impl PassEnd for Deferred {
    fn end_pass(&self) -> bool {
        let waiting = self.waiting.take();
        match waiting[..] {
            [1] => {
                self.done.send("1 left").unwrap();
                self.waiting.borrow_mut().push(2);
            }
            // Nobody ran and nothing came since: without the word of the one before, the shard would sleep for ever; and without
            // ours the task that is woken here would not run.
            [2] => {
                self.done.send("2 left").unwrap();
                self.left.give();
            }
            _ => assert!(waiting.is_empty(), "{waiting:?}"),
        }
        !waiting.is_empty()
    }
}

/// Something that one task waits for.
#[derive(Default)]
struct Notice(Cell<bool>, RefCell<Option<Waker>>);

impl Notice {
    fn give(&self) {
        self.0.set(true);
        if let Some(waker) = self.1.take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        std::future::poll_fn(|context| {
            *self.1.borrow_mut() = Some(context.waker().clone());
            if self.0.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

async fn deferring(reactor: Rc<Reactor>, done: mpsc::Sender<&'static str>) {
    let deferred = Rc::new(Deferred {
        waiting: RefCell::default(),
        done,
        left: Notice::default(),
    });
    let weak = Rc::downgrade(&deferred);
    reactor.at_pass_end(weak);
    let pushing = deferred.clone();
    spawn(async move {
        pushing.waiting.borrow_mut().push(1);
        pushing.done.send("ran").unwrap();
    });
    deferred.left.wait().await;
}

/// Writes to the first who comes, until the socket takes nothing for some ticks; tells how much it took.
async fn overfill(reactor: Rc<Reactor>, address: SocketAddr, told: mpsc::Sender<usize>) {
    let mut listener = Listener::bind(&reactor, address, 128).unwrap();
    told.send(0).unwrap();
    let (fd, _) = listener.accept().await;
    let socket = Socket::adopt(&reactor, fd).unwrap();
    let (mut taken, mut idle_count) = (0, 0);
    while idle_count < 10 {
        match socket.try_send(&[0; 64 * 1024]) {
            Some(len) => (taken, idle_count) = (taken + len.unwrap(), 0),
            None => {
                idle_count += 1;
                shards::timer::sleep(&reactor, Duration::from_millis(10)).await;
            }
        }
    }
    told.send(taken).unwrap();
}

/// A task that never waits, beside one that tells how far the first has come when it has its first turn.
async fn turns(reactor: Rc<Reactor>, done: mpsc::Sender<(&'static str, usize)>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    // More waits to be read than a turn has: the buffer has room for it at once.
    socket2::SockRef::from(&theirs)
        .set_send_buffer_size(16 * TURN_LEN)
        .unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(len) = theirs.write(&[0; 4096]) {
        filled += len;
    }
    assert!(filled > 2 * TURN_LEN, "{filled} bytes fit");
    socket2::SockRef::from(&ours)
        .set_send_buffer_size(16 * TURN_LEN)
        .unwrap();
    let socket = Rc::new(Socket::adopt(&reactor, ours.into()).unwrap());
    for what in ["received", "sent"] {
        let so_far = Rc::new(Cell::new(0));
        let (counted, socket) = (so_far.clone(), socket.clone());
        spawn(async move {
            let mut buffer = [0; 4096];
            while counted.get() < filled {
                let len = std::future::poll_fn(|context| match what {
                    "received" => socket.poll_recv(context, &mut buffer),
                    _ => socket.poll_send(context, &buffer),
                });
                // The test may be over before all has left.
                let Ok(len) = len.await else { return };
                counted.set(counted.get() + len);
            }
        });
        let ended = Rc::new(Notice::default());
        let (done, notice) = (done.clone(), ended.clone());
        spawn(async move {
            done.send((what, so_far.get())).unwrap();
            notice.give();
        });
        ended.wait().await;
        // The first one may still be at work.
        while theirs.read(&mut [0; 4096]).is_ok() {}
    }
}

async fn timers(reactor: Rc<Reactor>, done: mpsc::Sender<u64>) {
    let start = reactor.now();
    let mut ends = Vec::new();
    for delay in [60, 20, 40] {
        let (reactor, done) = (reactor.clone(), done.clone());
        let ended = Rc::new(std::cell::Cell::new(false));
        ends.push(ended.clone());
        spawn(async move {
            let delay = Duration::from_millis(delay);
            shards::timer::sleep(&reactor, delay).await;
            assert!(reactor.now() >= start + delay, "never early");
            done.send(delay.as_millis() as u64).unwrap();
            ended.set(true);
        });
    }
    let mut moved = Timer::new(&reactor);
    moved.set(Some(reactor.now() + Duration::from_secs(3600)));
    let mut polled = false;
    std::future::poll_fn(|context| {
        let expired = moved.poll_expired(context);
        assert!(expired.is_pending() || polled);
        if !std::mem::replace(&mut polled, true) {
            moved.set(Some(reactor.now() + Duration::from_millis(1)));
            return moved.poll_expired(context);
        }
        expired
    })
    .await;
    while !ends.iter().all(|ended| ended.get()) {
        shards::timer::sleep(&reactor, Duration::from_millis(1)).await;
    }
    drop(moved);
    done.send(reactor.timers_count() as u64).unwrap();
}
