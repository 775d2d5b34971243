//! Parses the command line into a [`Command`].
//!
//! [`FLAGS`] holds every flag once; the parser, the help text, and whatever else lists flags take them from it. Values
//! are only split here: what a key allows is the configuration's business.

pub mod manual;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;

use crate::cli::manual::SHELLS;
use crate::config::{Key, Override, Overrides, SHARDS_MAX, suggest};
use crate::observe::log::Format;
use protocol::ocpp::ClientId;

/// What the program is asked to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Run the proxy.
    Serve(ServeArgs),
    /// `check FILE`: say what the configuration would be. `config` is the file.
    Check(ServeArgs),
    /// `demo`: run the proxy with a built-in backend.
    Demo(ServeArgs),
    /// `man`: print the man page.
    Man,
    /// `completions SHELL`: print them.
    Completions(&'static str),
    /// `--help`: print [`help`].
    Help,
    /// `--version`: print [`version`].
    Version,
}

/// What the flags say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServeArgs {
    /// The file to read.
    pub config: Option<PathBuf>,
    /// What goes over it.
    pub overrides: Overrides,
    /// Where the CPU profile goes.
    pub cpuprofile: Option<PathBuf>,
    /// Where the heap profile goes.
    pub memprofile: Option<PathBuf>,
    /// How the log looks.
    pub log: Format,
    /// The client whose frames are logged.
    pub trace_client: Option<ClientId>,
    /// Whether a warning of `check` is an error.
    pub strict: bool,
}

/// A flag of the command line, as the parser and the help need it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flag {
    /// The long name, without its dashes.
    pub name: &'static str,
    /// Its short form, a single letter without the dash.
    pub short: Option<char>,
    /// What its value is called; `None`: it has none.
    pub value: Option<&'static str>,
    /// Whether it may be given again to add to the first.
    pub repeats: bool,
    /// One sentence for the help text and the man page.
    pub help: &'static str,
}

const fn flag(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        value: Some(value),
        repeats: false,
        help,
    }
}

/// Every flag, in the order of the help text.
pub const FLAGS: &[Flag] = &[
    flag("listen", "ADDR", "Where clients connect."),
    flag("ingress", "ADDR", "Where the backend posts its pushes."),
    flag("admin", "ADDR", "Health, metrics, status page and profiles."),
    Flag {
        repeats: true,
        ..flag(
            "backend",
            "URL",
            "Where requests go: http://host:port[/prefix] or unix:/path.",
        )
    },
    flag(
        "cores",
        "LIST",
        "One shard per CPU named, such as 0,1,4-7 [every usable one]; one may be named twice.",
    ),
    flag("config", "FILE", "Read the configuration from FILE; flags win over it."),
    Flag {
        repeats: true,
        ..flag("set", "KEY=VALUE", "Set any key of the configuration, for every shard.")
    },
    flag(
        "cpuprofile",
        "FILE",
        "Write a CPU profile (pprof) to FILE at exit and on SIGUSR1.",
    ),
    flag(
        "memprofile",
        "FILE",
        "Write a heap profile (pprof) to FILE at exit and on SIGUSR1.",
    ),
    flag(
        "log",
        "FORMAT",
        "How the log on standard error looks: text or json. [text]",
    ),
    flag(
        "trace-client",
        "ID",
        "Log every frame of the client with this ClientId.",
    ),
    Flag {
        value: None,
        ..flag("strict", "", "Of check: a warning makes its exit code 1.")
    },
    Flag {
        value: None,
        ..flag(
            "elsewhere",
            "",
            "Of check: FILE is for another machine; leave alone what is to be found here.",
        )
    },
    Flag {
        name: "help",
        short: Some('h'),
        value: None,
        repeats: false,
        help: "Print this help.",
    },
    Flag {
        name: "version",
        short: Some('V'),
        value: None,
        repeats: false,
        help: "Print the version.",
    },
];

