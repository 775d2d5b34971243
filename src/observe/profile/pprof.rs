//! Writes stacks as pprof's profile.proto, with names: the reader needs neither our binary nor its symbols.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::protos::{Function, Label, Line, Location, Message as _, Profile, Sample, ValueType};

use super::cpu::Stacks;
use super::sampler::FREQUENCY;

/// A gzipped profile of CPU time.
pub(super) fn encode(stacks: &Stacks, start: SystemTime, duration: Duration) -> Vec<u8> {
    let mut tables = Tables::default();
    tables.string("");
    let count = value_type(&mut tables, "samples", "count");
    let cpu = value_type(&mut tables, "cpu", "nanoseconds");
    let thread_key = tables.string("thread");
    let period = i64::from(1_000_000_000 / FREQUENCY);
    let mut samples = Vec::with_capacity(stacks.counts.len());
    for ((thread, addresses), times) in &stacks.counts {
        let location_id = addresses
            .iter()
            .enumerate()
            .map(|(depth, address)| tables.location(*address, depth > 0))
            .collect();
        let times = i64::try_from(*times).unwrap_or(i64::MAX);
        let name = stacks.threads.get(thread).map_or("", |name| name);
        let label = Label {
            key: thread_key,
            str: tables.string(name),
            ..Label::default()
        };
        samples.push(Sample {
            location_id,
            value: vec![times, times.saturating_mul(period)],
            label: vec![label],
        });
    }
    let lost = tables.string(&format!("{} samples were lost", stacks.lost));
    let since = start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let profile = Profile {
        sample_type: vec![count, cpu.clone()],
        sample: samples,
        location: tables.locations,
        function: tables.functions,
        string_table: tables.strings,
        time_nanos: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        duration_nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
        period_type: Some(cpu),
        period,
        comment: if stacks.lost > 0 { vec![lost] } else { Vec::new() },
        ..Profile::default()
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&profile.encode_to_vec())
        .expect("a vector takes everything");
    gzip.finish().expect("a vector takes everything")
}

/// The profile's shared tables: everything once, by number.
#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    string_numbers: HashMap<String, i64>,
    functions: Vec<Function>,
    function_ids: HashMap<(i64, i64), u64>,
    locations: Vec<Location>,
    location_ids: HashMap<(usize, bool), u64>,
}

impl Tables {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(number) = self.string_numbers.get(text) {
            return *number;
        }
        let number = self.strings.len() as i64;
        self.strings.push(text.to_owned());
        self.string_numbers.insert(text.to_owned(), number);
        number
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (self.string(name), self.string(file));
        if let Some(id) = self.function_ids.get(&key) {
            return *id;
        }
        let id = self.functions.len() as u64 + 1;
        self.functions.push(Function {
            id,
            name: key.0,
            system_name: key.0,
            filename: key.1,
            start_line: 0,
        });
        self.function_ids.insert(key, id);
        id
    }

    /// A return address stands behind the call: the call is what is looked up.
    fn location(&mut self, address: usize, is_return: bool) -> u64 {
        if let Some(id) = self.location_ids.get(&(address, is_return)) {
            return *id;
        }
        let mut lines = Vec::new();
        let call = address - usize::from(is_return);
        backtrace::resolve(call as *mut _, |symbol| {
            let name = symbol
                .name()
                .map_or_else(|| format!("{call:#x}"), |name| format!("{name:#}"));
            let file = symbol.filename().map(|file| file.to_string_lossy().into_owned());
            let file = file.unwrap_or_default();
            let function_id = self.function(&full_name(name, &file), &file);
            let line = symbol.lineno().map_or(0, i64::from);
            lines.push(Line { function_id, line });
        });
        if lines.is_empty() {
            let function_id = self.function(&format!("{call:#x}"), "");
            lines.push(Line { function_id, line: 0 });
        }
        let id = self.locations.len() as u64 + 1;
        self.locations.push(Location {
            id,
            address: address as u64,
            line: lines,
            ..Location::default()
        });
        self.location_ids.insert((address, is_return), id);
        id
    }
}

/// Debug information of line tables alone knows `poll` where symbols know the whole path: the file says which one.
fn full_name(name: String, file: &str) -> String {
    let module = file.strip_suffix(".rs").unwrap_or_default();
    match module.rsplit('/').find(|part| !matches!(*part, "mod" | "lib" | "")) {
        Some(module) if !name.contains("::") => format!("{module}::{name}"),
        _ => name,
    }
}

fn value_type(tables: &mut Tables, what: &str, unit: &str) -> ValueType {
    ValueType {
        ty: tables.string(what),
        unit: tables.string(unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_gets_its_module() {
        let cases = [
            ("poll", "/x/src/client/connection.rs", "connection::poll"),
            ("a::b::poll", "/x/src/client/connection.rs", "a::b::poll"),
            ("write", "/x/src/io/mod.rs", "io::write"),
            ("memcpy", "memcpy.S", "memcpy"),
            ("memcpy", "", "memcpy"),
        ];
        for (name, file, expected) in cases {
            assert_eq!(full_name(name.to_owned(), file), expected);
        }
    }
}
