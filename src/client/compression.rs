//! Agrees with clients on compression, and compresses with what all clients of a shard share (RFC 7692).

use std::cell::RefCell;

use shards::turn;

use super::frame::Frame;
use crate::config::{Core, Node};
use crate::observe::counters::Counters;
use protocol::http::RequestHead;
use protocol::websocket::deflate::{Agreement, Deflate, DeflateConfig, Deflater, Inflater, negotiate};

/// A shard's one inflater and one deflater. A message may be answered while the room that it was inflated to is lent.
#[derive(Debug, Default)]
pub struct Compression {
    pub(super) inflater: RefCell<Inflater>,
    deflater: RefCell<Deflater>,
}

impl Compression {
    /// Compresses a message, if that makes it shorter. It has to be sent, and before any other one.
    pub(super) fn deflate(&self, client: &mut Deflate, frame: &mut Frame, counters: &Counters) {
        let plain_len = frame.payload().len();
        turn::spend(DEFLATE_COST * plain_len);
        let mut deflater = self.deflater.borrow_mut();
        if let Some(deflated) = deflater.deflate(client, frame.payload()) {
            counters.deflate_messages_out.add();
            counters.deflate_bytes_out_plain.add_many(plain_len as u64);
            counters.deflate_bytes_out.add_many(deflated.len() as u64);
            frame.set_deflated(deflated);
        }
        deflater.shrink();
    }
}

/// What a client's opening handshake and the configuration come to.
pub(super) fn agree(node: &Node, core: &Core, head: &RequestHead<'_>) -> Option<Agreement> {
    if !core.deflate {
        return None;
    }
    let config = DeflateConfig {
        // Its bounds are those of the algorithm.
        window_bits: core.deflate_window.ilog2() as u8,
    };
    let agreement = negotiate(head.headers("sec-websocket-extensions"), config)?;
    let is_broken = |agent: &[u8]| node.deflate_not_for.iter().any(|part| contains(agent, part.as_bytes()));
    (!head.headers("user-agent").any(is_broken)).then_some(agreement)
}

/// Whether `part` is in `text`, in upper case or lower case; it is not empty.
fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|place| place.eq_ignore_ascii_case(part))
}

/// What compressing a byte costs, in the cost of received ones.
const DEFLATE_COST: usize = 4;
