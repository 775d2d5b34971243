//! Counts what a load thread does while it runs, to be handed over when it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdrhistogram::Histogram;

/// Things that are counted. [`Counts`] has one cell for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// Connects begun.
    Connecting,
    /// Opening handshakes finished.
    Opened,
    /// Of them, those that have resumed a session of TLS.
    Resumed,
    /// Connects that failed or were refused.
    Failed,
    /// Open connections that ended before the harness ended them.
    Closed,
    /// Calls sent.
    Sent,
    /// Calls answered right.
    Answered,
    /// Answers of any kind that were not what was asked for.
    Wrong,
    /// Second answers.
    Duplicated,
    /// Right answers after the time allowed.
    Late,
    /// Calls that were due on a connection that had failed.
    Missed,
    /// Pushes that arrived at their client.
    Pushed,
    /// Pushes that arrived at another client, or broken.
    PushedWrong,
    /// Pings answered.
    Pings,
    /// Answers that came before the one to an earlier Call of their client.
    Reordered,
    /// CPU time of the thread in nanoseconds, as of its last second.
    CpuNs,
}

const COUNTS: usize = Count::CpuNs as usize + 1;

/// One thread's counters: it alone writes them, anybody reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counts {
    cells: [AtomicU64; COUNTS],
}

impl Counts {
    /// Counts one more.
    pub fn bump(&self, count: Count) {
        let cell = &self.cells[count as usize];
        cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Replaces a value that is not a count of events.
    pub fn set(&self, count: Count, value: u64) {
        self.cells[count as usize].store(value, Ordering::Relaxed);
    }

    /// Reads one count.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.cells[count as usize].load(Ordering::Relaxed)
    }
}

/// The sums over all threads at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    sums: [u64; COUNTS],
}

impl Totals {
    /// Adds up.
    #[must_use]
    pub fn of<'a>(threads: impl IntoIterator<Item = &'a Counts>) -> Self {
        let mut totals = Self::default();
        for counts in threads {
            for (sum, cell) in totals.sums.iter_mut().zip(&counts.cells) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
        totals
    }

    /// Reads one count.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.sums[count as usize]
    }

    /// Calls without an answer of any kind.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.get(Count::Sent)
            .saturating_sub(self.get(Count::Answered) + self.get(Count::Wrong))
    }
}

/// How the main thread steers the load threads. Times are [`crate::poller::now_ns`]; `u64::MAX`: not known yet.
#[derive(Debug)]
pub struct Control {
    /// The measurement begins.
    pub window_start_ns: AtomicU64,
    /// No Call is due from here on.
    pub window_end_ns: AtomicU64,
    /// When the last upgrade began; `u64::MAX`: there was none.
    pub upgrade_begin_ns: AtomicU64,
    /// When it was over; `u64::MAX`: it is not.
    pub upgrade_end_ns: AtomicU64,
    /// The threads close everything and hand over.
    pub stop: AtomicBool,
}

impl Default for Control {
    fn default() -> Self {
        let unknown = || AtomicU64::new(u64::MAX);
        Self {
            window_start_ns: unknown(),
            window_end_ns: unknown(),
            upgrade_begin_ns: unknown(),
            upgrade_end_ns: unknown(),
            stop: AtomicBool::new(false),
        }
    }
}

impl Control {
    /// When the measurement begins.
    #[must_use]
    pub fn window_start(&self) -> u64 {
        self.window_start_ns.load(Ordering::Relaxed)
    }

    /// When the measurement ends.
    #[must_use]
    pub fn window_end(&self) -> u64 {
        self.window_end_ns.load(Ordering::Relaxed)
    }

    /// An upgrade is under way from now on.
    pub fn begin_upgrade(&self, now: u64) {
        self.upgrade_end_ns.store(u64::MAX, Ordering::Relaxed);
        self.upgrade_begin_ns.store(now, Ordering::Relaxed);
    }

