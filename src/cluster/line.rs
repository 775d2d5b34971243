//! Says to the cluster's thread what shards want to say.
//!
//! What is said is never refused. It is bounded by who says it: clients, questions that are open, answers that are owed, pushes.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use super::status::Status;
use protocol::cluster::{Asker, NodeId};
use protocol::mapping::ConnectionId;
use protocol::ocpp::ClientId;
use protocol::question::{PushOutcome, Question, Told};

/// What is said.
#[derive(Debug)]
pub enum Word {
    /// A client is connected, with its home on that shard.
    Here {
        /// The shard.
        shard: u16,
        /// The client.
        client: ClientId,
        /// Its connection.
        connection: ConnectionId,
        /// It has begun in another process: when, in milliseconds since 1970.
        moved_since_ms: Option<u64>,
    },
    /// That connection is over, or will be in a moment.
    Gone {
        /// The client.
        client: ClientId,
        /// Its connection.
        connection: ConnectionId,
    },
    /// The process that takes over has it.
    Moved {
        /// The client.
        client: ClientId,
        /// Its connection.
        connection: ConnectionId,
    },
    /// A question about a client that is not here. One answer follows.
    Ask {
        /// Who asks.
        asker: Asker,
        /// What.
        question: Box<Question>,
    },
    /// What another node has asked under that number is answered; `None`: it was not carried out.
    Answer {
        /// The number.
        number: u64,
        /// The answer.
        told: Option<Box<Told>>,
    },
    /// A push has its outcome, and who waits for it is at another node.
    Outcome {
        /// That node.
        node: NodeId,
        /// What became of it.
        outcome: Box<PushOutcome>,
    },
    /// Which nodes there are is to be told.
    Nodes(Asker),
    /// This node is ending.
    Drain,
    /// This node gives up what it has waited for: what nobody was told is posted.
    GiveUp,
    /// This node has ended: what is to be said still is said, and then nothing more.
    End,
}

/// A shard's way to the thread.
#[derive(Debug)]
pub struct Line {
    way: Way,
    /// In the shard's own table.
    bell: OwnedFd,
}

/// What a line is made of, but for the descriptor.
#[derive(Clone, Debug)]
pub struct Way {
    say: mpsc::Sender<Word>,
    rung: Arc<AtomicBool>,
    /// How the thread is.
    pub status: Arc<Status>,
}

/// The thread's end of all lines.
#[derive(Debug)]
pub struct Ear {
    said: mpsc::Receiver<Word>,
    rung: Arc<AtomicBool>,
    /// Is readable when something was said.
    pub bell: OwnedFd,
}

impl Line {
    /// One that wakes the thread by `bell`.
    #[must_use]
    pub fn new(way: Way, bell: OwnedFd) -> Self {
        Self { way, bell }
    }

    /// Says it.
    pub fn say(&self, word: Word) {
        // Nobody listens any more at the very end.
        let _ = self.way.say.send(word);
        if !self.way.rung.swap(true, Ordering::AcqRel) {
            // A counter that is full has been written to.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// How the thread is.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.way.status
    }
}

impl Ear {
    /// The thread's end, and what lines are made of.
    #[must_use]
    pub fn new(bell: OwnedFd, status: Arc<Status>) -> (Self, Way) {
        let (say, said) = mpsc::channel();
        let rung = Arc::new(AtomicBool::new(false));
        let way = Way {
            say,
            rung: rung.clone(),
            status,
        };
        (Self { said, rung, bell }, way)
    }

    /// Whatever is said from now on rings. Before the words are taken.
    pub fn listen(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// The next word.
    #[must_use]
    pub fn next(&self) -> Option<Word> {
        self.said.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

    use super::*;

    fn is_readable(bell: &OwnedFd) -> bool {
        let mut polled = [PollFd::new(bell, PollFlags::IN)];
        let timeout = Timespec::try_from(Duration::ZERO).unwrap();
        poll(&mut polled, Some(&timeout)).unwrap() == 1
    }

    #[test]
    fn what_is_said_rings_once_until_somebody_listens() {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let (ear, way) = Ear::new(bell.try_clone().unwrap(), Arc::default());
        let line = Line::new(way, bell);
        assert!(!is_readable(&ear.bell) && ear.next().is_none());
        line.say(Word::Drain);
        line.say(Word::End);
        assert!(is_readable(&ear.bell));
        ear.listen();
        assert!(!is_readable(&ear.bell));
        assert!(matches!(ear.next(), Some(Word::Drain)));
        line.say(Word::Drain);
        assert!(is_readable(&ear.bell), "it was listening");
        assert!(matches!(ear.next(), Some(Word::End)));
    }
}
