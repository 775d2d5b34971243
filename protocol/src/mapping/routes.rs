//! Reads what a request at the ingress asks for.

use super::identity::hexadecimal;
use crate::http::RequestHead;
use crate::ocpp::{Action, ClientId, IdError, MessageId};

/// What a request asks for, read from its method and target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// `POST /call/<Action>/<ClientId>/<MessageId>`
    Push {
        /// The OCPP action that is pushed.
        action: Action,
        /// The client that gets the push.
        client: ClientId,
        /// The push's id, chosen by the backend.
        message_id: MessageId,
    },
    /// `POST /result/…` and `POST /error/…`: the answer to a deferred Call.
    Answer {
        /// The client that sent the Call.
        client: ClientId,
        /// The Call's action.
        action: Action,
        /// The Call's id, chosen by the client.
        message_id: MessageId,
        /// True for `/error`, false for `/result`.
        is_error: bool,
    },
    /// `GET /clients/<ClientId>`
    Describe(ClientId),
    /// `DELETE /clients/<ClientId>?code=&reason=`
    Close {
        /// The client whose connection is closed.
        client: ClientId,
        /// 1000, 1001, 1008 and 1011 to 1013, or 3000 to 4999 (RFC 6455, 7.4).
        code: u16,
        /// The close reason, at most 123 bytes.
        reason: String,
    },
    /// `GET /clients?after=&limit=`
    List {
        /// Where the last page ended.
        after: Option<After>,
        /// Clients on a page.
        limit: usize,
    },
    /// `GET /nodes`
    Nodes,
}

/// Where a page of clients ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum After {
    /// In the order in which a process has them.
    Slot(Cursor),
    /// In the order of names: with this client.
    Name(ClientId),
}

/// A place in the list of all clients of a process: a shard, and a slot in its registry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    /// The shard's index, from 0.
    pub shard: usize,
    /// The first slot of its registry that the next page looks at.
    pub slot: usize,
    /// How many takeovers there were before the process.
    pub generation: u32,
}

/// Why a request has no meaning here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RouteError {
    /// 404
    #[error("no such path")]
    Path,
    /// 405
    #[error("method not allowed")]
    Method {
        /// The methods of this path, as the `Allow` header lists them.
        allow: &'static str,
    },
    /// 400
    #[error("{part}: {error}")]
    Id {
        /// The path segment that is wrong, by its name.
        part: &'static str,
        /// What is wrong with it.
        error: IdError,
    },
    /// 400
    #[error("code is 1000, 1001, 1008, 1011, 1012, 1013, or 3000 to 4999")]
    CloseCode,
    /// 400
    #[error("reason is at most 123 bytes of percent-encoded UTF-8")]
    CloseReason,
    /// 400
    #[error("limit is 1 to 1000")]
    Limit,
    /// 400
    #[error("after is the `next` of the page before")]
    After,
}

/// Most clients on a page.
pub const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 100;
/// The longest close reason, in bytes.
pub const CLOSE_REASON_LEN_MAX: usize = 123;
const CLOSE_CODE_DEFAULT: u16 = 1000;

impl RouteError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Path => 404,
            Self::Method { .. } => 405,
            _ => 400,
        }
    }
}

