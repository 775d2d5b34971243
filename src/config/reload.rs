//! Compares a new configuration with the one that runs, and says what runs from then on.

use super::Config;
use super::keys::{Core, Key, Node, When};

/// One key whose value is another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Its name; with the shard, if only that shard's value has changed.
    pub key: String,
    /// When it takes effect.
    pub when: When,
    /// As the file would hold it.
    pub from: String,
    /// As the file would hold it.
    pub to: String,
}

/// The differences between what runs and what is wanted. Shards are compared one by one; that there are more or fewer
/// of them, or on other CPUs, is a change of `cores`.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut compare = |key: &Key, shard: Option<usize>, from: String, to: String| {
        if from != to {
            let key_name = shard.map_or_else(|| key.name.to_owned(), |shard| format!("{} (shard {shard})", key.name));
            changes.push(Change {
                key: key_name,
                when: key.when,
                from,
                to,
            });
        }
    };
    for key in Node::KEYS {
        compare(key, None, old.node.literal(key.name), new.node.literal(key.name));
    }
    for key in Core::KEYS {
        let pairs = old.cores.iter().zip(&new.cores).enumerate();
        for (shard, (from, to)) in pairs {
            compare(key, Some(shard), from.literal(key.name), to.literal(key.name));
        }
    }
    let cpus = |config: &Config| {
        let cpus: Vec<String> = config.cores.iter().map(|core| core.cpu.to_string()).collect();
        cpus.join(",")
    };
    if cpus(old) != cpus(new) {
        changes.push(Change {
            key: "cores".to_owned(),
            when: When::Restart,
            from: cpus(old),
            to: cpus(new),
        });
    }
    changes
}

/// What runs from now on: `new`, but with the values of `old` where a restart is needed.
#[must_use]
pub fn merge(old: &Config, new: &Config) -> Config {
    // A shard that the new configuration does not have goes on as it is.
    let cores = old.cores.iter().enumerate();
    let cores = cores.map(|(shard, old)| Core::merge(old, new.cores.get(shard).unwrap_or(old)));
    Config {
        node: Node::merge(&old.node, &new.node),
        cores: cores.collect(),
        keys_set: new.keys_set.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::units::{size_from, time_from};
    use super::super::{Kind, two_shards};
    use super::*;

    /// Some value that the key allows and that is not its default.
    fn another(key: &Key) -> String {
        match key.kind {
            Kind::Flag => (key.default == "false").to_string(),
            Kind::Count { .. } => (key.default.parse::<u64>().expect("a count") + 1).to_string(),
            Kind::CountOr { min, .. } => min.to_string(),
            Kind::Ratio => "0.5".to_owned(),
            Kind::Size { .. } => {
                let default = size_from(key.default, key.kind).expect("within its bounds");
                (default.expect("a size") + 1).to_string()
            }
            Kind::Time { .. } => {
                let default = time_from(key.default, key.kind).expect("a duration");
                format!("{}ms", default.as_millis() + 10)
            }
            Kind::Address | Kind::OptionalAddress => "127.0.0.1:4999".to_owned(),
            Kind::OptionalCertificate | Kind::Certificates => "{ chain = \"/c.pem\", key = \"/k.pem\" }".to_owned(),
            Kind::Backends => "http://127.0.0.1:7".to_owned(),
            Kind::PathPrefixes => "/x/".to_owned(),
            Kind::Choice(words) | Kind::Choices(words) => {
                let other = words.iter().find(|word| **word != key.default);
                (*other.expect("a choice has two words")).to_owned()
            }
            Kind::OptionalPath => "/token".to_owned(),
            Kind::Subprotocols => "other".to_owned(),
            Kind::Headers => "x-a".to_owned(),
            Kind::Origins => "https://example.org".to_owned(),
            Kind::Hosts => "ws2api.example.org".to_owned(),
            Kind::UserAgents => "Java-WebSocket/1.5".to_owned(),
            Kind::Members => "idTag".to_owned(),
            Kind::Networks => "10.0.0.0/8".to_owned(),
            Kind::NatsUrls => "nats://nats".to_owned(),
            Kind::ClusterName | Kind::NodeName => "other".to_owned(),
        }
    }

    #[test]
    fn every_key_changes_when_it_says() {
        // Without these, others would mean nothing.
        let base = [
            ("trusted_proxies", "10.1.0.0/16"),
            ("tls_certificates", "{ chain = \"/a.pem\", key = \"/b.pem\" }"),
            ("tls_client_ca", "/a.pem"),
        ];
        let old = two_shards(&base);
        for key in Key::all() {
            let new = two_shards(&[&base[..], &[(key.name, &another(key))]].concat());
            let changes = changes(&old, &new);
            assert!(!changes.is_empty(), "{}", key.name);
            assert!(
                changes
                    .iter()
                    .all(|change| change.key.split(' ').next() == Some(key.name))
            );
            let merged = merge(&old, &new);
            let expected = if key.when == When::Restart { &old } else { &new };
            assert_eq!(
                (&merged.node, &merged.cores),
                (&expected.node, &expected.cores),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn shards_are_neither_made_nor_moved() {
        let old = two_shards(&[("clients_max", "10")]);
        let mut new = two_shards(&[("clients_max", "20")]);
        new.cores.truncate(1);
        new.cores[0].cpu = 1;
        let changes = changes(&old, &new);
        let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["clients_max (shard 0)", "cores"]);
        assert_eq!(changes[1].when, When::Restart);
        let merged = merge(&old, &new);
        let shards: Vec<_> = merged.cores.iter().map(|core| (core.cpu, core.clients_max)).collect();
        assert_eq!(shards, [(0, 20), (1, 10)]);
    }
}
