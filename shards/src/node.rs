//! Starts all shards of this process: they are made together and start together.
//!
//! The order matters. Threads, executors (glommio's rings and helper threads), eventfds and socket pairs come first;
//! then every shard that is to have a descriptor table of its own gives up the shared one and closes the copies that
//! are not its own; then it opens its epoll and whatever its user opens.
#![allow(clippy::disallowed_methods)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CString;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, Barrier, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use rustix::io::Errno;

use crate::handover::{self, Arrivals, Handover, Outside};
use crate::mesh::{self, Mesh, NodeHandle};
use crate::reactor::{Mailbox, Reactor};
use crate::settings::{Executor, Settings, Tables};
use crate::shard::{Handler, Inbox, Shard};
use crate::start_error::StartError;
use crate::{cpu, fd_table, private_table, task, uring};

/// The running shards and their threads.
#[derive(Debug)]
pub struct Node<M> {
    /// Messages from ordinary threads to shards.
    pub outside: Arc<NodeHandle<M>>,
    /// Sockets to shards and from them. It is taken by whoever needs it.
    pub sockets: Option<Outside>,
    threads: Vec<JoinHandle<()>>,
    /// Each shard's end, as it comes.
    ends: mpsc::Receiver<Result<(), StartError>>,
}

/// Tells a shard's end, also that of one that panics.
struct Ending {
    result: Result<(), StartError>,
    ends: mpsc::Sender<Result<(), StartError>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Nobody listens any more when another one has ended wrongly before.
        let _ = self.ends.send(std::mem::replace(&mut self.result, Ok(())));
    }
}

/// Whether the system lets glommio run shards of this process. (How much memory may be locked is known for one shard.)
///
/// # Errors
/// [`StartError`] names what is refused.
pub fn probe(executor: Executor) -> Result<(), StartError> {
    if executor == Executor::Plain {
        return Ok(());
    }
    uring::probe().map_err(of_a_ring)?;
    let probe = std::thread::Builder::new().name("probe".into());
    let made = probe.spawn(|| make_glommio().map(drop))?.join();
    made.unwrap_or_else(|_| Err(io::Error::other("the thread that tried it panicked").into()))
}

/// Whether the system lets each shard have a table of its own.
///
/// # Errors
/// When the kernel refuses `unshare(CLONE_FILES)`, or `/proc` is not mounted.
pub fn probe_tables(tables: Tables) -> io::Result<()> {
    match tables {
        Tables::Private => private_table::probe(),
        Tables::Shared => Ok(()),
    }
}

