//! Remembers the alerts that last, and decides when they are logged: each kind when it begins, when it gets worse, seldom while
//! it lasts, and when it is over.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::alerts::{Alert, Severity};

/// The alerts that last, and what the log knows of them.
#[derive(Debug, Default)]
pub(super) struct AlertLog {
    known: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    began: Instant,
    seen: Instant,
    lasts: bool,
    /// As it was seen last.
    alert: Alert,
    /// Since it began this time.
    is_told: bool,
    logged: Instant,
    /// When its beginning was logged the last times, the last one first.
    begins: [Option<Instant>; BEGINS_MAX],
    /// How bad it was in what was logged.
    rank: Rank,
    /// What was logged, up to its first full stop.
    what: String,
}

/// The higher the worse.
type Rank = (Reverse<Severity>, u8);

/// An alert, and how long it has lasted.
#[derive(Clone, Debug)]
pub(super) struct Lasting {
    pub(super) alert: Alert,
    pub(super) since: Instant,
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
            let rank = (Reverse(alert.severity), alert.stage);
            let known = self.known.entry(alert.kind.clone()).or_insert_with(|| Known {
                began: now,
                seen: now,
                lasts: true,
                alert: alert.clone(),
                is_told: false,
                logged: now,
                begins: [None; BEGINS_MAX],
                rank,
                what: String::new(),
            });
            if !known.lasts {
                (known.began, known.is_told) = (now, false);
            }
            (known.seen, known.lasts, known.alert) = (now, true, alert.clone());
            if alert.is_logged && known.is_due(now, rank) {
                if !known.is_told {
                    known.begins.rotate_right(1);
                    known.begins[0] = Some(now);
                }
                (known.is_told, known.logged, known.rank) = (true, now, rank);
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
                if known.is_told {
                    let lasted = known.seen.saturating_duration_since(known.began).as_secs();
                    lines.push(Line::Over(format!("over after {lasted} s: {}", known.what)));
                }
            }
            // Remembered for as long as a repetition would be held back.
            quiet < OVER_AFTER + BEGINS_PAUSE
        });
        lines
    }

    /// What is wrong, or was a moment ago: errors first, then what has lasted longest.
    pub(super) fn lasting(&self) -> Vec<Lasting> {
        let lasting = self.known.values().filter(|known| known.lasts);
        let mut lasting: Vec<Lasting> = lasting
            .map(|known| Lasting {
                alert: known.alert.clone(),
                since: known.began,
            })
            .collect();
        lasting.sort_by(|a, b| {
            let order = |lasting: &Lasting| (lasting.alert.severity, lasting.since);
            order(a).cmp(&order(b)).then_with(|| a.alert.kind.cmp(&b.alert.kind))
        });
        lasting
    }
}

impl Known {
    /// Whether a line is due: it has begun, and has not done so four times in the last minute; it has got worse; or the last line was long ago.
    fn is_due(&self, now: Instant, rank: Rank) -> bool {
        if !self.is_told {
            let [.., first] = self.begins;
            return first.is_none_or(|first| now.saturating_duration_since(first) >= BEGINS_PAUSE);
        }
        let pause = match self.alert.severity {
            Severity::Error => LASTING_ERROR_PAUSE,
            Severity::Warning => LASTING_PAUSE,
        };
        rank > self.rank || now.saturating_duration_since(self.logged) >= pause
    }
}

fn first_sentence(message: &str) -> &str {
    let end = [". ", "; ", ": "].iter().filter_map(|end| message.find(end)).min();
    message.get(..end.unwrap_or(message.len())).unwrap_or(message)
}

/// What comes and goes is logged so often in so much time.
const BEGINS_MAX: usize = 4;
const BEGINS_PAUSE: Duration = Duration::from_secs(60);
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
            stage: 0,
            is_logged: true,
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
    fn what_gets_worse_is_told_at_once_and_is_not_over_meanwhile() {
        let start = Instant::now();
        let alert = |severity, stage, message: &str| Alert {
            kind: "backend".into(),
            severity,
            stage,
            is_logged: true,
            message: message.into(),
        };
        let alerts = [
            alert(Severity::Warning, 0, "a few"),
            alert(Severity::Error, 0, "many"),
            alert(Severity::Error, 1, "down"),
            alert(Severity::Error, 0, "many"),
            alert(Severity::Warning, 0, "a few"),
        ];
        let mut alert_log = AlertLog::default();
        let mut logged = Vec::new();
        for second in 0..50 {
            let now = start + Duration::from_secs(second);
            logged.extend(alert_log.take(now, &alerts[second as usize / 10..][..1]));
            let [lasting] = &alert_log.lasting()[..] else { panic!() };
            assert_eq!((&lasting.alert, lasting.since), (&alerts[second as usize / 10], start));
        }
        let lines = [
            Line::Warning("a few".into()),
            Line::Error("many".into()),
            Line::Error("down".into()),
        ];
        assert_eq!(logged, lines);
        let over = alert_log.take(start + Duration::from_secs(60), &[]);
        assert_eq!(over, [Line::Over("over after 49 s: down".into())]);
        assert_eq!(alert_log.lasting().len(), 0);
    }

    #[test]
    fn what_comes_and_goes_is_told_seldom() {
        let alert = [Alert {
            kind: "shed".into(),
            severity: Severity::Warning,
            stage: 0,
            is_logged: true,
            message: "too many".into(),
        }];
        let start = Instant::now();
        let mut alert_log = AlertLog::default();
        let lines: Vec<Line> = (0..120)
            .flat_map(|second| {
                let now = start + Duration::from_secs(second * 6);
                alert_log.take(now, if second % 2 == 0 { &alert } else { &[] })
            })
            .collect();
        let is_over = |line: &&Line| matches!(line, Line::Over(_));
        let counts = (lines.len(), lines.iter().filter(is_over).count());
        assert_eq!(
            counts,
            (96, 48),
            "in twelve minutes, four beginnings a minute and their ends"
        );
    }
}
