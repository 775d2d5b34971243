//! `ws2api load [URL]`: very many chargers against any central system, and what came of it.
//!
//! The engine is that of hold120k (package `loadgen`); what its clients say, and when, is here. Threads share nothing but the
//! plan and a few counts; each has its own table of file descriptors, so the limit of open files is one of chargers per thread.

mod charger;
mod chargers;
mod ids;
mod ocpp16;
mod ocpp201;
mod options;
mod report;
mod say;
mod tally;
mod trust;
mod version;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

use loadgen::engine::{DESCRIPTORS_RESERVED, Tls, threads_for};
use loadgen::poller::now_ns;
use loadgen::sys;

use super::failure::Failure;
use super::interrupt;
use super::session::Session;
use chargers::{Plan, play};
use options::{Options, THREADS_MAX};
use report::Report;
use tally::{Live, Tally};

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    let options = Options::read(session)?;
    let tls = trust::read(&options)?;
    let address = find(&options.target.address)?;
    let tables = Tables::choose(&options, shards::fd_table::raise_limit())?;
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::watch({
        let stop = stop.clone();
        move || !stop.swap(true, Ordering::Relaxed)
    })?;
    let plan = Arc::new(plan(&options, address, tls));
    let live = Arc::new(Live::default());
    let threads = start(&plan, &tables, &live, &stop)?;
    let resident_bytes = watch(&threads, &live, &plan, &options);
    let mut tally = Tally::default();
    for thread in threads {
        match thread.join() {
            Ok(Ok(own)) => tally.add(own),
            Ok(Err(error)) => return Err(Failure::Refused(format!("a thread of the load: {error}"))),
            Err(_) => return Err(Failure::Refused("a thread of the load has panicked".to_owned())),
        }
    }
    let report = Report {
        options: &options,
        tally: &tally,
        seconds: now_ns().saturating_sub(plan.start_ns) as f64 / 1e9,
        threads: tables.threads,
        resident_bytes,
    };
    report.print(&mut session.screen)?;
    match tally.faults() {
        None => Ok(()),
        Some(words) if tally.met_somebody() => Err(Failure::Refused(words)),
        Some(_) => {
            let reasons: Vec<&str> = tally.failed.keys().map(String::as_str).collect();
            let words = format!("{}: {}", options.target.address, reasons.join(", "));
            Err(Failure::Nobody(words))
        }
    }
}

/// The address that a name stands for: of several the first where somebody is.
fn find(name: &str) -> Result<SocketAddr, Failure> {
    let nobody = |error: io::Error| Failure::Nobody(format!("{name}: {error}"));
    let addresses: Vec<SocketAddr> = name.to_socket_addrs().map_err(nobody)?.collect();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &addresses {
        if addresses.len() == 1 {
            return Ok(*address);
        }
        match TcpStream::connect_timeout(address, FIND_TIMEOUT) {
            Ok(_) => return Ok(*address),
            Err(error) => last = error,
        }
    }
    Err(nobody(last))
}

fn plan(options: &Options, address: SocketAddr, tls: Option<Tls>) -> Plan {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 2);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Plan {
        address,
        tls,
        host: options.target.address.clone(),
        prefix: options.target.prefix.clone(),
        password: options.target.password.clone(),
        chargers: options.chargers,
        versions: options.versions.clone(),
        ids: options.ids.clone(),
        run: format!("l{:x}", since.unwrap_or_default().as_millis()),
        start_ns: now_ns() + START_DELAY_NS,
        ramp_ns: ns(options.ramp),
        duration_ns: ns(options.duration),
        interval_ns: ns(options.interval),
        storm_ns: options.storm.map(ns),
        timeout_ns: ns(options.timeout),
    }
}

/// How many threads, and whether each may have file descriptors of its own.
struct Tables {
    threads: u32,
    private: bool,
}

impl Tables {
    /// # Errors
    /// Why the limit of open files does not carry the chargers.
    fn choose(options: &Options, open_files: u64) -> Result<Self, Failure> {
        let chargers = options.chargers;
        // In a thread that has ended its table is of no matter.
        let private = std::thread::spawn(sys::unshare_descriptors)
            .join()
            .is_ok_and(|table| table.is_ok());
        if !private && u64::from(chargers) + DESCRIPTORS_RESERVED > open_files {
            let needed = u64::from(chargers) + DESCRIPTORS_RESERVED;
            return Err(Failure::Usage(format!(
                "{chargers} chargers need {needed} open files, and this process may have {open_files} for all of its threads: \
                 ulimit -Hn {needed}, or where unshare(2) is allowed each thread has so many"
            )));
        }
        let needed = if private { threads_for(chargers, open_files) } else { 1 };
        if needed > THREADS_MAX {
            return Err(Failure::Usage(format!(
                "{chargers} chargers at {open_files} open files a thread need {needed} threads, and {THREADS_MAX} is the most: \
                 ulimit -Hn 65536"
            )));
        }
        match options.threads {
            Some(threads) if threads < needed => Err(Failure::Usage(format!(
                "--threads {threads}: {chargers} chargers at {open_files} open files a thread need {needed}"
            ))),
            threads => Ok(Self {
                threads: threads.unwrap_or(needed).min(chargers),
                private,
            }),
        }
    }
}

type Playing = JoinHandle<io::Result<Tally>>;

fn start(plan: &Arc<Plan>, tables: &Tables, live: &Arc<Live>, stop: &Arc<AtomicBool>) -> Result<Vec<Playing>, Failure> {
    // No thread opens a socket before all have their own table: what is open would be copied.
    let ready = Arc::new(Barrier::new(tables.threads as usize));
    let private = tables.private;
    (0..tables.threads)
        .map(|thread| {
            let (plan, live, stop, ready) = (plan.clone(), live.clone(), stop.clone(), ready.clone());
            let place = (thread, tables.threads);
            let body = move || {
                let table = if private { sys::unshare_descriptors() } else { Ok(()) };
                ready.wait();
                table?;
                play(plan, place, live, stop)
            };
            let builder = Builder::new().name(format!("load-{thread}")).stack_size(STACK_LEN);
            builder.spawn(body).map_err(Failure::from)
        })
        .collect()
}

/// Shows on a terminal how it goes, and says at the end the most memory that this process had.
fn watch(threads: &[Playing], live: &Live, plan: &Plan, options: &Options) -> u64 {
    let is_shown = io::stderr().is_terminal();
    let (mut resident, mut answered, mut ticks) = (0, 0, 0_u32);
    while !threads.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(TICK);
        ticks += 1;
        if !ticks.is_multiple_of(TICKS_PER_SECOND) {
            continue;
        }
        resident = resident.max(resident_bytes());
        let before = std::mem::replace(&mut answered, Live::read(&live.answered));
        if is_shown {
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{:>4} s  {} of {} connected  {} Calls/s  faults {}",
                now_ns().saturating_sub(plan.start_ns) / 1_000_000_000,
                Live::read(&live.connected),
                options.chargers,
                answered - before,
                Live::read(&live.faults)
            );
        }
    }
    if is_shown {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    resident.max(resident_bytes())
}

/// Memory of this process; 0 where nobody says.
fn resident_bytes() -> u64 {
    let pages = || -> Option<u64> {
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        statm.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    pages().unwrap_or(0) * rustix::param::page_size() as u64
}

const START_DELAY_NS: u64 = 100_000_000;
const FIND_TIMEOUT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(50);
const TICKS_PER_SECOND: u32 = 20;
const STACK_LEN: usize = 512 << 10;
