//! Decides which of the alerts are logged, and when: each kind when it begins, seldom while it lasts, when it is over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::alerts::{Alert, Severity};

/// What the log knows.
#[derive(Debug, Default)]
pub(super) struct AlertLog {
    known: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    began: Instant,
    seen: Instant,
    logged: Instant,
    lasts: bool,
    /// What was told, up to its first full stop.
    what: String,
}

/// One line for the log.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Line {
    Error(String),
    Warning(String),
    Over(String),
}

impl AlertLog {
    /// Takes what is wrong now and gives the lines that are worth it.
    pub(super) fn take(&mut self, now: Instant, alerts: &[Alert]) -> Vec<Line> {
        let mut lines = Vec::new();
        for alert in alerts {
            let logged = self.known.get(&alert.kind).map(|known| (known.logged, known.lasts));
            let pause = if logged.is_some_and(|(_, lasts)| lasts) {
                match alert.severity {
                    Severity::Error => LASTING_ERROR_PAUSE,
                    Severity::Warning => LASTING_PAUSE,
                }
            } else {
                KIND_PAUSE
            };
            let is_due = logged.is_none_or(|(logged, _)| now.saturating_duration_since(logged) >= pause);
            let known = self.known.entry(alert.kind.clone()).or_insert(Known {
                began: now,
                seen: now,
                logged: now,
                lasts: true,
                what: String::new(),
            });
            if !known.lasts {
                known.began = now;
            }
            (known.seen, known.lasts) = (now, true);
            if is_due {
                known.logged = now;
                known.what = first_sentence(&alert.message).to_owned();
                let message = alert.message.clone();
                lines.push(match alert.severity {
                    Severity::Error => Line::Error(message),
                    Severity::Warning => Line::Warning(message),
                });
            }
        }
        self.known.retain(|_, known| {
            let quiet = now.saturating_duration_since(known.seen);
            if known.lasts && quiet >= OVER_AFTER {
                known.lasts = false;
                let lasted = known.seen.saturating_duration_since(known.began).as_secs();
                lines.push(Line::Over(format!("over after {lasted} s: {}", known.what)));
            }
            // Remembered for as long as a repetition would be held back.
            quiet < OVER_AFTER + KIND_PAUSE
        });
        lines
    }
}

fn first_sentence(message: &str) -> &str {
    let end = [". ", "; ", ": "].iter().filter_map(|end| message.find(end)).min();
    message.get(..end.unwrap_or(message.len())).unwrap_or(message)
}

/// What comes and goes is logged so often.
const KIND_PAUSE: Duration = Duration::from_secs(30);
/// What stays is logged again.
const LASTING_ERROR_PAUSE: Duration = Duration::from_secs(60);
const LASTING_PAUSE: Duration = Duration::from_secs(300);
const OVER_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_when_it_begins_when_it_stays_and_when_it_is_over() {
        let alert = [Alert {
            kind: "backend".into(),
            severity: Severity::Error,
            message: "It is down. Do something.".into(),
        }];
        let start = Instant::now();
        let mut alert_log = AlertLog::default();
        let mut logged = Vec::new();
        // Down for 400 s, up for 20, down for one, up again.
        for second in 0..460 {
            let down = second < 400 || second == 420;
            let now = start + Duration::from_secs(second);
            for line in alert_log.take(now, if down { &alert } else { &[] }) {
                logged.push((second, line));
            }
        }
        let error = || Line::Error("It is down. Do something.".into());
        let over = |seconds| Line::Over(format!("over after {seconds} s: It is down"));
        let lasting = (0..400).step_by(60).map(|second| (second, error()));
        let end = [(404, over(399)), (420, error()), (425, over(0))];
        assert_eq!(logged, lasting.chain(end).collect::<Vec<_>>());
    }

    #[test]
    fn what_comes_and_goes_is_told_seldom() {
        let alert = [Alert {
            kind: "shed".into(),
            severity: Severity::Warning,
            message: "too many".into(),
        }];
        let start = Instant::now();
        let mut alert_log = AlertLog::default();
        let lines: usize = (0..120)
            .map(|second| {
                let now = start + Duration::from_secs(second * 6);
                alert_log.take(now, if second % 2 == 0 { &alert } else { &[] }).len()
            })
            .sum();
        assert!(lines <= 60 + 24, "{lines} lines in twelve minutes of coming and going");
    }
}
