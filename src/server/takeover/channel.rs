//! Carries what two processes say, and sockets with it: a `SOCK_SEQPACKET` pair, of which the new process has one end as its
//! standard input.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};
use zeroize::Zeroize as _;

use protocol::takeover::{Assembly, Message, PACKET_LEN_MAX, packets};

/// One end. Several threads may say something; one hears.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    /// Held while something is said: its packets leave one right after the other.
    speaking: Mutex<()>,
}

/// Where a message is received.
#[derive(Debug)]
pub(super) struct Packet {
    bytes: Box<[u8]>,
    assembly: Assembly,
}

impl Packet {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; PACKET_LEN_MAX].into(),
            assembly: Assembly::default(),
        }
    }
}

/// What came.
#[derive(Debug)]
pub(super) enum Received {
    /// A message, and the socket that came with it.
    Message(Message, Option<OwnedFd>),
    /// The other process is gone.
    End,
    /// It says something that can't be read, and why.
    Nonsense(String),
    /// It is time.
    Deadline,
}

impl Channel {
    /// This process's end, and the other one's.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (own, other) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::of(own), other))
    }

    /// The one that this process was started with, if its standard input is one.
    pub(super) fn from_stdin() -> Option<Self> {
        let stdin = io::stdin();
        let kind = sockopt::socket_type(&stdin).ok()?;
        let family = sockopt::socket_domain(&stdin).ok()?;
        // The copy is not passed on to further programs. The original stays where it is: a standard input at its end.
        let copy = stdin.as_fd().try_clone_to_owned().ok()?;
        (kind == SocketType::SEQPACKET && family == AddressFamily::UNIX).then_some(Self::of(copy))
    }

    fn of(socket: OwnedFd) -> Self {
        let speaking = Mutex::default();
        Self { socket, speaking }
    }

    /// Says it, with a socket or without.
    ///
    /// # Errors
    /// The kernel's, or `TimedOut`. If a part of it has left the channel is hung up.
    pub(super) fn send(&self, message: &Message, socket: Option<BorrowedFd<'_>>, deadline: Instant) -> io::Result<()> {
        let _speaking = self.speaking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        let said = packets(message, |packet, is_last| {
            // The socket goes with the last part: when that is there, so is all the rest.
            self.send_packet(packet, socket.filter(|_| is_last), deadline)?;
            count += 1;
            Ok(())
        });
        if said.is_err() && count > 0 {
            self.hang_up();
        }
        said
    }

    fn send_packet(&self, packet: &[u8], socket: Option<BorrowedFd<'_>>, deadline: Instant) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            let sockets: Vec<_> = socket.into_iter().collect();
            if !sockets.is_empty() {
                let has_room = control.push(SendAncillaryMessage::ScmRights(&sockets));
                assert!(has_room, "the space is for one socket");
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match net::sendmsg(&self.socket, &[IoSlice::new(packet)], &mut control, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, Some(deadline))?,
                // As many sockets are on their way as this user may have open: they have to arrive first.
                Err(Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM) if Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the other process says next. Kinds of messages that are not known are passed over.
    pub(super) fn receive(&self, packet: &mut Packet, deadline: Option<Instant>) -> Received {
        loop {
            match self.wait(PollFlags::IN, deadline) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Received::Deadline,
                Err(_) => return Received::End,
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received = net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut packet.bytes)],
                &mut control,
                flags,
            );
            let len = match received {
                // Reset: said once if the other process has ended before it read everything; what it had said itself comes all the same.
                Err(Errno::INTR | Errno::AGAIN | Errno::CONNRESET) => continue,
                Ok(received) if received.bytes > 0 => received.bytes,
                _ => return Received::End,
            };
            let socket = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
                _ => None,
            });
            let added = packet.assembly.add(&packet.bytes[..len]);
            // Nothing of a secret stays here.
            packet.bytes[..len].zeroize();
            match added {
                Ok(Some(message)) => return Received::Message(message, socket),
                Ok(None) => {}
                Err(error) => return Received::Nonsense(format!("it said something that can't be read: {error}")),
            }
        }
    }

    /// Waits until something comes here or there, or for that time.
    pub(super) fn wait_with(&self, other: Option<&impl AsFd>, time: Duration) {
        let timeout = timespec(time);
        let polled = [Some(self.socket.as_fd()), other.map(AsFd::as_fd)];
        let mut polled: Vec<_> = polled
            .iter()
            .flatten()
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        // Whatever it says, the next look finds out.
        let _ = poll(&mut polled, Some(&timeout));
    }

    /// Nothing more comes, here and there: whoever waits is woken.
    pub(super) fn hang_up(&self) {
        let _ = net::shutdown(&self.socket, Shutdown::Both);
    }

    fn wait(&self, flags: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map(timespec);
            let mut polled = [PollFd::new(&self.socket, flags)];
            match poll(&mut polled, timeout.as_ref()) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

const PAUSE: Duration = Duration::from_millis(1);
