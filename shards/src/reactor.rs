//! Wakes a shard's tasks: one edge-triggered epoll, the timing wheel and the mailbox are behind it.
//!
//! The loop of a shard runs every task that is ready, drains the mailbox, does what was deferred to the end of the
//! pass, and then waits in `epoll_wait`: until the next deadline if nobody has anything to do, not at all otherwise.
//! Either it runs the tasks itself (`Reactor::run`), or it is the main future of glommio's executor, which runs them
//! while it yields (`Reactor::run_in_glommio`). Sockets enter once with `register` and are never modified.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use slab::Slab;

use crate::pass::{CROWD, Load, PassEnd, PassLengths};
use crate::readiness::{BROKEN, CLOSED, READABLE, Readiness, WRITABLE};
use crate::task;
use crate::timers::{TICK, Timers};
use crate::turn;

const EVENTS_MAX: usize = 512;
const MAILBOX_KEY: u64 = u64::MAX;

/// A shard's epoll, wheel and clock. One per shard thread, shared by its tasks through `Rc`.
#[derive(Debug)]
pub struct Reactor {
    epoll: OwnedFd,
    entries: RefCell<Slab<Rc<Entry>>>,
    pub(crate) timers: Timers,
    now: Cell<Instant>,
    /// From the timers' epoch to `now`.
    elapsed: Cell<Duration>,
    load: Cell<Load>,
    pass_lengths: RefCell<PassLengths>,
    pass_end: RefCell<Option<Weak<dyn PassEnd>>>,
    /// What epoll reported for this pass.
    events_count: Cell<usize>,
    stopped: Cell<bool>,
}

/// What a shard receives from other shards. The reactor drains it once per pass.
pub trait Mailbox {
    /// The descriptor that senders write to when the shard may sleep.
    fn wake_descriptor(&self) -> std::os::fd::BorrowedFd<'_>;
    /// Handles what has come, at most a bounded number; returns how many.
    fn drain(&self) -> usize;
    /// Sends off what was gathered during the pass; true when something still waits for room.
    fn flush(&self) -> bool;
    /// Says that the shard is about to sleep (true) or awake. The implementation fences between this and the check.
    fn announce_sleep(&self, asleep: bool);
    /// True when nothing waits.
    fn is_empty(&self) -> bool;
}

/// Whether a pass ends with a sleep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sleep {
    No,
    /// Until something is due. `blocked`: something waits for room in another shard's socket, which no event tells.
    UntilDue {
        blocked: bool,
    },
}

/// Whose events are handled first in a pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Urgency {
    /// Connections that came in.
    Usual = 0,
    /// Connections that we opened: what they bring ends work that is under way, before new work is begun. And what a
    /// pass sends leaves sorted by where it goes, so that a peer is woken once for all of it.
    First = 1,
}

/// One socket's place in the reactor.
#[derive(Debug)]
pub(crate) struct Entry {
    fd: OwnedFd,
    key: Cell<usize>,
    readiness: Readiness,
}