/// Starts one shard per element of `settings.cpus` and runs `main` on each. A shard ends when its `main` does.
///
/// # Errors
/// [`StartError`] names the first thing that was refused; no shard is left running then.
pub fn start<M, F, Main>(settings: &Settings<'_>, main: F) -> Result<Node<M>, StartError>
where
    M: Send + 'static,
    F: Fn(Shard<M>) -> Main + Clone + Send + 'static,
    Main: Future<Output = ()> + 'static,
{
    let Settings {
        cpus, executor, tables, ..
    } = *settings;
    assert!(!cpus.is_empty(), "a node has a shard");
    assert!(
        executor == Executor::Plain || tables == Tables::Private,
        "glommio's tasks end with their table"
    );
    if executor == Executor::Glommio {
        uring::probe().map_err(of_a_ring)?;
    }
    probe_tables(tables).map_err(of_a_table)?;
    let (meshes, outside) = mesh::connect(cpus.len(), settings.mesh_capacity)?;
    let (ends, receivers, sockets) = handover::connect(cpus.len(), tables)?;
    let own_count = match executor {
        Executor::Glommio => GLOMMIO_DESCRIPTORS,
        Executor::Plain => PLAIN_DESCRIPTORS,
    };
    private_table::room_for(cpus.len() * own_count)?;
    let (report, reports) = mpsc::channel();
    // One more: this thread knows then, too, that no table is shared any longer.
    let barrier = Arc::new(Barrier::new(cpus.len() + 1));
    let (tell_end, ends_told) = mpsc::channel();
    let mut threads = Vec::with_capacity(cpus.len());
    let mut gates = Vec::with_capacity(cpus.len());
    for (index, ((&cpu, mesh), receiver)) in cpus.iter().zip(meshes).zip(receivers).enumerate() {
        let (gate, passed) = mpsc::channel();
        let seed = Seed {
            index,
            count: cpus.len(),
            cpu,
            executor,
            mesh,
            ends: ends.clone(),
            receiver,
            inherited: Inherited::new(settings.inherited.get(index), tables)?,
        };
        let (report, main, barrier) = (report.clone(), main.clone(), barrier.clone());
        let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn({
            let ends = tell_end.clone();
            move || {
                let result = Err(ended(index, "it panicked"));
                let mut ending = Ending { result, ends };
                ending.result = seed.grow(&report, &passed, &barrier, main);
            }
        })?;
        threads.push(thread);
        gates.push(gate);
    }
    drop((report, tell_end));
    let pass = || {
        let outcome = reports.iter().take(cpus.len()).collect::<Result<Vec<()>, StartError>>();
        for gate in &gates {
            // A shard that failed has hung up already.
            let _ = gate.send(outcome.is_ok());
        }
        outcome
    };
    let executors = pass();
    let reactors = executors.and_then(|_| {
        barrier.wait();
        pass()
    });
    if let Err(error) = reactors {
        for thread in threads {
            // What they end with is `error`, or that they were told to.
            let _ = thread.join();
        }
        return Err(error);
    }
    Ok(Node {
        outside: Arc::new(outside),
        sockets: Some(sockets),
        threads,
        ends: ends_told,
    })
}

impl<M> Node<M> {
    /// Waits until every shard has ended, or the first of them wrongly, whichever it is: then the others still run, and
    /// whoever called this ends the process.
    ///
    /// # Errors
    /// [`StartError::Ended`] names the shard and its failure, a panic among them.
    pub fn join(self) -> Result<(), StartError> {
        for result in self.ends {
            result?;
        }
        for thread in self.threads {
            // Each has told its end.
            let _ = thread.join();
        }
        Ok(())
    }
}

/// What a shard thread is born with.
struct Seed<M> {
    index: usize,
    count: usize,
    cpu: usize,
    executor: Executor,
    mesh: Mesh<M>,
    ends: Arc<handover::Ends>,
    receiver: OwnedFd,
    inherited: Inherited,
}

/// What was opened for a shard before it started.
enum Inherited {
    /// Its own table, once it has one, holds copies under these numbers.
    Numbers(Vec<RawFd>),
    /// Copies in the table of all.
    Copies(Vec<OwnedFd>),
}

impl Inherited {
    fn new(descriptors: Option<&Vec<BorrowedFd<'_>>>, tables: Tables) -> io::Result<Self> {
        let descriptors = descriptors.into_iter().flatten();
        Ok(match tables {
            Tables::Private => Self::Numbers(descriptors.map(AsRawFd::as_raw_fd).collect()),
            Tables::Shared => Self::Copies(
                descriptors
                    .map(BorrowedFd::try_clone_to_owned)
                    .collect::<io::Result<_>>()?,
            ),
        })
    }

    /// In the shard's table, when that is its own.
    fn adopt(self) -> Vec<OwnedFd> {
        match self {
            Self::Numbers(numbers) => numbers.into_iter().map(fd_table::adopt).collect(),
            Self::Copies(copies) => copies,
        }
    }
}

impl<M: Send + 'static> Seed<M> {
    fn grow<F, Main>(
        self,
        report: &mpsc::Sender<Result<(), StartError>>,
        passed: &mpsc::Receiver<bool>,
        barrier: &Barrier,
        main: F,
    ) -> Result<(), StartError>
    where
        F: Fn(Shard<M>) -> Main,
        Main: Future<Output = ()> + 'static,
    {
        // Before anything is allocated, so that memory is this core's.
        let made = match self.executor {
            _ if !cpu::pin(self.cpu) => Err(StartError::Pin { cpu: self.cpu }),
            Executor::Glommio => make_glommio_of(self.index).map(Some),
            Executor::Plain => Ok(None),
        };
        let index = self.index;
        let glommio = answer(made, report, passed)?;
        let private = self.own_table();
        // Only when no table holds a copy of another's socket does closing one close it.
        barrier.wait();
        match glommio {
            Some(glommio) => glommio.run(async {
                let (reactor, post) = self.settle(private, report, passed, main)?;
                let result = reactor.run_in_glommio(&post).await;
                result.map_err(|error| ended(index, error))
            }),
            None => {
                let _tasks = task::Tasks::enter();
                let (reactor, post) = self.settle(private, report, passed, main)?;
                reactor.run(&post).map_err(|error| ended(index, error))
            }
        }
    }

    /// Gives the thread its own table, if it is to have one.
    fn own_table(&self) -> io::Result<()> {
        let Inherited::Numbers(inherited) = &self.inherited else {
            return Ok(());
        };
        let mut keep = HashSet::from([0, 1, 2, self.receiver.as_raw_fd()]);
        keep.extend(self.mesh.bells().descriptors().map(|bell| bell.as_raw_fd()));
        keep.extend(self.ends.descriptors());
        keep.extend(inherited);
        private_table::make_private(&keep)
    }

    /// Makes the shard and starts its `main`; what is left is to run it.
    fn settle<F, Main>(
        self,
        private: io::Result<()>,
        report: &mpsc::Sender<Result<(), StartError>>,
        passed: &mpsc::Receiver<bool>,
        main: F,
    ) -> Result<(Rc<Reactor>, Post<M>), StartError>
    where
        F: Fn(Shard<M>) -> Main,
        Main: Future<Output = ()> + 'static,
    {
        let made = private.and_then(|()| {
            let reactor = Reactor::new()?;
            let arrivals = Arrivals::new(&reactor, self.receiver, self.ends.tables())?;
            Ok((reactor, arrivals))
        });
        let (reactor, arrivals) = answer(made.map_err(StartError::from), report, passed)?;
        let mesh = Rc::new(self.mesh);
        let handover = Rc::new(Handover::new(self.ends));
        let inbox = Rc::new(RefCell::new(None));
        let post = Post {
            mesh: mesh.clone(),
            handover: handover.clone(),
            inbox: inbox.clone(),
        };
        let life = main(Shard {
            index: self.index,
            count: self.count,
            reactor: reactor.clone(),
            mesh,
            handover,
            arrivals,
            inbox: Inbox(inbox),
            inherited: self.inherited.adopt(),
        });
        let stopper = reactor.clone();
        task::spawn(async move {
            life.await;
            stopper.stop();
        });
        Ok((reactor, post))
    }
}

