//! Reads from /proc, once per second, what processes and the kernel use.

use std::fs;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One process at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// User and system time, in microseconds.
    pub cpu_us: u64,
    /// Of it, in the kernel.
    pub system_us: u64,
    /// Resident bytes.
    pub rss: u64,
    /// Threads.
    pub threads: u64,
}

impl Process {
    /// Reads `/proc/PID`; `None` when there is no such process (any more), or it has ended and nobody has waited for it.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let process = Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self {
            cpu_us: cpu_us(pid).unwrap_or(process.cpu_us),
            ..process
        })
    }

    /// The same of it and of the processes that its first thread has started, but for `others`; of what these have started nothing.
    #[must_use]
    pub fn read_with_helpers(pid: u32, others: &[u32]) -> Option<Self> {
        let mut sum = Self::read(pid)?;
        let helpers = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let helpers = helpers.split_ascii_whitespace().filter_map(|word| word.parse().ok());
        for helper in helpers.filter(|helper| !others.contains(helper)).filter_map(Self::read) {
            sum.cpu_us += helper.cpu_us;
            sum.system_us += helper.system_us;
            sum.rss += helper.rss;
            sum.threads += helper.threads;
        }
        Some(sum)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name in brackets may hold anything; the fields behind it are numbers. The first of them is number 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
        let (user, system) = (field(14)? * tick_us, field(15)? * tick_us);
        Some(Self {
            cpu_us: user + system,
            system_us: system,
            threads: field(20)?,
            rss: field(24)? * rustix::param::page_size() as u64,
        })
    }
}

/// The process's CPU time in microseconds by its own clock, which counts every nanosecond: /proc/PID/stat rounds to ticks of 10 ms,
/// an eighth of what a relay uses for 2,000 pushes.
fn cpu_us(pid: u32) -> Option<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    u64::try_from(Duration::from(clock.now().ok()?).as_micros()).ok()
}

/// The kernel's memory at one moment, in bytes. Both ends of every loopback connection are in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Buffers of TCP sockets.
    pub tcp_buffers: u64,
    /// Slab: the sockets themselves, files, epoll entries and all else that the kernel keeps in objects.
    pub slab: u64,
    /// TCP sockets that are in use.
    pub tcp_sockets: u64,
    /// Memory that is left to be used.
    pub available: u64,
    /// Time that all CPUs were idle (or given to others by the hypervisor) since boot, in microseconds. Idle time is
    /// measured where busy time is only guessed at each tick.
    pub idle_us: u64,
    /// CPUs of the machine.
    pub cpus: u64,
}

impl Kernel {
    /// Reads what /proc offers; what it does not is 0.
    #[must_use]
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let mut kernel = Self::default();
        kernel.handle_sockstat(&text("/proc/net/sockstat"));
        kernel.handle_meminfo(&text("/proc/meminfo"));
        kernel.handle_stat(&text("/proc/stat"));
        kernel
    }

    /// Memory of sockets: buffers and objects.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.tcp_buffers + self.slab
    }

    fn handle_sockstat(&mut self, text: &str) {
        let Some(line) = text.lines().find_map(|line| line.strip_prefix("TCP: ")) else {
            return;
        };
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        for pair in words.as_chunks::<2>().0 {
            let value = pair[1].parse().unwrap_or(0);
            match pair[0] {
                "alloc" => self.tcp_sockets = value,
                "mem" => self.tcp_buffers = value * rustix::param::page_size() as u64,
                _ => {}
            }
        }
    }

    fn handle_meminfo(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (name, value) = (
                words.next(),
                words.next().and_then(|value| value.parse::<u64>().ok()).unwrap_or(0),
            );
            match name {
                Some("Slab:") => self.slab = value * 1024,
                Some("MemAvailable:") => self.available = value * 1024,
                _ => {}
            }
        }
    }

    fn handle_stat(&mut self, text: &str) {
        let Some(line) = text.lines().next().and_then(|line| line.strip_prefix("cpu ")) else {
            return;
        };
        let ticks: Vec<u64> = line
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
        // user, nice, system, [idle, iowait], irq, softirq, [steal]
        self.idle_us = [3, 4, 7].iter().filter_map(|index| ticks.get(*index)).sum::<u64>() * tick_us;
        self.cpus = text.lines().skip(1).take_while(|line| line.starts_with("cpu")).count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_has_brackets_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 9 1000 25 18446744073709551615";
        let process = Process::parse(stat).unwrap();
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!((process.cpu_us, process.system_us), (200 * tick_us, 50 * tick_us));
        assert_eq!(
            (process.threads, process.rss),
            (3, 25 * rustix::param::page_size() as u64)
        );
    }

    #[test]
    fn we_can_be_read_ourselves() {
        let (before, now) = (
            cpu_us(std::process::id()).unwrap(),
            Process::read(std::process::id()).unwrap(),
        );
        assert!(now.rss > 0 && before > 0 && now.cpu_us >= before);
        assert_eq!(Process::parse("nonsense"), None);
        assert_eq!(
            Process::parse("7 (ended) Z 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 9 1000 25 1"),
            None
        );
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let mut kernel = Kernel::default();
        kernel.handle_sockstat("sockets: used 13\nTCP: inuse 1 orphan 0 tw 0 alloc 7 mem 3\nUDP: inuse 0 mem 0\n");
        kernel.handle_stat("cpu  9 9 9 100 20 9 9 3 0 0\ncpu0 1\ncpu1 1\nintr 5\n");
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!((kernel.idle_us, kernel.cpus), (123 * tick_us, 2));
        kernel.handle_meminfo("MemTotal: 9 kB\nMemAvailable:  8 kB\nSlab:   5 kB\n");
        assert_eq!(kernel.tcp_sockets, 7);
        assert_eq!(kernel.memory(), 3 * rustix::param::page_size() as u64 + 5 * 1024);
        assert_eq!(kernel.available, 8 * 1024);
    }
}