/// Reads a request's target and method.
///
/// # Errors
/// [`RouteError`], with the status to answer.
pub fn route(head: &RequestHead<'_>) -> Result<Route, RouteError> {
    let (path, query) = head.target.split_once('?').unwrap_or((head.target, ""));
    let mut segments = [""; SEGMENTS_MAX + 1];
    let mut count = 0;
    // What is before the first slash is no segment.
    for (place, segment) in segments.iter_mut().zip(path.split('/').skip(1)) {
        *place = segment;
        count += 1;
    }
    match *segments.split_at(count).0 {
        ["call", action, client, message_id] => {
            allow(head, "POST")?;
            Ok(Route::Push {
                action: Action::from_percent_encoded(action).map_err(of_part("Action"))?,
                client: ClientId::from_percent_encoded(client).map_err(of_part("ClientId"))?,
                message_id: MessageId::from_percent_encoded(message_id).map_err(of_part("MessageId"))?,
            })
        }
        [kind @ ("result" | "error"), action, client, message_id] => {
            allow(head, "POST")?;
            Ok(Route::Answer {
                action: Action::from_percent_encoded(action).map_err(of_part("Action"))?,
                client: ClientId::from_percent_encoded(client).map_err(of_part("ClientId"))?,
                message_id: MessageId::from_percent_encoded(message_id).map_err(of_part("MessageId"))?,
                is_error: kind == "error",
            })
        }
        ["clients"] | ["clients", ""] => {
            allow(head, "GET, HEAD")?;
            list(query)
        }
        ["nodes"] => {
            allow(head, "GET, HEAD")?;
            Ok(Route::Nodes)
        }
        ["clients", client] => {
            allow(head, "GET, HEAD, DELETE")?;
            let client = ClientId::from_percent_encoded(client).map_err(of_part("ClientId"))?;
            if head.method == "DELETE" {
                close(client, query)
            } else {
                Ok(Route::Describe(client))
            }
        }
        _ => Err(RouteError::Path),
    }
}

impl After {
    /// As `next` has it: nothing of it is encoded in a URL.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Slot(cursor) => cursor.text(),
            Self::Name(client) => {
                let digits = client.as_str().bytes();
                let digits = digits.flat_map(|byte| hexadecimal(byte.into(), 2));
                std::iter::once(NAME).chain(digits).collect()
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let Some(digits) = text.strip_prefix(NAME) else {
            return Cursor::parse(text).map(Self::Slot);
        };
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = |pair: &[u8; 2]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
        let name: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let name = String::from_utf8(name.filter(|_| rest.is_empty())?).ok()?;
        ClientId::parse(&name).ok().map(Self::Name)
    }
}

impl Cursor {
    /// As `next` has it.
    #[must_use]
    pub fn text(self) -> String {
        let place = format!("{}.{}", self.shard, self.slot);
        match self.generation {
            0 => place,
            generation => format!("{place}.{generation}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (shard, slot) = text.split_once('.')?;
        let (slot, generation) = slot.split_once('.').unwrap_or((slot, "0"));
        Some(Self {
            shard: shard.parse().ok()?,
            slot: slot.parse().ok()?,
            generation: generation.parse().ok()?,
        })
    }
}

/// Whether a connection may be closed with this code on somebody's wish (RFC 6455, 7.4).
#[must_use]
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999)
}

fn allow(head: &RequestHead<'_>, methods: &'static str) -> Result<(), RouteError> {
    if head.method == methods || methods.split(", ").any(|method| method == head.method) {
        Ok(())
    } else {
        Err(RouteError::Method { allow: methods })
    }
}

fn of_part(part: &'static str) -> impl Fn(IdError) -> RouteError {
    move |error| RouteError::Id { part, error }
}

fn close(client: ClientId, query: &str) -> Result<Route, RouteError> {
    let code = match parameter(query, "code") {
        None => CLOSE_CODE_DEFAULT,
        Some(text) => text.parse().map_err(|_| RouteError::CloseCode)?,
    };
    if !is_close_code(code) {
        return Err(RouteError::CloseCode);
    }
    let reason = percent_encoding::percent_decode_str(parameter(query, "reason").unwrap_or(""))
        .decode_utf8()
        .map_err(|_| RouteError::CloseReason)?;
    if reason.len() > CLOSE_REASON_LEN_MAX {
        return Err(RouteError::CloseReason);
    }
    Ok(Route::Close {
        client,
        code,
        reason: reason.into_owned(),
    })
}

fn list(query: &str) -> Result<Route, RouteError> {
    let limit = match parameter(query, "limit") {
        None => PAGE_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or(RouteError::Limit)?,
    };
    let after = match parameter(query, "after") {
        None | Some("") => None,
        Some(text) => Some(After::parse(text).ok_or(RouteError::After)?),
    };
    Ok(Route::List { after, limit })
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        pair.split_once('=')
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
    })
}

