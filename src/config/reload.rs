//! What a new configuration can change in a server that runs, and what it cannot.

use super::Config;
use super::keys::{Core, Key, Node};

/// When a key's new value counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// At once.
    Now,
    /// For clients that connect from then on.
    NewClients,
    /// After a restart: a listener, a ring or a pool was made with it.
    Restart,
}

/// One key whose value is another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Its name; with the shard, if only that shard's value has changed.
    pub key: String,
    /// When it counts.
    pub when: When,
    /// As the file would hold it.
    pub from: String,
    /// As the file would hold it.
    pub to: String,
}

/// When a new value of `key` counts in a server that runs.
#[must_use]
pub fn when(key: &str) -> When {
    match key {
        "listen"
        | "ingress"
        | "admin"
        | "backend"
        | "listen_backlog"
        | "head_max"
        | "message_max"
        | "json_depth_max"
        | "result_ttl"
        | "results_queued_max"
        | "mesh_queue"
        | "backend_connections_max"
        | "backend_pipeline_max"
        | "backend_waiters_max"
        | "backend_idle_timeout"
        | "connect_timeout" => When::Restart,
        "ping_after" | "dead_after" | "read_buffer" | "bad_frames_max" | "calls_in_flight" | "calls_queued"
        | "call_timeout" | "pushes_in_flight" | "pushes_queued" | "push_timeout" => When::NewClients,
        _ => When::Now,
    }
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
                when: when(key.name),
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
pub fn merged(old: &Config, new: &Config) -> Config {
    let node = Node {
        listen: old.node.listen,
        ingress: old.node.ingress,
        admin: old.node.admin,
        backends: old.node.backends.clone(),
        ..new.node.clone()
    };
    // A shard that the new configuration does not have goes on as it is.
    let cores = old.cores.iter().enumerate().map(|(shard, old)| {
        let new = new.cores.get(shard).unwrap_or(old);
        Core {
            cpu: old.cpu,
            listen_backlog: old.listen_backlog,
            head_max: old.head_max,
            message_max: old.message_max,
            json_depth_max: old.json_depth_max,
            result_ttl: old.result_ttl,
            results_queued_max: old.results_queued_max,
            mesh_queue: old.mesh_queue,
            backend_connections_max: old.backend_connections_max,
            backend_pipeline_max: old.backend_pipeline_max,
            backend_waiters_max: old.backend_waiters_max,
            backend_idle_timeout: old.backend_idle_timeout,
            connect_timeout: old.connect_timeout,
            ..new.clone()
        }
    });
    Config {
        node,
        cores: cores.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Overrides, resolve};
    use super::*;

    fn with(settings: &[(&str, &str)]) -> Config {
        let mut overrides = Overrides::default();
        for (key, value) in settings {
            overrides.set(key, value);
        }
        resolve(None, &overrides, &[0, 1]).expect("a configuration")
    }

    /// Some value that the key allows and that is not its default.
    fn another(key: &Key) -> String {
        match (key.kind, key.name) {
            (Kind::Flag, _) => (key.default == "false").to_string(),
            (Kind::Count { max, .. } | Kind::Size { max, .. }, _) => (max / 2).to_string(),
            (Kind::Time { .. }, "drain_timeout") => "14s".to_owned(),
            (Kind::Time { .. }, "drain_spread") => "9s".to_owned(),
            (Kind::Time { .. }, "dead_after") => "3m".to_owned(),
            (Kind::Time { .. }, _) => "7s".to_owned(),
            (_, "listen" | "ingress" | "admin") => "127.0.0.1:4999".to_owned(),
            (_, "backend") => "http://127.0.0.1:7".to_owned(),
            (_, "path_prefix") => "/x/".to_owned(),
            (_, "subprotocols") => "ocpp1.6".to_owned(),
            (_, "origins") => "https://example.org".to_owned(),
            (_, "trusted_proxies") => "10.0.0.0/8".to_owned(),
            (_, "ingress_token_file") => "/token".to_owned(),
            (_, name) if name.ends_with("headers") => "x-a".to_owned(),
            other => panic!("a value for {other:?}"),
        }
    }

    #[test]
    fn every_key_changes_when_it_says() {
        // Without whom trusted_headers would mean nothing.
        let trusted = ("trusted_proxies", "10.1.0.0/16");
        let old = with(&[trusted]);
        for key in Key::all() {
            let new = with(&[trusted, (key.name, &another(key))]);
            let changes = changes(&old, &new);
            assert!(!changes.is_empty(), "{}", key.name);
            assert!(
                changes
                    .iter()
                    .all(|change| change.key.split(' ').next() == Some(key.name))
            );
            let merged = merged(&old, &new);
            let expected = if when(key.name) == When::Restart { &old } else { &new };
            assert_eq!(&merged, expected, "{}", key.name);
        }
    }

    #[test]
    fn shards_are_neither_made_nor_moved() {
        let old = with(&[("clients_max", "10")]);
        let mut new = with(&[("clients_max", "20")]);
        new.cores.truncate(1);
        new.cores[0].cpu = 1;
        let changes = changes(&old, &new);
        let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["clients_max (shard 0)", "cores"]);
        assert_eq!(changes[1].when, When::Restart);
        let merged = merged(&old, &new);
        let shards: Vec<_> = merged.cores.iter().map(|core| (core.cpu, core.clients_max)).collect();
        assert_eq!(shards, [(0, 20), (1, 10)]);
    }
}
