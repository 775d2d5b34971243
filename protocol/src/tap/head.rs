//! Reads the front of a message, as far as a line needs it: its type, its MessageId, its Action. What follows is not
//! looked at, so a message that breaks off behind them has them all the same.

use std::borrow::Cow;

use super::Kind;
use crate::ocpp::ids::{ACTION_LEN_MAX, MESSAGE_ID_LEN_MAX};
use crate::ocpp::json;

/// The front of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head<'t> {
    /// What kind of frame it is; [`Kind::Other`] where it is none.
    pub kind: Kind,
    /// Decoded, not checked, at most [`MESSAGE_ID_LEN_MAX`] bytes.
    pub message_id: Option<Cow<'t, str>>,
    /// Of a Call or SEND: decoded, not checked, at most [`ACTION_LEN_MAX`] bytes.
    pub action: Option<Cow<'t, str>>,
}

impl<'t> Head<'t> {
    /// Reads what there is.
    #[must_use]
    pub fn read(text: &'t str) -> Self {
        let mut head = Self {
            kind: Kind::Other,
            message_id: None,
            action: None,
        };
        let mut rest = Rest(json::without_mark(text));
        if rest.take("[").is_none() {
            return head;
        }
        head.kind = match rest.number() {
            Some("2") => Kind::Call,
            Some("3") => Kind::CallResult,
            Some("4") => Kind::CallError,
            Some("5") => Kind::CallResultError,
            Some("6") => Kind::Send,
            _ => return head,
        };
        // Some write MessageIds as numbers (`tolerate = ["number-ids"]`).
        let id = rest.take(",").and_then(|()| match rest.string() {
            None => rest.number().map(Cow::Borrowed),
            id => id,
        });
        head.message_id = id.filter(|id| id.len() <= MESSAGE_ID_LEN_MAX);
        if head.message_id.is_some() && matches!(head.kind, Kind::Call | Kind::Send) {
            let action = rest.take(",").and_then(|()| rest.string());
            head.action = action.filter(|action| action.len() <= ACTION_LEN_MAX);
        }
        head
    }
}

/// What was not read yet.
struct Rest<'t>(&'t str);

impl<'t> Rest<'t> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: &str) -> Option<()> {
        self.skip_space();
        self.0 = self.0.strip_prefix(token)?;
        Some(())
    }

    /// A number, whatever it is worth: what stands there up to the next comma, bracket or white space.
    fn number(&mut self) -> Option<&'t str> {
        self.skip_space();
        if !self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        let len = self
            .0
            .find(|next: char| !(next.is_ascii_alphanumeric() || "+-.".contains(next)));
        let (number, rest) = self.0.split_at(len.unwrap_or(self.0.len()));
        self.0 = rest;
        Some(number)
    }

    /// A string, decoded.
    fn string(&mut self) -> Option<Cow<'t, str>> {
        self.skip_space();
        if !self.0.starts_with('"') {
            return None;
        }
        let bytes = self.0.as_bytes();
        let mut at = 1;
        loop {
            match bytes.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        // A quote is a character of its own, so this is no cut within one.
        let (raw, rest) = self.0.split_at_checked(at + 1)?;
        self.0 = rest;
        json::unescape_string_lossy(raw).ok()
    }
}
