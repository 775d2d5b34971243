//! Remembers what later messages may still refer to after a Call is over.

use std::collections::VecDeque;

use crate::ocpp::ids::{Action, MessageId};

/// Made when there is something to remember, so that most clients have none. Two ids and [`DEFERRED_MAX`] more at most.
#[derive(Debug, Default)]
pub(super) struct AnsweredIds {
    /// The Call that got the last CallResult: what OCPP 2.1's CallResultError refers to.
    result: Option<(MessageId, Action)>,
    /// Deferred Calls that have been answered, the latest last.
    deferred: VecDeque<MessageId>,
}

impl AnsweredIds {
    pub(super) fn remember_result(&mut self, message_id: MessageId, action: Action) {
        self.result = Some((message_id, action));
    }

    /// The Call of that id, once.
    pub(super) fn take_result(&mut self, message_id: &str) -> Option<(MessageId, Action)> {
        self.result.take_if(|(id, _)| id.as_str() == message_id)
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

/// Enough to tell "answered" from "never heard of" for a backend whose worker comes late.
const DEFERRED_MAX: usize = 4;
