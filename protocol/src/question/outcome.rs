//! Writes down the outcome of a push for the request that waits for it on another node.

use super::push::{read_waiter, write_waiter};
use crate::mapping::Identity;
use crate::mapping::outgoing::PostKey;
use crate::ocpp::{Action, MessageId, Outcome, PostContent, Waiter, json};
use crate::record::{Fields, Notice, PostRecord, RecordError, Writer};
use crate::trace_context::TraceParent;

/// What became of a push.
#[derive(Clone, Debug)]
pub struct PushOutcome {
    /// Who waits for it.
    pub waiter: Waiter,
    /// The connection that it went over.
    pub identity: Identity,
    /// The push's Action and MessageId.
    pub call: (Action, MessageId),
    /// What became of it.
    pub outcome: Outcome,
    /// The push's trace.
    pub trace: Option<Box<TraceParent>>,
}

impl PushOutcome {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (action, message_id) = self.call.clone();
        let content = PostContent::Outcome(self.outcome.clone());
        let post = PostRecord {
            identity: self.identity.clone(),
            notice: Notice::Post(action, message_id, content, self.trace.clone()),
            // It has none until it is posted.
            key: PostKey { shard: 0, number: 0 },
            age: std::time::Duration::ZERO,
            due_in: std::time::Duration::ZERO,
            tries: 0,
            is_clients_own: false,
        };
        let mut bytes = Vec::new();
        let mut record = Writer::new(&mut bytes);
        record.fields(WAITER, |record| write_waiter(self.waiter, record));
        record.bytes(POST, &post.record());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. What the client has said is JSON of at most `len_max` bytes, not nested deeper
    /// than `depth_max`.
    ///
    /// # Errors
    /// It is no outcome.
    pub fn read(bytes: &[u8], len_max: usize, depth_max: usize) -> Result<Self, RecordError> {
        let mut fields = Fields::of_record(bytes)?;
        let (mut waiter, mut post) = (None, None);
        while let Some(field) = fields.next()? {
            match field.number {
                WAITER => waiter = Some(read_waiter(&field)?),
                POST => post = Some(PostRecord::read(field.bytes())?),
                _ => {}
            }
        }
        let PostRecord { identity, notice, .. } = post.ok_or(RecordError::Field(POST))?;
        let Notice::Post(action, message_id, PostContent::Outcome(outcome), trace) = notice else {
            return Err(RecordError::Field(POST));
        };
        if let Outcome::Result(body) | Outcome::Error { body } = &outcome {
            let text = str::from_utf8(body).map_err(|_| RecordError::Field(POST))?;
            if body.len() > len_max || json::check_text(text, depth_max).is_err() {
                return Err(RecordError::Field(POST));
            }
        }
        Ok(Self {
            waiter: waiter.ok_or(RecordError::Field(WAITER))?,
            identity,
            call: (action, message_id),
            outcome,
            trace,
        })
    }
}

const WAITER: u32 = 1;
const POST: u32 = 2;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mapping::ConnectionId;
    use crate::ocpp::{ClientId, FailReason};
    use crate::random::Random;

    fn told(outcome: Outcome) -> PushOutcome {
        let client = ClientId::parse("CP 1").unwrap();
        let connection = ConnectionId::adopted("deadbeef00100000004d", 0).unwrap();
        PushOutcome {
            waiter: Waiter {
                node: u64::MAX,
                is_moved: true,
                process: 1,
                shard: 2,
                token: 3,
            },
            identity: Identity::new(client, connection, Some("ocpp1.6"), "10.0.0.1"),
            call: (Action::parse("Reset").unwrap(), MessageId::parse("m:1").unwrap()),
            outcome,
            trace: Some(Box::new(TraceParent::begin(1, 2))),
        }
    }

    #[test]
    fn an_outcome_is_read_as_it_was_written_if_it_is_json() {
        for (outcome, is_fine) in [
            (Outcome::Result(Bytes::from_static(b"{ \"a\":[1]}")), true),
            (Outcome::Result(Bytes::from_static(b"[[[1]]]")), false),
            (Outcome::Result(Bytes::from_static(b"{")), false),
            (Outcome::Result(Bytes::from_static(b"\xff")), false),
            (Outcome::Result(Bytes::from(vec![b'1'; 65])), false),
            (
                Outcome::Error {
                    body: Bytes::from_static(b"{}"),
                },
                true,
            ),
            (
                Outcome::Failed {
                    reason: FailReason::Replaced,
                    sent: true,
                },
                true,
            ),
        ] {
            let told = told(outcome);
            let read = PushOutcome::read(&told.to_bytes(), 64, 2);
            assert_eq!(read.is_ok(), is_fine, "{told:?}");
            if let Ok(read) = read {
                assert_eq!(format!("{read:?}"), format!("{told:?}"));
            }
        }
    }

    #[test]
    fn whatever_comes_is_read_or_refused() {
        let mut random = Random::new(7);
        let written = told(Outcome::Result(Bytes::from_static(b"{}"))).to_bytes();
        let mut refused = 0;
        for _ in 0..10_000 {
            let mut bytes = written.clone();
            random.damage(&mut bytes);
            refused += usize::from(PushOutcome::read(&bytes, 64, 4).is_err());
        }
        assert!(refused > 2_000, "{refused}");
    }
}
