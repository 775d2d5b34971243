//! Knows which servers there are, whose turn it is, and when.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::config::NatsUrl;

/// Those that are configured, and those that one of them has named.
pub(super) struct Servers {
    configured: Vec<Server>,
    named: Vec<Server>,
    /// Whose turn it is, among both.
    turn: usize,
    /// Attempts since the last connection that lasted.
    failures: u32,
    random: RandomState,
    drawn: u64,
}

/// One server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Server {
    pub(super) url: NatsUrl,
    /// Whose certificate it shows: one that is known by its address alone has that of the server which has named it.
    pub(super) name: String,
    /// What it is called where people read of it.
    pub(super) called: String,
}

impl Server {
    fn new(url: NatsUrl, name: String) -> Self {
        let called = url.to_string();
        Self { url, name, called }
    }
}

impl Servers {
    /// At least one.
    pub(super) fn new(urls: &[NatsUrl]) -> Self {
        assert!(!urls.is_empty(), "a cluster has a server");
        let configured = urls.iter().map(|url| Server::new(url.clone(), url.host.clone()));
        let random = RandomState::new();
        Self {
            configured: configured.collect(),
            named: Vec::new(),
            // Not all nodes begin with the same.
            turn: usize::try_from(random.hash_one(0) >> 32).unwrap_or(0) % urls.len(),
            failures: 0,
            random,
            drawn: 0,
        }
    }

    /// The one whose turn it is.
    pub(super) fn current(&self) -> &Server {
        let mut all = self.configured.iter().chain(&self.named);
        let turn = self.turn % self.count();
        all.nth(turn).or(self.configured.first()).expect("there is one")
    }

    /// Learns of others, in the place of those that were named before. What anybody on the way could have said (`is_believed`: not
    /// so) leads to nobody who does not show a certificate of the one that is connected to.
    pub(super) fn learn(&mut self, addresses: &[String], is_believed: bool) {
        let current = self.current().clone();
        let is_configured = |url: &NatsUrl| {
            let is_same = |server: &Server| server.url.host == url.host && server.url.port == url.port;
            self.configured.iter().any(is_same)
        };
        let mut named = Vec::new();
        for url in addresses.iter().filter_map(|address| current.url.beside(address)) {
            let is_address = url.host.parse::<std::net::IpAddr>().is_ok();
            let name = match is_address || !is_believed {
                true => current.name.clone(),
                false => url.host.clone(),
            };
            let server = Server::new(url, name);
            if !is_configured(&server.url) && !named.contains(&server) && named.len() < NAMED_MAX {
                named.push(server);
            }
        }
        self.named = named;
        let mut all = self.configured.iter().chain(&self.named);
        // One that is named no more is the last that it was.
        self.turn = all.position(|server| *server == current).unwrap_or(0);
    }

    /// The connection to the current one has failed, or ended before it lasted: how long to wait for the next one's turn.
    pub(super) fn fail(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.turn = (self.turn + 1) % self.count();
        let rounds = self.failures / u32::try_from(self.count()).unwrap_or(u32::MAX);
        let most = match rounds {
            // The others have not been tried.
            0 => PAUSE_MIN,
            rounds => (PAUSE_MIN * (1 << rounds.min(10))).min(PAUSE_MAX),
        };
        self.drawn += 1;
        let share = (self.random.hash_one(self.drawn) % 1024) as u32;
        // From half of it to the whole.
        most / 2 + most / 2 * share / 1024
    }

    /// The connection has lasted: what comes is a new beginning.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    pub(super) fn count(&self) -> usize {
        self.configured.len() + self.named.len()
    }
}

/// Of those that servers name.
const NAMED_MAX: usize = 32;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &[&str]) -> Servers {
        let urls: Vec<NatsUrl> = urls.iter().map(|url| url.parse().unwrap()).collect();
        Servers::new(&urls)
    }

    #[test]
    fn each_has_its_turn_soon_and_all_again_ever_later() {
        let mut servers = servers(&["nats://a", "nats://b", "nats://c"]);
        let mut hosts: Vec<String> = Vec::new();
        let mut pauses = Vec::new();
        for _ in 0..30 {
            hosts.push(servers.current().url.host.clone());
            pauses.push(servers.fail());
        }
        let first = &mut hosts[..3].to_vec();
        first.sort();
        assert_eq!(*first, ["a", "b", "c"]);
        assert!(hosts[..27].iter().zip(&hosts[3..]).all(|(one, other)| one == other));
        assert!(pauses[..2].iter().all(|pause| *pause <= PAUSE_MIN), "{pauses:?}");
        assert!(
            pauses.iter().all(|pause| (PAUSE_MIN / 2..=PAUSE_MAX).contains(pause)),
            "{pauses:?}"
        );
        assert!(pauses[29] >= PAUSE_MAX / 2, "{pauses:?}");
        servers.succeed();
        assert!(servers.fail() <= PAUSE_MIN);
    }

    #[test]
    fn servers_that_are_named_come_and_go() {
        let mut servers = servers(&["tls://u:p@n1.example"]);
        let names =
            |servers: &Servers| -> Vec<String> { servers.named.iter().map(|server| server.url.address()).collect() };
        servers.learn(
            &[
                "n1.example:4222".into(),
                "10.0.0.2:4222".into(),
                "10.0.0.2:4222".into(),
                "n3.example:4222".into(),
                "no host".into(),
            ],
            true,
        );
        assert_eq!(names(&servers), ["10.0.0.2:4222", "n3.example:4222"]);
        assert_eq!(
            (servers.named[0].name.as_str(), servers.named[1].name.as_str()),
            ("n1.example", "n3.example")
        );
        assert!(servers.named[0].url.login == servers.configured[0].url.login && servers.named[0].url.is_tls);
        servers.fail();
        assert_eq!(servers.current().url.host, "10.0.0.2");
        servers.learn(&["10.0.0.9:1".into()], true);
        assert_eq!((names(&servers), servers.turn), (vec!["10.0.0.9:1".to_owned()], 0));
        servers.learn(
            &(0..100).map(|port| format!("h:{}", port + 1)).collect::<Vec<_>>(),
            true,
        );
        assert_eq!(servers.count(), 1 + NAMED_MAX);
        servers.learn(&[], true);
        assert_eq!(servers.count(), 1);
    }

    #[test]
    fn whoever_is_named_before_tls_has_to_be_who_was_configured() {
        let mut servers = servers(&["tls://n1.example"]);
        let named = ["evil.example:4222".to_owned()];
        servers.learn(&named, false);
        assert_eq!(servers.named[0].name, "n1.example");
        servers.fail();
        assert_eq!(servers.current().url.host, "evil.example");
        // It goes on like that from there.
        servers.learn(&["worse.example:4222".to_owned()], false);
        assert_eq!(servers.named[0].name, "n1.example");
        servers.learn(&named, true);
        assert_eq!(servers.named[0].name, "evil.example");
    }
}
