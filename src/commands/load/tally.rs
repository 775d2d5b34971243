//! Counts what chargers of one thread do and get, and adds threads up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

use super::say::Action;

/// What is shown while it runs.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) connected: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) faults: AtomicU64,
}

impl Live {
    pub(super) fn read(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }

    pub(super) fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subtract(count: &AtomicU64) {
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The Calls of one Action.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) errors: u64,
    pub(super) timed_out: u64,
    /// The connection ended before their answer.
    pub(super) lost: u64,
    /// From when each was due to its CallResult or CallError, in microseconds.
    pub(super) latency: Histogram<u64>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            sent: 0,
            answered: 0,
            errors: 0,
            timed_out: 0,
            lost: 0,
            latency: histogram(),
        }
    }
}

/// What the central system asked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Requests {
    pub(super) answered: u64,
    /// With NotImplemented.
    pub(super) refused: u64,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Tally {
    /// Chargers that had their WebSocket at least once.
    pub(super) connected: u64,
    /// Opening handshakes done.
    pub(super) connects: u64,
    /// Of these, with TLS that went on with an earlier session.
    pub(super) resumed: u64,
    /// Connects that came to nothing, by why in words.
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) refused: BTreeMap<u16, u64>,
    /// Handshakes that were answered otherwise than RFC 6455 wants, or without the subprotocol.
    pub(super) misunderstood: u64,
    /// Ended by the server, with this code.
    pub(super) closed: BTreeMap<u16, u64>,
    /// Ended without a close frame.
    pub(super) cut: u64,
    /// Ended by us: what came is no WebSocket.
    pub(super) broken: u64,
    /// BootNotifications that were answered with another status than Accepted.
    pub(super) not_accepted: u64,
    /// Messages that are no frame of OCPP-J, or answer nothing that was asked.
    pub(super) bad_messages: u64,
    /// Answers behind their time-out.
    pub(super) late: u64,
    pub(super) storms: u64,
    pub(super) calls: [Calls; Action::ALL.len()],
    pub(super) requests: BTreeMap<String, Requests>,
    /// From when a connect was due to its WebSocket, in microseconds.
    pub(super) connect_latency: Histogram<u64>,
    /// The first few faults, in words.
    pub(super) examples: Vec<String>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            connected: 0,
            connects: 0,
            resumed: 0,
            failed: BTreeMap::new(),
            refused: BTreeMap::new(),
            misunderstood: 0,
            closed: BTreeMap::new(),
            cut: 0,
            broken: 0,
            not_accepted: 0,
            bad_messages: 0,
            late: 0,
            storms: 0,
            calls: Default::default(),
            requests: BTreeMap::new(),
            connect_latency: histogram(),
            examples: Vec::new(),
        }
    }
}

impl Tally {
    /// Adds another thread's.
    pub(super) fn add(&mut self, other: Self) {
        self.connected += other.connected;
        self.connects += other.connects;
        self.resumed += other.resumed;
        add_all(&mut self.failed, other.failed);
        add_all(&mut self.refused, other.refused);
        self.misunderstood += other.misunderstood;
        add_all(&mut self.closed, other.closed);
        self.cut += other.cut;
        self.broken += other.broken;
        self.not_accepted += other.not_accepted;
        self.bad_messages += other.bad_messages;
        self.late += other.late;
        // All threads have the same.
        self.storms = self.storms.max(other.storms);
        for (own, other) in self.calls.iter_mut().zip(other.calls) {
            own.sent += other.sent;
            own.answered += other.answered;
            own.errors += other.errors;
            own.timed_out += other.timed_out;
            own.lost += other.lost;
            add_histogram(&mut own.latency, &other.latency);
        }
        for (action, other) in other.requests {
            let own = self.requests.entry(action).or_default();
            own.answered += other.answered;
            own.refused += other.refused;
        }
        add_histogram(&mut self.connect_latency, &other.connect_latency);
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    /// Counts one more connect that came to nothing.
    pub(super) fn count_failed(&mut self, why: &str) {
        match self.failed.get_mut(why) {
            Some(count) => *count += 1,
            None => drop(self.failed.insert(why.to_owned(), 1)),
        }
    }

    /// Counts one more of a kind; of too many kinds the further ones together.
    pub(super) fn count_request(&mut self, action: &str, is_answered: bool) {
        let name = match self.requests.len() < REQUEST_KINDS_MAX || self.requests.contains_key(action) {
            true => action,
            false => OTHERS,
        };
        let requests = self.requests.entry(name.to_owned()).or_default();
        if is_answered {
            requests.answered += 1;
        } else {
            requests.refused += 1;
        }
    }

    /// Keeps the fault if it is one of the first few.
    pub(super) fn note(&mut self, fault: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(fault());
        }
    }

    /// Whether anybody was there who answers handshakes.
    pub(super) fn met_somebody(&self) -> bool {
        self.connects > 0 || self.misunderstood > 0 || !self.refused.is_empty()
    }

    /// What went wrong, in words; `None`: nothing.
    pub(super) fn faults(&self) -> Option<String> {
        let sum = |of: fn(&Calls) -> u64| self.calls.iter().map(of).sum::<u64>();
        let counts = [
            (self.failed.values().sum(), "connects failed"),
            (self.refused.values().sum(), "connects were refused"),
            (self.misunderstood, "handshakes were answered wrongly"),
            (self.closed.values().sum(), "connections were closed by the server"),
            (self.cut, "connections were cut"),
            (self.broken, "connections broke RFC 6455"),
            (self.not_accepted, "BootNotifications were not accepted"),
            (sum(|calls| calls.errors), "Calls had a CallError"),
            (sum(|calls| calls.timed_out), "Calls had no answer in time"),
            (self.bad_messages, "messages were no answer to anything"),
        ];
        let words: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

fn add_all<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

fn add_histogram(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    // All have the same bounds, so adding cannot fail.
    let _ = into.add(from);
}

/// Microseconds up to an hour, three digits, fixed size.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("constant bounds")
}

const MICROS_MAX: u64 = 3_600_000_000;
const EXAMPLES_MAX: usize = 8;
/// Names of Actions come from the network.
const REQUEST_KINDS_MAX: usize = 100;
const OTHERS: &str = "others";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_faults_are_told_in_words() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        assert_eq!(one.faults(), None);
        one.refused.insert(401, 2);
        other.refused.insert(401, 1);
        other.calls[Action::Heartbeat as usize].errors = 3;
        other.calls[Action::Heartbeat as usize].latency.saturating_record(10);
        other.count_request("Reset", true);
        one.add(other);
        assert_eq!(one.refused[&401], 3);
        assert_eq!(one.calls[Action::Heartbeat as usize].latency.len(), 1);
        assert_eq!(one.requests["Reset"].answered, 1);
        assert_eq!(
            one.faults().as_deref(),
            Some("3 connects were refused, 3 Calls had a CallError")
        );
        assert!(one.met_somebody());
    }

    #[test]
    fn names_from_the_network_are_bounded() {
        let mut tally = Tally::default();
        for number in 0..REQUEST_KINDS_MAX + 10 {
            tally.count_request(&format!("A{number}"), false);
        }
        assert_eq!(tally.requests.len(), REQUEST_KINDS_MAX + 1);
        assert_eq!(tally.requests[OTHERS].refused, 10);
    }
}