    /// It is over.
    pub fn end_upgrade(&self, now: u64) {
        self.upgrade_end_ns.store(now, Ordering::Relaxed);
    }

    /// Whether an upgrade was under way at any time from `due` to `now`.
    #[must_use]
    pub fn was_in_upgrade(&self, due: u64, now: u64) -> bool {
        now >= self.upgrade_begin_ns.load(Ordering::Relaxed) && due <= self.upgrade_end_ns.load(Ordering::Relaxed)
    }
}

/// Latencies in microseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Calls due while the measurement ran: from due to answered.
    pub calls: Histogram<u64>,
    /// Of those, the ones that waited while an upgrade was under way.
    pub calls_in_upgrades: Histogram<u64>,
    /// Calls due before: during the ramp.
    pub calls_in_ramp: Histogram<u64>,
    /// From due to upgraded.
    pub connects: Histogram<u64>,
    /// From due to arrived at the client.
    pub pushes: Histogram<u64>,
    /// From due to answered with 202 at the ingress.
    pub accepts: Histogram<u64>,
    /// From due to sent: how late the harness itself was.
    pub send_lag: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            calls: histogram(),
            calls_in_upgrades: histogram(),
            calls_in_ramp: histogram(),
            connects: histogram(),
            pushes: histogram(),
            accepts: histogram(),
            send_lag: histogram(),
        }
    }
}

impl Latencies {
    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        for (into, from) in [
            (&mut self.calls, &other.calls),
            (&mut self.calls_in_upgrades, &other.calls_in_upgrades),
            (&mut self.calls_in_ramp, &other.calls_in_ramp),
            (&mut self.connects, &other.connects),
            (&mut self.pushes, &other.pushes),
            (&mut self.accepts, &other.accepts),
            (&mut self.send_lag, &other.send_lag),
        ] {
            // All have the same bounds, so adding cannot fail.
            let _ = into.add(from);
        }
    }
}

/// What a thread hands over at its end.
#[derive(Debug, Default)]
pub struct ThreadCounters {
    /// All latencies.
    pub latencies: Latencies,
    /// The first few things that went wrong, in words.
    pub faults: Vec<String>,
}

impl ThreadCounters {
    /// Keeps `fault` if it is one of the first few.
    pub fn note(&mut self, fault: impl FnOnce() -> String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault());
        }
    }
}

/// One thread's latencies of one second.
#[derive(Debug)]
pub struct Slice {
    /// Seconds since the first connect was due.
    pub second: u64,
    /// Calls answered in it, in microseconds from due.
    pub calls: Histogram<u32>,
    /// Pushes that arrived in it.
    pub pushes: Histogram<u32>,
}

/// Microseconds up to two minutes, three digits, fixed size.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROS_MAX, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// The same range with two digits: one is sent per thread and second.
#[must_use]
pub fn slice_histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, MICROS_MAX, 2).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// The time from `due_ns` to `now_ns` in whole microseconds.
#[must_use]
pub fn micros(due_ns: u64, now_ns: u64) -> u64 {
    now_ns.saturating_sub(due_ns) / 1_000
}

/// Faults that a thread keeps in words.
pub const FAULTS_MAX: usize = 8;
const MICROS_MAX: u64 = 120_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_an_upgrades_if_one_was_under_way_while_it_waited() {
        let control = Control::default();
        assert!(!control.was_in_upgrade(0, u64::MAX - 1));
        control.begin_upgrade(100);
        assert!(control.was_in_upgrade(90, 100) && control.was_in_upgrade(500, 600));
        assert!(!control.was_in_upgrade(90, 99));
        control.end_upgrade(200);
        assert!(control.was_in_upgrade(200, 201) && !control.was_in_upgrade(201, 300));
        control.begin_upgrade(400);
        assert!(control.was_in_upgrade(399, 400) && !control.was_in_upgrade(300, 399));
    }
}
