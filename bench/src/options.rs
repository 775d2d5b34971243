//! Parses the flags of `hold120k`: what is given, and what each mode takes where nothing is given.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flags::{SHARDS_MAX, parse_address, parse_addresses, parse_cores, parse_duration};
use crate::hostile;

/// The text of `--help`.
pub const HELP: &str = "\
hold120k: very many WebSocket clients against ws2api, every answer checked, latency from when a message was due

Without --target it starts the backend stub and ws2api (the programs beside it) on free ports.

What to do
  --mode MODE              hold      ramp up, then a message per client and interval (the default)
                           saturate  closed loop: each client has one message in flight
                           ramp      connects only: as fast as possible, or spread over --ramp
                           push      pushes only, through the ingress
                           idle      silent clients: memory and CPU of holding them
  --smoke                  2,000 clients, messages and pushes, a few seconds; with --hostile or --upgrades 500 clients (with
                           --tls, too, 200), and only what takes longer than 60 s is late
  --clients N              clients (hold 120000, saturate 200, ramp 20000, push 2000, idle 15000)
  --ramp DURATION          time over which they connect (30s; 0: as fast as possible)
  --interval DURATION      time between two messages of a client (10s)
  --hold DURATION          length of the measurement after the ramp (60s; saturate, push, idle 10s)
  --payload BYTES          size of a message's payload (64)
  --pushes-per-second N    pushes through the ingress meanwhile (0; push 2000)
  --subprotocol NAME       offered and demanded (ocpp1.6; `none`: none)
  --late DURATION          an answer after this counts as late, after twice this as lost (5s)
  --threads T              threads of the load (as many as the open-file limit asks for)

What to measure
  --target ADDR[,ADDR]     a running proxy's client listener; with it:
    --ingress ADDR[,ADDR]  its ingress, for pushes
    --admin ADDR           its admin address, for --upgrades
    --backend ADDR         the stub_backend behind it, for the check of outcomes
    --pid PID              its process, to sample CPU and memory
  --proxy PATH             start this instead of ws2api: any program with its flags (WS2API_UNDER='COMMAND …' starts either)
  --proxy-shards N         shards, dealt over the CPUs (as many as the open-file limit asks for)
  --proxy-cores LIST       or their CPUs exactly: 0,0,1,1
  --set KEY=VALUE          handed to the proxy; may be repeated
  --tls                    clients connect with TLS, each with a full handshake; ws2api is given a certificate
  --tls=FILE               the same with --target: who has signed its certificate (for localhost), in PEM
  --resume                 with --tls: a client goes on with the session of one before it, where there is one already
  --backend-threads N      threads of the stub (1)
  --backend-delay DURATION think time of the stub (0)
  --compare-floor          the same again against the floor relay, and the ratio
  --hostile[=KIND,KIND…]   the same without and with an attack meanwhile, and the ratio; nothing of it may go wrong.
                           Floods of sends, empties, pings, crumbs (a byte per frame) and pieces (1 MiB by 1 KiB);
                           halves (of messages), a storm of connects (all of these). With --tls, of strangers without end:
                           handshakes, hellos (that cost the server as much and the stranger nothing), stalls (in the middle
                           of one), garbage (all of these)
  --upgrades N             meanwhile N new processes take over, one after the other, spread over --hold (which lasts until the last
                           one has): nobody may notice, and of a thousand Calls one may wait for a second longer

What to write
  --json FILE              all figures
  --html FILE              one page with plots, complete in itself
  --quiet                  no progress line

Exit code 0: nothing failed, lost, wrong, duplicated or late. 1: something was. 2: it could not run.";

/// What is measured, and how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Ramp, then a constant rate.
    #[default]
    Hold,
    /// Closed loop.
    Saturate,
    /// Connects only.
    Ramp,
    /// Pushes only.
    Push,
    /// Silent clients.
    Idle,
}

/// All settings of a run.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is the flag of its name, see HELP")]
pub struct Options {
    pub mode: Mode,
    pub clients: u32,
    pub ramp: Duration,
    pub interval: Duration,
    pub hold: Duration,
    pub payload: usize,
    pub pushes_per_second: u32,
    pub subprotocol: Option<String>,
    pub late: Duration,
    pub threads: Option<u32>,
    pub target: Vec<SocketAddr>,
    pub ingress: Vec<SocketAddr>,
    pub backend: Option<SocketAddr>,
    pub pid: Option<u32>,
    pub proxy: Option<PathBuf>,
    pub proxy_shards: Option<usize>,
    pub proxy_cores: Option<Vec<usize>>,
    pub proxy_settings: Vec<String>,
    pub tls: bool,
    /// Whom clients trust, where the proxy is not ours.
    pub tls_trusted: Option<PathBuf>,
    pub resume: bool,
    pub backend_threads: u32,
    pub backend_delay: Duration,
    pub compare_floor: bool,
    /// The kinds of attackers; none: no attack.
    pub hostile: Vec<hostile::Kind>,
    pub upgrades: u32,
    /// How much longer than others one of a thousand Calls may take because of an upgrade.
    pub pause_allowed: Duration,
    pub admin: Option<SocketAddr>,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    pub quiet: bool,
}

