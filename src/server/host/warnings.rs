//! Tells where the machine does not carry what the configuration allows, and what fixes it.
//!
//! Nothing here stops the start: the bounds hold, only lower than configured.

use super::Limits;
use super::cpu_quota;
use super::one_table::clients_that_fit;
use crate::config::{BackendUrl, Config, Core, ExecutorKey, Size, Warning};

/// What is worth fixing before `config` runs on a machine with these `limits`; the gravest first.
#[must_use]
pub fn warnings(config: &Config, limits: &Limits) -> Vec<Warning> {
    let found = [
        locked_memory(config, limits),
        one_table(config, limits),
        open_files(config, limits),
        memory(config, limits),
        cpu_quota::find_excess(config, limits.cpu_quota),
        buffers(config, limits),
        local_ports(config, limits),
        conntrack(config, limits),
        somaxconn(config, limits),
    ];
    found.into_iter().flatten().collect()
}

/// About how many clients the machine carries, if `clients_max` is the default and the machine carries fewer: nobody
/// has said then that there will be so many, so that it is no warning.
#[must_use]
pub fn clients_carried(config: &Config, limits: &Limits) -> Option<u64> {
    if config.keys_set.contains("clients_max") {
        return None;
    }
    let shards = config.cores.len();
    let by_files = |core: &Core| {
        if limits.is_one_table {
            return core.clients_max as u64;
        }
        let others = descriptors_max(core, shards) - core.clients_max as u64;
        let free = limits.open_files.map_or(u64::MAX, |files| files.saturating_sub(others));
        free.min(core.clients_max as u64)
    };
    let files: u64 = config.cores.iter().map(by_files).sum();
    let client = CLIENT_MEMORY as u64;
    let memory = limits.memory.map_or(u64::MAX, |memory| memory / client);
    let others = sum(config, tracked_beside_clients);
    let tracked = limits
        .conntrack_max
        .map_or(u64::MAX, |most| most.saturating_sub(others));
    let carried = files.min(memory).min(tracked);
    (carried < sum(config, |core| core.clients_max)).then_some(carried)
}

/// The descriptors that one shard of `shards` may come to hold.
#[must_use]
pub fn descriptors_max(core: &Core, shards: usize) -> u64 {
    descriptors_for(core, core.clients_max, shards)
}

fn descriptors_for(core: &Core, clients: usize, shards: usize) -> u64 {
    let connections = clients + core.handshakes_max + core.ingress_connections_max;
    (connections + core.backend_connections_max + OWN_DESCRIPTORS + shards * DESCRIPTORS_PER_NEIGHBOUR) as u64
}

fn warning(what: String, fix: String) -> Option<Warning> {
    Some(Warning { what, fix })
}

/// The sum over all shards.
fn sum(config: &Config, of: impl Fn(&Core) -> usize) -> u64 {
    config.cores.iter().map(|core| of(core) as u64).sum()
}

/// How many clients a shard should be able to hold. The default of `clients_max` is a bound and no plan: who runs a
/// hundred clients need not hear that there is no room for a hundred thousand.
fn clients_expected(config: &Config, core: &Core) -> usize {
    if config.keys_set.contains("clients_max") {
        core.clients_max
    } else {
        core.clients_max.min(CLIENTS_UNPLANNED)
    }
}

fn tracked_beside_clients(core: &Core) -> usize {
    core.handshakes_max + core.ingress_connections_max + core.backend_connections_max
}

