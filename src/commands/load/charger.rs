//! Remembers one charger: which Call is open, what it says next, and when.

use super::say::Say;

/// A charger. It has one Call open at a time, as OCPP-J wants it.
#[derive(Debug, Default)]
pub(super) struct Charger {
    /// Calls so far; the number of the last is in its MessageId.
    pub(super) calls: u32,
    pub(super) open: Option<Open>,
    /// The BootNotification was accepted.
    pub(super) booted: bool,
    /// It had its WebSocket before.
    pub(super) known: bool,
    /// What it says next, beside heartbeats.
    pub(super) step: Say,
    /// When that is due; before its handshake is done, when the connect was.
    pub(super) step_ns: u64,
    pub(super) heartbeat_ns: u64,
    /// As the answer to its BootNotification has it.
    pub(super) heartbeat_interval_ns: u64,
    /// When the timer that counts is due; 0: none does.
    pub(super) armed_ns: u64,
    pub(super) transaction: i64,
    pub(super) energy: u64,
    /// A message that comes in fragments.
    pub(super) fragments: Option<Vec<u8>>,
}

/// A Call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) say: Say,
    pub(super) due_ns: u64,
    pub(super) sent_ns: u64,
}

impl Charger {
    /// It connects, and begins as one that was switched on.
    pub(super) fn begin(&mut self, due_ns: u64) {
        self.booted = false;
        self.step = Say::Boot;
        self.step_ns = due_ns;
        self.armed_ns = 0;
        self.fragments = None;
    }

    /// What it says next, and when that is due.
    pub(super) fn next(&self) -> (Say, u64) {
        if self.booted && self.heartbeat_ns <= self.step_ns {
            (Say::Heartbeat, self.heartbeat_ns)
        } else {
            (self.step, self.step_ns)
        }
    }

    /// The BootNotification was answered at `now`.
    pub(super) fn handle_boot(&mut self, accepted: bool, interval_s: u64, first_step_ns: u64, now: u64) {
        let interval_ns = interval_s.clamp(1, INTERVAL_MAX_S) * SECOND_NS;
        self.booted = accepted;
        if accepted {
            self.heartbeat_interval_ns = interval_ns;
            self.heartbeat_ns = now + interval_ns;
            self.step = Say::Start;
            self.step_ns = now + first_step_ns;
        } else {
            // It may ask again then (1.6, 4.2; 2.0.1, B02 and B03).
            self.step_ns = now + interval_ns;
        }
    }

    /// A Call other than BootNotification is over at `now`, whatever its end.
    pub(super) fn handle_over(&mut self, open: Open, answered: bool, interval_ns: u64, now: u64) {
        if open.say == Say::Heartbeat {
            // Those that were missed meanwhile are not made up for.
            self.heartbeat_ns = (open.due_ns + self.heartbeat_interval_ns).max(now);
            return;
        }
        self.step = match open.say {
            // Without its number there is no transaction.
            Say::Start if !answered => Say::Start,
            say => say.following(),
        };
        self.step_ns = if interval_ns == 0 {
            now
        } else {
            open.due_ns + interval_ns
        };
    }
}

const SECOND_NS: u64 = 1_000_000_000;
/// A charger that is told to be silent for years is silent for a day.
const INTERVAL_MAX_S: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    const fn open(say: Say, due_ns: u64) -> Open {
        Open {
            say,
            due_ns,
            sent_ns: due_ns,
        }
    }

    #[test]
    fn heartbeats_come_in_the_interval_of_the_answer_between_the_steps_of_a_transaction() {
        let mut charger = Charger::default();
        charger.begin(5);
        assert_eq!(charger.next(), (Say::Boot, 5));
        charger.handle_boot(true, 2, 10, 100);
        assert_eq!(charger.next(), (Say::Start, 110));
        charger.handle_over(open(Say::Start, 110), true, 3 * SECOND_NS, 120);
        assert_eq!(charger.next(), (Say::Heartbeat, 100 + 2 * SECOND_NS));
        let due = charger.heartbeat_ns;
        charger.handle_over(open(Say::Heartbeat, due), true, 3 * SECOND_NS, due + 1);
        assert_eq!(charger.next(), (Say::Meter(1), 110 + 3 * SECOND_NS));
    }

    #[test]
    fn who_is_not_accepted_asks_again_after_the_interval() {
        let mut charger = Charger::default();
        charger.begin(0);
        charger.handle_boot(false, 7, 0, 100);
        assert_eq!(charger.next(), (Say::Boot, 100 + 7 * SECOND_NS));
        charger.handle_boot(false, u64::MAX, 0, 0);
        assert_eq!(charger.next(), (Say::Boot, INTERVAL_MAX_S * SECOND_NS));
    }

    #[test]
    fn a_start_that_failed_is_said_again_and_in_a_closed_loop_the_next_is_due_at_once() {
        let mut charger = Charger::default();
        charger.handle_boot(true, 300, 0, 0);
        charger.handle_over(open(Say::Start, 10), false, 0, 20);
        assert_eq!(charger.next(), (Say::Start, 20));
        charger.handle_over(open(Say::Start, 20), true, 0, 30);
        assert_eq!(charger.next(), (Say::Meter(1), 30));
    }
}
