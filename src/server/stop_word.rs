//! Tells a thread that waits for a socket to stop.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

/// A word that stays until it is taken back.
#[derive(Debug)]
pub struct StopWord(OwnedFd);

impl StopWord {
    /// It has not been said.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(eventfd(0, flags)?))
    }

    /// Says it.
    pub fn say(&self) {
        // A counter that is full has been written to.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Takes it back.
    pub fn take_back(&self) {
        // Nothing is there if it has not been said.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Waits until there is something to be read from `socket`: true. Or until the word was said.
    pub fn wait_for(&self, socket: &impl AsFd) -> bool {
        loop {
            let mut polled = [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) => return polled[1].revents().is_empty(),
                Err(Errno::INTR) => {}
                // Out of memory: whoever asks finds out whether there is something.
                Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn whoever_waits_for_a_socket_hears_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let word = StopWord::new().unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(word.wait_for(&listener));
        listener.accept().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| word.wait_for(&listener));
            word.say();
            assert!(!waits.join().unwrap());
        });
        assert!(!word.wait_for(&listener), "it stays");
        word.take_back();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(word.wait_for(&listener));
    }
}
