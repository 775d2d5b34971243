//! Tells where the machine does not carry what the configuration allows, and what fixes it.
//!
//! Nothing here stops the start: the bounds hold, only lower than configured.

use super::Limits;
use crate::config::{BackendUrl, Config, Core, Size, Warning};

/// What is worth fixing before `config` runs on a machine with these `limits`; the gravest first.
#[must_use]
pub fn warnings(config: &Config, limits: &Limits) -> Vec<Warning> {
    let found = [
        io_uring(limits),
        locked_memory(config, limits),
        open_files(config, limits),
        memory(config, limits),
        local_ports(config, limits),
        conntrack(config, limits),
        somaxconn(config, limits),
    ];
    found.into_iter().flatten().collect()
}

/// The descriptors that one shard of `shards` may come to hold.
#[must_use]
pub fn descriptors_max(core: &Core, shards: usize) -> u64 {
    let connections = core.clients_max + core.handshakes_max + core.ingress_connections_max;
    (connections + core.backend_connections_max + OWN_DESCRIPTORS + shards * DESCRIPTORS_PER_NEIGHBOUR) as u64
}

fn warning(what: String, fix: String) -> Option<Warning> {
    Some(Warning { what, fix })
}

/// The sum over all shards.
fn sum(config: &Config, of: impl Fn(&Core) -> usize) -> u64 {
    config.cores.iter().map(|core| of(core) as u64).sum()
}

fn io_uring(limits: &Limits) -> Option<Warning> {
    let who = match limits.io_uring_disabled? {
        0 => return None,
        1 => "all but root and the members of kernel.io_uring_group",
        _ => "everybody",
    };
    warning(
        format!("io_uring, which every shard needs, is forbidden to {who} (kernel.io_uring_disabled)"),
        "sysctl -w kernel.io_uring_disabled=0".to_owned(),
    )
}

fn locked_memory(config: &Config, limits: &Limits) -> Option<Warning> {
    let (limit, needed) = (
        limits.locked_memory?,
        config.cores.len() as u64 * LOCKED_MEMORY_PER_SHARD,
    );
    (limit < needed).then_some(())?;
    warning(
        format!(
            "{} shards lock up to {} of memory for io_uring, {} are allowed",
            config.cores.len(),
            Size(needed),
            Size(limit)
        ),
        format!(
            "ulimit -Hl {}, or LimitMEMLOCK={needed} in the systemd unit",
            needed.div_ceil(1024)
        ),
    )
}

fn open_files(config: &Config, limits: &Limits) -> Option<Warning> {
    let shards = config.cores.len();
    let needs = |core: &Core| descriptors_max(core, shards);
    let (shard, core) = config
        .cores
        .iter()
        .enumerate()
        .rev()
        .max_by_key(|(_, core)| needs(core))?;
    let (limit, needed) = (limits.open_files?, needs(core));
    (limit < needed).then_some(())?;
    let others = needed - core.clients_max as u64;
    let ceiling = match limits.open_files_ceiling {
        Some(ceiling) if ceiling < needed => format!("sysctl -w fs.nr_open={needed}, then "),
        _ => String::new(),
    };
    warning(
        format!(
            "shard {shard} can hold {} of clients_max = {}: it may open {limit} files, and needs up to {needed}",
            limit.saturating_sub(others),
            core.clients_max
        ),
        format!("{ceiling}ulimit -Hn {needed}, or LimitNOFILE={needed} in the systemd unit"),
    )
}

fn memory(config: &Config, limits: &Limits) -> Option<Warning> {
    let of = |core: &Core| core.clients_max * (CLIENT_MEMORY + core.read_buffer);
    let (limit, needed) = (limits.memory?, sum(config, of));
    (limit < needed).then_some(())?;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    warning(
        format!(
            "{} idle clients (clients_max of all shards) take about {} MiB of memory; there are {}",
            sum(config, |core| core.clients_max),
            mib(needed),
            mib(limit)
        ),
        "set clients_max to what the memory carries, so that one more is refused instead of the process killed"
            .to_owned(),
    )
}

fn local_ports(config: &Config, limits: &Limits) -> Option<Warning> {
    let over_tcp = config
        .node
        .backends
        .iter()
        .any(|url| matches!(url, BackendUrl::Tcp { .. }));
    let (first, last) = limits.local_ports.filter(|_| over_tcp)?;
    let (ports, needed) = (
        (last + 1).saturating_sub(first),
        sum(config, |core| core.backend_connections_max),
    );
    (ports < needed).then_some(())?;
    warning(
        format!("all shards may open {needed} connections to one backend, which {ports} local ports do not carry"),
        "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\", or lower backend_connections_max".to_owned(),
    )
}

fn conntrack(config: &Config, limits: &Limits) -> Option<Warning> {
    let connections = |core: &Core| {
        core.clients_max + core.handshakes_max + core.ingress_connections_max + core.backend_connections_max
    };
    let (limit, needed) = (limits.conntrack_max?, sum(config, connections));
    (limit < needed).then_some(())?;
    warning(
        format!("the firewall tracks {limit} connections and drops the rest; all shards may have {needed}"),
        format!("sysctl -w net.netfilter.nf_conntrack_max={needed}, or do not track these ports"),
    )
}

fn somaxconn(config: &Config, limits: &Limits) -> Option<Warning> {
    let needed = config.cores.iter().map(|core| core.listen_backlog as u64).max()?;
    let limit = limits.somaxconn.filter(|limit| *limit < needed)?;
    warning(
        format!("listen_backlog = {needed} is cut to {limit}: a storm of reconnects loses connections sooner"),
        format!("sysctl -w net.core.somaxconn={needed}"),
    )
}

