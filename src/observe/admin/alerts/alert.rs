//! Defines what an alert is, and the words that all of them have.

use crate::observe::report::Report;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::observe::admin) struct Alert {
    /// Tells it from others as long as it lasts, whatever its numbers are.
    pub(in crate::observe::admin) kind: String,
    pub(in crate::observe::admin) severity: Severity,
    /// Higher when it has got worse, within its kind and severity.
    pub(in crate::observe::admin) stage: u8,
    /// Not where the log has a better line already.
    pub(in crate::observe::admin) is_logged: bool,
    /// A sentence or two: what is wrong, where, what it means, what to do.
    pub(in crate::observe::admin) message: String,
}

/// How bad an alert is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::observe::admin) enum Severity {
    /// Work is lost.
    Error,
    /// It soon will be, or somebody wants it so.
    Warning,
}

impl Severity {
    /// Its name in /status.json.
    pub(in crate::observe::admin) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One of that kind.
pub(super) fn alert(kind: &str, severity: Severity, message: String) -> Alert {
    Alert {
        kind: kind.to_owned(),
        severity,
        stage: 0,
        is_logged: true,
        message,
    }
}

/// `shard 3`, `shards 0, 2` or `all shards`: those for which it is so; `None`: none.
pub(super) fn shards(reports: &[Report], is_so: impl Fn(&Report) -> bool) -> Option<String> {
    let so: Vec<String> = reports
        .iter()
        .filter(|report| is_so(report))
        .map(|report| report.shard.to_string())
        .collect();
    match so.len() {
        0 => None,
        1 => Some(format!("shard {}", so[0])),
        count if count == reports.len() => Some("all shards".to_owned()),
        count if count > NAMED_MAX => Some(format!(
            "shards {} and {} more",
            so[..NAMED_MAX].join(", "),
            count - NAMED_MAX
        )),
        _ => Some(format!("shards {}", so.join(", "))),
    }
}

/// The backend's name, or those of all.
pub(super) fn names(reports: &[Report]) -> String {
    let backends = reports.first().map_or(&[][..], |report| &report.backends);
    let names: Vec<&str> = backends.iter().map(|backend| &*backend.name).collect();
    match names.len() {
        0 | 1 => names.concat(),
        count if count > NAMED_MAX => format!("{} and {} more", names[..NAMED_MAX].join(", "), count - NAMED_MAX),
        _ => names.join(", "),
    }
}

const NAMED_MAX: usize = 8;
