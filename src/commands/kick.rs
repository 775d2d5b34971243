//! `ws2api kick ID [--code NUMBER] [--reason TEXT]`: closes a client's connection.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::clients::{client_id, not_connected, refused};
use super::failure::Failure;
use super::http::Ask;
use super::screen::Paint;
use super::session::Session;
use protocol::ocpp::json;

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    let id = session.word(0);
    let client = client_id(id)?;
    let code = session.args.flag("code").unwrap_or("1000");
    let number: u16 = code.parse().map_err(|_| {
        Failure::Usage(format!(
            "--code {code}: 1000, 1001, 1008, 1011 to 1013, or 3000 to 4999"
        ))
    })?;
    let reason = session.args.flag("reason").unwrap_or_default();
    let encoded = utf8_percent_encode(reason, NON_ALPHANUMERIC);
    let target = format!("/clients/{}?code={number}&reason={encoded}", client.encoded());
    let answer = session.ingress()?.ask(Ask {
        method: "DELETE",
        ..Ask::get(&target)
    })?;
    match answer.status {
        200..=299 if session.screen.is_json() => {
            let (id, reason) = (json::string(id), json::string(reason));
            let line = format!(r#"{{"clientId":{id},"closed":true,"code":{number},"reason":{reason}}}"#);
            Ok(session.screen.line(&line)?)
        }
        200..=299 => Ok(session.screen.cells(&[
            (Paint::Name, id.to_owned()),
            (
                Paint::Plain,
                format!("is closed with {number}; most chargers come back at once"),
            ),
        ])?),
        404 => Err(not_connected(id)),
        // What the flags say is wrong there.
        400 => Err(Failure::Usage(answer.why())),
        _ => Err(refused(id, &answer)),
    }
}
