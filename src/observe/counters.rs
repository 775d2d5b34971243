//! Counts what a shard does. There is one writer and no atomics: others ask for a copy.
//!
//! Counters come in families, as Prometheus knows them: a name, and labels that tell the members apart. The table below
//! is the one place that says which there are; `docs/metrics.md` explains them, and a test compares the two.

use std::cell::Cell;

use crate::observe::incidents::Incidents;
use crate::observe::latency::Latency;
use protocol::http::Failure;
use protocol::mapping::Answer;
use protocol::ocpp::{Event, FailReason, Outcome, PushRefusal};
use protocol::websocket::Incoming;

/// Counters of one name.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without the prefix `ws2api_` and the suffix `_total`.
    pub name: &'static str,
    /// One sentence that explains the family, for `# HELP`.
    pub help: &'static str,
    /// What tells its members apart.
    pub labels: &'static [&'static str],
    /// The members' values of these labels.
    pub members: &'static [&'static [&'static str]],
}

macro_rules! counters {
    ($( $family:literal [$($label:literal),*], $help:literal { $( $name:ident [$($value:literal),*], )+ } )+) => {
        /// A shard's counters. All only grow.
        #[derive(Debug, Default)]
        pub struct Counters {
            $( $( #[doc = $help] pub $name: Count, )+ )+
            /// To whom something happened.
            pub incidents: Incidents,
            /// From a Call's arrival to its answer.
            pub call_latency: Latency,
            /// From a request's first byte to the backend to the answer's last.
            pub backend_latency: Latency,
            /// From a push's frame to the client's answer.
            pub push_latency: Latency,
        }

        /// All families, in the order of [`Counters::read`].
        pub const FAMILIES: &[Family] = &[ $( Family {
            name: $family,
            help: $help,
            labels: &[$($label),*],
            members: &[ $( &[$($value),*], )+ ],
        }, )+ ];

        impl Counters {
            /// All values, family by family.
            pub fn read(&self) -> Vec<u64> {
                vec![ $( $( self.$name.get(), )+ )+ ]
            }
        }
    };
}

counters! {
    "connections_accepted" [], "Connections accepted on listen." { connections_accepted [], }
    "proxy_headers_bad" ["kind"], "Connections that begin without the PROXY protocol header that is due, or with one that is not, or that is not its sender's to send." {
        proxy_missing ["listen_missing"],
        proxy_unexpected ["listen_unexpected"],
        tls_proxy_missing ["listen_tls_missing"],
        tls_proxy_unexpected ["listen_tls_unexpected"],
        ingress_proxy_missing ["ingress_missing"],
        ingress_proxy_unexpected ["ingress_unexpected"],
        proxy_untrusted ["listen_untrusted"],
        tls_proxy_untrusted ["listen_tls_untrusted"],
        ingress_proxy_untrusted ["ingress_untrusted"],
    }
    "accept_pauses" ["reason"], "Times that accepting paused; new connections wait in the backlog meanwhile." {
        accept_pauses ["descriptors"],
        accept_pauses_full ["handshakes_max"],
    }
    "handovers" ["outcome"], "Sockets that moved between shards, to the ClientId's home." {
        handovers_sent ["sent"],
        handovers_received ["received"],
        handovers_failed ["failed"],
        handovers_lost ["lost"],
    }
    "clients_opened" [], "Clients whose WebSocket was opened." { clients_opened [], }
    "clients_moved" ["direction"], "Clients that went to another process, or came from one, without a word to them or to the backend." {
        clients_moved_out ["out"],
        clients_moved_in ["in"],
    }
    "clients_closed" ["reason"], "Clients whose WebSocket has ended." {
        clients_left ["client"],
        clients_lost ["lost"],
        clients_dead ["silent"],
        clients_slow ["not_reading"],
        clients_no_room ["no_room"],
        clients_replaced ["replaced"],
        clients_protocol ["protocol_error"],
        clients_too_large ["message_too_large"],
        clients_bad ["bad_frames"],
        clients_drained ["drain"],
        clients_rebalanced ["rebalance"],
        clients_kicked ["backend"],
    }
    "tls_handshakes" ["outcome"], "TLS handshakes at listen_tls: done in full or resumed with a ticket, or why they failed." {
        tls_full ["full"],
        tls_resumed ["resumed"],
        tls_plain_http ["plain_http"],
        tls_not_tls ["not_tls"],
        tls_too_long ["too_long"],
        tls_incompatible ["incompatible"],
        tls_certificate ["certificate"],
        tls_alert ["alert"],
        tls_protocol ["protocol"],
        tls_internal ["internal"],
        tls_unfinished ["unfinished"],
    }
    "tls_records_bad" [], "Clients that were cut off because they sent what is no record of their TLS." { tls_records_bad [], }
    "upgrades_refused" ["reason"], "Opening handshakes that did not become a client." {
        handshakes_tls ["tls"],
        handshakes_plain_http ["plain_http"],
        handshakes_tls_rate ["tls_handshakes_per_second_max"],
        handshakes_head ["head"],
        handshakes_method ["method"],
        handshakes_http_version ["http_version"],
        handshakes_body ["body"],
        handshakes_no_upgrade ["no_upgrade"],
        handshakes_no_connection ["no_connection"],
        handshakes_version ["version"],
        handshakes_key ["key"],
        handshakes_early_bytes ["early_bytes"],
        handshakes_header_repeated ["header_repeated"],
        handshakes_headers_too_many ["headers_too_many"],
        handshakes_client_id ["client_id"],
        handshakes_origin ["origin"],
        handshakes_user ["user"],
        handshakes_certificate ["certificate"],
        handshakes_subprotocol ["subprotocol"],
        handshakes_denied ["denied"],
        handshakes_backend_failed ["backend_failed"],
        handshakes_backend_timeout ["backend_timeout"],
        handshakes_unfinished ["unfinished"],
        handshakes_made_room ["made_room"],
        handshakes_superseded ["superseded"],
        handshakes_full ["clients_max"],
        handshakes_rate ["upgrades_per_second_max"],
        handshakes_draining ["draining"],
        handshakes_handover ["handover"],
        handshakes_lost ["lost"],
        handshakes_overloaded ["backend_waiters_max"],
    }
    "frames" ["direction", "type"], "WebSocket messages by direction (in: from clients) and type." {
        received_call ["in", "call"],
        received_result ["in", "callresult"],
        received_error ["in", "callerror"],
        received_result_error ["in", "callresulterror"],
        received_send ["in", "send"],
        received_other ["in", "other"],
        received_binary ["in", "binary"],
        received_ping ["in", "ping"],
        received_pong ["in", "pong"],
        received_close ["in", "close"],
        sent_call ["out", "call"],
        sent_result ["out", "callresult"],
        sent_error ["out", "callerror"],
        sent_ping ["out", "ping"],
        sent_close ["out", "close"],
    }
    "deflate_messages" ["direction"], "Messages that travelled compressed, by direction (in: from clients)." {
        deflate_messages_in ["in"],
        deflate_messages_out ["out"],
    }
    "deflate_bytes" ["direction", "form"], "Bytes of these messages: compressed, as they travelled, and plain." {
        deflate_bytes_in ["in", "compressed"],
        deflate_bytes_in_plain ["in", "plain"],
        deflate_bytes_out ["out", "compressed"],
        deflate_bytes_out_plain ["out", "plain"],
    }
    "frames_bad" ["kind"], "Messages of clients that are not what they should be." {
        frames_unreadable ["unreadable"],
        calls_malformed ["malformed_call"],
        answers_malformed ["malformed_answer"],
        answers_unmatched ["unmatched_answer"],
        frames_ignored ["unknown_type"],
        frames_empty ["empty"],
        frames_ping_text ["ping_text"],
        frames_binary ["binary"],
    }
    "tap_lines" ["outcome"], "Lines for taps: written, or lost because a reader was too slow." {
        tap_lines_written ["written"],
        tap_lines_lost ["lost"],
    }
    "calls_started" [], "Calls passed to the backend." { calls_started [], }
    "calls" ["outcome"], "What became of the Calls passed to the backend." {
        calls_answered ["result"],
        calls_rejected ["error"],
        calls_deferred ["deferred"],
        calls_deferred_timeout ["deferred_timeout"],
        calls_refused ["backend_refused"],
        calls_cut_off ["cut_off"],
        calls_bad_answer ["malformed_answer"],
        calls_large_answer ["too_large_answer"],
        calls_deadline ["deadline"],
        calls_overloaded ["overloaded"],
        calls_shutdown ["shutdown"],
    }
    "calls_not_started" ["reason"], "Calls of clients that were never passed to the backend." {
        calls_coalesced ["coalesced"],
        calls_repeated_id ["repeated_id"],
        calls_shed ["calls_queued"],
        calls_dropped ["client_gone"],
    }
    "answers_not_json" [], "Answers to Calls with a status of 2xx that are no JSON: the client gets InternalError." { answers_not_json [], }
    "answers_dropped" [], "Answers of the backend that nobody waits for any more." { backend_answers_dropped [], }
    "pushes_accepted" [], "Pushes accepted from the backend." { pushes_accepted [], }
    "pushes_refused" ["reason"], "Pushes refused." {
        pushes_not_connected ["not_connected"],
        pushes_pending ["pending"],
        pushes_full ["pushes_queued"],
        pushes_message_id ["message_id"],
        pushes_ending ["ending"],
    }
    "pushes" ["outcome"], "What became of the pushes accepted." {
        pushes_answered ["result"],
        pushes_rejected ["error"],
        pushes_timeout ["timeout"],
        pushes_disconnected ["disconnected"],
        pushes_replaced ["replaced"],
        pushes_shutdown ["shutdown"],
        pushes_bad_answer ["bad_answer"],
        pushes_withdrawn ["withdrawn"],
    }
    "ingress_requests" [], "Requests at the ingress." { ingress_requests [], }
    "ingress_bad" [], "Requests at the ingress that were answered with 4xx because of their form." { ingress_bad [], }
    "ingress_evicted" [], "Connections at the ingress without a request that made room for another one." { ingress_evicted [], }
    "ingress_shed" [], "Connections at the ingress refused by ingress_connections_max, while all others were being answered." { ingress_shed [], }
    "backend_requests" [], "Requests written to the backend." { backend_requests [], }
    "backend_answers" ["class"], "Answers of the backend." {
        backend_answers_2xx ["2xx"],
        backend_answers_3xx ["3xx"],
        backend_answers_4xx ["4xx"],
        backend_answers_5xx ["5xx"],
    }
    "backend_failures" ["reason"], "Requests that the backend did not answer well." {
        backend_cut_off ["cut_off"],
        backend_malformed ["malformed"],
        backend_too_large ["too_large"],
        backend_deadline ["deadline"],
        backend_no_connection ["no_connection"],
    }
    "backend_connects" ["outcome"], "Connections opened to the backend." {
        backend_connects ["ok"],
        backend_connect_failures ["failed"],
    }
    "backend_tls_handshakes" ["outcome"], "TLS handshakes with backends." {
        backend_tls_full ["full"],
        backend_tls_resumed ["resumed"],
        backend_tls_failed ["failed"],
    }
    "backend_retries" ["reason"], "Requests tried again because they can't have been executed." {
        backend_retries ["unsent"],
        backend_retries_refused ["refused"],
        backend_retries_no_workers ["no_workers"],
    }
    "backend_shed" [], "Requests shed by backend_waiters_max." { backend_shed [], }
    "posts_delivered" [], "Posts (/result, /error, /send, /resulterror) that the backend took." { posts_delivered [], }
    "posts_retried" [], "Posts tried again." { posts_retried [], }
    "posts_dropped" ["reason"], "Posts given up." {
        posts_refused ["refused"],
        posts_expired ["result_ttl"],
        posts_shed ["results_queued_max"],
    }
    "disconnects_lost" [], "/disconnect notices given up: not taken within result_ttl, refused, or beyond results_queued_max." { disconnects_lost [], }
    "mesh_stale" [], "Questions of other shards that came too late to be carried out: whoever asked has got 503." { mesh_stale [], }
    "forwarded" ["outcome"], "Questions of the ingress that the other process of an upgrade was asked, since it has the client or may have it." {
        forwarded_answered ["answered"],
        forwarded_nowhere ["not_connected"],
        forwarded_failed ["failed"],
    }
    "cluster_asked" ["outcome"], "Questions about clients that are not here, by what the other nodes of the cluster said." {
        cluster_answered ["answered"],
        cluster_nobody ["not_connected"],
        cluster_away ["away"],
        cluster_full ["cluster_requests_max"],
        cluster_too_long ["too_long"],
        cluster_not_carried_out ["not_carried_out"],
        cluster_unanswered ["unanswered"],
    }
    "mesh_full" ["effect"], "Messages to another shard that found its queue full." {
        mesh_shed ["shed"],
        mesh_delayed ["delayed"],
    }
}

/// Work that was refused because a bound was reached: the bound (a key of the config), and the counter.
pub const SHED: &[(&str, Member)] = &[
    ("clients_max", |counters| &counters.handshakes_full),
    ("upgrades_per_second_max", |counters| &counters.handshakes_rate),
    ("tls_handshakes_per_second_max", |counters| {
        &counters.handshakes_tls_rate
    }),
    ("handovers", |counters| &counters.handshakes_handover),
    ("backend_waiters_max", |counters| &counters.backend_shed),
    ("ingress_connections_max", |counters| &counters.ingress_shed),
    ("mesh_queue", |counters| &counters.mesh_shed),
    ("cluster_requests_max", |counters| &counters.cluster_full),
    ("calls_queued", |counters| &counters.calls_shed),
    ("pushes_queued", |counters| &counters.pushes_full),
    ("results_queued_max", |counters| &counters.posts_shed),
    ("send_queue_bytes", |counters| &counters.clients_slow),
    ("bad_frames_max", |counters| &counters.clients_bad),
    ("message_max", |counters| &counters.clients_too_large),
];

/// Finds one counter among a shard's.
pub type Member = fn(&Counters) -> &Count;

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// With the client's close frame.
    Left,
    /// The connection was lost, without a close frame.
    Lost,
    /// The client was silent for `dead_after`.
    Silent,
    /// `send_queue_bytes` or `send_timeout`.
    NotReading,
    /// A newer connection of the same ClientId.
    Replaced,
    /// We closed it with this code.
    Closed(u16),
    /// Sent away by a rebalance.
    Rebalanced,
    /// `DELETE /clients/…`
    Kicked,
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

    /// The count since the start.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Counters {
    /// Counts what a session reported.
    pub fn count_event(&self, event: Event) {
        let count = match event {
            Event::FrameUnreadable => &self.frames_unreadable,
            Event::CallMalformed => &self.calls_malformed,
            Event::AnswerMalformed => &self.answers_malformed,
            Event::AnswerUnmatched => &self.answers_unmatched,
            Event::FrameIgnored => &self.frames_ignored,
            Event::FrameEmpty => &self.frames_empty,
            Event::FramePingText => &self.frames_ping_text,
            Event::FrameBinary => &self.frames_binary,
            Event::CallCoalesced => &self.calls_coalesced,
            Event::CallRepeatedId => &self.calls_repeated_id,
            Event::CallShed => &self.calls_shed,
            Event::CallDropped => &self.calls_dropped,
            Event::BackendAnswerNotJson => &self.answers_not_json,
            Event::BackendAnswerDropped => &self.backend_answers_dropped,
            Event::CallDeferredTimeout => &self.calls_deferred_timeout,
            // Counted as how the connection ended, and as the push's outcome.
            Event::FramesBad | Event::PushTimeout => return,
        };
        count.add();
    }

    /// Counts a message from a client.
    pub fn count_received(&self, incoming: &Incoming<'_>) {
        let count = match incoming {
            Incoming::Text(text) => match message_type(text.as_bytes()) {
                b'2' => &self.received_call,
                b'3' => &self.received_result,
                b'4' => &self.received_error,
                b'5' => &self.received_result_error,
                b'6' => &self.received_send,
                _ => &self.received_other,
            },
            Incoming::Binary(_) | Incoming::Deflated { .. } => &self.received_binary,
            Incoming::Ping(_) => &self.received_ping,
            Incoming::Pong(_) => &self.received_pong,
            Incoming::Close(_) => &self.received_close,
        };
        count.add();
    }

    /// Counts a frame that we made for a client.
    pub fn count_sent(&self, frame: &[u8]) {
        let count = match message_type(frame) {
            b'2' => &self.sent_call,
            b'3' => &self.sent_result,
            _ => &self.sent_error,
        };
        count.add();
    }

    /// Counts what became of a Call at the backend.
    pub fn count_answer(&self, answer: &Answer<'_>) {
        let count = match answer {
            Answer::Response {
                status: 202,
                deferred: true,
                ..
            } => &self.calls_deferred,
            Answer::Response { status: 200..300, .. } => &self.calls_answered,
            Answer::Response { .. } => &self.calls_rejected,
            Answer::Failed(Failure::Refused) => &self.calls_refused,
            Answer::Failed(Failure::CutOff) => &self.calls_cut_off,
            Answer::Failed(Failure::Malformed) => &self.calls_bad_answer,
            Answer::Failed(Failure::TooLarge) => &self.calls_large_answer,
            Answer::Failed(Failure::Deadline) => &self.calls_deadline,
            Answer::Failed(Failure::Overloaded) => &self.calls_overloaded,
            Answer::Failed(Failure::Shutdown) => &self.calls_shutdown,
        };
        count.add();
    }

    /// Counts an answer of the backend by its status.
    pub fn count_backend_answer(&self, status: u16) {
        let count = match status {
            ..300 => &self.backend_answers_2xx,
            300..400 => &self.backend_answers_3xx,
            400..500 => &self.backend_answers_4xx,
            _ => &self.backend_answers_5xx,
        };
        count.add();
    }

    /// Counts a request that was written and not answered well.
    pub fn count_backend_failure(&self, failure: Failure) {
        let count = match failure {
            Failure::Deadline => &self.backend_deadline,
            Failure::TooLarge => &self.backend_too_large,
            Failure::Malformed => &self.backend_malformed,
            _ => &self.backend_cut_off,
        };
        count.add();
    }

    /// Counts a push's outcome.
    pub fn count_outcome(&self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Result(_) => &self.pushes_answered,
            Outcome::Error { .. } => &self.pushes_rejected,
            Outcome::Failed { reason, .. } => return self.count_failed_push(*reason),
        };
        count.add();
    }

    /// Counts a push that the client has not answered.
    pub fn count_failed_push(&self, reason: FailReason) {
        let count = match reason {
            FailReason::Timeout => &self.pushes_timeout,
            FailReason::Disconnected => &self.pushes_disconnected,
            FailReason::Replaced => &self.pushes_replaced,
            FailReason::Shutdown => &self.pushes_shutdown,
            FailReason::BadAnswer => &self.pushes_bad_answer,
        };
        count.add();
    }

    /// Counts a push that was not accepted; `None`: the client is not connected.
    pub fn count_refused_push(&self, refusal: Option<PushRefusal>) {
        let count = match refusal {
            None => &self.pushes_not_connected,
            Some(PushRefusal::Pending) => &self.pushes_pending,
            Some(PushRefusal::Full) => &self.pushes_full,
            Some(PushRefusal::MessageId) => &self.pushes_message_id,
            Some(PushRefusal::Ending) => &self.pushes_ending,
        };
        count.add();
    }

    /// Counts a client that is gone.
    pub fn count_end(&self, ended: Ended) {
        let count = match ended {
            Ended::Left => &self.clients_left,
            Ended::Lost => &self.clients_lost,
            Ended::Silent => &self.clients_dead,
            Ended::NotReading => &self.clients_slow,
            Ended::Replaced => &self.clients_replaced,
            Ended::Rebalanced => &self.clients_rebalanced,
            Ended::Closed(1001) => &self.clients_drained,
            Ended::Closed(1008) => &self.clients_bad,
            Ended::Closed(1009) => &self.clients_too_large,
            Ended::Closed(1013) => &self.clients_no_room,
            Ended::Closed(_) => &self.clients_protocol,
            Ended::Kicked => &self.clients_kicked,
        };
        count.add();
    }
}

