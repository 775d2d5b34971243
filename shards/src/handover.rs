//! Moves sockets between shards: over one `SOCK_SEQPACKET` pair per receiving shard.
//!
//! What is handed over during a pass of the reactor leaves together, up to [`BATCH_MAX`] sockets in a packet: the
//! system call then costs 2 µs a socket instead of 6 to 10. One pair per receiver, with the sending end in every table,
//! keeps the number of descriptors linear in the shards; packets are atomic, so senders can share it. Each socket
//! travels with the bytes that were read from it so far: itself (`SCM_RIGHTS`) into another table, as its number where
//! all shards share one. One more pair leads from all shards to the ordinary threads ([`Outside`]), which have a way back, too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::fd_table::adopt;
use crate::parcel::{BYTES_MAX, Lost, Parcel, Passed, WAITING_MAX};
use crate::reactor::{Entry, Reactor, Urgency};
use crate::settings::Tables;

/// So many sockets travel in one packet at the most.
pub const BATCH_MAX: usize = 16;
/// The sending ends of all shards, and last that of the ordinary threads, made before the tables are private.
#[derive(Debug)]
pub(crate) struct Ends {
    senders: Vec<OwnedFd>,
    tables: Tables,
}

/// The ordinary threads' way to hand sockets to shards, and to get some of them.
#[derive(Debug)]
pub struct Outside {
    ends: Arc<Ends>,
    receiver: OwnedFd,
    unpacked: VecDeque<Result<Parcel, Lost>>,
    packet: Box<[u8]>,
}

/// A shard's way to hand sockets to the others.
#[derive(Debug)]
pub struct Handover {
    ends: Arc<Ends>,
    waiting: RefCell<Vec<VecDeque<Parcel>>>,
    /// Over all receivers: mostly none, and then a pass need not look at each.
    waiting_count: Cell<usize>,
}

/// Where a shard's parcels arrive.
#[derive(Debug)]
pub struct Arrivals {
    reactor: Rc<Reactor>,
    entry: Rc<Entry>,
    unpacked: VecDeque<Result<Parcel, Lost>>,
    /// Room for the largest packet. Kept: making it anew would cost more than all the rest of receiving one.
    packet: Box<[u8]>,
    tables: Tables,
}

/// Makes one pair per shard: the sending ends together, and the receiving end of each. And one for the ordinary threads.
pub(crate) fn connect(shards_count: usize, tables: Tables) -> io::Result<(Arc<Ends>, Vec<OwnedFd>, Outside)> {
    let mut senders = Vec::with_capacity(shards_count + 1);
    let mut receivers = Vec::with_capacity(shards_count + 1);
    for _ in 0..=shards_count {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (sender, receiver) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        net::sockopt::set_socket_send_buffer_size(&sender, SEND_BUFFER_LEN)?;
        senders.push(sender);
        receivers.push(receiver);
    }
    let receiver = receivers.pop().ok_or(io::ErrorKind::NotFound)?;
    let ends = Arc::new(Ends { senders, tables });
    let outside = Outside {
        ends: ends.clone(),
        receiver,
        unpacked: VecDeque::new(),
        packet: vec![0; PACKET_MAX].into(),
    };
    Ok((ends, receivers, outside))
}

impl Outside {
    /// The next socket that a shard has sent; nothing, if there is none right now.
    pub fn try_receive(&mut self) -> Option<Result<Passed, Lost>> {
        while self.unpacked.is_empty() {
            match receive_batch(&self.receiver, self.ends.tables, &mut self.packet, &mut self.unpacked) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        let received = self.unpacked.pop_front()?;
        Some(received.map(|Parcel { socket, bytes }| Passed { socket, bytes }))
    }

    /// Sends a socket to shard `to`.
    ///
    /// # Errors
    /// It comes back when there is no room for it right now, and the kernel's error.
    pub fn try_send(&self, to: usize, passed: Passed) -> Result<(), (Passed, io::Error)> {
        let Passed { socket, bytes } = passed;
        assert!(bytes.len() <= BYTES_MAX, "the user bounds what goes with a socket");
        let waiting = VecDeque::from([Parcel { socket, bytes }]);
        let sent = send_batch(&self.ends.senders[to], self.ends.tables, &waiting, 1);
        let mut waiting = waiting.into_iter();
        match (sent, waiting.next()) {
            (Err(error), Some(Parcel { socket, bytes })) => Err((Passed { socket, bytes }, error.into())),
            (_, parcel) => {
                let_go(self.ends.tables, parcel.into_iter());
                Ok(())
            }
        }
    }
}

impl AsFd for Outside {
    /// Where there is something to be read when a shard has sent something.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Ends {
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.senders.iter().map(AsRawFd::as_raw_fd)
    }

