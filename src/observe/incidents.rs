//! Names the client to whom something happened that its operator can mend: in the log, and for the alerts.
//!
//! Each kind has so many lines a minute, for the whole process; what is more is counted, and the last line says so. So a fleet with one
//! fault fills no disk. A shard that may not write asks again only when that time is over, and shares nothing with others until then.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use protocol::mapping::{Identity, forwarded};

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])* $kind:ident, $label:literal, $text:literal; )+) => {
        /// What happens to a client.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum IncidentKind {
            $( $(#[doc = $doc])* $kind, )+
        }

        /// All of them.
        pub const KINDS: &[IncidentKind] = &[ $( IncidentKind::$kind, )+ ];

        impl IncidentKind {
            /// Its name in the log, as the metrics and the configuration have it.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $( Self::$kind => $label, )+ }
            }

            /// What was done, and what is to be done.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $( Self::$kind => $text, )+ }
            }
        }

        /// For each kind: the minute of the last lines, and how many it has got.
        static LINES: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];
    };
}

kinds! {
    /// A frame that is not OCPP-J.
    FrameBad, "frames_bad", "a frame of this client is none of OCPP-J; it was answered with a CallError where its id can be read, and dropped else. \
        `POST /trace?client=ID` at the admin address shows its frames";
    /// `bad_frames_max` of them in a row.
    FramesBad, "bad_frames_max", "this client was closed with 1008: bad_frames_max bad frames in a row. It may come back at once; \
        `POST /trace?client=ID` at the admin address shows its frames";
    /// It takes nothing.
    NotReading, "send_queue_bytes", "this client was cut off because it does not read: send_queue_bytes waited for it, or it took nothing for send_timeout. \
        It may come back at once; again and again, it hangs or its network does";
    /// It held most when there was no room.
    NoRoom, "buffers_max", "this client was closed with 1013: the shard held buffers_max bytes for clients, and most of it for this one. It may come back at once; \
        is it one that sends and does not read, are many such, or is buffers_max too little for so many?";
    /// A message longer than allowed.
    TooLarge, "message_max", "this client was closed with 1009: a message longer than message_max. It may come back at once; raise message_max if the message \
        is what it should be";
    /// It breaks RFC 6455.
    ProtocolError, "protocol_error", "this client was closed because what it sends is no WebSocket, no UTF-8, or not text. It may come back at once; is something between it and \
        here that changes bytes?";
    /// Two of one name.
    Twins, "replaced", "connections of this ClientId replace each other again and again; the older one was closed with 4001 each time. Two chargers with one id \
        (then the addresses differ): give one another id. Or one that connects anew without an end: look at its network";
    /// Pushes that find no room.
    PushesFull, "pushes_queued", "a push was refused with 429: pushes_queued others wait for this client, which answers slowly or not. The backend may \
        push again later; `GET /clients/ID` at the ingress shows what waits, `DELETE` closes the connection";
    /// Calls that find no room.
    CallsFull, "calls_queued", "a Call was refused with InternalError: calls_queued others of this client wait for the backend. It sends without waiting for \
        answers, or the backend is slow";
    /// A Call with a trace that the backend has not answered as it should.
    TracedCallFailed, "traced_call", "a Call was not answered as it should be; it is one of those whose trace is recorded (trace_sampled), where its way \
        can be looked at";
    /// An outcome that the backend has not taken in time.
    PostExpired, "result_ttl", "what became of this was given up: the backend has not taken it within result_ttl. If it was a push it may have been \
        executed: let the backend ask anew; then a result_ttl that covers the backend's restart";
    /// An outcome for which there is no room.
    PostShed, "results_queued_max", "what became of this was given up: results_queued_max (or results_queued_bytes) others wait for the backend. If it was a \
        push it may have been executed: let the backend ask anew. Is the backend up, and fast enough?";
    /// An outcome that the backend does not want.
    PostRefused, "refused", "what became of this was given up: the backend refused it with 4xx or 3xx. Its log has the request";
    /// Something that the backend has not taken when the process ends.
    PostUndelivered, "drain", "what became of this was not told to the backend: it had not taken it when drain_timeout was over. If it was a push it may have \
        been executed: let the backend ask anew";
    /// An end that the backend does not know of.
    DisconnectLost, "disconnects_lost", "the end of this connection was not told to the backend: it was not taken within result_ttl, refused, or one of more than \
        results_queued_max. Let the backend compare its list with `GET /clients` at the ingress";
}

impl IncidentKind {
    /// Whether something is lost that the backend waits for.
    #[must_use]
    pub fn is_loss(self) -> bool {
        matches!(self, Self::PostExpired | Self::PostShed | Self::PostUndelivered)
    }
}

