//! What a shard counts. One writer, no atomics: others ask for a copy.

use std::cell::Cell;

use crate::protocol::Event;

macro_rules! counters {
    ($( $(#[doc = $doc:literal])+ $name:ident, )+) => {
        /// A shard's counters. All only grow.
        #[derive(Debug, Default)]
        pub struct Counters {
            $( $(#[doc = $doc])+ pub $name: Count, )+
            events: [Count; EVENTS.len()],
        }

        impl Counters {
            /// Every counter's name, what it counts, and its value.
            pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
                let mut read = vec![ $( (stringify!($name), concat!($($doc),+), self.$name.get()), )+ ];
                read.extend(EVENTS.iter().zip(&self.events).map(|((name, help), count)| (*name, *help, count.get())));
                read
            }
        }
    };
}

counters! {
    /// Connections accepted on `listen`.
    connections_accepted,
    /// Sockets handed to another shard, the ClientId's home.
    handovers_sent,
    /// Sockets received from another shard.
    handovers_received,
    /// Sockets that could not be handed over (the home shard does not keep up, or is out of descriptors).
    handovers_failed,
    /// Clients whose WebSocket was opened.
    clients_opened,
    /// Clients whose WebSocket has ended.
    clients_closed,
    /// Clients that a newer connection of the same ClientId replaced.
    clients_replaced,
    /// Clients dropped for their silence.
    clients_dead,
    /// Clients closed because they do not read.
    clients_slow,
    /// Opening handshakes refused as bad requests (4xx, 505).
    handshakes_bad,
    /// Opening handshakes refused for the ClientId, the Origin, the user name or the subprotocol.
    handshakes_refused,
    /// Opening handshakes that the backend refused.
    handshakes_denied,
    /// Opening handshakes that failed because the backend did not answer well (502, 504).
    handshakes_unanswered,
    /// Opening handshakes not finished within `handshake_timeout`, or given up by the client.
    handshakes_unfinished,
    /// Opening handshakes refused with 503 by `clients_max`, `upgrades_per_second_max` or draining.
    handshakes_shed,
    /// Text messages from clients.
    messages_received,
    /// Text messages written to clients.
    messages_sent,
    /// CALLs passed to the backend.
    calls_started,
    /// Pushes accepted from the backend.
    pushes_accepted,
    /// Pushes refused (404, 409, 429, 503).
    pushes_refused,
    /// Outcomes of pushes: the client's CALLRESULT.
    pushes_answered,
    /// Outcomes of pushes: the client's CALLERROR.
    pushes_rejected,
    /// Outcomes of pushes made here: Timeout, Disconnected, Replaced, Shutdown.
    pushes_failed,
    /// Requests at the ingress.
    ingress_requests,
    /// Requests at the ingress that were answered with 4xx because of their form.
    ingress_bad,
    /// Connections at the ingress refused by `ingress_connections_max`.
    ingress_shed,
    /// Requests written to the backend.
    backend_requests,
    /// Answers of the backend.
    backend_answers,
    /// Requests that the backend did not answer (cut off, malformed, too large, too late, no connection in time).
    backend_failures,
    /// Connections opened to the backend.
    backend_connects,
    /// Connections that the backend refused, or that did not open in time.
    backend_connect_failures,
    /// Requests tried once more because the first try can't have been executed.
    backend_retries,
    /// Requests shed by `backend_waiters_max`.
    backend_shed,
    /// Posts (`/result`, `/error`, `/send`, `/resulterror`) delivered.
    posts_delivered,
    /// Posts tried again.
    posts_retried,
    /// Posts given up: refused by the backend, older than `result_ttl`, or more than `results_queued_max`.
    posts_dropped,
    /// `/disconnect` notices that did not reach the backend.
    disconnects_lost,
    /// Messages to other shards that found the ring full.
    mesh_full,
    /// Times that accepting paused for want of descriptors or memory.
    accept_pauses,
}

/// One counter.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Counts one more.
    pub fn add(&self) {
        self.add_many(1);
    }

    /// Counts `count` more.
    pub fn add_many(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }

    /// Takes over a count that is kept elsewhere.
    pub fn set(&self, count: u64) {
        self.0.set(count);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Counters {
    /// Counts what a session reported.
    pub fn count_event(&self, event: Event) {
        self.events[index(event)].add();
    }
}

macro_rules! events {
    ($( $variant:ident: $name:literal, $help:literal, )+) => {
        /// Name and meaning of what sessions report, in the order of [`index`].
        const EVENTS: &[(&str, &str)] = &[ $( ($name, $help), )+ ];

        fn index(event: Event) -> usize {
            enum Index { $( $variant, )+ }
            match event {
                $( Event::$variant => Index::$variant as usize, )+
            }
        }
    };
}

events! {
    FrameUnreadable: "frames_unreadable", "Frames that are not JSON, not an array, or have no readable MessageId.",
    CallMalformed: "calls_malformed", "CALLs with a readable MessageId and something else wrong.",
    AnswerMalformed: "answers_malformed", "Broken frames of a type that is never answered (3 to 6): dropped.",
    AnswerUnmatched: "answers_unmatched", "CALLRESULTs and CALLERRORs that answer nothing, or come late: dropped.",
    FrameIgnored: "frames_ignored", "Frames of another message type: ignored.",
    FrameEmpty: "frames_empty", "Empty text messages: ignored.",
    FrameBinary: "frames_binary", "Binary messages: closed 1003.",
    FramesBad: "clients_bad", "Clients closed with 1008 for too many bad frames in a row.",
    CallCoalesced: "calls_coalesced", "The same CALL once more while it is open: answered once.",
    CallRepeatedId: "calls_repeated_id", "Another CALL with an open MessageId: refused.",
    CallShed: "calls_shed", "CALLs beyond calls_queued: refused.",
    CallDropped: "calls_dropped", "CALLs that waited when their client went: never sent.",
    BackendAnswerDropped: "backend_answers_dropped", "Answers of the backend whose client has gone.",
    CallDeferredTimeout: "calls_deferred_timeout", "Deferred CALLs whose deadline passed.",
    PushTimeout: "pushes_timeout", "Pushes whose push_timeout passed.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_counted_under_its_own_name() {
        let counters = Counters::default();
        counters.count_event(Event::FrameUnreadable);
        counters.count_event(Event::PushTimeout);
        counters.count_event(Event::PushTimeout);
        counters.clients_opened.add();
        let value = |name| {
            counters
                .read()
                .iter()
                .find(|(own, ..)| *own == name)
                .map(|(.., value)| *value)
        };
        assert_eq!(value("frames_unreadable"), Some(1));
        assert_eq!(value("pushes_timeout"), Some(2));
        assert_eq!(value("clients_opened"), Some(1));
        let mut names: Vec<&str> = counters.read().iter().map(|(name, ..)| *name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "names are not repeated");
    }
}
