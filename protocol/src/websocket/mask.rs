//! Masks and unmasks payloads in place (RFC 6455, 5.3).

/// Applies `mask` to `bytes`, which begin `phase` bytes behind the start of the frame's payload. Masking twice is no
/// change.
pub fn apply(mask: [u8; 4], phase: usize, bytes: &mut [u8]) {
    let key = u32::from_ne_bytes(mask);
    // The key as it falls on the first byte: rotated by whole bytes, in the order of memory.
    let key = if cfg!(target_endian = "little") {
        key.rotate_right(8 * (phase % 4) as u32)
    } else {
        key.rotate_left(8 * (phase % 4) as u32)
    };
    let wide = u64::from(key) << 32 | u64::from(key);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_masked_with_the_keys_byte_of_its_place() {
        let mask = [0x11, 0x22, 0x44, 0x88];
        for len in 0..40 {
            for phase in 0..9 {
                let plain: Vec<u8> = (0..len).map(|byte| byte as u8 ^ 0x5a).collect();
                let mut masked = plain.clone();
                apply(mask, phase, &mut masked);
                for (place, byte) in masked.iter().enumerate() {
                    assert_eq!(*byte, plain[place] ^ mask[(phase + place) % 4], "{len} {phase} {place}");
                }
                apply(mask, phase, &mut masked);
                assert_eq!(masked, plain);
            }
        }
    }
}
