//! Parses the command line into a [`Command`].
//!
//! [`FLAGS`] and [`COMMANDS`] hold every flag and every command once; the parser, the help text, and whatever else lists
//! them take them from there. Values are only split here: what a key allows is the configuration's business, and what a
//! command's words mean is the command's.

pub mod manual;
pub mod table;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;

use crate::cli::manual::SHELLS;
use crate::cli::table::{COMMANDS, Entry, FLAGS, Flag};
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
    /// A command that asks a running process (`src/commands.rs`).
    Operate(OperateArgs),
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
    /// Whether `demo` has TLS, too.
    pub tls: bool,
}

/// A command for a running process, as it was typed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OperateArgs {
    /// Its row in the table.
    pub entry: &'static Entry,
    /// The words behind its name, as many as the row allows.
    pub words: Vec<String>,
    /// The flags that belong to commands like it, by name; the value is empty where a flag has none.
    pub flags: Vec<(&'static str, String)>,
    /// The file and the flags that say where the process is.
    pub serve: ServeArgs,
}

impl OperateArgs {
    /// The value of a flag of the command; of one that was given twice, the last.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&str> {
        let found = self.flags.iter().rev().find(|(flag, _)| *flag == name);
        found.map(|(_, value)| value.as_str())
    }
}

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
    /// A flag of other commands.
    #[error("--{flag} belongs to {of}: ws2api {usage} --{flag}")]
    OfAnother {
        /// The flag's name.
        flag: &'static str,
        /// The commands that have it.
        of: String,
        /// How one of them is called.
        usage: String,
    },
    /// A command with too few words.
    #[error("{name} needs {words}: ws2api {name} {words}")]
    Words {
        /// The command's name.
        name: &'static str,
        /// What it takes.
        words: &'static str,
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
    let mut own: Vec<(&'static Flag, String)> = Vec::new();
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
            let value = parser.value().map_err(missing)?;
            if flag.of.is_empty() {
                args.take(flag, value)?;
            } else {
                own.push((flag, utf8(value, name)?));
            }
        } else if parser.optional_value().is_some() {
            return Err(CliError::UnexpectedValue {
                flag: format!("--{name}"),
            });
        } else {
            match name {
                "version" => return Ok(Command::Version),
                "help" => return Ok(Command::Help),
                _ => own.push((flag, String::new())),
            }
        }
    }
    command(args, &own, words)
}

/// Which command the words name.
fn command(mut args: ServeArgs, own: &[(&'static Flag, String)], words: Vec<OsString>) -> Result<Command, CliError> {
    let unexpected = |word: &OsString, meant| {
        Err(CliError::UnexpectedWord {
            word: word.to_string_lossy().into_owned(),
            meant,
        })
    };
    let name = words.first().and_then(|name| name.to_str());
    let entry = COMMANDS.iter().find(|entry| Some(entry.name) == name);
    if words.is_empty() || entry.is_some() {
        for (flag, _) in own {
            if entry.is_none_or(|entry| !flag.of.contains(&entry.name)) {
                return Err(of_another(flag));
            }
        }
    }
    let Some(name) = words.first() else {
        return Ok(Command::Serve(args));
    };
    let Some(entry) = entry else {
        return unexpected(
            name,
            suggest(&name.to_string_lossy(), COMMANDS.iter().map(|entry| entry.name)),
        );
    };
    if let Some(word) = words.get(1 + entry.words_max()) {
        return unexpected(word, None);
    }
    let words = &words[1..];
    match entry.name {
        "demo" => {
            args.tls = own.iter().any(|(flag, _)| flag.name == "tls");
            Ok(Command::Demo(args))
        }
        "man" => Ok(Command::Man),
        "completions" => {
            let shell = words.first().and_then(|shell| shell.to_str());
            let known = SHELLS.iter().find(|known| shell == Some(**known));
            known.map(|shell| Command::Completions(shell)).ok_or(CliError::Shell)
        }
        "check" => {
            args.strict = own.iter().any(|(flag, _)| flag.name == "strict");
            args.overrides.elsewhere = own.iter().any(|(flag, _)| flag.name == "elsewhere");
            match words {
                [] if args.config.is_some() => Ok(Command::Check(args)),
                [] => Err(CliError::CheckFile),
                [file, ..] if args.config.is_none() => {
                    args.config = Some(file.into());
                    Ok(Command::Check(args))
                }
                [word, ..] => unexpected(word, None),
            }
        }
        _ => {
            if words.len() < entry.words_min() {
                return Err(CliError::Words {
                    name: entry.name,
                    words: entry.words,
                });
            }
            let words = words.iter().map(|word| utf8(word.clone(), entry.name));
            Ok(Command::Operate(OperateArgs {
                entry,
                words: words.collect::<Result<_, _>>()?,
                flags: own.iter().map(|(flag, value)| (flag.name, value.clone())).collect(),
                serve: args,
            }))
        }
    }
}

fn of_another(flag: &'static Flag) -> CliError {
    let first = COMMANDS.iter().find(|entry| flag.of.contains(&entry.name));
    CliError::OfAnother {
        flag: flag.name,
        of: flag.of.join(", "),
        usage: first.map(Entry::usage).unwrap_or_default(),
    }
}

fn utf8(word: OsString, of: &str) -> Result<String, CliError> {
    word.into_string().map_err(|_| CliError::NotUtf8 {
        flag: if FLAGS.iter().any(|flag| flag.name == of) {
            format!("--{of}")
        } else {
            of.to_owned()
        },
    })
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
    for entry in COMMANDS {
        text.push_str(&format!("  ws2api {:<22} {}\n", entry.usage(), entry.what));
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
mod tests;
