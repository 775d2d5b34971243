//! Compresses as a client does (RFC 7692): one stream each way, kept for as long as the connection lasts.

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress, Status};

/// What a client has agreed on, and its streams.
#[derive(Debug)]
pub struct Compression {
    deflater: Compress,
    inflater: Decompress,
    forgets: bool,
    server_forgets: bool,
}

impl Compression {
    /// Of `Sec-WebSocket-Extensions` in the answer.
    #[track_caller]
    pub fn agreed(extensions: &str) -> Self {
        let mut parts = extensions.split(';').map(str::trim);
        assert_eq!(parts.next(), Some("permessage-deflate"), "{extensions}");
        let (mut ours, mut theirs, mut forgets, mut server_forgets) = (15, 15, false, false);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "server_no_context_takeover" => server_forgets = true,
                "client_no_context_takeover" => forgets = true,
                "server_max_window_bits" => theirs = value.parse().expect("a number of bits"),
                "client_max_window_bits" => ours = value.parse().expect("a number of bits"),
                _ => panic!("{part} in {extensions}"),
            }
        }
        Self {
            deflater: Compress::new_with_window_bits(Level::new(6), false, ours),
            inflater: Decompress::new_with_window_bits(false, theirs),
            forgets,
            server_forgets,
        }
    }

    /// A message's payload.
    pub fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        if self.forgets {
            self.deflater.reset();
        }
        let mut out = Vec::with_capacity(message.len() + message.len() / 1000 + 64);
        self.deflater
            .compress_vec(message, &mut out, FlushCompress::Sync)
            .expect("there is room");
        if out.is_empty() {
            // Nothing came since the last flush: an empty message is an empty block (7.2.3.6).
            return vec![0];
        }
        out.strip_suffix(&TAIL).expect("a sync flush ends so").to_vec()
    }

    /// The message of a payload.
    #[track_caller]
    pub fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if self.server_forgets {
            self.inflater.reset(false);
        }
        let mut out = Vec::new();
        let whole = [payload, &TAIL].concat();
        let start = self.inflater.total_in();
        loop {
            out.reserve(64 * 1024);
            let rest = &whole[(self.inflater.total_in() - start) as usize..];
            let status = self
                .inflater
                .decompress_vec(rest, &mut out, FlushDecompress::Sync)
                .expect("a deflate stream");
            assert_ne!(status, Status::StreamEnd, "we say of no block that it is the last one");
            if out.len() < out.capacity() {
                return out;
            }
        }
    }
}

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