/// What else is known of one.
#[derive(Clone, Debug, Default)]
pub struct Details<'d> {
    /// What exactly.
    pub detail: &'d str,
    /// The Action of the Call or push.
    pub action: Option<&'d str>,
    /// Its MessageId.
    pub message_id: Option<&'d str>,
    /// The trace that it belongs to.
    pub trace_id: Option<&'d str>,
}

/// One shard's incidents.
#[derive(Debug, Default)]
pub struct Incidents {
    kinds: [OfKind; KINDS.len()],
}

#[derive(Debug, Default)]
struct OfKind {
    count: Cell<u64>,
    last: RefCell<Option<Rc<Identity>>>,
    /// No line is to be had in this minute.
    full_minute: Cell<u64>,
}

/// What a shard says of one kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IncidentReport {
    /// How many there were since the start.
    pub count: u64,
    /// The ClientId of the last, and its address.
    pub last: Option<(String, String)>,
}

impl Incidents {
    /// It has happened to the client of this identity.
    pub fn note(&self, now: Instant, kind: IncidentKind, identity: &Rc<Identity>, details: &Details<'_>) {
        let own = &self.kinds[kind as usize];
        own.count.set(own.count.get() + 1);
        let mut last = own.last.borrow_mut();
        if last.as_ref().is_none_or(|last| !Rc::ptr_eq(last, identity)) {
            *last = Some(identity.clone());
        }
        drop(last);
        let minute = minute(now);
        if own.full_minute.get() == minute {
            return;
        }
        match line(kind, minute) {
            Some(number) => tell(kind, identity, details, number == LINES_MAX),
            None => own.full_minute.set(minute),
        }
    }

    /// Copies of what there was, in the order of [`KINDS`].
    #[must_use]
    pub fn report(&self) -> Vec<IncidentReport> {
        let reports = self.kinds.iter().map(|own| IncidentReport {
            count: own.count.get(),
            last: own.last.borrow().as_ref().map(|identity| {
                let address = forwarded::client_address(identity.forwarded_for());
                (identity.client.as_str().to_owned(), address.to_owned())
            }),
        });
        reports.collect()
    }
}

#[cold]
fn tell(kind: IncidentKind, identity: &Identity, details: &Details<'_>, is_last: bool) {
    let more = if is_last {
        "; more of this kind are counted, and not told for the rest of this minute"
    } else {
        ""
    };
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                kind = kind.label(),
                client = identity.client.as_str(),
                address = forwarded::client_address(identity.forwarded_for()),
                connection = identity.connection.as_str(),
                action = details.action,
                message_id = details.message_id,
                trace_id = details.trace_id,
                detail = details.detail,
                "{}{more}",
                kind.text(),
            )
        };
    }
    if kind.is_loss() {
        tell!(error);
    } else {
        tell!(warn);
    }
}

/// Minutes since the first incident of the process, from 1 on.
fn minute(now: Instant) -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let epoch = *EPOCH.get_or_init(|| now);
    now.saturating_duration_since(epoch).as_secs() / 60 + 1
}

/// Takes one of the lines of this minute: which one it is. `None`: they are used up.
fn line(kind: IncidentKind, minute: u64) -> Option<u64> {
    let mut number = None;
    let _ = LINES[kind as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lines| {
        let (of, used) = (lines >> COUNT_BITS, lines & COUNT_MASK);
        // A shard whose clock is a little behind is in the minute before.
        let used = if of < minute { 0 } else { used };
        number = (used < LINES_MAX).then_some(used + 1);
        number.map(|number| of.max(minute) << COUNT_BITS | number)
    });
    number
}

/// Of one kind in a minute.
const LINES_MAX: u64 = 10;
const COUNT_BITS: u32 = 8;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const _: () = assert!(LINES_MAX <= COUNT_MASK);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_lines_a_minute_and_no_more() {
        let told = |minute| {
            (0..20)
                .filter_map(|_| line(IncidentKind::TooLarge, minute))
                .collect::<Vec<_>>()
        };
        let all: Vec<u64> = (1..=LINES_MAX).collect();
        assert_eq!(told(1), all);
        assert!(told(1).is_empty());
        assert_eq!(told(3), all);
        assert!(told(2).is_empty(), "a clock that is behind");
        assert_eq!((0..20).filter_map(|_| line(IncidentKind::Twins, 3)).count(), all.len());
    }

    #[test]
    fn every_kind_says_what_was_done_and_what_to_do() {
        let labels: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.label()).collect();
        assert_eq!(labels.len(), KINDS.len());
        for kind in KINDS {
            assert!(
                kind.text().contains(" was ") || kind.text().contains("were"),
                "{kind:?}"
            );
            assert!(!kind.text().contains("  "), "{kind:?}");
        }
    }
}
