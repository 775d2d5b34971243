//! Knows what must be true, whoever does what: who asked what, who was answered, which push became what.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// What is known of one push.
#[derive(Debug, Default)]
pub struct Push {
    /// The ingress said 202.
    pub accepted: bool,
    /// The ingress said something else.
    pub refused: bool,
    /// Clients that have seen its frame.
    pub seen: usize,
    /// The answer that the client has given, the first one.
    pub answer: Option<String>,
    /// Outcomes that the backend was told: kind and body by their key.
    pub outcomes: BTreeMap<String, (String, String)>,
    /// Of these, those that the backend has confirmed.
    pub confirmed: bool,
    /// The request that waited was told the outcome.
    pub told: bool,
    /// The backend was told that its frame was never sent.
    pub unsent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    pub pushes: BTreeMap<String, Push>,
    /// Calls that have reached the backend, and on behalf of whom.
    calls_seen: HashSet<String>,
    /// What the backend answered to a Call: the client may get nothing else.
    pub answers: HashMap<String, String>,
    /// Calls that the backend has promised to answer, and of which clients: what is said to the ingress next.
    pub deferred: VecDeque<(String, String)>,
    /// Of those, the ones whose answer the ingress took, and the ones that came to nothing.
    late_answers: HashSet<String>,
    errors: HashSet<String>,
    /// By connection, what stays the same while it lives.
    descriptions: HashMap<String, String>,
    /// By connection, the `Idempotency-Key`.
    disconnects: HashMap<String, String>,
    /// By connection, the keys of its SENDs in the order in which they came, and whether the backend has confirmed them.
    sends: HashMap<String, Vec<(String, bool)>>,
    /// The results that a client could not use, and the key under which the backend was told.
    pub result_errors: HashMap<String, Option<String>>,
    pub happened: BTreeMap<&'static str, usize>,
    /// From when each Call was sent until its answer was there.
    pub took: Vec<Duration>,
}