    pub(crate) fn tables(&self) -> Tables {
        self.tables
    }
}

impl Handover {
    pub(crate) fn new(ends: Arc<Ends>) -> Self {
        let waiting = ends.senders.iter().map(|_| VecDeque::new()).collect();
        Self {
            ends,
            waiting: RefCell::new(waiting),
            waiting_count: Cell::new(0),
        }
    }

    /// Sends `parcel` to shard `to` at the end of this pass.
    ///
    /// # Errors
    /// The parcel comes back when [`WAITING_MAX`] wait for that shard already.
    pub fn try_send(&self, to: usize, parcel: Parcel) -> Result<(), Parcel> {
        assert!(
            parcel.bytes.len() <= BYTES_MAX,
            "the user bounds what goes with a socket"
        );
        let mut waiting = self.waiting.borrow_mut();
        if waiting[to].len() == WAITING_MAX {
            return Err(parcel);
        }
        waiting[to].push_back(parcel);
        self.waiting_count.set(self.waiting_count.get() + 1);
        Ok(())
    }

    /// Sends `parcel` to the ordinary threads at the end of this pass.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_send_outside(&self, parcel: Parcel) -> Result<(), Parcel> {
        self.try_send(self.ends.senders.len() - 1, parcel)
    }

    /// Sends off what waits; true when a receiver's socket was full and some of it stays.
    pub(crate) fn flush(&self) -> bool {
        if self.waiting_count.get() == 0 {
            return false;
        }
        let mut blocked = false;
        let mut left = 0;
        for (to, waiting) in self.waiting.borrow_mut().iter_mut().enumerate() {
            while !waiting.is_empty() {
                let count = batch_len(waiting);
                match send_batch(&self.ends.senders[to], self.ends.tables, waiting, count) {
                    Ok(()) => let_go(self.ends.tables, waiting.drain(..count)),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN | Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM) => {
                        blocked = true;
                        break;
                    }
                    // The receiving shard has ended: these connections end with it.
                    Err(_) => waiting.clear(),
                }
            }
            left += waiting.len();
        }
        self.waiting_count.set(left);
        blocked
    }
}

impl Arrivals {
    pub(crate) fn new(reactor: &Rc<Reactor>, receiver: OwnedFd, tables: Tables) -> io::Result<Self> {
        let entry = reactor.register(receiver, Urgency::Usual)?;
        Ok(Self {
            reactor: reactor.clone(),
            entry,
            unpacked: VecDeque::new(),
            packet: vec![0; PACKET_MAX].into(),
            tables,
        })
    }