/// What was given; the rest comes from the mode.
#[derive(Default)]
struct Given {
    mode: Mode,
    smoke: bool,
    /// An attack of all kinds that there are.
    hostile: bool,
    clients: Option<u32>,
    ramp: Option<Duration>,
    interval: Option<Duration>,
    hold: Option<Duration>,
    pushes_per_second: Option<u32>,
    subprotocol: Option<String>,
    late: Option<Duration>,
}

impl Options {
    /// Reads the arguments (without the program's name); `None`: help was asked for.
    ///
    /// # Errors
    /// Which flag is wrong and what is allowed.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, String> {
        use lexopt::prelude::{Long, Short};
        let mut given = Given::default();
        let mut options = Self::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            let flag = match argument {
                Short('h') | Long("help") => return Ok(None),
                Long("smoke") => {
                    given.smoke = true;
                    continue;
                }
                Long("compare-floor") => {
                    options.compare_floor = true;
                    continue;
                }
                Long("resume") => {
                    options.resume = true;
                    continue;
                }
                Long("hostile") => {
                    match parser.optional_value() {
                        Some(kinds) => {
                            options.hostile = hostile::parse_kinds(kinds.to_str().ok_or("--hostile: not UTF-8")?)?;
                        }
                        None => given.hostile = true,
                    }
                    continue;
                }
                Long("tls") => {
                    options.tls = true;
                    options.tls_trusted = parser.optional_value().map(Into::into);
                    continue;
                }
                Long("quiet") => {
                    options.quiet = true;
                    continue;
                }
                Long(flag) if VALUE_FLAGS.contains(&flag) => flag.to_owned(),
                other => return Err(format!("{}; see --help", other.unexpected())),
            };
            let value = parser.value().map_err(|error| error.to_string())?;
            let value = value.to_str().ok_or_else(|| format!("--{flag}: not UTF-8"))?;
            options
                .set(&mut given, &flag, value)
                .map_err(|error| format!("--{flag}: {error}"))?;
        }
        options.complete(given);
        options.check()?;
        Ok(Some(options))
    }

    fn set(&mut self, given: &mut Given, flag: &str, value: &str) -> Result<(), String> {
        match flag {
            "mode" => {
                given.mode = match value {
                    "hold" => Mode::Hold,
                    "saturate" => Mode::Saturate,
                    "ramp" => Mode::Ramp,
                    "push" => Mode::Push,
                    "idle" => Mode::Idle,
                    _ => return Err(format!("`{value}` is not one of hold, saturate, ramp, push, idle")),
                };
            }
            "clients" => given.clients = Some(number(value, 1, CLIENTS_MAX)?),
            "ramp" => given.ramp = Some(parse_duration(value)?),
            "interval" => given.interval = Some(parse_duration(value)?),
            "hold" => given.hold = Some(parse_duration(value)?),
            "payload" => self.payload = number(value, 2, PAYLOAD_MAX)? as usize,
            "pushes-per-second" => given.pushes_per_second = Some(number(value, 0, 1_000_000)?),
            "subprotocol" => given.subprotocol = Some(value.to_owned()),
            "late" => given.late = Some(parse_duration(value)?),
            "threads" => self.threads = Some(number(value, 1, SHARDS_MAX as u32)?),
            "target" => self.target = parse_addresses(value)?,
            "ingress" => self.ingress = parse_addresses(value)?,
            "backend" => self.backend = Some(parse_address(value)?),
            "admin" => self.admin = Some(parse_address(value)?),
            "upgrades" => self.upgrades = number(value, 0, UPGRADES_MAX)?,
            "pid" => self.pid = Some(number(value, 1, i32::MAX as u32)?),
            "proxy" => self.proxy = Some(value.into()),
            "proxy-shards" => self.proxy_shards = Some(number(value, 1, SHARDS_MAX as u32)? as usize),
            "proxy-cores" => self.proxy_cores = Some(parse_cores(value)?),
            "set" if value.contains('=') => self.proxy_settings.extend(["--set".to_owned(), value.to_owned()]),
            "set" => return Err(format!("`{value}` is not KEY=VALUE")),
            "backend-threads" => self.backend_threads = number(value, 1, SHARDS_MAX as u32)?,
            "backend-delay" => self.backend_delay = parse_duration(value)?,
            "json" => self.json = Some(value.into()),
            _ => self.html = Some(value.into()),
        }
        Ok(())
    }

    /// Takes the mode's own values where nothing was given.
    fn complete(&mut self, given: Given) {
        let seconds = Duration::from_secs;
        if given.hostile {
            let all = hostile::Kind::ALL.map(|(_, kind)| kind);
            self.hostile = all.into_iter().filter(|kind| kind.is_tls() == self.tls).collect();
        }
        // For what must not happen, not for times: any machine bears it.
        let is_untimed = given.smoke && (!self.hostile.is_empty() || self.upgrades > 0);
        let (clients, ramp, hold, pushes) = match given.mode {
            // Also one whose processors are busy with other things than handshakes.
            Mode::Hold if is_untimed && self.tls => (200, seconds(4), seconds(3), 100),
            Mode::Hold if is_untimed => (500, seconds(1), seconds(3), 100),
            Mode::Hold if given.smoke => (2_000, seconds(2), seconds(4), 200),
            Mode::Hold => (120_000, seconds(30), seconds(60), 0),
            Mode::Saturate => (200, seconds(1), seconds(10), 0),
            Mode::Ramp => (20_000, seconds(0), seconds(0), 0),
            Mode::Push => (2_000, seconds(2), seconds(10), 2_000),
            Mode::Idle => (15_000, seconds(5), seconds(10), 0),
        };
        self.mode = given.mode;
        self.clients = given.clients.unwrap_or(clients);
        self.ramp = given.ramp.unwrap_or(ramp);
        self.hold = given.hold.unwrap_or(hold);
        self.interval = given
            .interval
            .unwrap_or(if given.smoke { seconds(1) } else { seconds(10) });
        self.late = given.late.unwrap_or(seconds(if is_untimed { 60 } else { 5 }));
        self.pause_allowed = if is_untimed { self.late } else { seconds(1) };
        self.pushes_per_second = given.pushes_per_second.unwrap_or(pushes);
        self.subprotocol = match given.subprotocol.as_deref() {
            Some("none") => None,
            Some(name) => Some(name.to_owned()),
            None => Some("ocpp1.6".to_owned()),
        };
    }

    fn check(&self) -> Result<(), String> {
        if self.mode == Mode::Hold && self.interval.is_zero() {
            return Err(
                "--interval 0: a message per interval needs one; for a closed loop take --mode saturate".into(),
            );
        }
        if self.mode != Mode::Ramp && self.hold.is_zero() {
            return Err("--hold 0: nothing to measure".into());
        }
        if !self.hostile.is_empty() && self.compare_floor {
            return Err("--hostile compares with a run without the attack: leave --compare-floor away".into());
        }
        if self.upgrades > 0 && (self.mode != Mode::Hold || self.compare_floor) {
            return Err("--upgrades are for --mode hold, and nothing that the floor can do".into());
        }
        if self.tls && self.compare_floor {
            return Err("--tls is nothing that the floor speaks: leave it away".into());
        }
        if let Some(kind) = self.hostile.iter().find(|kind| kind.is_tls() != self.tls) {
            let (name, with) = (kind.name(), if self.tls { "without" } else { "with" });
            return Err(format!("--hostile={name} is an attack {with} --tls"));
        }
        if self.resume && !self.tls {
            return Err("--resume is of sessions of TLS: give --tls, too".into());
        }
        if self.tls && self.target.is_empty() != self.tls_trusted.is_none() {
            return Err("--tls=FILE belongs to --target, and --tls alone to a proxy that is started".into());
        }
        if self.target.is_empty() {
            if !self.ingress.is_empty() || self.backend.is_some() || self.pid.is_some() || self.admin.is_some() {
                return Err(
                    "--ingress, --backend, --admin and --pid describe a running proxy: give its --target too".into(),
                );
            }
        } else if self.compare_floor || self.proxy.is_some() {
            return Err("--target names a running proxy: leave --proxy and --compare-floor away".into());
        } else if self.pushes_per_second > 0 && (self.ingress.is_empty() || self.backend.is_none()) {
            return Err("pushes need --ingress, and --backend for the check of their outcomes".into());
        }
        if !self.target.is_empty() && self.upgrades > 0 && (self.admin.is_none() || self.backend.is_none()) {
            return Err("upgrades need --admin, and --backend for the check that it notices nothing".into());
        }
        if u64::from(self.pushes_per_second) * self.hold.as_secs() >= crate::outcomes::NUMBERS_MAX {
            return Err(format!(
                "more than {} pushes cannot be checked",
                crate::outcomes::NUMBERS_MAX
            ));
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        let mut options = Self {
            mode: Mode::Hold,
            clients: 0,
            ramp: Duration::ZERO,
            interval: Duration::ZERO,
            hold: Duration::ZERO,
            payload: 64,
            pushes_per_second: 0,
            subprotocol: None,
            late: Duration::ZERO,
            threads: None,
            target: Vec::new(),
            ingress: Vec::new(),
            backend: None,
            pid: None,
            proxy: None,
            proxy_shards: None,
            proxy_cores: None,
            proxy_settings: Vec::new(),
            tls: false,
            tls_trusted: None,
            resume: false,
            backend_threads: 1,
            backend_delay: Duration::ZERO,
            compare_floor: false,
            hostile: Vec::new(),
            upgrades: 0,
            pause_allowed: Duration::ZERO,
            admin: None,
            json: None,
            html: None,
            quiet: false,
        };
        options.complete(Given::default());
        options
    }
}

