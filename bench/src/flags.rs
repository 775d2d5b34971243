//! Parses values on command lines: durations, lists, addresses, and what the three programs share at their start.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `250us`, `10ms`, `30s`, `2m`; a plain 0 is no time at all.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match (unit, number) {
        ("us", _) => 1e-6,
        ("ms", _) => 1e-3,
        ("s", _) => 1.0,
        ("m", _) => 60.0,
        ("h", _) => 3600.0,
        ("", "0") => 0.0,
        _ => return Err(format!("`{text}` is not a duration: write 250us, 10ms, 30s, 2m or 1h")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a duration: write 10ms, 30s or 2m"))?;
    if number * seconds > DURATION_MAX.as_secs_f64() {
        return Err(format!("`{text}` is more than a day"));
    }
    Ok(Duration::from_secs_f64(number * seconds))
}

/// `127.0.0.1:4000`, or several with commas.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn parse_addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    text.split(',').map(parse_address).collect()
}

/// `127.0.0.1:4000`, with or without `http://` before and a slash behind.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let bare = text
        .trim()
        .strip_prefix("http://")
        .unwrap_or(text.trim())
        .trim_end_matches('/');
    bare.parse()
        .map_err(|_| format!("`{text}` is not an address: write 127.0.0.1:4000"))
}

/// `0,1,4-7`; a CPU may be named twice.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn parse_cores(text: &str) -> Result<Vec<usize>, String> {
    let number = |part: &str| match part.trim().parse::<usize>() {
        Ok(cpu) if cpu < CPU_MAX => Ok(cpu),
        _ => Err(format!(
            "`{part}` in `{text}` is not a CPU: write 0,1,4-7 with numbers below {CPU_MAX}"
        )),
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cores.extend(number(first)?..=number(last)?),
            None => cores.push(number(part)?),
        }
    }
    if cores.is_empty() || cores.len() > SHARDS_MAX {
        return Err(format!(
            "`{text}` names {} CPUs: 1 to {SHARDS_MAX} are allowed",
            cores.len()
        ));
    }
    Ok(cores)
}

/// Raises the soft limit of open files to the hard one and says what it is now.
#[must_use]
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Prints the one error line of a program that cannot go on.
pub fn fail(program: &str, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{program}: {error}");
    ExitCode::from(2)
}

/// More shards than this on one machine is a typing error.
pub const SHARDS_MAX: usize = 1024;
const CPU_MAX: usize = 1024;
const DURATION_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let cases = [
            ("250us", 250),
            ("10ms", 10_000),
            ("1.5s", 1_500_000),
            ("2m", 120_000_000),
            ("0", 0),
        ];
        for (text, micros) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let cases = ["", "s", "10", "-1s", "1d", "1.2.3s", "25h", "10 s"];
        for text in cases {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cores_are_lists_and_ranges() {
        assert_eq!(parse_cores("0,0,1,4-6"), Ok(vec![0, 0, 1, 4, 5, 6]));
        for text in ["", "a", "1-", "5-4", "0-2000"] {
            assert!(parse_cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_may_be_written_as_a_url() {
        assert_eq!(
            parse_address("http://127.0.0.1:80/"),
            Ok(SocketAddr::from(([127, 0, 0, 1], 80)))
        );
        assert!(parse_address("localhost:80").is_err());
        assert_eq!(parse_addresses("127.0.0.1:1,127.0.0.1:2").map(|list| list.len()), Ok(2));
    }
}