impl Reactor {
    /// A reactor with an epoll instance in the calling thread's table.
    ///
    /// # Errors
    /// When the kernel has no descriptor for it.
    pub fn new() -> io::Result<Rc<Self>> {
        let now = Instant::now();
        Ok(Rc::new(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            entries: RefCell::new(Slab::new()),
            timers: Timers::new(now),
            now: Cell::new(now),
            elapsed: Cell::new(Duration::ZERO),
            load: Cell::new(Load::default()),
            pass_lengths: RefCell::default(),
            pass_end: RefCell::new(None),
            events_count: Cell::new(0),
            stopped: Cell::new(false),
        }))
    }

    /// The time of this pass. Cheap: the clock is read once per pass.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// The time now, where a pass that takes long must not count as none.
    #[must_use]
    pub fn exact_now(&self) -> Instant {
        Instant::now()
    }

    /// How busy the shard has been.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load.get()
    }

    /// The longest pass since this was last asked.
    #[must_use]
    pub fn take_longest_pass(&self) -> Duration {
        let mut load = self.load.get();
        let longest = std::mem::take(&mut load.longest_pass);
        self.load.set(load);
        longest
    }

    /// How long the rounds were since the start.
    #[must_use]
    pub fn pass_lengths(&self) -> PassLengths {
        *self.pass_lengths.borrow()
    }

    /// How many sockets are registered.
    #[must_use]
    pub fn sockets_count(&self) -> usize {
        self.entries.borrow().len()
    }

    /// How many timers are set.
    #[must_use]
    pub fn timers_count(&self) -> usize {
        self.timers.len()
    }

    /// Sets what is done at the end of every pass, for as long as it lives.
    pub fn at_pass_end(&self, work: Weak<dyn PassEnd>) {
        *self.pass_end.borrow_mut() = Some(work);
    }

    /// Whether so much happens in this pass that putting off pays.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.events_count.get() >= CROWD
    }

    /// Makes `run` return at the end of this pass.
    pub fn stop(&self) {
        self.stopped.set(true);
    }

    /// The shard's life where glommio runs the tasks: its executor's main future. Returns after [`stop`](Self::stop).
    ///
    /// # Errors
    /// When epoll itself fails, which nothing on the network can cause.
    pub(crate) async fn run_in_glommio(&self, mailbox: &dyn Mailbox) -> io::Result<()> {
        let mut events = self.begin(mailbox)?;
        while !self.stopped.get() {
            let polls = task::polls();
            task::yield_now().await;
            let somebody_ran = task::polls() != polls;
            let mail_count = mailbox.drain();
            let was_put_off = self.end_pass();
            let goes_on = turn::resume_one();
            // Who was woken since can't be told here: the next pass tells.
            let is_quiet = !(somebody_ran || mail_count > 0 || was_put_off || goes_on);
            self.finish_pass(mailbox, &mut events, is_quiet)?;
        }
        turn::forget_all();
        Ok(())
    }

    /// The shard's life where this loop runs the tasks itself. Returns after [`stop`](Self::stop).
    ///
    /// # Errors
    /// When epoll itself fails, which nothing on the network can cause.
    pub(crate) fn run(&self, mailbox: &dyn Mailbox) -> io::Result<()> {
        let mut events = self.begin(mailbox)?;
        while !self.stopped.get() {
            let somebody_ran = task::run_ready();
            let mail_count = mailbox.drain();
            let was_put_off = self.end_pass();
            turn::resume_one();
            // Who has worked looks for events once more before it sleeps: they come in crowds.
            let is_quiet = !(somebody_ran || mail_count > 0 || was_put_off || task::any_ready());
            self.finish_pass(mailbox, &mut events, is_quiet)?;
        }
        Ok(())
    }

    fn begin(&self, mailbox: &dyn Mailbox) -> io::Result<Vec<epoll::Event>> {
        let data = epoll::EventData::new_u64(MAILBOX_KEY);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.epoll, mailbox.wake_descriptor(), data, flags)?;
        Ok(Vec::with_capacity(EVENTS_MAX))
    }

    /// Sends off what was gathered and looks for events: waits for one if nobody has anything to do.
    fn finish_pass(&self, mailbox: &dyn Mailbox, events: &mut Vec<epoll::Event>, is_quiet: bool) -> io::Result<()> {
        let blocked = mailbox.flush();
        // Whoever ran may have stopped us: then nothing comes that would end a sleep.
        if !is_quiet || self.stopped.get() {
            self.wait(events, Sleep::No)?;
        } else {
            mailbox.announce_sleep(true);
            // A sender that saw us awake has not written to the descriptor: look once more.
            let sleep = if mailbox.is_empty() {
                Sleep::UntilDue { blocked }
            } else {
                Sleep::No
            };
            let result = self.wait(events, sleep);
            mailbox.announce_sleep(false);
            result?;
        }
        self.dispatch(events);
        self.timers.fire(self.elapsed.get());
        Ok(())
    }

    pub(crate) fn register(&self, fd: OwnedFd, urgency: Urgency) -> io::Result<Rc<Entry>> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        self.register_with(fd, urgency, flags)
    }

    /// For a listening socket that other shards have in their epoll too.
    pub(crate) fn register_exclusive(&self, fd: OwnedFd) -> io::Result<Rc<Entry>> {
        self.register_with(fd, Urgency::Usual, exclusive())
    }

    /// Takes one of these out of epoll for a while: what comes wakes another shard.
    pub(crate) fn suspend(&self, entry: &Entry) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, &entry.fd)?)
    }

    /// Puts it back; what waits is found by the next call.
    pub(crate) fn resume_exclusive(&self, entry: &Entry) -> io::Result<()> {
        epoll::add(
            &self.epoll,
            &entry.fd,
            event_data(entry.key.get(), Urgency::Usual),
            exclusive(),
        )?;
        entry.set_readable();
        Ok(())
    }

    fn register_with(&self, fd: OwnedFd, urgency: Urgency, flags: epoll::EventFlags) -> io::Result<Rc<Entry>> {
        let entry = Rc::new(Entry {
            fd,
            key: Cell::new(0),
            readiness: Readiness::new(),
        });
        let key = self.entries.borrow_mut().insert(entry.clone());
        entry.key.set(key);
        if let Err(error) = epoll::add(&self.epoll, &entry.fd, event_data(key, urgency), flags) {
            self.entries.borrow_mut().remove(key);
            return Err(error.into());
        }
        Ok(entry)
    }

    /// Takes a socket out of epoll. Always before its descriptor is closed or sent: a copy elsewhere would keep it in.
    pub(crate) fn deregister(&self, entry: &Entry) {
        let removed = epoll::delete(&self.epoll, &entry.fd);
        debug_assert!(removed.is_ok(), "a registered socket is in epoll");
        self.entries.borrow_mut().remove(entry.key.get());
    }

    fn end_pass(&self) -> bool {
        let work = self.pass_end.borrow().as_ref().and_then(Weak::upgrade);
        work.is_some_and(|work| work.end_pass())
    }

    /// How long nothing is due, but for events; `elapsed` is the time since the epoch.
    fn patience(&self, blocked: bool, elapsed: Duration) -> Option<Duration> {
        let next = self.timers.next().map(|next| next.saturating_sub(elapsed));
        if blocked {
            Some(next.map_or(TICK, |next| next.min(TICK)))
        } else {
            next
        }
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, sleep: Sleep) -> io::Result<()> {
        let mut load = self.load.get();
        let began = self.elapsed.get();
        let ended = self.read_clock();
        let pass = ended.saturating_sub(began);
        load.passes += 1;
        load.busy += pass;
        load.longest_pass = load.longest_pass.max(pass);
        self.pass_lengths.borrow_mut().count(pass);
        events.clear();
        let patience = match sleep {
            Sleep::No => Some(Duration::ZERO),
            Sleep::UntilDue { blocked } => self.patience(blocked, ended),
        };
        let timeout = patience.map(|patience| Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        });
        let result = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout.as_ref());
        if patience != Some(Duration::ZERO) {
            load.sleeps += 1;
            self.read_clock();
        }
        load.events += events.len() as u64;
        self.events_count.set(events.len());
        self.load.set(load);
        match result {
            Ok(_) => Ok(()),
            // A signal is not an event.
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the time of the pass; gives the time since the epoch.
    fn read_clock(&self) -> Duration {
        let now = Instant::now();
        let elapsed = self.timers.elapsed(now);
        self.now.set(now);
        self.elapsed.set(elapsed);
        elapsed
    }

    fn dispatch(&self, events: &[epoll::Event]) {
        let entries = self.entries.borrow();
        for urgency in [Urgency::First, Urgency::Usual] {
            for event in events {
                let data = event.data.u64();
                if data == MAILBOX_KEY || data & 1 != urgency as u64 {
                    continue;
                }
                if let Some(entry) = entries.get((data >> 1) as usize) {
                    entry.handle_event(seen(event.flags));
                }
            }
        }
    }
}

fn event_data(key: usize, urgency: Urgency) -> epoll::EventData {
    epoll::EventData::new_u64((key as u64) << 1 | urgency as u64)
}

/// Of those who wait, the kernel wakes one.
fn exclusive() -> epoll::EventFlags {
    epoll::EventFlags::IN | epoll::EventFlags::ET | epoll::EventFlags::EXCLUSIVE
}

impl Entry {
    pub(crate) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Gives the descriptor back. The caller has deregistered the entry and is its last owner.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl Deref for Entry {
    type Target = Readiness;

    fn deref(&self) -> &Readiness {
        &self.readiness
    }
}

/// What epoll's flags say of a socket.
fn seen(flags: epoll::EventFlags) -> u8 {
    use epoll::EventFlags as Flags;
    let pairs = [
        (Flags::IN, READABLE),
        (Flags::OUT, WRITABLE),
        (Flags::RDHUP, CLOSED),
        (Flags::HUP.union(Flags::ERR), BROKEN),
    ];
    let bits = pairs.into_iter().filter(|(flag, _)| flags.intersects(*flag));
    bits.fold(0, |all, (_, bit)| all | bit)
}
