//! Polls one thread's edge-triggered epoll instance, with a timer of nanosecond precision.
//!
//! `wait` fills an internal list; `event(k)` hands the k-th out by value, so that the caller's state stays free to
//! change meanwhile. A token is the caller's; [`TIMER`] never comes out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

/// The token that the poller keeps for itself.
pub const TIMER: u64 = u64::MAX;

/// Nanoseconds of the monotonic clock: the only time in this package.
#[must_use]
pub fn now_ns() -> u64 {
    timespec_ns(clock_gettime(ClockId::Monotonic))
}

/// CPU time of the calling thread in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    timespec_ns(clock_gettime(ClockId::ThreadCPUTime))
}

/// What happened to one descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The token that the descriptor was added with.
    pub token: u64,
    /// There may be bytes to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer has closed or the connection has failed; a short read then does not mean that no more comes.
    pub closed: bool,
}

/// See the module.
pub struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer is set to fire; it stays set over many waits that end early.
    armed_ns: u64,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// # Errors
    /// When the process or the thread is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        epoll::add(
            &epoll,
            &timer,
            EventData::new_u64(TIMER),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Self {
            epoll,
            timer,
            armed_ns: 0,
            events: Vec::with_capacity(EVENTS_PER_WAIT),
        })
    }

    /// Watches `fd` for everything, edge-triggered; closing the descriptor ends it.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says.
    pub fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        debug_assert_ne!(token, TIMER);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token), flags)?)
    }

    /// Watches a listener or an eventfd: level-triggered, readable only.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says.
    pub fn add_listener(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        debug_assert_ne!(token, TIMER);
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Waits for events until `deadline_ns` (`None`: until one comes; 0 or past: not at all) and says how many came.
    ///
    /// # Errors
    /// What `epoll_wait(2)` and `timerfd_settime(2)` say; an interruption is no event, not an error.
    pub fn wait(&mut self, deadline_ns: Option<u64>) -> io::Result<usize> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at_once = match deadline_ns {
            None => false,
            Some(deadline) if deadline <= now_ns() => true,
            Some(deadline) => {
                self.arm(deadline)?;
                false
            }
        };
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            if at_once { Some(&NOW) } else { None },
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.events.retain(|event| event.data.u64() != TIMER);
        Ok(self.events.len())
    }

    /// The event number `index`, below what `wait` returned.
    #[must_use]
    pub fn event(&self, index: usize) -> Event {
        let event = self.events[index];
        let flags = event.flags;
        let closed = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        Event {
            token: event.data.u64(),
            readable: closed || flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            closed,
        }
    }

    fn arm(&mut self, deadline_ns: u64) -> io::Result<()> {
        if self.armed_ns == deadline_ns {
            return Ok(());
        }
        let value = Timespec {
            tv_sec: (deadline_ns / 1_000_000_000) as i64,
            tv_nsec: (deadline_ns % 1_000_000_000) as i64,
        };
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed_ns = deadline_ns;
        Ok(())
    }
}

fn timespec_ns(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

const EVENTS_PER_WAIT: usize = 256;
