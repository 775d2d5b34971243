//! Hears the PROXY protocol header that comes before everything else of a connection, where one is due: before the request, or before
//! the TLS handshake.

use std::net::SocketAddr;
use std::time::Instant;

use shards::{Socket, Timer};

use super::unread::{Unread, receive};
use crate::client::permit::HandshakePermit;
use crate::env::Env;
use crate::env::proxy_peers::{Listener, is_believed};
use crate::stream::recv;
use protocol::mapping::TlsFacts;
use protocol::proxy_protocol;

/// A connection, as far as its introduction says who it is.
pub(super) struct Introduced {
    /// The client's, as far as we know.
    pub(super) address: SocketAddr,
    /// What the balancer says of the client's TLS with it.
    pub(super) tls: Option<Box<TlsFacts>>,
    /// What has come behind the header.
    pub(super) received: Vec<u8>,
}

/// Who connects directly says nothing.
pub(super) fn direct(address: SocketAddr) -> Introduced {
    Introduced {
        address,
        tls: None,
        received: Vec::new(),
    }
}

/// Waits for the header of `address`. One that is missing, or is not believed, ends the connection, and is counted and told.
pub(super) async fn hear(
    env: &Env,
    listener: Listener,
    socket: &Socket,
    permit: &HandshakePermit,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Introduced, Unread> {
    let mut timer = Timer::new(&env.reactor);
    timer.set(Some(deadline));
    let mut received = Vec::new();
    loop {
        let receiving = recv(env, socket, &mut timer, |piece| received.extend_from_slice(piece));
        receive(env, permit, receiving).await?;
        match proxy_protocol::parse(&received) {
            Ok(None) => {}
            Ok(Some(header)) => {
                if !is_believed(env, listener, address) {
                    return Err(Unread::Gone);
                }
                received.drain(..header.len);
                return Ok(Introduced {
                    address: header.source.unwrap_or(address),
                    tls: header.tls,
                    received,
                });
            }
            Err(_) => {
                let missing = match listener {
                    Listener::ListenTls => &env.counters.tls_proxy_missing,
                    _ => &env.counters.proxy_missing,
                };
                missing.add();
                let reason = "it begins without the PROXY protocol header that proxy_protocol waits for";
                env.note_refused(None, address, None, reason);
                return Err(Unread::Gone);
            }
        }
    }
}
