//! The latency harness: it speaks only the wire.
