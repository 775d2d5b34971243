//! Hands connections of the backend to the process that has taken over, between two requests: it notices nothing.

use std::net::SocketAddr;
use std::rc::Rc;

use shards::Socket;
use shards::socket::Descriptor;

use super::Ingress;
use super::connection::Known;

impl Ingress {
    /// Whether connections are to go to another process now.
    pub(super) fn hands_over(&self) -> bool {
        self.env.taken_over.is_triggered() && self.home().can_hand_over()
    }

    /// Gives it to the other process. If there is no way any more it is closed.
    pub(super) fn hand_over(&self, socket: Socket, peer: SocketAddr, is_let_in: bool) {
        self.home().hand_over(socket.into_fd(), write(peer, is_let_in));
    }

    /// Goes on with a connection that another process has handed over, or that comes back.
    pub fn adopt(self: &Rc<Self>, socket: Descriptor, about: &[u8]) {
        let Some((peer, is_let_in)) = read(about) else {
            tracing::error!("what is said of a connection of the backend can't be read: it is closed");
            return;
        };
        // Without room in epoll it is closed.
        if let Ok(socket) = Socket::adopt(&self.env.reactor, socket) {
            self.take_in(socket, peer, Some(Known { is_let_in }));
        }
    }
}

fn write(peer: SocketAddr, is_let_in: bool) -> Vec<u8> {
    let mark = if is_let_in { "+" } else { "-" };
    format!("{mark}{peer}").into_bytes()
}

fn read(about: &[u8]) -> Option<(SocketAddr, bool)> {
    let (mark, peer) = about.split_first()?;
    let peer = str::from_utf8(peer).ok()?.parse().ok()?;
    Some((peer, *mark == b'+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_a_connection_is_read() {
        for peer in ["192.0.2.1:80", "[2001:db8::1]:65535"] {
            let peer = peer.parse().unwrap();
            for is_let_in in [false, true] {
                assert_eq!(read(&write(peer, is_let_in)), Some((peer, is_let_in)));
            }
        }
        assert_eq!(read(b""), None);
        assert_eq!(read(b"+192.0.2.1"), None);
    }
}