const SEGMENTS_MAX: usize = 4;
/// Before the digits of a name.
const NAME: char = '~';

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_request;

    fn of(method: &str, target: &str) -> Result<Route, RouteError> {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        route(&parse_request(head.as_bytes(), 8192).unwrap().unwrap())
    }

    #[test]
    fn pushes_are_percent_decoded_part_by_part() {
        let Ok(Route::Push {
            action,
            client,
            message_id,
        }) = of("POST", "/call/Reset/CP%201%3A%C3%A9/m%2B1")
        else {
            panic!("a push");
        };
        assert_eq!(
            (action.as_str(), client.as_str(), message_id.as_str()),
            ("Reset", "CP 1:é", "m+1")
        );
    }

    #[test]
    fn other_paths_and_methods_have_their_status() {
        let cases = [
            ("GET", "/call/A/B/C", 405),
            ("POST", "/call/A/B", 404),
            ("POST", "/call/A/B/C/D", 404),
            ("POST", "/call/A//C", 400),
            ("POST", "/call/A/../C", 400),
            ("POST", "/call/A/%2e%2e/C", 400),
            ("POST", "/call/A/a%2Fb/C", 400),
            ("POST", "/call/A/a%5Cb/C", 400),
            ("POST", "/call/A/%00/C", 400),
            ("POST", "/call/A/%FF/C", 400),
            ("POST", "/call/A/%4/C", 400),
            ("GET", "/", 404),
            ("GET", "/Clients", 404),
            ("PUT", "/clients/x", 405),
            ("POST", "/clients", 405),
            ("HEAD", "/call/A/B/C", 405),
            ("DELETE", "/clients/x?code=999", 400),
            ("DELETE", "/clients/x?code=1005", 400),
            ("DELETE", "/clients/x?code=5000", 400),
            ("DELETE", "/clients/x?reason=%FF", 400),
            ("GET", "/clients?limit=0", 400),
            ("GET", "/clients?limit=1001", 400),
            ("GET", "/clients?after=x", 400),
            ("POST", "/nodes", 405),
        ];
        for (method, target, status) in cases {
            assert_eq!(of(method, target).unwrap_err().status(), status, "{method} {target}");
        }
    }

    #[test]
    fn a_list_goes_on_behind_a_name_which_stands_in_a_url_as_it_is() {
        for (name, text) in [("CP1", "~435031"), ("CP 1:é", "~435020313ac3a9")] {
            let after = After::Name(ClientId::parse(name).unwrap());
            assert_eq!(after.text(), text);
            let after = Some(after);
            assert_eq!(
                of("GET", &format!("/clients?after={text}&limit=3")),
                Ok(Route::List { after, limit: 3 })
            );
        }
        let too_long = format!("~{}", "41".repeat(129));
        for none in ["~", "~4", "~435", "~4g", "~2f", "~ff", "~2E", "~+1+1", &too_long] {
            assert_eq!(
                of("GET", &format!("/clients?after={none}")).unwrap_err(),
                RouteError::After,
                "{none}"
            );
        }
    }

    #[test]
    fn lists_and_closes_take_their_parameters_in_any_order() {
        for (text, generation) in [("3.17", 0), ("3.17.2", 2)] {
            let (shard, slot) = (3, 17);
            let cursor = Cursor {
                shard,
                slot,
                generation,
            };
            assert_eq!(cursor.text(), text);
            let after = Some(After::Slot(cursor));
            assert_eq!(
                of("GET", &format!("/clients?limit=7&after={text}")),
                Ok(Route::List { after, limit: 7 })
            );
        }
        assert_eq!(
            of("GET", "/clients"),
            Ok(Route::List {
                after: None,
                limit: PAGE_DEFAULT
            })
        );
        assert_eq!(of("HEAD", "/clients"), of("GET", "/clients"));
        assert_eq!(of("GET", "/nodes"), Ok(Route::Nodes));
        let client = ClientId::parse("x").unwrap();
        assert_eq!(of("HEAD", "/clients/x"), Ok(Route::Describe(client.clone())));
        let reason = "go away".to_owned();
        assert_eq!(
            of("DELETE", "/clients/x?reason=go%20away&code=4999"),
            Ok(Route::Close {
                client,
                code: 4999,
                reason
            })
        );
    }
}