/// The digit that says what a frame is, as far as it can be told without parsing: `[2` is a Call.
fn message_type(frame: &[u8]) -> u8 {
    let frame = frame.trim_ascii_start();
    match frame.split_first() {
        Some((b'[', rest)) => match rest.trim_ascii_start() {
            [digit, next, ..] if !next.is_ascii_digit() => *digit,
            _ => 0,
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_name_and_labels() {
        let members: Vec<_> = FAMILIES
            .iter()
            .flat_map(|family| {
                assert!(family.help.ends_with('.') && family.members.iter().all(|m| m.len() == family.labels.len()));
                family.members.iter().map(move |member| (family.name, *member))
            })
            .collect();
        assert_eq!(members.len(), Counters::default().read().len());
        let mut distinct = members.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), members.len());
    }

    #[test]
    fn what_happens_is_counted_where_its_name_says() {
        let counters = Counters::default();
        counters.count_event(Event::FrameUnreadable);
        counters.count_end(Ended::Closed(1009));
        counters.count_outcome(&Outcome::Failed {
            reason: FailReason::Replaced,
            sent: true,
        });
        counters.count_answer(&Answer::Failed(Failure::Deadline));
        let mut values = counters.read().into_iter();
        let mut counted = Vec::new();
        for family in FAMILIES {
            for member in family.members {
                if values.next() == Some(1) {
                    counted.push((family.name, *member));
                }
            }
        }
        let expected: [(&str, &[&str]); 4] = [
            ("clients_closed", &["message_too_large"]),
            ("frames_bad", &["unreadable"]),
            ("calls", &["deadline"]),
            ("pushes", &["replaced"]),
        ];
        assert_eq!(counted, expected);
        assert_eq!(SHED.iter().filter(|(_, count)| count(&counters).get() > 0).count(), 1);
    }

    #[test]
    fn a_frames_type_is_read_from_its_first_element() {
        for (frame, digit) in [
            ("[2,\"1\",\"A\",{}]", b'2'),
            (" [ 3 ,\"1\",{}]", b'3'),
            ("[4]", b'4'),
            ("[22,1]", 0),
            ("{}", 0),
            ("", 0),
            ("[", 0),
            ("[2", 0),
        ] {
            assert_eq!(message_type(frame.as_bytes()), digit, "{frame}");
        }
    }
}