fn number(text: &str, min: u32, max: u32) -> Result<u32, String> {
    let bare = text.replace('_', "");
    let value = bare.parse().ok().filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| format!("`{text}` is not a number from {min} to {max}"))
}

const VALUE_FLAGS: [&str; 24] = [
    "mode",
    "clients",
    "ramp",
    "interval",
    "hold",
    "payload",
    "pushes-per-second",
    "subprotocol",
    "late",
    "threads",
    "target",
    "ingress",
    "backend",
    "admin",
    "upgrades",
    "pid",
    "proxy",
    "proxy-shards",
    "proxy-cores",
    "set",
    "backend-threads",
    "backend-delay",
    "json",
    "html",
];
const CLIENTS_MAX: u32 = 4_000_000;
const UPGRADES_MAX: u32 = 1_000;
const PAYLOAD_MAX: u32 = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_ascii_whitespace().map(Into::into))
    }

    #[test]
    fn without_flags_it_is_the_headline() {
        let options = parse("").unwrap().unwrap();
        assert_eq!((options.mode, options.clients), (Mode::Hold, 120_000));
        assert_eq!(
            (
                options.ramp.as_secs(),
                options.interval.as_secs(),
                options.hold.as_secs()
            ),
            (30, 10, 60)
        );
        assert_eq!((options.payload, options.subprotocol.as_deref()), (64, Some("ocpp1.6")));
    }

    #[test]
    fn a_mode_brings_its_own_values_and_flags_win_over_them() {
        let options = parse("--clients 300 --mode saturate --subprotocol none")
            .unwrap()
            .unwrap();
        assert_eq!(
            (options.clients, options.hold.as_secs(), options.subprotocol),
            (300, 10, None)
        );
        let options = parse("--smoke --hold 1s").unwrap().unwrap();
        assert_eq!(
            (options.clients, options.hold.as_secs(), options.pushes_per_second),
            (2_000, 1, 200)
        );
        let options = parse("--hostile --smoke").unwrap().unwrap();
        assert_eq!((options.clients, options.late.as_secs()), (500, 60));
        for (line, count) in [("--hostile", 7), ("--hostile --tls", 4)] {
            assert_eq!(parse(line).unwrap().unwrap().hostile.len(), count, "{line}");
        }
        let options = parse("--upgrades 3").unwrap().unwrap();
        assert_eq!((options.late.as_secs(), options.pause_allowed.as_secs()), (5, 1));
        let options = parse("--upgrades 3 --smoke").unwrap().unwrap();
        assert_eq!((options.clients, options.pause_allowed.as_secs()), (500, 60));
        let options = parse("--upgrades 3 --smoke --tls").unwrap().unwrap();
        assert_eq!((options.clients, options.ramp.as_secs()), (200, 4));
    }

    #[test]
    fn a_bad_flag_is_named_with_what_is_allowed() {
        let cases = [
            ("--clients 0", "--clients: `0` is not a number from 1 to 4000000"),
            ("--mode x", "one of hold, saturate, ramp, push, idle"),
            ("--hold 0", "nothing to measure"),
            ("--interval 0", "--mode saturate"),
            ("--nonsense", "see --help"),
            ("--pid 7", "give its --target too"),
            ("--target 127.0.0.1:1 --pushes-per-second 1", "need --ingress"),
            ("--target 127.0.0.1:1 --compare-floor", "leave"),
            ("--hostile --compare-floor", "leave --compare-floor away"),
            ("--upgrades 1 --mode push", "for --mode hold"),
            ("--target 127.0.0.1:1 --upgrades 1", "need --admin"),
            ("--admin 127.0.0.1:1", "give its --target too"),
            ("--set a", "not KEY=VALUE"),
            ("--tls=a.pem", "belongs to --target"),
            ("--tls --target 127.0.0.1:1", "belongs to --target"),
            ("--tls --compare-floor", "nothing that"),
            ("--tls --hostile=pings", "an attack without --tls"),
            ("--hostile=hellos", "an attack with --tls"),
            ("--resume", "give --tls, too"),
        ];
        for (line, expected) in cases {
            let error = parse(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn help_is_help() {
        assert!(parse("--help").unwrap().is_none());
        for flag in VALUE_FLAGS {
            assert!(HELP.contains(&format!("--{flag}")), "--{flag} is not in the help");
        }
    }
}