/// Every command beside plain serving: how it is called and what it does.
pub const COMMANDS: &[(&str, &str)] = &[
    (
        "check FILE",
        "Check a configuration, print the resolved one, warn where the machine does not carry it.",
    ),
    (
        "demo",
        "Run the proxy with a built-in backend on free ports, and print what to try.",
    ),
    ("man", "Print the man page: ws2api man | man -l -"),
    ("completions SHELL", "Print the completions for bash, zsh or fish."),
];

/// Why a command line is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CliError {
    /// There is no such flag.
    #[error("unknown flag {flag}{}; see ws2api --help", did_you_mean(.meant.as_deref()))]
    UnknownFlag {
        /// The flag as it was written, with its dashes.
        flag: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A flag's value is not there.
    #[error("{flag} needs a value: {flag} {value}")]
    MissingValue {
        /// The flag as it was written, with its dashes.
        flag: String,
        /// What it is called.
        value: &'static str,
    },
    /// A flag that has no value was given one.
    #[error("{flag} has no value")]
    UnexpectedValue {
        /// The flag as it was written, with its dashes.
        flag: String,
    },
    /// A word that is neither a flag nor a command.
    #[error("\"{word}\" is neither a flag nor a command{}; see ws2api --help", did_you_mean(*.meant))]
    UnexpectedWord {
        /// As it was given.
        word: String,
        /// The command that looks like it.
        meant: Option<&'static str>,
    },
    /// `completions` without one of the shells.
    #[error("completions needs a shell: bash, zsh or fish")]
    Shell,
    /// `check` without its file.
    #[error("check needs a file: ws2api check FILE")]
    CheckFile,
    /// A flag of `check` without it.
    #[error("{flag} belongs to check: ws2api check FILE {flag}")]
    CheckOnly {
        /// The flag as it was written, with its dashes.
        flag: &'static str,
    },
    /// `--set` without `=`.
    #[error("--set {got}: written as --set KEY=VALUE, such as --set call_timeout=25s")]
    Set {
        /// As it was given.
        got: String,
    },
    /// Not a list of CPUs.
    #[error("--cores {got}: written as a list of CPUs and ranges, such as 0,1,4-7, of at most {SHARDS_MAX} CPUs")]
    Cores {
        /// As it was given.
        got: String,
    },
    /// Not a format of the log.
    #[error("--log {got}: text or json")]
    Log {
        /// As it was given.
        got: String,
    },
    /// `--trace-client` with what is no ClientId.
    #[error("--trace-client {got}: a ClientId is 1 to 128 bytes without control characters, / or \\")]
    TraceClient {
        /// As it was given.
        got: String,
    },
    /// Not UTF-8 where text is needed.
    #[error("{flag} has a value that is not UTF-8")]
    NotUtf8 {
        /// The flag as it was written, with its dashes.
        flag: String,
    },
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// [`CliError`] names the flag and what it takes.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, CliError> {
    let mut parser = lexopt::Parser::from_args(args.into_iter().map(two_dashes));
    let mut args = ServeArgs::default();
    let mut words: Vec<OsString> = Vec::new();
    while let Some(arg) = parser.next().map_err(lexopt_error)? {
        let flag = match &arg {
            Arg::Long(name) => FLAGS
                .iter()
                .find(|flag| flag.name == *name)
                .ok_or_else(|| unknown_flag(name)),
            Arg::Short(letter) => {
                FLAGS
                    .iter()
                    .find(|flag| flag.short == Some(*letter))
                    .ok_or_else(|| CliError::UnknownFlag {
                        flag: format!("-{letter}"),
                        meant: None,
                    })
            }
            Arg::Value(word) => {
                words.push(word.clone());
                continue;
            }
        }?;
        let name = flag.name;
        if let Some(value) = flag.value {
            let missing = |_| CliError::MissingValue {
                flag: format!("--{name}"),
                value,
            };
            args.take(flag, parser.value().map_err(missing)?)?;
        } else if parser.optional_value().is_some() {
            return Err(CliError::UnexpectedValue {
                flag: format!("--{name}"),
            });
        } else {
            match name {
                "strict" => args.strict = true,
                "elsewhere" => args.overrides.elsewhere = true,
                "version" => return Ok(Command::Version),
                _ => return Ok(Command::Help),
            }
        }
    }
    command(args, words)
}

