//! Counts what became of the requests to each backend, and settles which of them is down from what all shards have heard.

use std::sync::Arc;
use std::time::Duration;

use super::counters::Count;
use super::report::Report;
use protocol::balance::{Health, OutageReason};
use protocol::capacity::Usage;

macro_rules! results {
    ($( $result:ident, $label:literal, $goodness:ident, $words:literal; )+) => {
        /// What became of a request that a backend got.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum BackendResult {
            $( #[doc = $words] $result, )+
        }

        /// All of them, in the order of [`BackendReport::results`].
        pub const RESULTS: &[BackendResult] = &[ $( BackendResult::$result, )+ ];

        impl BackendResult {
            /// Its value of the label `result`.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $( Self::$result => $label, )+ }
            }

            /// What it is, for people: behind a number.
            #[must_use]
            pub fn words(self) -> &'static str {
                match self { $( Self::$result => $words, )+ }
            }

            /// Whether it is nothing that the backend could mean.
            #[must_use]
            pub fn is_bad(self) -> bool {
                match self { $( Self::$result => results!(@ $goodness), )+ }
            }
        }
    };
    (@ good) => { false };
    (@ bad) => { true };
}

results! {
    Ok, "ok", good, "good answers";
    ConnectUnavailable, "connect_503", good, "newcomers told by 503 to come later";
    Redirect, "3xx", bad, "3xx";
    ServerError, "5xx", bad, "5xx";
    NoWorkers, "no_workers", bad, "No-Workers, time after time";
    NotJson, "not_json", bad, "answers to Calls that are no JSON";
    CutOff, "cut_off", bad, "cut off";
    Malformed, "malformed", bad, "no HTTP";
    TooLarge, "too_large", bad, "larger than message_max";
    Deadline, "deadline", bad, "not in time";
}

/// One shard's counts of what became of the requests to one backend.
#[derive(Debug, Default)]
pub struct BackendTally([Count; RESULTS.len()]);

impl BackendTally {
    /// Counts one more.
    pub fn count(&self, result: BackendResult) {
        self.0[result as usize].add();
    }

    /// The counts, in the order of [`RESULTS`].
    #[must_use]
    pub fn read(&self) -> Vec<u64> {
        self.0.iter().map(Count::get).collect()
    }
}

/// What a shard says of one backend of the configuration.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// Its URL.
    pub name: Arc<str>,
    /// Each address that its name has now.
    pub addresses: Vec<AddressReport>,
    /// In the order of [`RESULTS`].
    pub results: Vec<u64>,
}

/// What a shard says of one address.
#[derive(Clone, Debug)]
pub struct AddressReport {
    /// As a request connects to it.
    pub address: String,
    /// What was heard of it.
    pub health: Health,
    /// How many requests the shard may have there.
    pub places: Places,
}

/// How many requests a shard may have at one address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    /// So many.
    pub count: usize,
    /// So many it has.
    pub in_use: usize,
    /// What it knows of all shards, if it is the one that lends the address's places to them.
    pub lent: Option<Lent>,
}

/// How many requests all shards together may have at one address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lent {
    /// How that is used.
    pub usage: Usage,
    /// How long an answer takes when none waits inside the backend, as far as is known.
    pub floor: Option<Duration>,
}

impl Places {
    /// No request more may be sent there.
    #[must_use]
    pub fn are_used_up(&self) -> bool {
        self.in_use >= self.count
    }
}

impl BackendReport {
    /// Why it is down: none of its addresses serves.
    #[must_use]
    pub fn outage(&self) -> Option<OutageReason> {
        let outages = self.addresses.iter().map(|address| address.health.outage);
        let all: Option<Vec<_>> = outages.collect();
        all?.into_iter()
            .max_by_key(|outage| outage.evidence)
            .map(|outage| outage.reason)
    }

    /// The same with what has been counted since `before`.
    #[must_use]
    pub fn since(&self, before: Option<&Self>) -> Self {
        let before = before.map_or(&[][..], |before| &before.results);
        let counted = before.iter().copied().chain(std::iter::repeat(0));
        let results = self
            .results
            .iter()
            .zip(counted)
            .map(|(now, before)| now.saturating_sub(before));
        Self {
            results: results.collect(),
            ..self.clone()
        }
    }

    /// Requests that ended, and how many of them badly.
    #[must_use]
    pub fn ended(&self) -> (u64, u64) {
        let bad = RESULTS.iter().zip(&self.results).filter(|(result, _)| result.is_bad());
        (self.results.iter().sum(), bad.map(|(_, count)| count).sum())
    }
}