/// Listeners, epoll, eventfds, rings, standard streams, and room for an accept that is refused.
const OWN_DESCRIPTORS: usize = 64;
/// An end of a socket pair and what is in flight through it.
const DESCRIPTORS_PER_NEIGHBOUR: usize = 16;
/// An idle client without its read buffer: 4.4 KB in the kernel, the rest is ours.
const CLIENT_MEMORY: usize = 7 * 1024;
/// The rings and registered buffers of one executor.
const LOCKED_MEMORY_PER_SHARD: u64 = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, resolve};

    fn two_shards(settings: &[(&str, &str)]) -> Config {
        let mut overrides = Overrides::default();
        for (key, value) in settings {
            overrides.set(key, value);
        }
        resolve(None, &overrides, &[0, 1]).expect("a configuration")
    }

    fn words(config: &Config, limits: Limits) -> Vec<(String, String)> {
        warnings(config, &limits)
            .into_iter()
            .map(|warning| (warning.what, warning.fix))
            .collect()
    }

    #[test]
    fn a_machine_without_limits_needs_nothing() {
        assert_eq!(words(&two_shards(&[]), Limits::default()), []);
    }

    /// Each limit exactly at what is needed, and one below.
    #[test]
    fn each_limit_is_warned_of_one_below_what_is_needed() {
        let config = two_shards(&[("clients_max", "20000")]);
        let files = descriptors_max(&config.cores[0], 2);
        assert_eq!(files, 20_000 + 4096 + 1024 + 256 + 64 + 32);
        let connections = 2 * (20_000 + 4096 + 1024 + 256);
        type With = fn(u64) -> Limits;
        let cases: [(u64, With, &str, &str); 6] = [
            (
                files,
                |open_files| Limits {
                    open_files: Some(open_files),
                    open_files_ceiling: Some(1 << 20),
                    ..Limits::default()
                },
                "shard 0 can hold 19999 of clients_max = 20000: it may open 25471 files, and needs up to 25472",
                "ulimit -Hn 25472, or LimitNOFILE=25472 in the systemd unit",
            ),
            (
                1024 * 1024,
                |bytes| Limits {
                    locked_memory: Some(bytes),
                    ..Limits::default()
                },
                "2 shards lock up to 1MiB of memory for io_uring, 1048575B are allowed",
                "ulimit -Hl 1024, or LimitMEMLOCK=1048576 in the systemd unit",
            ),
            (
                4096,
                |somaxconn| Limits {
                    somaxconn: Some(somaxconn),
                    ..Limits::default()
                },
                "listen_backlog = 4096 is cut to 4095: a storm of reconnects loses connections sooner",
                "sysctl -w net.core.somaxconn=4096",
            ),
            (
                512,
                |ports| Limits {
                    local_ports: Some((1000, 999 + ports)),
                    ..Limits::default()
                },
                "all shards may open 512 connections to one backend, which 511 local ports do not carry",
                "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\", or lower backend_connections_max",
            ),
            (
                connections,
                |conntrack_max| Limits {
                    conntrack_max: Some(conntrack_max),
                    ..Limits::default()
                },
                "the firewall tracks 50751 connections and drops the rest; all shards may have 50752",
                "sysctl -w net.netfilter.nf_conntrack_max=50752, or do not track these ports",
            ),
            (
                40_000 * 8192,
                |memory| Limits {
                    memory: Some(memory),
                    ..Limits::default()
                },
                "40000 idle clients (clients_max of all shards) take about 313 MiB of memory; there are 313",
                "set clients_max to what the memory carries, so that one more is refused instead of the process killed",
            ),
        ];
        for (needed, limits, what, fix) in cases {
            assert_eq!(words(&config, limits(needed)), [], "{what}");
            assert_eq!(words(&config, limits(needed - 1)), [(what.to_owned(), fix.to_owned())]);
        }
    }

    #[test]
    fn a_limit_beyond_the_kernels_ceiling_names_both() {
        let limits = Limits {
            open_files: Some(1000),
            open_files_ceiling: Some(1000),
            ..Limits::default()
        };
        let found = words(&two_shards(&[("clients_max", "20000")]), limits);
        assert_eq!(
            found[0].1,
            "sysctl -w fs.nr_open=25472, then ulimit -Hn 25472, or LimitNOFILE=25472 in the systemd unit"
        );
        assert!(
            found[0].0.starts_with("shard 0 can hold 0 of clients_max"),
            "{}",
            found[0].0
        );
    }

    #[test]
    fn local_ports_do_not_matter_to_a_unix_socket() {
        let limits = Limits {
            local_ports: Some((1, 1)),
            ..Limits::default()
        };
        assert_eq!(words(&two_shards(&[("backend", "unix:/run/api.sock")]), limits), []);
    }

    #[test]
    fn a_forbidden_io_uring_is_named() {
        let with = |level| {
            words(
                &two_shards(&[]),
                Limits {
                    io_uring_disabled: Some(level),
                    ..Limits::default()
                },
            )
        };
        assert_eq!(with(0), []);
        assert!(with(1)[0].0.contains("all but root"));
        assert!(with(2)[0].0.contains("forbidden to everybody"));
        assert_eq!(with(2)[0].1, "sysctl -w kernel.io_uring_disabled=0");
    }
}
