//! Knows what must be true of every push, question and client.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::{Failure, NodeId};

pub(super) type Checked = Result<(), String>;

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) happened: BTreeMap<&'static str, usize>,
    pushes: BTreeMap<u64, Push>,
    questions: BTreeMap<u64, Question>,
    /// Which connection went for which.
    replaced: BTreeMap<String, String>,
}

#[derive(Default)]
struct Push {
    /// The backend was told 202.
    is_accepted: bool,
    outcomes: usize,
    /// Nodes that had to do with it.
    nodes: BTreeSet<NodeId>,
    /// One of them has died: nobody may be left to tell its outcome.
    has_lost_a_node: bool,
}

struct Question {
    asked: Duration,
    answers: usize,
    carried_out: usize,
    /// Who asked has died.
    is_orphan: bool,
    from: NodeId,
}

impl Ledger {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_insert(0) += 1;
    }

    pub(super) fn note_accepted(&mut self, push: u64) {
        self.push(push).is_accepted = true;
    }

    /// A node asks for it, or has taken it.
    pub(super) fn note_touched(&mut self, push: u64, node: NodeId) {
        self.push(push).nodes.insert(node);
    }

    pub(super) fn note_outcome(&mut self, push: u64) -> Checked {
        let known = self.push(push);
        known.outcomes += 1;
        match known.outcomes {
            1 => Ok(()),
            _ => Err(format!("push {push} has two outcomes")),
        }
    }

    /// The node that has it is alive, and so is the one that waits for its outcome.
    pub(super) fn is_whole(&self, push: u64) -> bool {
        self.pushes.get(&push).is_some_and(|push| !push.has_lost_a_node)
    }

    pub(super) fn note_asked(&mut self, question: u64, from: NodeId, now: Duration) {
        let asked = Question {
            asked: now,
            answers: 0,
            carried_out: 0,
            is_orphan: false,
            from,
        };
        self.questions.insert(question, asked);
    }

    pub(super) fn note_carried_out(&mut self, question: u64, now: Duration) -> Checked {
        let known = self.questions.get_mut(&question).expect("it was asked");
        known.carried_out += 1;
        if known.carried_out > 1 {
            return Err(format!("question {question} is carried out twice"));
        }
        // Asked twice at most, and clocks differ until nodes have heard each other.
        if now > known.asked + Duration::from_secs(8 + 10 + 7) {
            return Err(format!("question {question} is carried out when nobody waits any more"));
        }
        Ok(())
    }

    pub(super) fn note_answer(&mut self, question: u64, failure: Option<Failure>) -> Checked {
        if let Some(failure) = failure {
            self.count(match failure {
                Failure::Nobody => "nobody",
                Failure::Away => "away",
                Failure::TooLong => "too long",
                Failure::Full => "full",
                Failure::NotCarriedOut => "not carried out",
                Failure::Unanswered => "unanswered",
            });
        }
        let known = self.questions.get_mut(&question).expect("it was asked");
        known.answers += 1;
        match known.answers {
            1 => Ok(()),
            _ => Err(format!("question {question} is answered twice")),
        }
    }

    pub(super) fn asked(&self, question: u64) -> Duration {
        self.questions.get(&question).expect("it was asked").asked
    }

    pub(super) fn note_replaced(&mut self, connection: &str, by: &str) -> Checked {
        self.replaced.insert(connection.to_owned(), by.to_owned());
        match self.replaced.get(by).is_some_and(|other| other == connection) {
            true => Err(format!("none of the two stays: {connection} and {by}")),
            false => Ok(()),
        }
    }

    pub(super) fn note_death(&mut self, node: NodeId) {
        for push in self.pushes.values_mut().filter(|push| push.nodes.contains(&node)) {
            push.has_lost_a_node = true;
        }
        for question in self.questions.values_mut().filter(|question| question.from == node) {
            question.is_orphan = true;
        }
    }

    /// Nothing happens any more.
    pub(super) fn check_end(&self) -> Checked {
        for (number, push) in &self.pushes {
            if push.is_accepted && push.outcomes == 0 && !push.has_lost_a_node {
                return Err(format!("push {number} was accepted and has no outcome"));
            }
        }
        let forgotten = |(_, question): &(&u64, &Question)| question.answers == 0 && !question.is_orphan;
        match self.questions.iter().find(forgotten) {
            Some((number, _)) => Err(format!("question {number} was never answered")),
            None => Ok(()),
        }
    }

    fn push(&mut self, push: u64) -> &mut Push {
        self.pushes.entry(push).or_default()
    }
}