/// Which command the words name.
fn command(mut args: ServeArgs, words: Vec<OsString>) -> Result<Command, CliError> {
    let unexpected = |word: &OsString, meant| {
        Err(CliError::UnexpectedWord {
            word: word.to_string_lossy().into_owned(),
            meant,
        })
    };
    let name = words.first();
    if name.is_none_or(|name| name != "check") {
        for (flag, is_set) in [("--strict", args.strict), ("--elsewhere", args.overrides.elsewhere)] {
            if is_set {
                return Err(CliError::CheckOnly { flag });
            }
        }
    }
    let Some(name) = name else {
        return Ok(Command::Serve(args));
    };
    match (name.to_str(), &words[1..]) {
        (Some("demo"), []) => Ok(Command::Demo(args)),
        (Some("demo"), [word, ..]) => unexpected(word, None),
        (Some("man"), []) => Ok(Command::Man),
        (Some("completions"), [shell]) => {
            let known = SHELLS.iter().find(|known| shell.to_str() == Some(**known));
            known.map(|shell| Command::Completions(shell)).ok_or(CliError::Shell)
        }
        (Some("completions"), []) => Err(CliError::Shell),
        (Some("check"), []) if args.config.is_some() => Ok(Command::Check(args)),
        (Some("check"), []) => Err(CliError::CheckFile),
        (Some("check"), [file]) if args.config.is_none() => {
            args.config = Some(file.into());
            Ok(Command::Check(args))
        }
        (Some("check"), [word] | [_, word, ..]) => unexpected(word, None),
        _ => {
            let names = COMMANDS
                .iter()
                .map(|(usage, _)| usage.split(' ').next().unwrap_or(usage));
            unexpected(name, suggest(&name.to_string_lossy(), names))
        }
    }
}

impl ServeArgs {
    fn take(&mut self, flag: &Flag, value: OsString) -> Result<(), CliError> {
        match flag.name {
            "config" => self.config = Some(value.into()),
            "cpuprofile" => self.cpuprofile = Some(value.into()),
            "memprofile" => self.memprofile = Some(value.into()),
            name => {
                let flag = format!("--{name}");
                let value = value
                    .into_string()
                    .map_err(|_| CliError::NotUtf8 { flag: flag.clone() })?;
                match name {
                    "cores" => self.overrides.cores = Some(cores(&value).ok_or(CliError::Cores { got: value })?),
                    "log" => self.log = Format::parse(&value).ok_or(CliError::Log { got: value })?,
                    "trace-client" => {
                        let client = ClientId::parse(&value).map_err(|_| CliError::TraceClient { got: value })?;
                        self.trace_client = Some(client);
                    }
                    "set" => {
                        let (key, words) = value.split_once('=').ok_or(CliError::Set { got: value.clone() })?;
                        self.overrides.set(key.trim(), words.trim());
                    }
                    key => self.assign(flag, key, value),
                }
            }
        }
        Ok(())
    }

    /// The flag called like its key; given again, it adds to a list or takes the place of the first.
    fn assign(&mut self, flag: String, key: &str, value: String) {
        let repeats = FLAGS.iter().any(|flag| flag.name == key && flag.repeats);
        match self.overrides.set.iter_mut().find(|set| set.flag == flag) {
            Some(set) if repeats => set.values.push(value),
            _ => self.overrides.set.push(Override {
                flag,
                key: key.to_owned(),
                values: vec![value],
            }),
        }
    }
}

