//! Counts what the server does as it did, and what otherwise.

use std::collections::BTreeMap;

use serde_json::Value;

/// What came of a replay.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: BTreeMap<(&'static str, String), Row>,
    /// The first answers that differ.
    pub(super) examples: Vec<Example>,
    pub(super) refused: u64,
    pub(super) closed: u64,
    pub(super) lost_clients: u64,
}

/// Of one Action.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    pub(super) count: u64,
    pub(super) same: u64,
    pub(super) different: u64,
    /// Was recorded, and has not come.
    pub(super) missing: u64,
    /// Has come, and was not recorded.
    pub(super) unexpected: u64,
}

/// Two messages that differ.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) recorded: String,
    pub(super) now: String,
}

/// The answers to Calls.
pub(super) const ANSWERS: &str = "answers";
/// What the server begins.
pub(super) const PUSHES: &str = "pushes";

impl Tally {
    pub(super) fn row(&mut self, kind: &'static str, action: &str) -> &mut Row {
        self.rows.entry((kind, action.to_owned())).or_default()
    }

    /// What was recorded has come, as it was or otherwise.
    pub(super) fn compare(&mut self, kind: &'static str, action: &str, recorded: &str, now: &str) {
        let is_same = is_same(recorded, now);
        let row = self.row(kind, action);
        row.same += u64::from(is_same);
        row.different += u64::from(!is_same);
        if !is_same && self.examples.len() < EXAMPLES_MAX {
            let cut = |text: &str| text[..text.floor_char_boundary(EXAMPLE_LEN_MAX)].to_owned();
            self.examples.push(Example {
                recorded: cut(recorded),
                now: cut(now),
            });
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for ((kind, action), row) in other.rows {
            let own = self.rows.entry((kind, action)).or_default();
            own.count += row.count;
            own.same += row.same;
            own.different += row.different;
            own.missing += row.missing;
            own.unexpected += row.unexpected;
        }
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
        self.refused += other.refused;
        self.closed += other.closed;
        self.lost_clients += other.lost_clients;
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&'static str, &str, &Row)> {
        self.rows.iter().map(|((kind, action), row)| (*kind, &**action, row))
    }

    /// What differs, in words; `None`: nothing.
    pub(super) fn differences(&self) -> Option<String> {
        let sum = |of: fn(&Row) -> u64| self.rows.values().map(of).sum::<u64>();
        let counts = [
            (sum(|row| row.different), "different"),
            (sum(|row| row.missing), "missing"),
            (sum(|row| row.unexpected), "unexpected"),
            (self.refused, "refused"),
            (self.closed, "closed early"),
            (self.lost_clients, "not played"),
        ];
        let words: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        (!words.is_empty()).then(|| format!("it is not as it was: {}", words.join(", ")))
    }
}

/// Whether two messages say the same. Times of day are always others.
fn is_same(recorded: &str, now: &str) -> bool {
    recorded == now
        || match (serde_json::from_str(recorded), serde_json::from_str(now)) {
            (Ok(recorded), Ok(now)) => is_same_value(&recorded, &now),
            _ => false,
        }
}

fn is_same_value(recorded: &Value, now: &Value) -> bool {
    match (recorded, now) {
        (Value::String(recorded), Value::String(now)) if is_time(recorded) && is_time(now) => true,
        (Value::Array(recorded), Value::Array(now)) => {
            recorded.len() == now.len() && recorded.iter().zip(now).all(|(one, other)| is_same_value(one, other))
        }
        (Value::Object(recorded), Value::Object(now)) => {
            recorded.len() == now.len()
                && recorded
                    .iter()
                    .all(|(name, one)| now.get(name).is_some_and(|other| is_same_value(one, other)))
        }
        _ => recorded == now,
    }
}

/// `2026-01-01T…`
fn is_time(text: &str) -> bool {
    let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(is_digit) && text.get(10..11) == Some("T")
}

const EXAMPLES_MAX: usize = 3;
const EXAMPLE_LEN_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_differ_and_nothing_else() {
        for (one, other, same) in [
            (
                r#"[3,"1",{"currentTime":"2026-01-01T00:00:00Z"}]"#,
                r#"[3,"1",{"currentTime":"2027-02-03T04:05:06.7Z"}]"#,
                true,
            ),
            (r#"[3, "1",{"a":1,"b":2}]"#, r#"[3,"1",{"b":2,"a":1}]"#, true),
            (r#"[3,"1",{"a":1}]"#, r#"[3,"1",{"a":2}]"#, false),
            (r#"[3,"1",{"a":1}]"#, r#"[3,"1",{"a":1,"b":1}]"#, false),
            (
                r#"[3,"1",{"t":"2026-01-01T00:00:00Z"}]"#,
                r#"[3,"1",{"t":"soon"}]"#,
                false,
            ),
            ("x", "x", true),
            ("x", "y", false),
        ] {
            assert_eq!(is_same(one, other), same, "{one} {other}");
        }
        let mut tally = Tally::default();
        tally.compare(ANSWERS, "A", "x", "x");
        assert_eq!(tally.differences(), None);
        tally.compare(ANSWERS, "A", "x", "y");
        tally.row(PUSHES, "B").missing += 2;
        assert_eq!(
            tally.differences().as_deref(),
            Some("it is not as it was: 1 different, 2 missing")
        );
    }
}
