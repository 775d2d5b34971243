//! Starts the programs around a run (or finds the running ones at their addresses), and describes the machine.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use loadgen::engine::Tls;

use crate::launch::{self, Running};
use crate::options::Options;
use crate::report::Machine;
use crate::succession::Succession;
use crate::tls::{self, Certificate};

/// The relay and the backend of one run. Those that we started end when it is dropped, the relay first.
#[derive(Debug)]
pub struct Environment {
    /// What is measured, by name.
    pub relay: String,
    /// Where clients connect.
    pub targets: Vec<SocketAddr>,
    /// Where pushes go.
    pub ingress: Vec<SocketAddr>,
    /// The stub, if we know it.
    pub backend: Option<SocketAddr>,
    /// Who is asked for an upgrade, if we know it.
    pub admin: Option<SocketAddr>,
    /// The relay's process, if we know it, and those that have taken over from it.
    pub relays: Arc<Succession>,
    /// Whether we know it.
    pub knows_relay: bool,
    /// The stub's process, if we started it.
    pub backend_pid: Option<u32>,
    /// The CPUs of its shards, if we started it.
    pub cores: Vec<usize>,
    /// How clients connect with TLS.
    pub tls: Option<Tls>,
    running: Vec<Running>,
    /// Those that take over read it, too.
    _certificate: Option<Certificate>,
}

impl Environment {
    /// Starts the stub and `program` (`None`: as the options say), or takes the addresses of running ones.
    ///
    /// # Errors
    /// In words: what is missing and what to do.
    pub fn set(options: &Options, program: Option<PathBuf>, open_files: u64) -> Result<Self, String> {
        let certificate = match options.tls && options.target.is_empty() {
            true => Some(Certificate::make()?),
            false => None,
        };
        let trusted = certificate.as_ref().map(Certificate::chain);
        let trusted = trusted.or_else(|| options.tls_trusted.clone());
        let tls = trusted.as_deref().map(|file| tls::trusting(file, options.resume));
        let tls = tls.transpose()?;
        if !options.target.is_empty() {
            let addresses = || {
                options
                    .target
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            };
            let name = options
                .pid
                .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
            return Ok(Self {
                relay: name.map_or_else(addresses, |name| name.trim().to_owned()),
                targets: options.target.clone(),
                ingress: options.ingress.clone(),
                backend: options.backend,
                admin: options.admin,
                relays: Arc::new(Succession::new(options.pid)),
                knows_relay: options.pid.is_some(),
                backend_pid: None,
                cores: Vec::new(),
                tls,
                running: Vec::new(),
                _certificate: certificate,
            });
        }
        let (program, extra) = match (program, &options.proxy) {
            (Some(program), _) => (program, &[][..]),
            (None, Some(program)) => (program.clone(), &options.proxy_settings[..]),
            (None, None) => (launch::sibling("ws2api")?, &options.proxy_settings[..]),
        };
        let cores = match &options.proxy_cores {
            Some(cores) => cores.clone(),
            None => deal(
                options
                    .proxy_shards
                    .unwrap_or_else(|| shards(options.clients, open_files, usable_cpus().len())),
                &usable_cpus(),
            ),
        };
        let (stub, backend) = launch::start_stub(options.backend_threads, options.backend_delay)?;
        let (relay, addresses) = launch::start_relay(&program, &cores, backend, extra, certificate.as_ref())?;
        Ok(Self {
            relay: program
                .file_stem()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            targets: vec![addresses.listen],
            ingress: vec![addresses.ingress],
            backend: Some(backend),
            admin: Some(addresses.admin),
            relays: Arc::new(Succession::new(Some(relay.pid()))),
            knows_relay: true,
            backend_pid: Some(stub.pid()),
            cores,
            tls,
            running: vec![relay, stub],
            _certificate: certificate,
        })
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if !self.running.is_empty() {
            self.relays.end_successors();
        }
    }
}

/// Shards that `clients` need: their hash spreads them unevenly, and a shard has other descriptors too. One per CPU at
/// least, the same number on each.
#[must_use]
pub fn shards(clients: u32, open_files: u64, cpus: usize) -> usize {
    let per_shard = (open_files / 100 * SHARD_FILL_PERCENT).clamp(1, 1 << 20);
    (u64::from(clients).div_ceil(per_shard) as usize).next_multiple_of(cpus.max(1))
}

/// The machine under us.
#[must_use]
pub fn machine(open_files: u64) -> Machine {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = value(&text("/proc/meminfo"), "MemTotal").unwrap_or_default();
    Machine {
        cpu: value(&text("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
        cpus: usable_cpus().len(),
        memory: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024,
        kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        open_files,
    }
}

/// The CPUs that this thread may run on.
fn usable_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return vec![0];
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

/// `count` shards over `cpus`, neighbours on the same CPU: 0,0,0,1,1.
fn deal(count: usize, cpus: &[usize]) -> Vec<usize> {
    (0..count).map(|index| cpus[index * cpus.len() / count]).collect()
}

const SHARD_FILL_PERCENT: u64 = 93;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_gets_eight_shards_and_a_million_fifty_four() {
        assert_eq!(shards(120_000, 20_000, 2), 8);
        assert_eq!(shards(1_000_000, 20_000, 2), 54);
        assert_eq!(shards(200, 20_000, 2), 2);
    }

    #[test]
    fn shards_are_dealt_evenly() {
        assert_eq!(deal(5, &[0, 1]), [0, 0, 0, 1, 1]);
        assert_eq!(deal(2, &[3, 5, 7]), [3, 5]);
    }
}
