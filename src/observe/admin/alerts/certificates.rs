//! Says which certificate of `listen_tls` is near its end.

use std::time::SystemTime;

use super::alert::{Alert, Severity, alert};
use crate::observe::certificates::CertificateSeen;

/// What is near its end: worse from its last days on.
pub(super) fn certificates(seen: &[CertificateSeen], date: SystemTime, found: &mut Vec<Alert>) {
    for certificate in seen {
        let (severity, stage) = match certificate.seconds_left(date) {
            ..0 => (Severity::Error, 1),
            0..LAST_DAYS => (Severity::Error, 0),
            LAST_DAYS..SOON => (Severity::Warning, 0),
            _ => continue,
        };
        let message = format!(
            "The certificate in {} is near its end: {}. Then no charger that checks it connects any more; put a new one there and let \
             SIGHUP read it.",
            certificate.file,
            certificate.until(date),
        );
        found.push(Alert {
            stage,
            ..alert(&format!("certificate {}", certificate.file), severity, message)
        });
    }
}

const DAY: i64 = 86_400;
const SOON: i64 = 14 * DAY;
const LAST_DAYS: i64 = 3 * DAY;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_is_named_two_weeks_before_its_end_and_an_error_in_the_last_days() {
        let certificate = CertificateSeen {
            file: "/etc/c.pem".to_owned(),
            kind: "ECDSA".to_owned(),
            hosts: Vec::new(),
            not_after: 100 * DAY,
        };
        for (left, expected) in [
            (SOON, None),
            (SOON - 1, Some((Severity::Warning, 0))),
            (LAST_DAYS, Some((Severity::Warning, 0))),
            (LAST_DAYS - 1, Some((Severity::Error, 0))),
            (0, Some((Severity::Error, 0))),
            (-1, Some((Severity::Error, 1))),
        ] {
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs((100 * DAY - left) as u64);
            let mut found = Vec::new();
            certificates(std::slice::from_ref(&certificate), date, &mut found);
            let told = found.first().map(|alert| (alert.severity, alert.stage));
            assert_eq!(told, expected, "{left}");
        }
    }
}
