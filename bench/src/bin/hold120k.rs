//! Runs the latency harness. See `--help`; the library says how it works.

use std::path::Path;
use std::process::ExitCode;

use bench::flags::fail;
use bench::options::{HELP, Options};
use bench::run;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail("hold120k", &error),
    };
    // Not after an hour that cannot be written down.
    for path in [&options.json, &options.html].into_iter().flatten() {
        if let Err(error) = create(path) {
            return fail("hold120k", &error);
        }
    }
    let report = match run::run(&options) {
        Ok(report) => report,
        Err(error) => return fail("hold120k", &error),
    };
    print!("{}", report.table());
    if let Some(path) = &options.json {
        match serde_json::to_string_pretty(&report) {
            Ok(json) => {
                if let Err(error) = write(path, &json) {
                    return fail("hold120k", &error);
                }
            }
            Err(error) => return fail("hold120k", &error),
        }
    }
    if let Some(path) = &options.html
        && let Err(error) = write(path, &bench::page::render(&report))
    {
        return fail("hold120k", &error);
    }
    if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn create(path: &Path) -> Result<(), String> {
    let file = std::fs::File::options().create(true).append(true).open(path);
    file.map(drop).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
