//! Chooses how long what somebody says is: mostly little, and now and then about as long as where something else is done with it.

use shards::simulation::random::Random;

/// Bytes that a message is padded with.
pub fn some_len(random: &mut Random) -> usize {
    if !random.percent(8) {
        return 0;
    }
    let threshold = THRESHOLDS[random.below(THRESHOLDS.len())];
    threshold - 100 + random.below(150)
}

/// A member of an object that has about so many bytes. They do not compress well.
pub fn padding(len: usize) -> String {
    let mut random = Random::new(len as u64);
    let digits = (0..len).map(|_| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[random.below(36)]));
    digits.collect()
}

/// The bound of this world's messages; what is chosen stays below, with what is said around it.
pub const MESSAGE_MAX: usize = 100 << 10;
/// A frame's short length; what may wait for the end of a pass, and `send_queue_bytes`; what counts as much in the shard's account; what
/// is copied behind a header; what one turn takes and the receive buffer holds, and a frame's middle length; and the bound.
const THRESHOLDS: [usize; 6] = [126, 4 << 10, 8 << 10, 16 << 10, 64 << 10, MESSAGE_MAX - 200];