    /// The next socket that another shard handed over.
    ///
    /// # Errors
    /// [`Lost`] takes the place of one that could not be received.
    pub async fn next(&mut self) -> Result<Parcel, Lost> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Parcel, Lost>> {
        loop {
            if let Some(parcel) = self.unpacked.pop_front() {
                if self.unpacked.is_empty() {
                    self.unpacked = VecDeque::new();
                }
                return Poll::Ready(parcel);
            }
            let Self {
                entry,
                unpacked,
                packet,
                tables,
                ..
            } = self;
            let received = entry.poll_read(context, 0, || receive_batch(entry.fd(), *tables, packet, unpacked));
            match received {
                Poll::Pending => return Poll::Pending,
                // No error leads anywhere: the sending end is in our own table.
                Poll::Ready(_) => continue,
            }
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        // A number that nobody reads would keep its socket open.
        let mut rest = VecDeque::new();
        while receive_batch(self.entry.fd(), self.tables, &mut self.packet, &mut rest).is_ok_and(|len| len > 0) {}
        self.reactor.deregister(&self.entry);
    }
}

fn batch_len(waiting: &VecDeque<Parcel>) -> usize {
    let mut bytes_len = 0;
    let fitting = waiting.iter().take(BATCH_MAX).take_while(|parcel| {
        bytes_len += HEAD_LEN + parcel.bytes.len();
        bytes_len <= PACKET_MAX
    });
    fitting.count().max(1)
}

fn send_batch(sender: &OwnedFd, tables: Tables, waiting: &VecDeque<Parcel>, count: usize) -> rustix::io::Result<()> {
    let mut packet = Vec::new();
    for parcel in waiting.iter().take(count) {
        let len = u32::try_from(parcel.bytes.len()).expect("bounded by BYTES_MAX");
        packet.extend_from_slice(&len.to_ne_bytes());
        packet.extend_from_slice(&parcel.socket.as_raw_fd().to_ne_bytes());
        packet.extend_from_slice(&parcel.bytes);
    }
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<_> = waiting.iter().take(count).map(|parcel| parcel.socket.as_fd()).collect();
    if tables == Tables::Private {
        let has_room = control.push(SendAncillaryMessage::ScmRights(&sockets));
        assert!(has_room, "the space is for BATCH_MAX sockets");
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = net::sendmsg(sender, &[IoSlice::new(&packet)], &mut control, flags)?;
    assert!(sent == packet.len(), "a packet is sent whole or not at all");
    Ok(())
}

/// What was sent is no longer ours.
fn let_go(tables: Tables, sent: impl Iterator<Item = Parcel>) {
    match tables {
        // The kernel holds the sockets now; our copies close here.
        Tables::Private => sent.for_each(drop),
        Tables::Shared => sent.for_each(|parcel| _ = parcel.socket.into_raw_fd()),
    }
}

fn receive_batch(
    receiver: impl AsFd,
    tables: Tables,
    packet: &mut [u8],
    unpacked: &mut VecDeque<Result<Parcel, Lost>>,
) -> rustix::io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = net::recvmsg(receiver, &mut [IoSliceMut::new(packet)], &mut control, flags)?;
    let mut sockets: VecDeque<OwnedFd> = VecDeque::with_capacity(BATCH_MAX);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    let mut rest = &packet[..received.bytes];
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_LEN>() {
        let [len, number] = [0, 4].map(|at| [head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (bytes, after) = after.split_at(u32::from_ne_bytes(len) as usize);
        rest = after;
        let socket = match tables {
            // Out of descriptors the kernel drops the sockets that do not fit.
            Tables::Private => sockets.pop_front(),
            Tables::Shared => Some(adopt(RawFd::from_ne_bytes(number))),
        };
        let bytes = bytes.to_vec();
        unpacked.push_back(match socket {
            Some(socket) => Ok(Parcel { socket, bytes }),
            None => Err(Lost { bytes }),
        });
    }
    Ok(received.bytes)
}

/// Before each parcel's bytes: how many there are, and the socket's number in the sender's table.
const HEAD_LEN: usize = 8;
const PACKET_MAX: usize = BYTES_MAX + HEAD_LEN;
const SEND_BUFFER_LEN: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::task::Waker;

    use super::*;

    fn parcel(byte: u8, len: usize) -> Parcel {
        let (socket, _) = net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        Parcel {
            socket,
            bytes: vec![byte; len],
        }
    }

    #[test]
    fn parcels_arrive_in_order_with_their_bytes_over_several_packets() {
        for tables in [Tables::Private, Tables::Shared] {
            parcels_arrive(tables);
        }
    }

    fn parcels_arrive(tables: Tables) {
        let (ends, mut receivers, _outside) = connect(1, tables).unwrap();
        let reactor = Reactor::new().unwrap();
        let handover = Handover::new(ends);
        let mut arrivals = Arrivals::new(&reactor, receivers.pop().unwrap(), tables).unwrap();
        let lens = [0, 1, 200, BYTES_MAX, 300, 8_192, 8_192, 60_000, 7];
        for (index, len) in lens.iter().cycle().take(60).enumerate() {
            handover.try_send(0, parcel(index as u8, *len)).unwrap();
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut arrived = 0_usize;
        loop {
            let blocked = handover.flush();
            while let Poll::Ready(arrived_now) = arrivals.poll_next(&mut context) {
                let parcel = arrived_now.unwrap();
                assert_eq!(parcel.bytes, vec![arrived as u8; lens[arrived % lens.len()]]);
                arrived += 1;
            }
            // The test has no loop that reports edges: a look without the ready bit.
            if !blocked && arrived == 60 {
                break;
            }
            let again = rustix::io::dup(arrivals.entry.fd()).unwrap();
            let again = Arrivals::new(&reactor, again, tables).unwrap();
            std::mem::forget(std::mem::replace(&mut arrivals, again));
        }
    }

    /// In a table of its own, so that the other tests keep their descriptors.
    #[test]
    fn a_socket_for_which_there_is_no_descriptor_is_told_as_lost() {
        let test = std::thread::spawn(|| {
            crate::private_table::make_private(&HashSet::new()).unwrap();
            let (ends, mut receivers, _outside) = connect(1, Tables::Private).unwrap();
            let reactor = Reactor::new().unwrap();
            let handover = Handover::new(ends);
            let mut arrivals = Arrivals::new(&reactor, receivers.pop().unwrap(), Tables::Private).unwrap();
            for byte in 0..3 {
                handover.try_send(0, parcel(byte, 1)).unwrap();
            }
            let mut filling: Vec<OwnedFd> = std::iter::from_fn(|| rustix::io::dup(arrivals.entry.fd()).ok()).collect();
            assert!(!handover.flush());
            // What was sent has closed here: so much room there is again.
            filling.extend(std::iter::from_fn(|| rustix::io::dup(arrivals.entry.fd()).ok()));
            filling.pop();
            let mut context = Context::from_waker(Waker::noop());
            let mut next = || match arrivals.poll_next(&mut context) {
                Poll::Ready(arrived) => Some(arrived.map(|parcel| parcel.bytes)),
                Poll::Pending => None,
            };
            assert_eq!(next(), Some(Ok(vec![0])));
            for byte in [1, 2] {
                assert_eq!(next(), Some(Err(Lost { bytes: vec![byte] })));
            }
            assert_eq!(next(), None);
        });
        test.join().unwrap();
    }

    #[test]
    fn sockets_go_to_the_ordinary_threads_and_back() {
        for tables in [Tables::Private, Tables::Shared] {
            let (ends, mut receivers, mut outside) = connect(1, tables).unwrap();
            let reactor = Reactor::new().unwrap();
            let handover = Handover::new(ends);
            let mut arrivals = Arrivals::new(&reactor, receivers.pop().unwrap(), tables).unwrap();
            assert!(outside.try_receive().is_none());
            for byte in 0..20 {
                handover.try_send_outside(parcel(byte, 300)).unwrap();
            }
            assert!(!handover.flush());
            for byte in 0..20 {
                let received = outside.try_receive().unwrap().unwrap();
                assert_eq!(received.bytes, [byte; 300]);
                outside.try_send(0, received).map_err(|(_, error)| error).unwrap();
            }
            assert!(outside.try_receive().is_none());
            let mut context = Context::from_waker(Waker::noop());
            for byte in 0..20 {
                let Poll::Ready(Ok(arrived)) = arrivals.poll_next(&mut context) else {
                    panic!("it has arrived");
                };
                assert_eq!(arrived.bytes, [byte; 300]);
            }
        }
    }

    #[test]
    fn one_socket_too_many_is_refused_and_comes_back() {
        let (ends, _receivers, _outside) = connect(1, Tables::Private).unwrap();
        let handover = Handover::new(ends);
        let socket = parcel(0, 0).socket;
        for _ in 0..WAITING_MAX {
            let copy = rustix::io::dup(&socket).unwrap();
            handover
                .try_send(
                    0,
                    Parcel {
                        socket: copy,
                        bytes: Vec::new(),
                    },
                )
                .unwrap();
        }
        assert!(
            handover
                .try_send(0, parcel(1, 3))
                .is_err_and(|back| back.bytes == [1, 1, 1])
        );
    }
}
