//! All shards of this process: made together, started together, each with a descriptor table of its own.
//!
//! The order matters. Threads, executors (their rings and helper threads), eventfds and socket pairs come first;
//! then every shard gives up the shared table and closes the copies that are not its own; then it opens its epoll
//! and whatever its user opens.
#![allow(clippy::disallowed_methods)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, Barrier, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use rustix::io::Errno;

use crate::handover::{self, Arrivals, Handover};
use crate::mesh::{self, Mesh, NodeHandle};
use crate::reactor::{Mailbox, Reactor};
use crate::shard::{Handler, Inbox, Shard};
use crate::start_error::StartError;
use crate::{cpu, private_table, task, uring};

/// The running shards.
#[derive(Debug)]
pub struct Node<M> {
    /// Messages from ordinary threads to shards.
    pub outside: Arc<NodeHandle<M>>,
    threads: Vec<JoinHandle<Result<(), StartError>>>,
}

/// Starts one shard per element of `cpus` (a CPU may be named twice) and runs `main` on each. A shard ends when its
/// `main` does.
///
/// `inherited` holds, per shard, descriptors that were opened before; a shard that is not in it has none. Several shards
/// may have the same one. Each gets a copy in its own table, which is there when this returns: the originals can be closed.
///
/// # Errors
/// [`StartError`] names the first thing that was refused; no shard is left running then.
pub fn start<M, F, Main>(
    cpus: &[usize],
    mesh_capacity: usize,
    inherited: &[Vec<BorrowedFd<'_>>],
    main: F,
) -> Result<Node<M>, StartError>
where
    M: Send + 'static,
    F: Fn(Shard<M>) -> Main + Clone + Send + 'static,
    Main: Future<Output = ()> + 'static,
{
    assert!(!cpus.is_empty(), "a node has a shard");
    uring::probe().map_err(of_a_ring)?;
    private_table::probe().map_err(|error| StartError::Table {
        reason: error.to_string(),
    })?;
    let (meshes, outside) = mesh::connect(cpus.len(), mesh_capacity)?;
    let (ends, receivers) = handover::connect(cpus.len())?;
    private_table::room_for(cpus.len() * EXECUTOR_DESCRIPTORS)?;
    let (report, reports) = mpsc::channel();
    // One more: this thread knows then, too, that no table is shared any longer.
    let barrier = Arc::new(Barrier::new(cpus.len() + 1));
    let mut threads = Vec::with_capacity(cpus.len());
    let mut gates = Vec::with_capacity(cpus.len());
    for (index, ((&cpu, mesh), receiver)) in cpus.iter().zip(meshes).zip(receivers).enumerate() {
        let (gate, passed) = mpsc::channel();
        let seed = Seed {
            index,
            count: cpus.len(),
            cpu,
            mesh,
            ends: ends.clone(),
            receiver,
            inherited: numbers(inherited.get(index)),
        };
        let (report, main, barrier) = (report.clone(), main.clone(), barrier.clone());
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || seed.grow(&report, &passed, &barrier, main))?;
        threads.push(thread);
        gates.push(gate);
    }
    drop(report);
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
        threads,
    })
}

impl<M> Node<M> {
    /// Waits until every shard has ended.
    ///
    /// # Errors
    /// The first shard's failure, a panic among them.
    pub fn join(self) -> Result<(), StartError> {
        let mut result = Ok(());
        for thread in self.threads {
            let ended = thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a shard panicked").into()));
            result = result.and(ended);
        }
        result
    }
}

/// What a shard thread is born with.
struct Seed<M> {
    index: usize,
    count: usize,
    cpu: usize,
    mesh: Mesh<M>,
    ends: Arc<handover::Ends>,
    receiver: OwnedFd,
    inherited: Vec<RawFd>,
}

fn numbers(descriptors: Option<&Vec<BorrowedFd<'_>>>) -> Vec<RawFd> {
    let descriptors = descriptors.into_iter().flatten();
    descriptors.map(AsRawFd::as_raw_fd).collect()
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
        let made = if cpu::pin(self.cpu) {
            make_executor()
        } else {
            Err(StartError::Pin { cpu: self.cpu })
        };
        let executor = match made {
            Ok(executor) => executor,
            Err(error) => {
                let _ = report.send(Err(error));
                return Err(StartError::Aborted);
            }
        };
        let _ = report.send(Ok(()));
        if passed.recv() != Ok(true) {
            return Err(StartError::Aborted);
        }
        let mut keep = HashSet::from([0, 1, 2, self.receiver.as_raw_fd()]);
        keep.extend(self.mesh.bells().descriptors().map(|bell| bell.as_raw_fd()));
        keep.extend(self.ends.descriptors());
        keep.extend(&self.inherited);
        let private = private_table::make_private(&keep);
        // Only when no table holds a copy of another's socket does closing one close it.
        barrier.wait();
        executor.run(self.live(private, report, passed, main))
    }

    async fn live<F, Main>(
        self,
        private: io::Result<()>,
        report: &mpsc::Sender<Result<(), StartError>>,
        passed: &mpsc::Receiver<bool>,
        main: F,
    ) -> Result<(), StartError>
    where
        F: Fn(Shard<M>) -> Main,
        Main: Future<Output = ()> + 'static,
    {
        let made = private.and_then(|()| {
            let reactor = Reactor::new()?;
            let arrivals = Arrivals::new(&reactor, self.receiver)?;
            Ok((reactor, arrivals))
        });
        let (reactor, arrivals) = match made {
            Ok(made) => made,
            Err(error) => {
                let _ = report.send(Err(error.into()));
                return Err(StartError::Aborted);
            }
        };
        let _ = report.send(Ok(()));
        if passed.recv() != Ok(true) {
            return Err(StartError::Aborted);
        }
        let mesh = Rc::new(self.mesh);
        let handover = Rc::new(Handover::new(self.ends));
        let inbox = Rc::new(RefCell::new(None));
        let post = Post {
            mesh: mesh.clone(),
            handover: handover.clone(),
            inbox: inbox.clone(),
        };
        let shard = Shard {
            index: self.index,
            count: self.count,
            reactor: reactor.clone(),
            mesh,
            handover,
            arrivals,
            inbox: Inbox(inbox),
            inherited: self.inherited.into_iter().map(private_table::adopt).collect(),
        };
        let life = main(shard);
        let stopper = reactor.clone();
        task::spawn(async move {
            life.await;
            stopper.stop();
        });
        reactor.run(&post).await?;
        Ok(())
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

fn make_executor() -> Result<LocalExecutor, StartError> {
    let made = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(RING_DEPTH)
        .io_memory(IO_MEMORY_LEN)
        .preempt_timer(PREEMPT_TIMER)
        .make();
    made.map_err(|error| of_a_ring(error.into()))
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
const EXECUTOR_DESCRIPTORS: usize = 6;
const RING_DEPTH: usize = 128;
const IO_MEMORY_LEN: usize = 64 * 1024;
/// No preemption: the reactor is the fairness. (glommio can park with runnable tasks if its timer fires before any ran.)
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);
