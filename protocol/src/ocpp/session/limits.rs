//! Bounds what one client's session may hold, and for how long.

use std::time::Duration;

/// The bounds of every session of a shard.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A client's Calls at the backend at once; at least 1. With more than 1, answers go out as they come.
    pub calls_in_flight: usize,
    /// Calls that wait behind them; then the socket is not read. At least 1, or a push could wait behind a Call.
    pub calls_queued: usize,
    /// Calls and SENDs of one client in a second; then the socket is not read. 0: as many as it likes.
    pub calls_per_second_max: usize,
    /// From [`Output::Call`](crate::ocpp::Output::Call) to the answer, deferred or not.
    pub call_timeout: Duration,
    /// Pushes without an answer at once; at least 1.
    pub pushes_in_flight: usize,
    /// Pushes that wait behind them; then they are refused.
    pub pushes_queued: usize,
    /// What the client has told the backend and the backend has not taken: then the socket is not read. At least 1.
    pub posts_queued: usize,
    /// Bytes of the Calls that wait, of the pushes that wait, and of the posts: from there on it is as if there were too many of them.
    /// One alone may be longer.
    pub queued_len_max: usize,
    /// From the moment that a push's frame was written to its answer.
    pub push_timeout: Duration,
    /// Pushes that waited over a reconnect wait until the client has sent its first message, and no longer than this: some clients lose what comes with the 101.
    pub push_hold: Duration,
    /// So many bad frames in a row close the connection; at least 1.
    pub bad_frames_max: u32,
    /// MessageIds may be numbers.
    pub number_ids: bool,
    /// Levels of arrays and objects in one text message or body.
    pub json_depth_max: usize,
    /// Silence after which a client is pinged; each session takes a part of it between 3/4 and all.
    pub ping_after: Duration,
    /// Silence after which it is dropped.
    pub dead_after: Duration,
}

impl Limits {
    /// The time that a Call costs its client, where there is a limit.
    pub(super) fn call_interval(&self) -> Option<Duration> {
        let calls = u32::try_from(self.calls_per_second_max).unwrap_or(u32::MAX);
        Duration::from_secs(1).checked_div(calls)
    }
}
