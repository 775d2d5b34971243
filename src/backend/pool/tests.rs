use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shards::node;
use shards::pass::PassEnd;
use shards::{Reactor, Settings};

use super::*;
use crate::backend::Response;
use crate::observe::counters::Counters;
use protocol::http::{Failure, HeaderLines, RequestTemplate};

const DEADLINE: Duration = Duration::from_secs(60);

/// A request whose answer is the status that came, or why none did.
struct Question {
    path: &'static str,
    deadline: Instant,
    answer: Rc<Cell<Option<Result<u16, Failure>>>>,
    waker: Waker,
}

impl Exchange for Question {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn content_len(&self) -> usize {
        2
    }

    fn write(&self, template: &RequestTemplate, out: &mut Vec<u8>) {
        template.write(out, &[self.path], &HeaderLines::default(), &[], b"{}");
    }

    fn finish(self, response: Result<Response<'_>, Failure>) {
        self.answer.set(Some(response.map(|response| response.head.status)));
        self.waker.wake();
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

/// Queries, does `meanwhile` in the same pass, and waits for the answer.
async fn ask(
    reactor: &Rc<Reactor>,
    pool: &Rc<Pool<Question>>,
    path: &'static str,
    meanwhile: impl Fn(),
) -> Result<u16, Failure> {
    let answer = Rc::new(Cell::new(None));
    let mut asked = false;
    std::future::poll_fn(|context| {
        if !std::mem::replace(&mut asked, true) {
            let question = Question {
                path,
                deadline: reactor.now() + DEADLINE,
                answer: answer.clone(),
                waker: context.waker().clone(),
            };
            assert!(pool.submit(question).is_ok(), "there is room");
            meanwhile();
        }
        answer.take().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

#[test]
fn a_request_of_which_nothing_was_written_when_its_connection_ended_takes_another() {
    let end: fn(&Link<Question>, &Rc<Pool<Question>>) = |link, pool| link.end(pool, Failure::CutOff);
    for (end, name) in [(end, "ended"), (|link, _| link.close(), "closed")] {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = backend.local_addr().unwrap();
        let (seen, paths) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok((connection, _)) = backend.accept() {
                let seen = seen.clone();
                std::thread::spawn(move || answer(connection, &seen));
            }
        });
        let (done, results) = mpsc::channel();
        let node = node::start::<(), _, _>(&Settings::modest(&[0], 8), move |shard| {
            lose_a_connection(shard.reactor.clone(), address, end, done.clone())
        });
        let outcome = results.recv_timeout(DEADLINE).unwrap();
        node.unwrap().join().unwrap();
        assert_eq!(outcome.answers, [Ok(200), Ok(200)], "{name}");
        assert!(outcome.gathered, "{name}: the second waited for the end of the pass");
        assert_eq!(outcome.retries, 1, "{name}");
        let seen: Vec<_> = paths.try_iter().collect();
        assert_eq!(seen, ["/first", "/second"], "{name}: each once");
    }
}

struct Observed {
    answers: [Result<u16, Failure>; 2],
    gathered: bool,
    retries: u64,
}

async fn lose_a_connection(
    reactor: Rc<Reactor>,
    address: SocketAddr,
    end: fn(&Link<Question>, &Rc<Pool<Question>>),
    done: mpsc::Sender<Observed>,
) {
    let counters = Rc::new(Counters::default());
    let limits = PoolLimits {
        connections_max: 4,
        // Such requests are gathered in every pass.
        pipeline_max: 2,
        waiters_max: 4,
        idle_timeout: DEADLINE,
        connect_timeout: DEADLINE,
        head_max: 1024,
        content_max: 1024,
    };
    let targets = vec![(Target::Tcp(vec![address]), RequestTemplate::new("backend", ""))];
    let pool = Pool::new(&reactor, limits, counters.clone(), targets);
    let ends: Rc<dyn PassEnd> = Rc::new(Ends(pool.clone()));
    reactor.at_pass_end(Rc::downgrade(&ends));

    let first = ask(&reactor, &pool, "/first", || ()).await;
    let gathered = Cell::new(false);
    let second = ask(&reactor, &pool, "/second", || {
        let link = pool.batch.borrow().last_link().cloned();
        gathered.set(link.is_some());
        if let Some(link) = link {
            end(&link, &pool);
        }
    })
    .await;
    let outcome = Observed {
        answers: [first, second],
        gathered: gathered.get(),
        retries: counters.backend_retries.get(),
    };
    done.send(outcome).unwrap();
}

/// Serves one connection: each request has a body of two bytes.
fn answer(mut connection: TcpStream, seen: &mpsc::Sender<String>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(len @ 1..) = connection.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..len]);
        if bytes.ends_with(b"\r\n\r\n{}") {
            let text = String::from_utf8(std::mem::take(&mut bytes)).unwrap();
            seen.send(text.split(' ').nth(1).unwrap().to_owned()).unwrap();
            connection
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                .unwrap();
        }
    }
}
