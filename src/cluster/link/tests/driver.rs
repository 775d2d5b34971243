//! Drives a connection on a thread, as the program does: it waits for what the connection wants, and for what the test wants.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cluster::link::{Event, Link, LinkSettings};
use crate::config::NatsUrl;

type Command = Box<dyn FnOnce(&mut Link) + Send>;

/// A connection on a thread of its own.
pub(super) struct Driver {
    commands: Option<mpsc::Sender<Command>>,
    wake: UnixStream,
    events: mpsc::Receiver<Event>,
    thread: Option<JoinHandle<Link>>,
}

impl Driver {
    pub(super) fn start(settings: LinkSettings) -> Self {
        let (commands, todo) = mpsc::channel::<Command>();
        let (told, events) = mpsc::channel();
        let (wake, woken) = UnixStream::pair().unwrap();
        woken.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn(move || run(Link::new(settings), &todo, &woken, &told));
        Self {
            commands: Some(commands),
            wake,
            events,
            thread: Some(thread),
        }
    }

    /// To servers at these URLs.
    pub(super) fn to(urls: &[&str]) -> Self {
        Self::start(settings(urls))
    }

    /// Has the thread do something, and waits for it.
    #[track_caller]
    pub(super) fn ask<T: Send + 'static>(&self, what: impl FnOnce(&mut Link) -> T + Send + 'static) -> T {
        let (told, answer) = mpsc::channel();
        let command: Command = Box::new(move |link| {
            let _ = told.send(what(link));
        });
        self.commands.as_ref().unwrap().send(command).unwrap();
        std::io::Write::write_all(&mut &self.wake, b"x").unwrap();
        answer.recv_timeout(support::DEADLINE).unwrap()
    }

    #[track_caller]
    pub(super) fn event(&self) -> Event {
        self.events.recv_timeout(support::DEADLINE).expect("an event")
    }

    /// An event, if there is one.
    pub(super) fn try_event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The next event is that a server has let it in.
    #[track_caller]
    pub(super) fn connected(&self) -> String {
        match self.event() {
            Event::Connected { server, .. } => server,
            other => panic!("{other:?}"),
        }
    }

    /// Passes over attempts that fail.
    #[track_caller]
    pub(super) fn connected_again(&self) -> String {
        loop {
            match self.event() {
                Event::Connected { server, .. } => return server,
                Event::Failed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[track_caller]
    pub(super) fn lost(&self) -> String {
        match self.event() {
            Event::Lost { why } => why,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn failed(&self) -> String {
        match self.event() {
            Event::Failed { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn complaint(&self) -> String {
        match self.event() {
            Event::Complaint { what } => what,
            other => panic!("{other:?}"),
        }
    }

    /// The next event is a message: its subscription, its subject, its payload.
    #[track_caller]
    pub(super) fn message(&self) -> (u64, String, Vec<u8>) {
        match self.event() {
            Event::Message {
                sid, subject, payload, ..
            } => (sid, subject, payload),
            other => panic!("{other:?}"),
        }
    }

    /// Ends the thread.
    pub(super) fn into_link(mut self) -> Link {
        self.commands = None;
        std::io::Write::write_all(&mut &self.wake, b"x").unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.commands = None;
        let _ = std::io::Write::write_all(&mut &self.wake, b"x");
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(super) fn settings(urls: &[&str]) -> LinkSettings {
    let urls: Vec<NatsUrl> = urls.iter().map(|url| url.parse().unwrap()).collect();
    let mut settings = LinkSettings::new(urls, "n1".to_owned());
    // What a test has a server say is all that it says: it answers no pings.
    settings.ping_every = Duration::from_secs(3600);
    settings
}

fn run(mut link: Link, todo: &mpsc::Receiver<Command>, woken: &UnixStream, told: &mpsc::Sender<Event>) -> Link {
    let mut events = Vec::new();
    loop {
        link.handle(Instant::now(), &mut events);
        for event in events.drain(..) {
            let _ = told.send(event);
        }
        loop {
            match todo.try_recv() {
                Ok(command) => command(&mut link),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return link,
            }
        }
        link.flush();
        let now = Instant::now();
        let left = link.next_deadline(now).saturating_duration_since(now);
        wait(&link, woken, left);
        let mut bytes = [0; 64];
        while std::io::Read::read(&mut &*woken, &mut bytes).is_ok_and(|len| len > 0) {}
    }
}

fn wait(link: &Link, woken: &UnixStream, left: Duration) {
    let wants = link.wants();
    let mut fds = vec![PollFd::from_borrowed_fd(woken.as_fd(), PollFlags::IN)];
    if let Some(fd) = wants.fd {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, wants.reads);
        flags.set(PollFlags::OUT, wants.writes);
        fds.push(PollFd::from_borrowed_fd(fd, flags));
    }
    let timeout = Timespec::try_from(left).unwrap();
    let _ = poll(&mut fds, Some(&timeout));
}
