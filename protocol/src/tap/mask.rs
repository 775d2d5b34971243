//! Puts `"***"` in the place of what is not to be seen in a message: the values of members of certain names, at any depth.
//!
//! It errs on the side of hiding. Names are compared without regard to the case of ASCII letters, after their escapes are
//! undone. A string value in which one of the names occurs as a word, and anything else, is hidden as a whole: some send JSON
//! within a string. What is not JSON is not shown at all, since nobody can say which part of it is the value of what.

use crate::ocpp::json;

/// Names of members whose values are not shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mask {
    names: Vec<String>,
}

/// A message that is not shown, because it is no JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotShown;

impl Mask {
    /// Hides the values of members of these names.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().filter(|name| !name.is_empty());
        Self {
            names: names.map(|name| name.to_ascii_lowercase()).collect(),
        }
    }

    /// True when nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Appends `text`, which is JSON, with `"***"` in the place of hidden values.
    ///
    /// # Errors
    /// [`NotShown`]: it is no JSON, and there is something to hide. Nothing was appended.
    #[allow(clippy::string_slice, reason = "it is JSON, whose marks are ASCII")]
    pub fn write(&self, text: &str, out: &mut String) -> Result<(), NotShown> {
        if self.is_empty() {
            out.push_str(text);
            return Ok(());
        }
        json::check_text(json::without_mark(text), json::DEPTH_MAX).map_err(|_| NotShown)?;
        let bytes = text.as_bytes();
        let (mut copied, mut at) = (0, 0);
        while let Some(byte) = bytes.get(at) {
            if *byte != b'"' {
                at += 1;
                continue;
            }
            let end = json::value_end(bytes, at);
            let colon = json::skip_space(bytes, end);
            let hidden = if bytes.get(colon) != Some(&b':') {
                self.mentions(&text[at..end]).then_some((at, end))
            } else if self.is_hidden(&text[at..end]) {
                let value = json::skip_space(bytes, colon + 1);
                Some((value, json::value_end(bytes, value)))
            } else {
                None
            };
            at = end;
            if let Some((from, to)) = hidden {
                out.push_str(&text[copied..from]);
                out.push_str(HIDDEN);
                (copied, at) = (to, to);
            }
        }
        out.push_str(&text[copied..]);
        Ok(())
    }

    /// Whether the values of members of this name, a JSON string, are hidden.
    fn is_hidden(&self, raw_name: &str) -> bool {
        // What can't be read is not taken for harmless.
        json::unescape_string_lossy(raw_name).map_or(true, |name| {
            self.names.iter().any(|hidden| name.eq_ignore_ascii_case(hidden))
        })
    }

    /// Whether a string value, a JSON string, holds one of the names and more.
    fn mentions(&self, raw_value: &str) -> bool {
        // The quotes and the name: shorter ones can't.
        let shortest = self.names.iter().map(String::len).min().unwrap_or(0);
        if raw_value.len() <= shortest + 2 {
            return false;
        }
        let Ok(value) = json::unescape_string_lossy(raw_value) else {
            return true;
        };
        let value = value.to_ascii_lowercase();
        self.names.iter().any(|name| value != *name && has_word(&value, name))
    }
}

/// Whether `word` occurs in `text` with no letter or digit right before or behind it.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let (before, rest) = text.split_at(at);
        let (before, behind) = (
            before.chars().next_back(),
            rest.strip_prefix(word).and_then(|rest| rest.chars().next()),
        );
        ![before, behind].into_iter().flatten().any(char::is_alphanumeric)
    })
}

const HIDDEN: &str = "\"***\"";
