//! Remembers what later messages may still refer to after a Call is over.

use std::collections::VecDeque;

use crate::ocpp::ids::{Action, MessageId};

/// Made when there is something to remember, so that most clients have none. [`RESULTS_MAX`] and [`DEFERRED_MAX`] ids at most.
#[derive(Debug, Default)]
pub(super) struct AnsweredIds {
    /// The Calls that got the last CallResults, the latest last: what OCPP 2.1's CallResultError refers to.
    pub(super) results: VecDeque<(MessageId, Action)>,
    /// Deferred Calls that have been answered, the latest last.
    pub(super) deferred: VecDeque<MessageId>,
}

impl AnsweredIds {
    pub(super) fn remember_result(&mut self, message_id: MessageId, action: Action) {
        if self.results.len() == RESULTS_MAX {
            self.results.pop_front();
        }
        self.results.push_back((message_id, action));
    }

    /// The Call of that id, once.
    pub(super) fn take_result(&mut self, message_id: &str) -> Option<(MessageId, Action)> {
        let index = self.results.iter().rposition(|(id, _)| id.as_str() == message_id)?;
        self.results.remove(index)
    }

    pub(super) fn remember_deferred(&mut self, message_id: MessageId) {
        if self.deferred.len() == DEFERRED_MAX {
            self.deferred.pop_front();
        }
        self.deferred.push_back(message_id);
    }

    pub(super) fn has_deferred(&self, message_id: &MessageId) -> bool {
        self.deferred.contains(message_id)
    }
}

/// A client that has sent several Calls may have read several answers before it says what is wrong with one.
const RESULTS_MAX: usize = 4;
/// Enough to tell "answered" from "never heard of" for a backend whose worker comes late.
const DEFERRED_MAX: usize = 4;