fn locked_memory(config: &Config, limits: &Limits) -> Option<Warning> {
    let (limit, needed) = (
        limits.locked_memory?,
        config.cores.len() as u64 * LOCKED_MEMORY_PER_SHARD,
    );
    (config.node.executor == ExecutorKey::Glommio && limit < needed).then_some(())?;
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

fn one_table(config: &Config, limits: &Limits) -> Option<Warning> {
    let limit = limits.open_files.filter(|_| limits.is_one_table)?;
    let shards = config.cores.len();
    let is_short = |core: &Core| {
        // What was configured is cut to what fits; then it is just what fits.
        let is_cut = core.clients_max >= clients_that_fit(core, shards, limit);
        let is_planned = config.keys_set.contains("clients_max");
        is_cut && (is_planned || core.clients_max < CLIENTS_UNPLANNED)
    };
    config.cores.iter().any(is_short).then_some(())?;
    warning(
        format!(
            "all {shards} shards share one table of descriptors ({limit} open files), since unshare(CLONE_FILES) is refused: \
             they hold {} clients together at the most",
            sum(config, |core| core.clients_max)
        ),
        "allow unshare in the seccomp profile, so that each shard has a table of its own; or raise `ulimit -Hn`"
            .to_owned(),
    )
}

fn open_files(config: &Config, limits: &Limits) -> Option<Warning> {
    (!limits.is_one_table).then_some(())?;
    let shards = config.cores.len();
    let needs = |core: &Core| descriptors_for(core, clients_expected(config, core), shards);
    let (shard, core) = config
        .cores
        .iter()
        .enumerate()
        .rev()
        .max_by_key(|(_, core)| needs(core))?;
    let (limit, needed) = (limits.open_files?, needs(core));
    (limit < needed).then_some(())?;
    let clients = clients_expected(config, core);
    let others = needed - clients as u64;
    let planned = if clients == core.clients_max {
        format!("clients_max = {clients}")
    } else {
        format!("{clients} clients (clients_max is {} by default)", core.clients_max)
    };
    let ceiling = match limits.open_files_ceiling {
        Some(ceiling) if ceiling < needed => format!("sysctl -w fs.nr_open={needed}, then "),
        _ => String::new(),
    };
    warning(
        format!(
            "shard {shard} can hold {} of {planned}: it may open {limit} files, and needs up to {needed}",
            limit.saturating_sub(others),
        ),
        format!("{ceiling}ulimit -Hn {needed}, or LimitNOFILE={needed} in the systemd unit"),
    )
}

fn memory(config: &Config, limits: &Limits) -> Option<Warning> {
    let of = |core: &Core| clients_expected(config, core) * CLIENT_MEMORY;
    let (limit, needed) = (limits.memory?, sum(config, of));
    (limit < needed).then_some(())?;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let windows = |core: &Core| core.deflate.then_some(2 * core.deflate_window as u64);
    let compressing = config.cores.iter().filter_map(windows).max();
    warning(
        format!(
            "{} idle clients of all shards take about {} MiB of memory{}; there are {}",
            sum(config, |core| clients_expected(config, core)),
            mib(needed),
            compressing.map_or_else(String::new, |len| format!(
                ", and {} more each if they compress",
                Size(len)
            )),
            mib(limit)
        ),
        "set clients_max to what the memory carries, so that one more is refused instead of the process killed"
            .to_owned(),
    )
}

/// The worst that clients and backends together can make it hold, beside the idle clients.
fn buffers(config: &Config, limits: &Limits) -> Option<Warning> {
    let (limit, needed) = (limits.memory?, sum(config, |core| core.buffers_max));
    // The default fits into the machine.
    (config.keys_set.contains("buffers_max") && limit < needed).then_some(())?;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    warning(
        format!(
            "all shards may hold {} MiB for others (messages in part, queues, bodies, posts); there are {}",
            mib(needed),
            mib(limit)
        ),
        "set buffers_max to what the memory carries beside the clients".to_owned(),
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
    let connections = |core: &Core| clients_expected(config, core) + tracked_beside_clients(core);
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
/// An idle client: 4.4 KB in the kernel, the rest is ours.
pub(super) const CLIENT_MEMORY: usize = 7 * 1024;
/// Clients of a shard that every machine should carry, whatever was planned.
const CLIENTS_UNPLANNED: usize = 1000;
/// The rings and registered buffers of one executor.
pub(crate) const LOCKED_MEMORY_PER_SHARD: u64 = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::two_shards;

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
        let config = two_shards(&[("clients_max", "20000"), ("executor", "glommio")]);
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
                40_000 * 7168,
                |memory| Limits {
                    memory: Some(memory),
                    ..Limits::default()
                },
                "40000 idle clients of all shards take about 274 MiB of memory, and 4KiB more each if they compress; there are 274",
                "set clients_max to what the memory carries, so that one more is refused instead of the process killed",
            ),
        ];
        let large = two_shards(&[("buffers_max", "1GiB"), ("clients_max", "1000")]);
        let memory = |memory| Limits {
            memory: Some(memory),
            ..Limits::default()
        };
        assert_eq!(words(&large, memory(2 << 30)), []);
        let found = words(&large, memory((2 << 30) - 1));
        let what = "all shards may hold 2048 MiB for others (messages in part, queues, bodies, posts); there are 2048";
        assert_eq!(found[0].0, what);
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
    fn one_table_for_all_is_warned_of_where_it_does_not_hold_what_is_expected() {
        let warned = |settings: &[(&str, &str)], open_files| {
            let limits = Limits {
                is_one_table: true,
                open_files: Some(open_files),
                ..Limits::default()
            };
            let mut config = two_shards(settings);
            crate::server::host::one_table::fit(&mut config, &limits);
            words(&config, limits)
        };
        assert_eq!(warned(&[], 20_000), [], "nobody has said how many there will be");
        assert_eq!(warned(&[], 1_024).len(), 1, "few");
        assert_eq!(warned(&[("clients_max", "4999")], 20_000), []);
        let found = warned(&[("clients_max", "5001")], 20_000);
        assert_eq!(found.len(), 1, "{found:?}");
        for expected in [
            "all 2 shards share one table",
            "(20000 open files)",
            "hold 10000 clients",
        ] {
            assert!(found[0].0.contains(expected), "{found:?}");
        }
    }

    #[test]
    fn locked_memory_is_of_no_matter_to_the_plain_executor() {
        let limits = Limits {
            locked_memory: Some(0),
            ..Limits::default()
        };
        assert_eq!(words(&two_shards(&[]), limits), []);
        assert_eq!(words(&two_shards(&[("executor", "glommio")]), limits).len(), 1);
    }

    #[test]
    fn who_has_planned_nothing_is_not_told_of_a_hundred_thousand_clients() {
        let config = two_shards(&[]);
        let small = Limits {
            open_files: Some(20_000),
            memory: Some(256 << 20),
            conntrack_max: Some(65_536),
            ..Limits::default()
        };
        assert_eq!(words(&config, small), []);
        // 256 MiB in pieces of 7 KiB; by descriptors it would be two times 14,528.
        assert_eq!(clients_carried(&config, &small), Some(29_056));
        let less = Limits {
            memory: Some(128 << 20),
            ..small
        };
        assert_eq!(clients_carried(&config, &less), Some(18_724));
        assert_eq!(clients_carried(&config, &Limits::default()), None);
        let planned = two_shards(&[("clients_max", "100000")]);
        assert_eq!(
            words(&planned, small).len(),
            3,
            "of files, memory and tracked connections"
        );
        assert_eq!(clients_carried(&planned, &small), None);
        let tiny = Limits {
            open_files: Some(2000),
            ..Limits::default()
        };
        let found = words(&config, tiny);
        let what = "shard 0 can hold 0 of 1000 clients (clients_max is 100000 by default): it may open 2000 files, and needs up to 6472";
        assert_eq!(found.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), [what]);
    }
}