/// `0,1,4-7` → 0, 1, 4, 5, 6, 7; at most [`SHARDS_MAX`] of them, in the order given.
fn cores(list: &str) -> Option<Vec<usize>> {
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<usize>().ok())
            .flatten()
    };
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last || last - first >= SHARDS_MAX - cpus.len() {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Flags may have one dash, as they have in Go programs (`-cpuprofile=FILE`), where lexopt would see single letters.
fn two_dashes(arg: OsString) -> OsString {
    let Some(text) = arg.to_str().and_then(|text| text.strip_prefix('-')) else {
        return arg;
    };
    let name = text.split('=').next().unwrap_or(text);
    if FLAGS.iter().any(|flag| flag.name == name) {
        format!("--{text}").into()
    } else {
        arg
    }
}

fn unknown_flag(name: &str) -> CliError {
    let flag = suggest(name, FLAGS.iter().map(|flag| flag.name)).map(|flag| format!("--{flag}"));
    let key = || suggest(name, Key::all().map(|key| key.name)).map(|key| format!("--set {key}=…"));
    CliError::UnknownFlag {
        flag: format!("--{name}"),
        meant: flag.or_else(key),
    }
}

fn lexopt_error(error: lexopt::Error) -> CliError {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => CliError::UnexpectedValue { flag: option },
        other => CliError::UnexpectedWord {
            word: other.to_string(),
            meant: None,
        },
    }
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "ws2api: very many WebSocket clients, served by a plain HTTP backend.\n\nUsage:\n  ws2api [FLAGS]\n",
    );
    for (usage, what) in COMMANDS {
        text.push_str(&format!("  ws2api {usage:<17} {what}\n"));
    }
    text.push_str("\nFlags:\n");
    for flag in FLAGS {
        let short = flag.short.map_or_else(String::new, |short| format!("-{short}, "));
        let value = flag.value.map_or_else(String::new, |value| format!(" {value}"));
        let left = format!("{short}--{}{value}", flag.name);
        let repeats = if flag.repeats { " Repeatable." } else { "" };
        let default = Key::find(flag.name).map_or_else(String::new, |key| format!(" [{}]", key.default));
        text.push_str(&format!("  {left:<18}  {}{repeats}{default}\n", flag.help));
    }
    text
}

