//! The HTML report.

use crate::report::Report;

/// Renders.
#[must_use]
pub fn render(report: &Report) -> String {
    report.table()
}
