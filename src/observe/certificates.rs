//! Remembers until when the certificates of `listen_tls` are good, for /metrics, the status page and whoever watches them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

/// A certificate that clients get.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateSeen {
    /// The path of its chain.
    pub file: String,
    /// The kind of its key.
    pub kind: String,
    /// The hosts that it is for.
    pub hosts: Vec<String>,
    /// The end of it or of one that it hangs on, whichever comes first, in seconds since 1970.
    pub not_after: i64,
}

impl CertificateSeen {
    /// So long it is still good; below 0 it is no longer.
    #[must_use]
    pub fn seconds_left(&self, now: SystemTime) -> i64 {
        self.not_after.saturating_sub(unix_seconds(now))
    }

    /// Until when it is good, in words.
    #[must_use]
    pub fn until(&self, now: SystemTime) -> String {
        let left = self.seconds_left(now);
        let end = u64::try_from(self.not_after).unwrap_or(0);
        let end = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(end.min(YEAR_9999));
        let end = humantime::format_rfc3339_seconds(end);
        match left {
            ..0 => format!("it has expired, {end}"),
            0..DAY => format!("it expires in {} h, {end}", left / 3600),
            _ => format!("it expires in {} days, {end}", left / DAY),
        }
    }
}

/// From now on clients get these.
pub fn set(certificates: Vec<CertificateSeen>) {
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(certificates.into());
}

/// What clients get.
#[must_use]
pub fn current() -> Arc<[CertificateSeen]> {
    CURRENT
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .map_or_else(Arc::default, Arc::clone)
}

/// Since 1970.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

static CURRENT: RwLock<Option<Arc<[CertificateSeen]>>> = RwLock::new(None);
const DAY: i64 = 86_400;
/// No certificate says a later one.
const YEAR_9999: u64 = 253_402_300_799;