impl Ledger {
    pub fn happen(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// A Call's request has reached the backend, or a part of it.
    pub fn call_arrived(&mut self, id: &str) {
        assert!(self.calls_seen.insert(id.to_owned()), "Call {id} was sent twice");
    }

    /// A client got an answer to its Call.
    pub fn call_answered(&mut self, id: &str, is_result: bool, payload: &str) {
        self.happen(if is_result { "result" } else { "error" });
        if is_result {
            let said = self.answers.get(id);
            assert_eq!(said.map(String::as_str), Some(payload), "the result of {id}");
        } else {
            assert!(!self.late_answers.contains(id), "the late answer to {id} was taken");
            self.errors.insert(id.to_owned());
        }
    }

    /// The ingress took the late answer to a Call.
    pub fn late_answer_taken(&mut self, id: &str) {
        self.happen("late answer");
        assert!(!self.errors.contains(id), "{id} had an error before");
        assert!(self.late_answers.insert(id.to_owned()), "two late answers to {id}");
    }

    /// `/result` or `/error` for a push has reached the backend.
    pub fn outcome_arrived(&mut self, id: &str, key: &str, kind: &str, body: &str, confirmed: bool) {
        let push = self
            .pushes
            .get_mut(id)
            .unwrap_or_else(|| panic!("an outcome for {id}, which nobody pushed: {kind} {body}"));
        assert!(!push.told, "{id} has a second outcome: {kind} {body}");
        assert!(!push.refused, "{id} was refused, and yet has an outcome: {kind} {body}");
        let outcome = (kind.to_owned(), body.to_owned());
        let again = push.outcomes.insert(key.to_owned(), outcome.clone());
        assert!(
            again.is_none() || again == Some(outcome),
            "{id}: another outcome under the same key"
        );
        assert_eq!(
            push.outcomes.len(),
            1,
            "{id} has more than one outcome: {:?}",
            push.outcomes
        );
        push.confirmed |= confirmed;
        if kind == "result" {
            assert_eq!(push.answer.as_deref(), Some(body), "the outcome of {id}");
        } else {
            assert!(
                !body.contains("\"sent\":false") || push.seen == 0,
                "{id} was seen, but is said not to be sent"
            );
        }
        let what = match kind {
            _ if again.is_some() => "post again",
            "result" => "outcome result",
            _ if body.contains("Disconnected") => "outcome Disconnected",
            _ if body.contains("Replaced") => "outcome Replaced",
            _ if body.contains("Timeout") => "outcome Timeout",
            _ if body.contains("Shutdown") => "outcome Shutdown",
            _ => panic!("{id}: an odd outcome: {body}"),
        };
        self.happen(what);
    }

    /// The request that waited for a push has got its outcome.
    pub fn wait_answered(&mut self, id: &str, status: u16, body: &str) {
        self.happen(if status == 504 {
            "wait timed out"
        } else {
            "wait answered"
        });
        let push = self.pushes.get_mut(id).expect("it was pushed");
        assert!(
            push.outcomes.is_empty() && !push.told,
            "{id} has two outcomes: {push:?}"
        );
        push.told = true;
        if status == 200 {
            assert_eq!(push.answer.as_deref(), Some(body), "the outcome of {id}");
        }
        if body.contains("\"sent\":false") {
            assert_eq!(push.seen, 0, "{id} was seen, but is said not to be sent");
            push.unsent = true;
        }
    }

    /// A client has got a push.
    pub fn push_seen(&mut self, id: &str) {
        self.happen("push seen");
        let push = self.pushes.get_mut(id).expect("it was pushed");
        assert!(!push.unsent, "{id} was said not to be sent, and is seen");
        push.seen += 1;
    }

    /// The ingress says how a client is.
    pub fn described(&mut self, body: &str) {
        self.happen("description");
        let said: serde_json::Value = serde_json::from_str(body).expect("a description is JSON");
        let lasting = ["clientId", "since", "address", "subprotocol"].map(|key| said[key].to_string());
        let lasting = lasting.join(" ");
        let connection = said["connectionId"].as_str().expect("a connection").to_owned();
        let first = self.descriptions.entry(connection).or_insert_with(|| lasting.clone());
        assert_eq!(
            *first, lasting,
            "what it was and what it is now, perhaps in another process"
        );
    }

    /// A connection's end has reached the backend.
    pub fn disconnect_arrived(&mut self, connection: &str, key: &str) {
        let first = self
            .disconnects
            .entry(connection.to_owned())
            .or_insert_with(|| key.to_owned());
        assert_eq!(first, key, "{connection} ended twice");
    }

    /// `/send` has reached the backend. Of one client they come in order, and none is left out.
    pub fn send_arrived(&mut self, id: &str, key: &str, confirmed: bool) {
        // An attacker's says nothing of its connection.
        let Some((connection, number)) = id.rsplit_once('-') else {
            return;
        };
        let number: usize = number.parse().expect("a number");
        let sends = self.sends.entry(connection.to_owned()).or_default();
        assert!(number <= sends.len() + 1, "SEND {id} comes before {}", sends.len() + 1);
        if number > sends.len() {
            assert!(
                sends.last().is_none_or(|(_, confirmed)| *confirmed),
                "SEND {id} comes before the one before it was taken"
            );
            sends.push((key.to_owned(), false));
        }
        let (first, is_confirmed) = &mut sends[number - 1];
        assert_eq!(first, key, "SEND {id} comes under another key");
        *is_confirmed |= confirmed;
        self.happen("send seen");
    }

    /// Of this connection's SENDs as many have been taken.
    pub fn check_sends(&self, connection: &str, count: usize) {
        let sends = self.sends.get(connection).map_or(&[][..], Vec::as_slice);
        let confirmed = sends.iter().filter(|(_, confirmed)| *confirmed).count();
        assert_eq!(confirmed, count, "{connection}: SENDs that the backend has taken");
    }

    /// `/resulterror` has reached the backend.
    pub fn result_error_arrived(&mut self, id: &str, key: &str) {
        let known = self.result_errors.get_mut(id);
        let known = known.unwrap_or_else(|| panic!("a CallResultError for {id}, which nobody has said"));
        assert_eq!(known.get_or_insert_with(|| key.to_owned()), key, "{id}: another key");
        self.happen("result error seen");
    }

    /// Peace: nothing is under way any more.
    pub fn check(&self) {
        for (id, push) in &self.pushes {
            if push.accepted {
                assert!(
                    push.confirmed,
                    "{id} was accepted, and the backend has not heard of it again: {push:?}"
                );
            }
            assert!(push.seen <= 1, "{id} was seen {} times", push.seen);
        }
    }
}

/// A Call of a client that waits for its answer.
#[derive(Clone, Debug)]
pub struct Asked {
    pub id: String,
    pub at: Instant,
}
