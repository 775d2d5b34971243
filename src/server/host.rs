//! Reads what the machine allows this process: limits of the kernel, and the CPUs that it may use.

mod cpu_quota;
mod memory;
mod one_table;
mod warnings;

use std::fs;

use rustix::process::{Resource, getrlimit};

pub use self::memory::{fit, memory_rows};
pub(crate) use self::warnings::LOCKED_MEMORY_PER_SHARD;
pub use self::warnings::{clients_carried, descriptors_max, warnings};

/// Limits as read; `None` is no limit, or one that cannot be read here.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// Hard RLIMIT_NOFILE: descriptors per table.
    pub open_files: Option<u64>,
    /// `fs.nr_open`: how far RLIMIT_NOFILE can be raised.
    pub open_files_ceiling: Option<u64>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// First and last of `net.ipv4.ip_local_port_range`.
    pub local_ports: Option<(u64, u64)>,
    /// `net.netfilter.nf_conntrack_max`, where connections are tracked.
    pub conntrack_max: Option<u64>,
    /// Hard RLIMIT_MEMLOCK in bytes, where it binds this process.
    pub locked_memory: Option<u64>,
    /// No shard may have a table of descriptors of its own (`unshare` is refused, or there is no /proc).
    pub is_one_table: bool,
    /// Memory in bytes: the machine's, or that of the control group or one above it if that is less.
    pub memory: Option<u64>,
    /// The control group's CPU quota, in thousandths of a CPU.
    pub cpu_quota: Option<u64>,
}

impl Limits {
    /// Reads what is there. It fails at nothing: what cannot be read is `None`.
    #[must_use]
    pub fn read() -> Limits {
        let text = |path: &str| fs::read_to_string(path).ok();
        let number = |path: &str| text(path)?.trim().parse().ok();
        let all_memory = text("/proc/meminfo").and_then(|text| memory_total(&text));
        let group = text("/proc/self/cgroup").and_then(|text| group_path(&text));
        let groups = group.iter().flat_map(|path| group_and_above(path));
        let group_files = |name| {
            groups
                .clone()
                .filter_map(move |path| text(&format!("/sys/fs/cgroup{path}/{name}")))
        };
        let group_memory = group_files("memory.max")
            .filter_map(|text| text.trim().parse().ok())
            .min();
        let cpu_quota = group_files("cpu.max").filter_map(|text| cpu_quota::parse(&text)).min();
        let capabilities = text("/proc/self/status").and_then(|text| effective_capabilities(&text));
        let locks_freely = capabilities.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1);
        Limits {
            open_files: getrlimit(Resource::Nofile).maximum,
            open_files_ceiling: number("/proc/sys/fs/nr_open"),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            local_ports: text("/proc/sys/net/ipv4/ip_local_port_range").and_then(|text| port_range(&text)),
            conntrack_max: number("/proc/sys/net/netfilter/nf_conntrack_max"),
            locked_memory: if locks_freely {
                None
            } else {
                getrlimit(Resource::Memlock).maximum
            },
            is_one_table: shards::node::probe_tables(shards::Tables::Private).is_err(),
            memory: [all_memory, group_memory].into_iter().flatten().min(),
            cpu_quota,
        }
    }
}

/// The CPUs that this thread may run on: ask before any thread is pinned.
#[must_use]
pub fn usable_cpus() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn memory_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// This process's group of the unified hierarchy in /proc/self/cgroup.
fn group_path(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(|path| path.trim_end_matches('/').to_owned())
}

/// A group and those that it is in, whose limits hold for it, too; the root's is the empty path.
fn group_and_above(path: &str) -> impl Iterator<Item = &str> + Clone {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
}

/// `CapEff` of /proc/self/status.
fn effective_capabilities(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn port_range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some((first.parse().ok()?, last.trim().parse().ok()?))
}

/// capabilities(7): RLIMIT_MEMLOCK does not bind who has it.
const CAP_IPC_LOCK: u32 = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        assert_eq!(
            memory_total("MemTotal:        4009236 kB\nMemFree: 1 kB\n"),
            Some(4_009_236 * 1024)
        );
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        assert_eq!(
            group_path("1:name=x:/\n0::/system.slice/ws2api.service\n").unwrap(),
            "/system.slice/ws2api.service"
        );
        assert_eq!(group_path("0::/\n").unwrap(), "");
        let groups: Vec<_> = group_and_above("/system.slice/ws2api.service").collect();
        assert_eq!(groups, ["/system.slice/ws2api.service", "/system.slice", ""]);
        assert_eq!(
            effective_capabilities("CapPrm:\t1\nCapEff:\t0000000000004000\n"),
            Some(1 << CAP_IPC_LOCK)
        );
        assert_eq!(port_range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(port_range("\n"), None);
    }

    #[test]
    fn this_machine_is_readable() {
        let limits = Limits::read();
        assert!(limits.somaxconn.is_some() && limits.memory.is_some(), "{limits:?}");
        assert!(!usable_cpus().is_empty());
    }
}
