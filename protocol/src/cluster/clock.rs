//! Keeps the cluster's time: that of the node whose clock is ahead of all others.
//!
//! Clocks of nodes differ. A client that goes to a node whose clock is behind would look older than it is; so each node adds what
//! it hears that others are ahead. Two nodes that hear each other differ by what a message takes.

/// A node's view of the cluster's time, in milliseconds since 1970. It never goes back.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// What is added to the node's own clock.
    ahead_ms: u64,
    /// The last time that a connection was given.
    last_ms: u64,
}

impl Clock {
    /// The time, where the node's own clock shows `unix_ms`.
    pub(super) fn now(&self, unix_ms: u64) -> u64 {
        unix_ms.saturating_add(self.ahead_ms)
    }

    /// A time for a connection that begins now: not earlier than those before it, and no later than it is. (In a storm many begin
    /// in a millisecond.)
    pub(super) fn stamp(&mut self, unix_ms: u64) -> u64 {
        self.last_ms = self.now(unix_ms).max(self.last_ms);
        self.last_ms
    }

    /// Another node's clock showed `heard_ms` a moment ago. One that is a day ahead is wrong, and is not followed.
    pub(super) fn handle_heard(&mut self, heard_ms: u64, unix_ms: u64) {
        let ahead_ms = heard_ms.saturating_sub(unix_ms);
        if ahead_ms <= AHEAD_MAX_MS {
            self.ahead_ms = self.ahead_ms.max(ahead_ms);
        }
    }
}

const AHEAD_MAX_MS: u64 = 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_follows_and_nobody_goes_back() {
        let mut clock = Clock::default();
        assert_eq!(clock.now(1_000), 1_000);
        clock.handle_heard(1_500, 1_000);
        clock.handle_heard(1_200, 1_000);
        assert_eq!(clock.now(2_000), 2_500);
        clock.handle_heard(u64::MAX, 2_000);
        clock.handle_heard(2_000 + AHEAD_MAX_MS + 1, 2_000);
        assert_eq!(clock.now(2_000), 2_500, "that clock is wrong");
        assert_eq!(clock.now(u64::MAX), u64::MAX);
    }

    #[test]
    fn no_connection_is_earlier_than_the_one_before() {
        let mut clock = Clock::default();
        assert_eq!([5, 5, 4, 9].map(|unix_ms| clock.stamp(unix_ms)), [5, 5, 5, 9]);
    }
}
