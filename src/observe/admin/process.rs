//! Reads what the kernel says of this process: memory, CPU time, descriptors. No shard waits for it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Resource, getrlimit};

use crate::observe::report::Report;

/// The process as it is now; what cannot be read is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    /// When the process started, in seconds since 1970.
    pub(super) start_seconds: Option<f64>,
    pub(super) threads: Option<u64>,
    /// In the table of the ordinary threads.
    pub(super) open_files: Option<u64>,
    /// The limit of descriptors in each table.
    pub(super) open_files_max: Option<u64>,
    /// In each shard's own table, with the shard's number.
    pub(super) shards_open_files: Vec<(usize, Option<u64>)>,
}

impl Process {
    /// How many descriptors a shard has in its own table.
    pub(super) fn open_files_of(&self, shard: usize) -> Option<u64> {
        let own = self.shards_open_files.iter().find(|(number, _)| *number == shard);
        own.and_then(|(_, count)| *count)
    }

    pub(super) fn read(reports: &[Report]) -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The program's name stands in brackets and may hold anything; the third field follows the last bracket.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let seconds = |ticks_count: u64| ticks_count as f64 / ticks;
        Self {
            resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as u64),
            virtual_bytes: field(23),
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
            start_seconds: field(22)
                .zip(boot_seconds())
                .map(|(start, boot)| boot as f64 + seconds(start)),
            threads: field(20),
            open_files: open_files("/proc/self/fd"),
            open_files_max: getrlimit(Resource::Nofile).current,
            shards_open_files: reports
                .iter()
                .map(|report| {
                    (
                        report.shard,
                        open_files(&format!("/proc/self/task/{}/fd", report.thread)),
                    )
                })
                .collect(),
        }
    }
}

/// How many descriptors a table holds. Linux 6.2 says it as the directory's size; before, they are counted.
fn open_files(directory: &str) -> Option<u64> {
    let size = fs::metadata(directory).ok()?.size();
    if size > 0 {
        return Some(size);
    }
    Some(fs::read_dir(directory).ok()?.count() as u64)
}

fn boot_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_time_and_descriptors() {
        let own = Report {
            thread: rustix::thread::gettid().as_raw_nonzero().get(),
            ..Report::default()
        };
        let process = Process::read(&[own]);
        assert!(process.resident_bytes > Some(100_000) && process.virtual_bytes > process.resident_bytes);
        assert!(process.start_seconds > Some(1.0e9) && process.cpu_seconds.is_some() && process.threads > Some(0));
        assert!(process.open_files >= Some(3) && process.open_files <= process.open_files_max);
        assert!(process.open_files_of(0) >= Some(3));
        let file = fs::File::open("/proc/self/stat").unwrap();
        let more = Process::read(&[]);
        drop(file);
        assert!(more.open_files > Some(3) || more.open_files > process.open_files);
    }
}