/// The text of `--version`.
#[must_use]
pub fn version() -> String {
    format!("ws2api {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_parse(line: &str) -> Result<Command, CliError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn serve(line: &str) -> ServeArgs {
        match try_parse(line) {
            Ok(Command::Serve(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn profile_flags_take_one_or_two_dashes_and_an_equals_sign_or_a_space() {
        for line in [
            "-cpuprofile=a -memprofile=b",
            "--cpuprofile=a --memprofile=b",
            "-cpuprofile a -memprofile b",
        ] {
            let args = serve(line);
            assert_eq!(
                (args.cpuprofile, args.memprofile),
                (Some("a".into()), Some("b".into())),
                "{line}"
            );
        }
        assert_eq!(serve("--cpuprofile a").cpuprofile, Some("a".into()));
        assert_eq!(serve("-cpuprofile=a=b").cpuprofile, Some("a=b".into()));
    }

    #[test]
    fn every_flag_with_a_value_is_taken_and_needs_one() {
        for flag in FLAGS.iter().filter(|flag| flag.value.is_some()) {
            let value = match flag.name {
                "cores" => "0",
                "log" => "json",
                _ => "listen=x",
            };
            assert_ne!(
                serve(&format!("--{} {value}", flag.name)),
                ServeArgs::default(),
                "{}",
                flag.name
            );
            let words = format!("--{0} needs a value: --{0} {1}", flag.name, flag.value.unwrap());
            assert_eq!(try_parse(&format!("--{}", flag.name)).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn flags_become_overrides_in_their_order() {
        let args = serve("--set a=1 --backend http://a --listen 0:1 --backend http://b --set a=2 --config f");
        let set = |flag: &str, key: &str, values: &[&str]| Override {
            flag: flag.into(),
            key: key.into(),
            values: values.iter().map(|value| (*value).into()).collect(),
        };
        let expected = [
            set("--set", "a", &["1"]),
            set("--backend", "backend", &["http://a", "http://b"]),
            set("--listen", "listen", &["0:1"]),
            set("--set", "a", &["2"]),
        ];
        assert_eq!(args.overrides.set, expected);
        assert_eq!(args.config, Some("f".into()));
    }

    #[test]
    fn cores_are_numbers_and_ranges_in_the_order_given() {
        assert_eq!(cores("0,1,4-7"), Some(vec![0, 1, 4, 5, 6, 7]));
        assert_eq!(cores("3,0,3"), Some(vec![3, 0, 3]), "one may be named twice");
        assert_eq!(cores("0-255").map(|cpus| cpus.len()), Some(SHARDS_MAX));
        for bad in [
            "",
            ",",
            "0,",
            "a",
            "-1",
            "1-",
            "4-1",
            "+1",
            "0 1",
            "0-256",
            "0-255,0",
            "0-18446744073709551615",
        ] {
            assert_eq!(cores(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn commands_are_words() {
        let args = ServeArgs {
            config: Some("f".into()),
            ..ServeArgs::default()
        };
        assert_eq!(try_parse("check f"), Ok(Command::Check(args.clone())));
        assert_eq!(try_parse("check --config f"), Ok(Command::Check(args)));
        assert_eq!(try_parse("demo"), Ok(Command::Demo(ServeArgs::default())));
        assert_eq!(try_parse(""), Ok(Command::Serve(ServeArgs::default())));
        for (line, command) in [
            ("--help", Command::Help),
            ("-h", Command::Help),
            ("-V", Command::Version),
        ] {
            assert_eq!(try_parse(line), Ok(command));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            (
                "--lisen x",
                "unknown flag --lisen; did you mean --listen?; see ws2api --help",
            ),
            (
                "--clients-max 5",
                "unknown flag --clients-max; did you mean --set clients_max=…?; see ws2api --help",
            ),
            ("--workers 5", "unknown flag --workers; see ws2api --help"),
            ("-x", "unknown flag -x; see ws2api --help"),
            ("--help=x", "--help has no value"),
            (
                "--set clients_max",
                "--set clients_max: written as --set KEY=VALUE, such as --set call_timeout=25s",
            ),
            ("--log xml", "--log xml: text or json"),
            (
                "--cores 4-1",
                "--cores 4-1: written as a list of CPUs and ranges, such as 0,1,4-7, of at most 256 CPUs",
            ),
            ("check", "check needs a file: ws2api check FILE"),
            ("completions", "completions needs a shell: bash, zsh or fish"),
            ("completions tcsh", "completions needs a shell: bash, zsh or fish"),
            ("check a b", "\"b\" is neither a flag nor a command; see ws2api --help"),
            (
                "chekc a",
                "\"chekc\" is neither a flag nor a command; did you mean check?; see ws2api --help",
            ),
            ("demo a", "\"a\" is neither a flag nor a command; see ws2api --help"),
            (
                "-- --listen",
                "\"--listen\" is neither a flag nor a command; see ws2api --help",
            ),
        ];
        for (line, words) in cases {
            assert_eq!(try_parse(line).expect_err(line).to_string(), words);
        }
    }

    #[test]
    fn no_words_panic() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd: &[&[u8]] = &[
            b"",
            b"-",
            b"--",
            b"---",
            b"-=",
            b"--=",
            b"=",
            b"-h=",
            b"-hV",
            b"-Vx",
            b"--version=",
            b"--listen=",
            b"-listen",
            b"--set==",
            b"-set",
            b"--cores=-",
            b"check",
            b"demo",
            b"\xff",
            b"-\xff",
            b"--\xff",
            b"--listen=\xff",
            b"-\xc3\xa9",
        ];
        let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        for first in odd {
            for second in odd {
                if let Err(error) = parse([word(first), word(second)]) {
                    assert!(!error.to_string().is_empty());
                }
            }
        }
        let error = parse([word(b"--listen"), word(b"\xff")]).unwrap_err();
        assert_eq!(error.to_string(), "--listen has a value that is not UTF-8");
    }

    #[test]
    fn the_help_names_every_flag_and_command() {
        let help = help();
        for flag in FLAGS {
            assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
            assert!(help.contains(flag.help), "{}", flag.name);
        }
        assert!(
            COMMANDS
                .iter()
                .all(|(usage, what)| help.contains(usage) && help.contains(what))
        );
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    }
}
