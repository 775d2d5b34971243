//! Computes when what is due: connects spread over the ramp, messages over the interval, nothing remembered.
//!
//! Open loop: nothing here depends on how the other side does, so a stall shows as latency of everything that was due
//! meanwhile. Each thread has its own schedule; a thread's clients take turns in an order that has nothing to do with
//! the order of their connects, each at an irregular place within its own slice of the interval.

/// Connects and messages of one thread's clients. Times in nanoseconds of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Clients of this thread: at least 1.
    clients: u32,
    thread: u32,
    threads: u32,
    start_ns: u64,
    ramp_ns: u64,
    /// 0: no messages.
    interval_ns: u64,
    /// Coprime with `clients`, and its inverse modulo `clients`.
    stride: u32,
    inverse: u32,
}

/// What all threads' schedules have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// When the first connect is due.
    pub start_ns: u64,
    /// Time over which the connects are spread.
    pub ramp_ns: u64,
    /// Time between two messages of a client; 0: none.
    pub interval_ns: u64,
}

impl Schedule {
    /// The schedule of thread `thread` of `threads`, which has `clients` of the clients.
    ///
    /// # Panics
    /// Without clients, or with a thread beyond their number.
    #[must_use]
    pub fn new(timing: Timing, clients: u32, thread: u32, threads: u32) -> Self {
        assert!(clients > 0, "a thread without clients needs no schedule");
        assert!(thread < threads);
        let (stride, inverse) = coprime_stride(clients);
        let Timing {
            start_ns,
            ramp_ns,
            interval_ns,
        } = timing;
        Self {
            clients,
            thread,
            threads,
            start_ns,
            ramp_ns,
            interval_ns,
            stride,
            inverse,
        }
    }

    /// When the connect number `order` of this thread is due.
    #[must_use]
    pub fn connect_due(&self, order: u32) -> u64 {
        let (order, threads) = (u128::from(order), u128::from(self.threads));
        let position = order * threads + u128::from(self.thread);
        let all = u128::from(self.clients) * threads;
        self.start_ns + (u128::from(self.ramp_ns) * position / all) as u64
    }

    /// Which client connects as number `order`.
    #[must_use]
    pub fn slot_of(&self, order: u32) -> u32 {
        (u64::from(order) * u64::from(self.stride) % u64::from(self.clients)) as u32
    }

    /// The number of the connect of client `slot`.
    #[must_use]
    pub fn order_of(&self, slot: u32) -> u32 {
        (u64::from(slot) * u64::from(self.inverse) % u64::from(self.clients)) as u32
    }

    /// The message number `turn` of this thread: whose it is, and which of that client's.
    #[must_use]
    pub fn turn(&self, turn: u64) -> (u32, u32) {
        let clients = u64::from(self.clients);
        ((turn % clients) as u32, (turn / clients) as u32)
    }

    /// When message `round` of client `slot` is due; rising with the round, and within a round with the slot.
    #[must_use]
    pub fn message_due(&self, slot: u32, round: u32) -> u64 {
        let interval = u128::from(self.interval_ns);
        // Each client has one slice of the interval and a fixed, irregular place in it: 16 bits of a hash.
        let place = (u128::from(slot) << 16) + u128::from(crate::outcomes::digest(u64::from(slot)) & 0xffff);
        let within = interval * place / (u128::from(self.clients) << 16);
        // The threads' slices interleave.
        let shift = interval * u128::from(self.thread) / (u128::from(self.clients) * u128::from(self.threads));
        self.start_ns + u64::from(round) * self.interval_ns + (within + shift) as u64
    }

    /// The first message that client `slot` sends: the first one due after its connect and a grace for the handshake.
    #[must_use]
    pub fn first_round(&self, slot: u32) -> u32 {
        let from = self.connect_due(self.order_of(slot)) + CONNECT_GRACE_NS.min(self.interval_ns);
        let phase = self.message_due(slot, 0);
        if self.interval_ns == 0 || phase >= from {
            return 0;
        }
        (from - phase).div_ceil(self.interval_ns) as u32
    }
}

/// A number coprime with `modulus` near its golden section, so that neighbours end up far apart, and its inverse.
fn coprime_stride(modulus: u32) -> (u32, u32) {
    let mut stride = (f64::from(modulus) * 0.618_033_988_75) as u32;
    loop {
        stride = stride.max(1);
        if let Some(inverse) = inverse(stride, modulus) {
            return (stride, inverse);
        }
        stride += 1;
    }
}

/// The inverse of `value` modulo `modulus` by Euclid's extended algorithm, if there is one.
fn inverse(value: u32, modulus: u32) -> Option<u32> {
    let (mut old, mut new) = ((i64::from(modulus), 0_i64), (i64::from(value), 1_i64));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    (old.0 == 1).then(|| old.1.rem_euclid(i64::from(modulus)) as u32)
}

const CONNECT_GRACE_NS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        start_ns: 1_000,
        ramp_ns: 30_000_000_000,
        interval_ns: 10_000_000_000,
    };

    #[test]
    fn every_client_connects_once_and_order_of_undoes_slot_of() {
        let counts = [1, 2, 3, 4, 5, 100, 1_000, 15_001, 18_600];
        for clients in counts {
            let schedule = Schedule::new(TIMING, clients, 0, 1);
            let mut seen = vec![false; clients as usize];
            for order in 0..clients {
                let slot = schedule.slot_of(order);
                assert!(
                    !std::mem::replace(&mut seen[slot as usize], true),
                    "slot {slot} of {clients} twice"
                );
                assert_eq!(schedule.order_of(slot), order);
            }
        }
    }

    #[test]
    fn connects_fill_the_ramp_evenly_over_all_threads() {
        let threads = 3;
        let mut due: Vec<u64> = Vec::new();
        for thread in 0..threads {
            let schedule = Schedule::new(TIMING, 100, thread, threads);
            due.extend((0..100).map(|order| schedule.connect_due(order)));
        }
        due.sort_unstable();
        assert_eq!(due[0], TIMING.start_ns);
        for pair in due.windows(2) {
            assert_eq!(pair[1] - pair[0], TIMING.ramp_ns / 300);
        }
    }

    #[test]
    fn messages_come_in_the_order_of_their_turns_and_one_interval_apart() {
        let schedule = Schedule::new(TIMING, 1_000, 1, 4);
        let mut last = 0;
        for number in 0..3_000 {
            let (slot, round) = schedule.turn(number);
            let due = schedule.message_due(slot, round);
            assert!(due >= last, "turn {number}");
            last = due;
        }
        assert_eq!(
            schedule.message_due(7, 2) - schedule.message_due(7, 1),
            TIMING.interval_ns
        );
    }

    #[test]
    fn every_slice_of_the_interval_has_its_message() {
        let schedule = Schedule::new(TIMING, 1_000, 0, 1);
        let slice = TIMING.interval_ns / 1_000;
        for slot in 0..1_000 {
            let within = schedule.message_due(slot, 0) - TIMING.start_ns;
            assert_eq!(within / slice, u64::from(slot));
        }
    }

    #[test]
    fn the_first_message_is_due_within_an_interval_of_the_connect_and_its_grace() {
        let schedule = Schedule::new(TIMING, 1_000, 0, 2);
        for slot in 0..1_000 {
            let connected = schedule.connect_due(schedule.order_of(slot)) + CONNECT_GRACE_NS;
            let due = schedule.message_due(slot, schedule.first_round(slot));
            assert!(due >= connected && due < connected + TIMING.interval_ns, "slot {slot}");
        }
    }
}
