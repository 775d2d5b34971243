use std::cell::Cell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shards::pass::PassEnd;
use shards::{Settings, node};

use super::*;
use crate::backend::{Response, Target};
use crate::env::home::IdHasher;
use protocol::balance::Kind;
use protocol::capacity::Concurrency;
use protocol::http::{Failure, HeaderLines, PathPart};

const DEADLINE: Duration = Duration::from_secs(60);

/// A request whose answer is the status that came, or why none did.
struct Question {
    path: &'static str,
    deadline: Instant,
    reply: Rc<Reply>,
}

/// Where an answer is waited for.
#[derive(Default)]
struct Reply {
    answer: Cell<Option<Result<u16, Failure>>>,
    waker: Cell<Option<Waker>>,
}

impl Exchange for Question {
    fn kind(&self) -> Kind {
        Kind::Call
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn content_len(&self) -> usize {
        2
    }

    fn write(&self, template: &RequestTemplate, out: &mut Vec<u8>) {
        template.write(out, &[PathPart::new(self.path)], &HeaderLines::default(), &[], b"{}");
    }

    fn finish(self, response: Result<Response<'_>, Failure>) {
        self.reply
            .answer
            .set(Some(response.map(|response| response.head.status)));
        if let Some(waker) = self.reply.waker.take() {
            waker.wake();
        }
    }
}

struct Ends(Rc<Pool<Question>>);

impl PassEnd for Ends {
    fn end_pass(&self) -> bool {
        let was_put_off = !self.0.is_batch_empty();
        self.0.send_batch();
        was_put_off
    }
}

/// A pool on a shard of its own.
struct Scene {
    reactor: Rc<Reactor>,
    pool: Rc<Pool<Question>>,
    counters: Rc<Counters>,
    _ends: Rc<dyn PassEnd>,
}

impl Scene {
    /// `backends`: the addresses of each.
    fn new(reactor: Rc<Reactor>, pipeline_max: usize, backends: &[&[SocketAddr]]) -> Self {
        let counters = Rc::new(Counters::default());
        let limits = PoolLimits {
            connections_max: 4,
            pipeline_max,
            waiters_max: 4,
            retry: Duration::ZERO,
            idle_timeout: DEADLINE,
            connect_timeout: DEADLINE,
            head_max: 1024,
            content_max: 1024,
        };
        let targets = backends.iter().map(|addresses| targets::Backend {
            name: "http://backend:80".into(),
            server_name: None,
            target: Target::Tcp(addresses.to_vec()),
            template: RequestTemplate::new("backend", "", &[]),
        });
        let pool = Pool::new(
            &reactor,
            limits,
            (counters.clone(), Buffers::new(1 << 20)),
            targets.collect(),
            Neighbours {
                index: 0,
                count: 1,
                hasher: IdHasher::default(),
                concurrency: Concurrency::Fixed(1_000),
                connections_max: 1_000,
                send: Box::new(|_, _| {}),
            },
        );
        let ends: Rc<dyn PassEnd> = Rc::new(Ends(pool.clone()));
        reactor.at_pass_end(Rc::downgrade(&ends));
        Self {
            reactor,
            pool,
            counters,
            _ends: ends,
        }
    }

    /// Asks now. The answer can be waited for.
    fn ask(&self, path: &'static str) -> impl Future<Output = Result<u16, Failure>> + use<> {
        self.ask_within(path, DEADLINE)
    }

    fn ask_within(&self, path: &'static str, time: Duration) -> impl Future<Output = Result<u16, Failure>> + use<> {
        let reply = Rc::new(Reply::default());
        let question = Question {
            path,
            deadline: self.reactor.now() + time,
            reply: reply.clone(),
        };
        assert!(self.pool.submit(question).is_ok(), "there is room");
        poll_fn(move |context| {
            reply.waker.set(Some(context.waker().clone()));
            reply.answer.take().map_or(Poll::Pending, Poll::Ready)
        })
    }
}

/// Plays `scene` on a shard of its own. What it returns.
fn play<T: Send + 'static, F: Future<Output = T> + 'static>(
    scene: impl Fn(Rc<Reactor>) -> F + Clone + Send + Sync + 'static,
) -> T {
    let (done, results) = mpsc::channel();
    let node = node::start::<(), _, _>(&Settings::modest(&[0], 8), move |shard| {
        let (scene, done) = (scene(shard.reactor.clone()), done.clone());
        async move { done.send(scene.await).unwrap() }
    });
    let result = results.recv_timeout(DEADLINE).unwrap();
    node.unwrap().join().unwrap();
    result
}

/// A backend that does this with each of its connections.
fn backend(serve: impl Fn(Peer) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(Peer(stream)));
        }
    });
    address
}

/// The pool's end of a connection.
struct Peer(TcpStream);

impl Peer {
    /// The path of the next request, which ends with its body of two bytes; `None` when there is none.
    fn take(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n{}") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).ok()?;
            bytes.push(byte[0]);
        }
        let text = String::from_utf8(bytes).unwrap();
        Some(text.split(' ').nth(1).unwrap().to_owned())
    }

    /// Answers with a status and more headers.
    fn answer(&mut self, status: u16, headers: &str) {
        let answer = format!("HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: 2\r\n\r\n{{}}");
        self.0.write_all(answer.as_bytes()).unwrap();
    }
}

/// Answers everything with `status`.
fn echo(status: u16) -> impl Fn(Peer) + Send + Sync + 'static {
    move |mut peer| {
        while peer.take().is_some() {
            peer.answer(status, "");
        }
    }
}

