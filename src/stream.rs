//! Reads from and writes to a socket on behalf of a task that waits for nothing else: with a deadline, and without a
//! buffer of its own.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use shards::{Socket, Timer};

use crate::env::Env;

/// Reads what is there, at most some KiB, and lends it to `take`. Returns its length; 0 is the end.
///
/// # Errors
/// What `recv(2)` gives.
pub fn poll_recv(
    env: &Env,
    context: &mut Context<'_>,
    socket: &Socket,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    let mut scratch = env.scratch();
    let received = socket.poll_recv(context, &mut scratch);
    if let Poll::Ready(Ok(len)) = received {
        take(scratch.split_at(len).0);
    }
    received
}

/// Waits for bytes and lends them to `take`. Returns their length; 0: the other side has closed or broken the
/// connection, or `timer` has expired.
pub async fn recv(env: &Env, socket: &Socket, timer: &mut Timer, mut take: impl FnMut(&[u8])) -> usize {
    poll_fn(|context| match poll_recv(env, context, socket, &mut take) {
        Poll::Pending => timer.poll_expired(context).map(|()| 0),
        Poll::Ready(received) => Poll::Ready(received.unwrap_or(0)),
    })
    .await
}

/// Runs `task`, but no longer than until `end` is ready: then `None`.
pub async fn until<T>(mut end: impl FnMut(&mut Context<'_>) -> Poll<()>, task: impl Future<Output = T>) -> Option<T> {
    let mut task = std::pin::pin!(task);
    poll_fn(|context| match end(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => task.as_mut().poll(context).map(Some),
    })
    .await
}

/// Writes all of `bytes`.
///
/// # Errors
/// What `send(2)` gives, or a time-out at `deadline`.
pub async fn send_all(env: &Env, socket: &Socket, bytes: &[u8], deadline: Instant) -> io::Result<()> {
    let mut sent = 0;
    let mut timer = Timer::new(&env.reactor);
    timer.set(Some(deadline));
    while let Some(rest @ [_, ..]) = bytes.get(sent..) {
        sent += poll_fn(|context| match socket.poll_send(context, rest) {
            Poll::Pending => timer
                .poll_expired(context)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
            ready => ready,
        })
        .await?;
    }
    Ok(())
}

/// Closes our side, then reads and drops what the other one still sends, until it closes or time is up: an answer that
/// was sent last is not lost to a reset.
pub async fn linger(env: &Env, socket: &Socket) {
    linger_for(env, socket, LAST_WORD_TIMEOUT).await;
}

/// The same for another time.
pub async fn linger_for(env: &Env, socket: &Socket, time: Duration) {
    socket.shutdown_write();
    let mut timer = Timer::new(&env.reactor);
    timer.set(Some(env.reactor.now() + time));
    for _ in 0..LINGER_READS_MAX {
        if recv(env, socket, &mut timer, |_| {}).await == 0 {
            return;
        }
    }
}

/// How long the last answer on a connection may take to leave, and the other side to close.
pub const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_READS_MAX: usize = 64;