/// How many requests one address may have from all shards together, and how many it has.
#[derive(Clone, Debug)]
pub struct AddressUse {
    /// The backend's URL.
    pub backend: Arc<str>,
    /// As a request connects to it.
    pub address: String,
    /// So many it may have.
    pub limit: usize,
    /// So many it has.
    pub in_use: usize,
    /// So many wait for a place.
    pub waiting: usize,
    /// How long an answer takes when none waits inside the backend, as far as is known.
    pub floor: Option<Duration>,
}

/// Each address whose places a shard lends that has answered.
#[must_use]
pub fn lent(reports: &[Report]) -> Vec<AddressUse> {
    let each = reports.iter().flat_map(addresses_of_report);
    let lent = each.filter_map(|(place, backend, address)| {
        let lent = address.places.lent?;
        let same = reports.iter().flat_map(addresses);
        let same = same.filter(|(other, known)| *other == place && known.address == address.address);
        Some(AddressUse {
            backend: backend.name.clone(),
            address: address.address.clone(),
            limit: lent.usage.limit,
            in_use: same.map(|(_, known)| known.places.in_use).sum(),
            waiting: lent.usage.waiting,
            floor: lent.floor,
        })
    });
    lent.collect()
}

fn addresses_of_report(report: &Report) -> impl Iterator<Item = (usize, &BackendReport, &AddressReport)> {
    let backends = report.backends.iter().enumerate();
    backends.flat_map(|(place, backend)| backend.addresses.iter().map(move |address| (place, backend, address)))
}

/// Takes away what one shard holds against a backend, and another one has refuted since: an idle shard learns from nobody
/// else that a backend is back.
pub fn settle(reports: &mut [Report]) {
    let mut refuted = Vec::new();
    for (index, report) in reports.iter().enumerate() {
        for (place, address) in addresses(report) {
            let Some(outage) = address.health.outage else { continue };
            let is_it = |(other, known): &(_, &AddressReport)| *other == place && known.address == address.address;
            let known = reports.iter().flat_map(addresses).filter(is_it);
            let answered = known.filter_map(|(_, known)| known.health.answered).max();
            if answered.is_some_and(|answered| answered >= outage.evidence) {
                refuted.push((index, place, address.address.clone()));
            }
        }
    }
    for (index, place, address) in refuted {
        let known = reports[index].backends[place].addresses.iter_mut();
        for known in known.filter(|known| known.address == address) {
            known.health.outage = None;
        }
    }
    for report in reports {
        let is_down = !report.backends.is_empty() && report.backends.iter().all(|backend| backend.outage().is_some());
        report.gauges.backend_up = f64::from(u8::from(!is_down));
    }
}

fn addresses(report: &Report) -> impl Iterator<Item = (usize, &AddressReport)> {
    let backends = report.backends.iter().enumerate();
    backends.flat_map(|(place, backend)| backend.addresses.iter().map(move |address| (place, address)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use protocol::balance::Outage;

    use super::*;

    fn report(shard: usize, health: &[Health]) -> Report {
        let addresses = health.iter().enumerate().map(|(number, health)| AddressReport {
            address: format!("10.0.0.{number}:80"),
            health: *health,
            places: Places::default(),
        });
        let backend = BackendReport {
            name: "http://backend:80".into(),
            addresses: addresses.collect(),
            results: vec![0; RESULTS.len()],
        };
        Report {
            shard,
            backends: vec![backend],
            ..Report::default()
        }
    }

    fn down(evidence: Instant) -> Health {
        Health {
            outage: Some(Outage {
                reason: OutageReason::Silent,
                since: evidence,
                evidence,
            }),
            answered: None,
        }
    }

    fn answered(at: Instant) -> Health {
        Health {
            outage: None,
            answered: Some(at),
        }
    }

    #[test]
    fn a_backend_is_down_for_a_shard_until_any_has_had_an_answer() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        for (heard, up) in [(start, [0.0, 1.0]), (later, [1.0, 1.0])] {
            let mut reports = vec![report(0, &[down(later)]), report(1, &[answered(heard)])];
            settle(&mut reports);
            assert_eq!([0, 1].map(|shard| reports[shard].gauges.backend_up), up);
        }
    }

    #[test]
    fn a_backend_is_up_while_one_of_its_addresses_is() {
        let start = Instant::now();
        let mut reports = vec![report(0, &[down(start), Health::default()])];
        settle(&mut reports);
        assert_eq!(reports[0].backends[0].outage(), None);
        // What is heard of one address says nothing of another.
        let mut reports = vec![
            report(0, &[down(start), down(start)]),
            report(1, &[Health::default(), answered(start)]),
        ];
        settle(&mut reports);
        assert_eq!(reports[0].backends[0].outage(), None);
        assert!(reports[0].backends[0].addresses[0].health.outage.is_some());
    }
}
