//! The command line → a [`Command`].
//!
//! [`FLAGS`] holds every flag once; the parser, the help text, and whatever else lists flags take them from it. Values
//! are only split here: what a key allows is the configuration's business.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;

use crate::config::{Key, Override, Overrides, SHARDS_MAX, suggest};

/// What the program is asked to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Run the proxy.
    Serve(ServeArgs),
    /// `check FILE`: say what the configuration would be. `config` is the file.
    Check(ServeArgs),
    /// `demo`: run the proxy with a built-in backend.
    Demo(ServeArgs),
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
}

/// One flag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flag {
    /// Without its dashes.
    pub name: &'static str,
    /// Its single letter.
    pub short: Option<char>,
    /// What its value is called; `None`: it has none.
    pub value: Option<&'static str>,
    /// Whether it may be given again to add to the first.
    pub repeats: bool,
    /// One sentence.
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
        "One shard per CPU named, such as 0,1,4-7; a CPU may be named twice.",
    ),
    flag("config", "FILE", "Read the configuration from FILE; flags win over it."),
    Flag {
        repeats: true,
        ..flag("set", "KEY=VALUE", "Set any key of the configuration, for every shard.")
    },
    flag("cpuprofile", "FILE", "Write a CPU profile (pprof) to FILE at exit."),
    flag("memprofile", "FILE", "Write a heap profile (pprof) to FILE at exit."),
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
        "Check a configuration, print the resolved one, and warn where this machine does not carry it.",
    ),
    (
        "demo",
        "Run the proxy with a built-in backend on free ports, and print what to try.",
    ),
];

/// Why a command line is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CliError {
    /// There is no such flag.
    #[error("unknown flag {flag}{}; see ws2api --help", .meant.as_ref().map_or_else(String::new, |meant| format!("; did you mean {meant}?")))]
    UnknownFlag {
        /// With its dashes.
        flag: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A flag's value is not there.
    #[error("{flag} needs a value: {flag} {value}")]
    MissingValue {
        /// With its dashes.
        flag: String,
        /// What it is called.
        value: &'static str,
    },
    /// A flag that has no value was given one.
    #[error("{flag} has no value")]
    UnexpectedValue {
        /// With its dashes.
        flag: String,
    },
    /// A word that is neither a flag nor a command.
    #[error("\"{word}\" is neither a flag nor a command{}; see ws2api --help", .meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?")))]
    UnexpectedWord {
        /// As it was given.
        word: String,
        /// The command that looks like it.
        meant: Option<&'static str>,
    },
    /// `check` without its file.
    #[error("check needs a file: ws2api check FILE")]
    CheckFile,
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
    /// Not UTF-8 where text is needed.
    #[error("{flag} has a value that is not UTF-8")]
    NotUtf8 {
        /// With its dashes.
        flag: String,
    },
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
        match (flag.name, flag.value) {
            ("help", _) => return Ok(Command::Help),
            ("version", _) => return Ok(Command::Version),
            (name, value) => {
                let value = value.expect("the others have a value");
                let missing = |_| CliError::MissingValue {
                    flag: format!("--{name}"),
                    value,
                };
                let value = parser.value().map_err(missing)?;
                args.take(flag, value)?;
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
    let Some(name) = words.first() else {
        return Ok(Command::Serve(args));
    };
    match (name.to_str(), &words[1..]) {
        (Some("demo"), []) => Ok(Command::Demo(args)),
        (Some("demo"), [word, ..]) => unexpected(word, None),
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

/// The profile flags may have one dash, as they have in Go programs, where lexopt would see single letters.
fn two_dashes(arg: OsString) -> OsString {
    let Some(text) = arg.to_str().and_then(|text| text.strip_prefix('-')) else {
        return arg;
    };
    let name = text.split('=').next().unwrap_or(text);
    if matches!(name, "cpuprofile" | "memprofile") {
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
        text.push_str(&format!("  ws2api {usage:<12} {what}\n"));
    }
    text.push_str("\nFlags:\n");
    for flag in FLAGS {
        let short = flag.short.map_or_else(String::new, |short| format!("-{short}, "));
        let value = flag.value.map_or_else(String::new, |value| format!(" {value}"));
        let left = format!("{short}--{}{value}", flag.name);
        let repeats = if flag.repeats {
            " May be given several times."
        } else {
            ""
        };
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