#[test]
fn a_request_of_which_nothing_was_written_when_its_connection_ended_takes_another() {
    let end: fn(&Link<Question>, &Rc<Pool<Question>>) = |link, pool| link.end(pool, Failure::CutOff);
    for (end, name) in [(end, "ended"), (|link, _| link.close(), "closed")] {
        let (seen, paths) = mpsc::channel();
        let address = backend(move |mut peer| {
            while let Some(path) = peer.take() {
                seen.send(path).unwrap();
                peer.answer(200, "");
            }
        });
        let (answers, gathered, retries) = play(move |reactor| async move {
            // Such requests are gathered in every pass.
            let scene = Scene::new(reactor, 2, &[&[address]]);
            let first = scene.ask("/first").await;
            let second = scene.ask("/second");
            let link = scene.pool.batch.borrow().last_link().cloned();
            let gathered = link.is_some();
            if let Some(link) = link {
                end(&link, &scene.pool);
            }
            let second = second.await;
            ([first, second], gathered, scene.counters.backend_retries.get())
        });
        assert_eq!(answers, [Ok(200), Ok(200)], "{name}");
        assert!(gathered, "{name}: the second waited for the end of the pass");
        assert_eq!(retries, 1, "{name}");
        let seen: Vec<_> = paths.try_iter().collect();
        assert_eq!(seen, ["/first", "/second"], "{name}: each once");
    }
}

#[test]
fn a_connection_that_is_closed_before_anything_was_written_is_a_failed_connect() {
    let (closed, is_closed) = mpsc::channel();
    let is_closed = Arc::new(std::sync::Mutex::new(is_closed));
    let closer = backend(move |peer| {
        drop(peer);
        closed.send(()).unwrap();
    });
    let other = backend(echo(200));
    let (answer, failed) = play(move |reactor| {
        let is_closed = is_closed.clone();
        async move {
            let scene = Scene::new(reactor, 1, &[&[closer], &[other]]);
            let answer = scene.ask("/first");
            // The connect is begun; nothing else happens on this shard before its end is there, too.
            shards::yield_now().await;
            is_closed.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            (answer.await, scene.counters.backend_connect_failures.get())
        }
    });
    assert_eq!((answer, failed), (Ok(200), 1));
}

#[test]
fn only_the_request_whose_deadline_has_passed_is_given_up() {
    let (late, is_late) = mpsc::channel();
    let is_late = std::sync::Mutex::new(is_late);
    let (seen, paths) = mpsc::channel();
    let address = backend(move |mut peer| {
        while let Some(path) = peer.take() {
            seen.send(path.clone()).unwrap();
            if path == "/late" {
                assert_eq!(peer.take().as_deref(), Some("/behind"));
                is_late.lock().unwrap().recv_timeout(DEADLINE).unwrap();
                peer.answer(200, "");
                peer.answer(201, "");
            } else {
                peer.answer(200, "");
            }
        }
    });
    let answers = play(move |reactor| {
        let late = late.clone();
        async move {
            let scene = Scene::new(reactor, 2, &[&[address]]);
            scene.ask("/warm").await.unwrap();
            let first = scene.ask_within("/late", Duration::from_millis(100));
            let second = scene.ask("/behind");
            let first = first.await;
            late.send(()).unwrap();
            [first, second.await, scene.ask("/after").await]
        }
    });
    assert_eq!(answers, [Err(Failure::Deadline), Ok(201), Ok(200)]);
    assert_eq!(paths.try_iter().collect::<Vec<_>>(), ["/warm", "/late", "/after"]);
}

#[test]
fn who_is_cut_off_by_an_end_that_was_announced_blames_nobody() {
    let announcing = backend(|mut peer| {
        while let Some(path) = peer.take() {
            if path == "/last" {
                peer.take();
                return peer.answer(201, "Connection: close\r\n");
            }
            peer.answer(201, "");
        }
    });
    let other = backend(echo(202));
    let answers = play(move |reactor| async move {
        let scene = Scene::new(reactor, 2, &[&[announcing], &[other]]);
        scene.ask("/warm").await.unwrap();
        let (last, behind) = (scene.ask("/last"), scene.ask("/behind"));
        [last.await, behind.await, scene.ask("/after").await]
    });
    assert_eq!(answers, [Ok(201), Err(Failure::CutOff), Ok(201)]);
}

#[test]
fn all_addresses_of_a_name_are_used_and_one_that_is_gone_is_left() {
    let (ended, is_ended) = mpsc::channel();
    let is_ended = Arc::new(std::sync::Mutex::new(is_ended));
    let leaving = backend(move |mut peer| {
        while peer.take().is_some() {
            peer.answer(201, "");
        }
        ended.send(()).unwrap();
    });
    let staying = backend(echo(202));
    let (before, after) = play(move |reactor| {
        let is_ended = is_ended.clone();
        async move {
            let scene = Scene::new(reactor, 1, &[&[leaving, staying]]);
            let asked = [scene.ask("/1"), scene.ask("/2")];
            let mut before = Vec::new();
            for answer in asked {
                before.push(answer.await);
            }
            scene.pool.set_addresses(0, &[staying]);
            while is_ended.lock().unwrap().try_recv().is_err() {
                shards::timer::sleep(&scene.reactor, Duration::from_millis(4)).await;
            }
            let asked = [scene.ask("/3"), scene.ask("/4")];
            let mut after = Vec::new();
            for answer in asked {
                after.push(answer.await);
            }
            (before, after)
        }
    });
    assert_eq!(before, [Ok(201), Ok(202)]);
    assert_eq!(after, [Ok(202), Ok(202)]);
}
