//! `ws2api upgrade`: a new process takes over, or everything is as before and the command says why.

use serde_json::Value;

use super::clients::{parsed, refused};
use super::failure::Failure;
use super::http::Ask;
use super::screen::Paint;
use super::session::Session;

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    // The process has `upgrade_timeout` for it, whatever that is there, and always answers.
    let admin = session.admin()?.with_timeout(None);
    let answer = admin.ask(Ask::post("/upgrade"))?;
    match answer.status {
        200 => {}
        409 | 500 => return Err(Failure::Refused(format!("no upgrade: {}", answer.why()))),
        _ => return Err(refused("no upgrade", &answer)),
    }
    if session.screen.is_json() {
        return Ok(session.screen.line(answer.body.trim())?);
    }
    let taken_over: Value = parsed(&answer)?;
    let (pid, version) = (&taken_over["pid"], taken_over["version"].as_str().unwrap_or_default());
    let words = format!("process {pid} ({version}) has taken over");
    session.screen.cells(&[(Paint::Good, words)])?;
    Ok(())
}