fn ended(shard: usize, reason: impl ToString) -> StartError {
    let reason = reason.to_string();
    StartError::Ended { shard, reason }
}

/// Reports how a step went, and goes on only if it went well for all.
fn answer<T>(
    made: Result<T, StartError>,
    report: &mpsc::Sender<Result<(), StartError>>,
    passed: &mpsc::Receiver<bool>,
) -> Result<T, StartError> {
    let (made, outcome) = match made {
        Ok(made) => (Some(made), Ok(())),
        Err(error) => (None, Err(error)),
    };
    let _ = report.send(outcome);
    match made {
        Some(made) if passed.recv() == Ok(true) => Ok(made),
        _ => Err(StartError::Aborted),
    }
}

/// The mesh and the handover as the reactor sees them.
struct Post<M> {
    mesh: Rc<Mesh<M>>,
    handover: Rc<Handover>,
    inbox: Rc<RefCell<Option<Handler<M>>>>,
}

impl<M> Mailbox for Post<M> {
    fn wake_descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.mesh.bell()
    }

    fn drain(&self) -> usize {
        let mut handler = self.inbox.borrow_mut();
        match handler.as_mut() {
            Some(handler) => self.mesh.drain(DRAIN_MAX, handler),
            None => 0,
        }
    }

    fn flush(&self) -> bool {
        self.handover.flush()
    }

    fn announce_sleep(&self, asleep: bool) {
        self.mesh.announce_sleep(asleep);
    }

    fn is_empty(&self) -> bool {
        self.mesh.is_empty()
    }
}

fn make_glommio() -> Result<LocalExecutor, StartError> {
    let made = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(RING_DEPTH)
        .io_memory(IO_MEMORY_LEN)
        .preempt_timer(PREEMPT_TIMER)
        .make();
    made.map_err(|error| of_a_ring(error.into()))
}

/// On shard `index`'s thread: the helper thread that is started for it takes its name from the one that starts it, and no two
/// threads are to have the same.
fn make_glommio_of(index: usize) -> Result<LocalExecutor, StartError> {
    let rename = |kind: &str| {
        let name = CString::new(format!("{kind}-{index}")).unwrap_or_default();
        // It is for people alone.
        let _ = rustix::thread::set_name(&name);
    };
    rename("helper");
    let made = make_glommio();
    rename("shard");
    made
}

/// Why there is no table of one's own.
fn of_a_table(error: io::Error) -> StartError {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE) => StartError::System(error),
        _ => StartError::Table {
            reason: error.to_string(),
        },
    }
}

/// Why there is no ring.
fn of_a_ring(error: io::Error) -> StartError {
    let reason = error.to_string();
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::MFILE | Errno::NFILE) => StartError::System(error),
        Some(Errno::NOMEM) => StartError::LockedMemory { reason },
        // The executor looks at the limit itself, and has no code for it.
        _ if reason.contains("MemLockLimit") => StartError::LockedMemory { reason },
        _ => StartError::IoUring { reason },
    }
}

const DRAIN_MAX: usize = 256;
/// Three rings, an eventfd, and while it is made a fourth ring; and one to spare.
const GLOMMIO_DESCRIPTORS: usize = 6;
/// The epoll instance, and one to spare.
const PLAIN_DESCRIPTORS: usize = 2;
const RING_DEPTH: usize = 128;
const IO_MEMORY_LEN: usize = 64 * 1024;
/// No preemption: the reactor is the fairness. (glommio can park with runnable tasks if its timer fires before any
/// ran.)
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);
