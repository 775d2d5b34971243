//! Reads what `ws2api load` was told: how many chargers, what they speak, and when.

use std::path::PathBuf;
use std::time::Duration;

use super::ids::Ids;
use super::version::Version;
use crate::commands::failure::Failure;
use crate::commands::session::Session;
use crate::commands::target::Target;

/// All that was typed, or its default.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) target: Target,
    pub(super) chargers: u32,
    pub(super) versions: Vec<Version>,
    pub(super) ids: Ids,
    pub(super) ramp: Duration,
    pub(super) duration: Duration,
    /// From one step of a charger's transaction to the next; 0: as soon as the one before is answered.
    pub(super) interval: Duration,
    pub(super) storm: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) threads: Option<u32>,
    /// Whose certificates are believed in place of the system's.
    pub(super) ca: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// Which flag is wrong, and what is allowed.
    pub(super) fn read(session: &mut Session<'_>) -> Result<Self, Failure> {
        let target = match session.args.words.first() {
            Some(url) => Target::parse(url).map_err(|why| Failure::Usage(format!("{url}: {why}")))?,
            None => {
                let (address, prefix) = session.clients_address()?;
                Target::at(address, &prefix)
            }
        };
        let flag = |name: &'static str| session.args.flag(name).map(|value| (name, value));
        if let (Some(given), false) = (flag("ca"), target.is_tls) {
            return Err(wrong(
                given,
                "certificates are looked at where the URL begins with wss://",
            ));
        }
        let chargers = flag("chargers").map_or(Ok(1), |given| number(given, CHARGERS_MAX))?;
        let interval = match (flag("interval"), flag("rate")) {
            (Some(_), Some(_)) => {
                let words =
                    "--rate sets the interval: N Calls a second of all chargers together; leave one of them away";
                return Err(Failure::Usage(words.to_owned()));
            }
            (Some(given), None) => time(given, Duration::ZERO)?,
            (None, Some(given)) => Duration::from_secs(chargers.into()) / number(given, RATE_MAX)?,
            (None, None) => INTERVAL,
        };
        let versions = flag("ocpp").map_or(Ok(vec![Version::V16]), versions)?;
        let (name, pattern) = flag("id").unwrap_or(("id", "LOAD{}"));
        let ids = Ids::parse(pattern, chargers).map_err(|why| wrong((name, pattern), &why))?;
        Ok(Self {
            target,
            chargers,
            versions,
            ids,
            ramp: flag("ramp").map_or(Ok(RAMP), |given| time(given, Duration::ZERO))?,
            duration: flag("duration").map_or(Ok(DURATION), |given| time(given, SHORTEST))?,
            interval,
            storm: flag("storm")
                .map(|given| time(given, Duration::from_secs(1)))
                .transpose()?,
            timeout: flag("timeout").map_or(Ok(TIMEOUT), |given| time(given, SHORTEST))?,
            threads: flag("threads").map(|given| number(given, THREADS_MAX)).transpose()?,
            ca: flag("ca").map(|(_, file)| file.into()),
        })
    }
}

type Given<'a> = (&'a str, &'a str);

fn versions(given: Given<'_>) -> Result<Vec<Version>, Failure> {
    let versions = given.1.split(',').map(Version::parse).collect::<Option<Vec<_>>>();
    versions.ok_or_else(|| wrong(given, "1.6, 2.0.1, or 1.6,2.0.1 for one half each"))
}

fn number(given: Given<'_>, max: u32) -> Result<u32, Failure> {
    let number = given.1.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| wrong(given, &format!("a number from 1 to {max}")))
}

fn time(given: Given<'_>, min: Duration) -> Result<Duration, Failure> {
    let time = match given.1 {
        "0" => Some(Duration::ZERO),
        text => humantime::parse_duration(text).ok(),
    };
    let allowed = || {
        let least = humantime::format_duration(min);
        wrong(
            given,
            &format!("a time from {least} to 7days, such as 500ms, 30s or 2m"),
        )
    };
    time.filter(|time| (min..=TIME_MAX).contains(time)).ok_or_else(allowed)
}

fn wrong((flag, value): Given<'_>, why: &str) -> Failure {
    Failure::Usage(format!("--{flag} {value}: {why}"))
}

const RAMP: Duration = Duration::from_secs(10);
const DURATION: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(100);
const TIME_MAX: Duration = Duration::from_secs(7 * 86_400);
const CHARGERS_MAX: u32 = 10_000_000;
const RATE_MAX: u32 = 10_000_000;
/// More threads than this on one machine is a typing error, or a limit that is far too low.
pub(super) const THREADS_MAX: u32 = 1024;
