//! Asks a running process for people on duty: who is connected, a push, a close, how it goes. Plays clients to a server.
//!
//! Each command is a thin client of the documented interfaces, and knows nothing of the process but what they say. A command is
//! a row in `cli/table.rs`, a file here, and a line in [`run`].

mod clients;
mod failure;
mod http;
mod interrupt;
mod json_text;
mod kick;
mod load;
mod place;
mod push;
mod reload;
mod replay;
mod screen;
mod session;
mod status;
mod tap;
mod target;
mod upgrade;

use std::process::ExitCode;

use crate::cli::OperateArgs;
use failure::Failure;
use session::Session;

/// Runs the command, and says in words on standard error why it could not do what it was asked.
#[must_use]
pub fn run(args: &OperateArgs) -> ExitCode {
    let mut session = Session::new(args);
    let result = match args.entry.name {
        "clients" => clients::run(&mut session),
        "kick" => kick::run(&mut session),
        "load" => load::run(&mut session),
        "push" => push::run(&mut session),
        "reload" => reload::run(&mut session),
        "replay" => replay::run(&mut session),
        "status" => status::run(&mut session),
        "tap" => tap::run(&mut session),
        "upgrade" => upgrade::run(&mut session),
        other => unreachable!("{other} is in the table of commands and not here"),
    };
    let result = result.and_then(|()| session.screen.flush().map_err(Failure::from));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(session.screen.is_json()),
    }
}
