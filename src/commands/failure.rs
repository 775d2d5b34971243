//! Names why a command could not do what it was asked, and the exit code that says so to scripts.

use std::io::{self, Write as _};
use std::process::ExitCode;

use protocol::ocpp::json;

/// Why a command has failed: in words, with what to do about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// Exit code 1: the process, or the client, says no.
    Refused(String),
    /// Exit code 2: the command line, or the configuration it names, can't be meant.
    Usage(String),
    /// Exit code 3: no process answers there, or the client is not connected to it.
    Nobody(String),
    /// Nobody reads what is printed any more, or it can't be written.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// Says it on standard error: in words, or as an object.
    pub(super) fn tell(&self, as_json: bool) -> ExitCode {
        let (code, words) = match self {
            Self::Refused(words) => (1, words.as_str()),
            Self::Usage(words) => (2, words.as_str()),
            Self::Nobody(words) => (3, words.as_str()),
            // `| head` has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Output(error) => (1, &*format!("standard output: {error}")),
        };
        let line = if as_json {
            format!(r#"{{"error":{},"exit":{code}}}"#, json::string(words))
        } else {
            format!("ws2api: {words}")
        };
        // Nobody is there to be told that it can't be told.
        let _ = writeln!(io::stderr(), "{line}");
        ExitCode::from(code)
    }
}
