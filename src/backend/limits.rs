//! Bounds a shard's connections to the backend, in number, bytes and time.

use std::time::Duration;

/// The pool's bounds and times, from the shard's config.
#[derive(Clone, Debug)]
pub struct PoolLimits {
    /// Connections to all backends together.
    pub connections_max: usize,
    /// Requests in flight on one of them; 1: none is pipelined.
    pub pipeline_max: usize,
    /// Requests of each kind that wait for one.
    pub waiters_max: usize,
    /// For so long a request is tried again that cannot have been executed.
    pub retry: Duration,
    /// An unused connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection must be open within this.
    pub connect_timeout: Duration,
    /// Bytes of an answer's head.
    pub head_max: usize,
    /// Bytes of an answer's content.
    pub content_max: usize,
}
