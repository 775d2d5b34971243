//! Where the machine does not carry what the configuration allows, or the configuration opens a door; and what fixes it.
//!
//! Nothing here stops the start: the bounds hold, only lower than configured.

use std::fmt;
use std::net::SocketAddr;

use super::units::Size;
use super::{BackendUrl, Config, Core, Machine};

/// One thing to fix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// What will happen, and why.
    pub what: String,
    /// The command or setting that fixes it.
    pub fix: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: {}\n   fix: {}", self.what, self.fix)
    }
}

/// What is worth fixing before `config` runs on `machine`; the gravest first.
#[must_use]
pub fn warnings(config: &Config, machine: &Machine) -> Vec<Warning> {
    let found = [
        io_uring(machine),
        locked_memory(config, machine),
        open_files(config, machine),
        memory(config, machine),
        local_ports(config, machine),
        conntrack(config, machine),
        somaxconn(config, machine),
        open_ingress(config),
        open_admin(config),
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

fn io_uring(machine: &Machine) -> Option<Warning> {
    let who = match machine.io_uring_disabled? {
        0 => return None,
        1 => "all but root and the members of kernel.io_uring_group",
        _ => "everybody",
    };
    warning(
        format!("io_uring, which every shard needs, is forbidden to {who} (kernel.io_uring_disabled)"),
        "sysctl -w kernel.io_uring_disabled=0".to_owned(),
    )
}

fn locked_memory(config: &Config, machine: &Machine) -> Option<Warning> {
    let (limit, needed) = (
        machine.locked_memory?,
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

fn open_files(config: &Config, machine: &Machine) -> Option<Warning> {
    let shards = config.cores.len();
    let needs = |core: &Core| descriptors_max(core, shards);
    let (shard, core) = config
        .cores
        .iter()
        .enumerate()
        .rev()
        .max_by_key(|(_, core)| needs(core))?;
    let (limit, needed) = (machine.open_files?, needs(core));
    (limit < needed).then_some(())?;
    let others = needed - core.clients_max as u64;
    let ceiling = match machine.open_files_ceiling {
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

fn memory(config: &Config, machine: &Machine) -> Option<Warning> {
    let of = |core: &Core| core.clients_max * (CLIENT_MEMORY + core.read_buffer);
    let (limit, needed) = (machine.memory?, sum(config, of));
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

fn local_ports(config: &Config, machine: &Machine) -> Option<Warning> {
    let over_tcp = config
        .node
        .backends
        .iter()
        .any(|url| matches!(url, BackendUrl::Tcp { .. }));
    let (first, last) = machine.local_ports.filter(|_| over_tcp)?;
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

fn conntrack(config: &Config, machine: &Machine) -> Option<Warning> {
    let connections = |core: &Core| {
        core.clients_max + core.handshakes_max + core.ingress_connections_max + core.backend_connections_max
    };
    let (limit, needed) = (machine.conntrack_max?, sum(config, connections));
    (limit < needed).then_some(())?;
    warning(
        format!("the firewall tracks {limit} connections and drops the rest; all shards may have {needed}"),
        format!("sysctl -w net.netfilter.nf_conntrack_max={needed}, or do not track these ports"),
    )
}

fn somaxconn(config: &Config, machine: &Machine) -> Option<Warning> {
    let needed = config.cores.iter().map(|core| core.listen_backlog as u64).max()?;
    let limit = machine.somaxconn.filter(|limit| *limit < needed)?;
    warning(
        format!("listen_backlog = {needed} is cut to {limit}: a storm of reconnects loses connections sooner"),
        format!("sysctl -w net.core.somaxconn={needed}"),
    )
}

fn open_ingress(config: &Config) -> Option<Warning> {
    let address = Some(config.node.ingress)
        .filter(is_open)
        .filter(|_| config.node.ingress_token_file.is_none())?;
    warning(
        format!("ingress = {address} asks for no token: whoever reaches it can command every client"),
        "set ingress_token_file, or listen on a loopback address".to_owned(),
    )
}

fn open_admin(config: &Config) -> Option<Warning> {
    let address = Some(config.node.admin).filter(is_open)?;
    warning(
        format!("admin = {address} has no password: whoever reaches it sees clients and profiles"),
        "listen on a loopback address, or let only operators through the firewall".to_owned(),
    )
}

fn is_open(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
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

    fn words(config: &Config, machine: Machine) -> Vec<(String, String)> {
        warnings(config, &machine)
            .into_iter()
            .map(|warning| (warning.what, warning.fix))
            .collect()
    }

    #[test]
    fn a_machine_without_limits_needs_nothing() {
        assert_eq!(words(&two_shards(&[]), Machine::default()), []);
    }

    /// Each limit exactly at what is needed, and one below.
    #[test]
    fn each_limit_is_warned_of_one_below_what_is_needed() {
        let config = two_shards(&[("clients_max", "20000")]);
        let files = descriptors_max(&config.cores[0], 2);
        assert_eq!(files, 20_000 + 4096 + 1024 + 256 + 64 + 32);
        let connections = 2 * (20_000 + 4096 + 1024 + 256);
        type With = fn(u64) -> Machine;
        let cases: [(u64, With, &str, &str); 6] = [
            (
                files,
                |open_files| Machine {
                    open_files: Some(open_files),
                    open_files_ceiling: Some(1 << 20),
                    ..Machine::default()
                },
                "shard 0 can hold 19999 of clients_max = 20000: it may open 25471 files, and needs up to 25472",
                "ulimit -Hn 25472, or LimitNOFILE=25472 in the systemd unit",
            ),
            (
                1024 * 1024,
                |bytes| Machine {
                    locked_memory: Some(bytes),
                    ..Machine::default()
                },
                "2 shards lock up to 1MiB of memory for io_uring, 1048575B are allowed",
                "ulimit -Hl 1024, or LimitMEMLOCK=1048576 in the systemd unit",
            ),
            (
                4096,
                |somaxconn| Machine {
                    somaxconn: Some(somaxconn),
                    ..Machine::default()
                },
                "listen_backlog = 4096 is cut to 4095: a storm of reconnects loses connections sooner",
                "sysctl -w net.core.somaxconn=4096",
            ),
            (
                512,
                |ports| Machine {
                    local_ports: Some((1000, 999 + ports)),
                    ..Machine::default()
                },
                "all shards may open 512 connections to one backend, which 511 local ports do not carry",
                "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\", or lower backend_connections_max",
            ),
            (
                connections,
                |conntrack_max| Machine {
                    conntrack_max: Some(conntrack_max),
                    ..Machine::default()
                },
                "the firewall tracks 50751 connections and drops the rest; all shards may have 50752",
                "sysctl -w net.netfilter.nf_conntrack_max=50752, or do not track these ports",
            ),
            (
                40_000 * 8192,
                |memory| Machine {
                    memory: Some(memory),
                    ..Machine::default()
                },
                "40000 idle clients (clients_max of all shards) take about 313 MiB of memory; there are 313",
                "set clients_max to what the memory carries, so that one more is refused instead of the process killed",
            ),
        ];
        for (needed, machine, what, fix) in cases {
            assert_eq!(words(&config, machine(needed)), [], "{what}");
            assert_eq!(words(&config, machine(needed - 1)), [(what.to_owned(), fix.to_owned())]);
        }
    }

    #[test]
    fn a_limit_beyond_the_kernels_ceiling_names_both() {
        let machine = Machine {
            open_files: Some(1000),
            open_files_ceiling: Some(1000),
            ..Machine::default()
        };
        let found = words(&two_shards(&[("clients_max", "20000")]), machine);
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
        let machine = Machine {
            local_ports: Some((1, 1)),
            ..Machine::default()
        };
        assert_eq!(words(&two_shards(&[("backend", "unix:/run/api.sock")]), machine), []);
    }

    #[test]
    fn a_forbidden_io_uring_is_named() {
        let with = |level| {
            words(
                &two_shards(&[]),
                Machine {
                    io_uring_disabled: Some(level),
                    ..Machine::default()
                },
            )
        };
        assert_eq!(with(0), []);
        assert!(with(1)[0].0.contains("all but root"));
        assert!(with(2)[0].0.contains("forbidden to everybody"));
        assert_eq!(with(2)[0].1, "sysctl -w kernel.io_uring_disabled=0");
    }

    #[test]
    fn an_open_door_is_named() {
        let open = [("ingress", "0.0.0.0:4001")];
        let found = words(&two_shards(&open), Machine::default());
        let what = "ingress = 0.0.0.0:4001 asks for no token: whoever reaches it can command every client";
        assert_eq!(found.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), [what]);
        assert_eq!(
            words(
                &two_shards(&[open[0], ("ingress_token_file", "/t")]),
                Machine::default()
            ),
            []
        );
        assert_eq!(
            words(&two_shards(&[("admin", "10.0.0.5:4002")]), Machine::default()).len(),
            1
        );
        assert_eq!(words(&two_shards(&[("admin", "[::1]:4002")]), Machine::default()), []);
    }
}
