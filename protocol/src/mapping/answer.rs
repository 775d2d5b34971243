//! Turns the backend's answer to a Call into what the client gets (docs/contract.md, `answer-1` on).

use std::borrow::Cow;

use crate::http::Failure;
use crate::ocpp::json::{self, JsonError};
use crate::ocpp::subprotocol::Subprotocol;

/// The longest errorDescription, in characters (OCPP-J, 4.2.3).
pub const DESCRIPTION_CHARACTERS_MAX: usize = 255;
/// The longest errorCode, in characters (OCPP-J, 4.2.3). A backend's longer one is no code.
pub const CODE_CHARACTERS_MAX: usize = 50;

/// What became of one `POST /call/…`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer<'a> {
    /// The backend answered.
    Response {
        /// The status code.
        status: u16,
        /// Whether it said `X-Deferred: 1`.
        deferred: bool,
        /// The whole content, decoded from any transfer coding.
        content: &'a [u8],
    },
    /// The backend did not answer, for this reason.
    Failed(Failure),
}

/// What the client gets. All fields are JSON text, ready to be put into a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// A CallResult with this payload: one JSON value.
    Result(&'a str),
    /// The client gets a CallError.
    Error {
        /// A JSON string, quotes included.
        code: Cow<'a, str>,
        /// A JSON string, quotes included; at most [`DESCRIPTION_CHARACTERS_MAX`] characters.
        description: Cow<'a, str>,
        /// The error's details, a JSON object.
        details: &'a str,
    },
    /// Nothing yet: the backend answers later at the ingress.
    Deferred,
}

/// Maps the backend's answer. `depth_max` bounds the content's nesting.
pub fn map<'a>(answer: Answer<'a>, subprotocol: Subprotocol, depth_max: usize) -> Reply<'a> {
    match answer {
        Answer::Failed(failure) => Reply::error("InternalError", failure.description()),
        Answer::Response {
            status: 202,
            deferred: true,
            ..
        } => Reply::Deferred,
        Answer::Response { status: 204, .. } => Reply::Result("{}"),
        Answer::Response {
            status: 200..300,
            content,
            ..
        } => Reply::from_result(content, depth_max)
            .unwrap_or_else(|_| Reply::error("InternalError", "the backend's answer is not JSON")),
        Answer::Response { status, content, .. } => {
            if status >= 400
                && let Ok(reply) = Reply::from_error(content, depth_max)
            {
                return reply;
            }
            let code = match status {
                400 => subprotocol.format_violation(),
                422 => "PropertyConstraintViolation",
                401 | 403 => "SecurityError",
                404 | 501 => "NotImplemented",
                405 => "NotSupported",
                _ => "InternalError",
            };
            Reply::error(code, &format!("the backend answered {status}"))
        }
    }
}

/// Why a body is not `{"code":…}`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ErrorBodyError {
    /// The body is not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Not an object that has a `code` of 1 to [`CODE_CHARACTERS_MAX`] characters.
    #[error("no object with a code of 1 to 50 characters")]
    Code,
}

impl<'a> Reply<'a> {
    /// A CallResult with the JSON value in `content`; white space around it is left off. Nothing, `null` and `[]`
    /// (PHP's empty array) become `{}`.
    ///
    /// # Errors
    /// [`JsonError`] when it is not one JSON value.
    pub fn from_result(content: &'a [u8], depth_max: usize) -> Result<Self, JsonError> {
        let value = json::trim(json::without_mark(json::utf8(content)?));
        if matches!(value, "" | "null" | "[]") {
            return Ok(Self::Result("{}"));
        }
        json::check_text(value, depth_max)?;
        let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if inner.is_some_and(|inner| json::trim(inner).is_empty()) {
            return Ok(Self::Result("{}"));
        }
        Ok(Self::Result(value))
    }

    /// A CallError from `{"code":…,"description":…,"details":{…}}`. The code must be there; a description that is no
    /// string counts as empty, a long one is cut; details that are no object count as `{}`. A repeated member: the
    /// last wins.
    ///
    /// # Errors
    /// [`ErrorBodyError`] when it is not JSON, not an object, or has no usable code.
    pub fn from_error(content: &'a [u8], depth_max: usize) -> Result<Self, ErrorBodyError> {
        let text = json::without_mark(json::utf8(content)?);
        json::check_text(text, depth_max)?;
        let [code, description, details] =
            json::members(text, ["code", "description", "details"]).ok_or(ErrorBodyError::Code)?;
        let code = code.ok_or(ErrorBodyError::Code)?;
        let decoded = json::unescape_string(code).map_err(|_| ErrorBodyError::Code)?;
        if decoded.is_empty() || decoded.chars().nth(CODE_CHARACTERS_MAX).is_some() {
            return Err(ErrorBodyError::Code);
        }
        Ok(Self::Error {
            code: Cow::Borrowed(code),
            description: description.map_or(Cow::Borrowed("\"\""), cut),
            details: details.filter(|details| json::is_object(details)).unwrap_or("{}"),
        })
    }

    /// A CallError of our own, with empty details.
    pub fn error(code: &str, description: &str) -> Self {
        let description = Cow::Owned(json::string(description));
        Self::Error {
            code: Cow::Owned(json::string(code)),
            description,
            details: "{}",
        }
    }
}

/// The description as it is, or cut at a character's boundary; `""` if it is no string.
fn cut(raw: &str) -> Cow<'_, str> {
    if !json::is_string(raw) {
        return Cow::Borrowed("\"\"");
    }
    if raw.len() <= DESCRIPTION_CHARACTERS_MAX + 2 {
        return Cow::Borrowed(raw);
    }
    let text = json::unescape_string_lossy(raw).unwrap_or_default();
    let cut = text.char_indices().nth(DESCRIPTION_CHARACTERS_MAX);
    match cut.and_then(|(end, _)| text.get(..end)) {
        None => Cow::Borrowed(raw),
        Some(cut) => Cow::Owned(json::string(cut)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPTH: usize = 8;

    fn mapped(status: u16, content: &str) -> String {
        mapped_for(Subprotocol::Ocpp201, status, content)
    }

    /// The reply as the part of a frame behind the id.
    fn mapped_for(subprotocol: Subprotocol, status: u16, content: &str) -> String {
        shown(&map(
            Answer::Response {
                status,
                deferred: false,
                content: content.as_bytes(),
            },
            subprotocol,
            DEPTH,
        ))
    }

    fn shown(reply: &Reply<'_>) -> String {
        match reply {
            Reply::Result(payload) => format!("3,{payload}"),
            Reply::Error {
                code,
                description,
                details,
            } => format!("4,{code},{description},{details}"),
            Reply::Deferred => "deferred".to_owned(),
        }
    }

    #[test]
    fn a_json_value_becomes_the_call_result_byte_for_byte() {
        let contents = [
            r#"{"a":1}"#,
            r#"{ "b" : 1e999 , "b":"\ud800" }"#,
            "[1]",
            "[[]]",
            "0",
            "\"\"",
            "true",
            "{}",
            "[ 0 ]",
            "12345678901234567890123456789012345678901234567890123456789012345",
            "\"null\"",
            "[null]",
            "{\"\":[]}",
        ];
        for content in contents {
            for status in [200, 201, 202, 206, 299] {
                assert_eq!(mapped(status, content), format!("3,{content}"));
                assert_eq!(mapped(status, &format!(" \r\n\t{content}\n")), format!("3,{content}"));
            }
        }
    }

    #[test]
    fn nothing_null_and_the_empty_array_of_php_become_an_empty_object() {
        for content in ["", " \n", "null", " null\n", "[]", "[ ]", "\n[\n]\n"] {
            assert_eq!(mapped(200, content), "3,{}", "{content:?}");
        }
        assert_eq!(mapped(204, ""), "3,{}");
        assert_eq!(mapped(204, "surplus"), "3,{}");
    }

    #[test]
    fn what_is_not_json_becomes_an_internal_error() {
        let expected = r#"4,"InternalError","the backend's answer is not JSON",{}"#;
        for content in [
            "<html>",
            "{",
            "{}{}",
            "nul",
            "ok",
            "\"\\u12\"",
            "[1,]",
            "[[[[[[[[[]]]]]]]]]",
            "\u{feff}\u{feff}{}",
        ] {
            assert_eq!(mapped(200, content), expected, "{content}");
        }
        let not_utf8 = Answer::Response {
            status: 200,
            deferred: false,
            content: b"\"\xff\"",
        };
        assert_eq!(shown(&map(not_utf8, Subprotocol::None, DEPTH)), expected);
        assert_eq!(
            mapped(200, "[[[[[[[[]]]]]]]]"),
            "3,[[[[[[[[]]]]]]]]",
            "at the limit of depth"
        );
    }

    #[test]
    fn each_status_has_its_error_code() {
        for (status, code) in [
            (300, "InternalError"),
            (302, "InternalError"),
            (304, "InternalError"),
            (400, "FormatViolation"),
            (401, "SecurityError"),
            (402, "InternalError"),
            (403, "SecurityError"),
            (404, "NotImplemented"),
            (405, "NotSupported"),
            (409, "InternalError"),
            (413, "InternalError"),
            (422, "PropertyConstraintViolation"),
            (429, "InternalError"),
            (500, "InternalError"),
            (501, "NotImplemented"),
            (502, "InternalError"),
            (503, "InternalError"),
            (504, "InternalError"),
            (599, "InternalError"),
            (199, "InternalError"),
        ] {
            for content in [
                "",
                "<h1>oops</h1>",
                "{\"message\":\"oops\"}",
                "[]",
                "{\"code\":404}",
                "{\"code\":\"\"}",
                "{\"code\":null}",
            ] {
                let expected = format!("4,\"{code}\",\"the backend answered {status}\",{{}}");
                assert_eq!(mapped(status, content), expected);
            }
        }
        assert!(mapped_for(Subprotocol::Ocpp16, 400, "").starts_with("4,\"FormationViolation\""));
        assert!(mapped_for(Subprotocol::None, 400, "").starts_with("4,\"FormatViolation\""));
    }

    #[test]
    fn an_error_object_of_the_backend_is_passed_on() {
        for (content, expected) in [
            (r#"{"code":"X"}"#, r#"4,"X","",{}"#),
            (
                r#"{"code":"X","description":"d\u00e9\"","details":{"a": 1e999}}"#,
                r#"4,"X","d\u00e9\"",{"a": 1e999}"#,
            ),
            (
                r#" {"details" : [1], "description" : 5, "code" : "Y" } "#,
                r#"4,"Y","",{}"#,
            ),
            (r#"{"code":"X","description":null,"details":null}"#, r#"4,"X","",{}"#),
            (r#"{"code":"A","code":"B"}"#, r#"4,"B","",{}"#),
            (r#"{"c\u006fde":"A"}"#, r#"4,"A","",{}"#),
            (
                r#"{"a":{"code":"no"},"b":"\"code\":","code":"A","description":"\ud800"}"#,
                r#"4,"A","\ud800",{}"#,
            ),
        ] {
            for status in [400, 404, 429, 500, 503] {
                assert_eq!(mapped(status, content), expected);
            }
        }
        let code = |len: usize| format!("{{\"code\":\"{}\"}}", "ä".repeat(len));
        assert!(mapped(500, &code(50)).starts_with("4,\"ää"));
        assert!(mapped(500, &code(51)).starts_with("4,\"InternalError\""));
        assert!(
            mapped(500, r#"{"code":"\ud800"}"#).starts_with("4,\"InternalError\""),
            "a code is text"
        );
        assert!(
            mapped(302, r#"{"code":"X"}"#).starts_with("4,\"InternalError\""),
            "a redirect is not the backend's word"
        );
        assert_eq!(mapped(200, r#"{"code":"X"}"#), r#"3,{"code":"X"}"#);
    }

    #[test]
    fn a_description_is_cut_at_255_characters_and_never_inside_one() {
        let cut = |text: &str| {
            let content = format!("{{\"code\":\"X\",\"description\":\"{text}\"}}");
            let shown = mapped(400, &content);
            shown
                .strip_prefix("4,\"X\",")
                .and_then(|rest| rest.strip_suffix(",{}"))
                .expect("the code")
                .to_owned()
        };
        for one in ["x", "ä", "😀", "\\n", "\\u0041", "\\ud83d\\ude00"] {
            let expected = format!("\"{}\"", one.repeat(255));
            assert_eq!(
                cut(&one.repeat(255)),
                expected,
                "at the limit the bytes are the backend's"
            );
            let text = |raw: &str| serde_json::from_str::<String>(raw).expect("a string");
            let above = cut(&one.repeat(256));
            assert_eq!(text(&above), text(&expected), "one above");
            assert_eq!(text(&cut(&one.repeat(5_000))), text(&expected));
        }
        assert_eq!(cut(&"\\ud800".repeat(300)), format!("\"{}\"", "\u{fffd}".repeat(255)));
        assert_eq!(
            cut(&"\\\"".repeat(300)),
            format!("\"{}\"", "\\\"".repeat(255)),
            "escaped again"
        );
    }

    #[test]
    fn a_failure_is_an_internal_error_that_says_why() {
        let failures = [
            Failure::Refused,
            Failure::CutOff,
            Failure::Malformed,
            Failure::TooLarge,
            Failure::Deadline,
            Failure::Overloaded,
            Failure::Shutdown,
        ];
        let mut seen = std::collections::HashSet::new();
        for failure in failures {
            let reply = shown(&map(Answer::Failed(failure), Subprotocol::Ocpp16, DEPTH));
            assert_eq!(reply, format!("4,\"InternalError\",\"{}\",{{}}", failure.description()));
            assert!(seen.insert(failure.description()));
        }
    }

    #[test]
    fn only_a_202_can_be_deferred() {
        let answer = |status| Answer::Response {
            status,
            deferred: true,
            content: b"{\"a\":1}",
        };
        assert_eq!(map(answer(202), Subprotocol::None, DEPTH), Reply::Deferred);
        assert_eq!(shown(&map(answer(200), Subprotocol::None, DEPTH)), "3,{\"a\":1}");
        assert_eq!(mapped(202, "{\"a\":1}"), "3,{\"a\":1}");
    }

    #[test]
    fn a_body_at_the_ingress_is_refused_where_it_is_no_answer() {
        assert_eq!(Reply::from_result(b"{", DEPTH), Err(JsonError::Syntax));
        assert_eq!(
            Reply::from_error(b"{", DEPTH),
            Err(ErrorBodyError::Json(JsonError::Syntax))
        );
        for body in ["{}", "[]", "5", "{\"code\":5}", "{\"code\":\"\"}"] {
            assert_eq!(
                Reply::from_error(body.as_bytes(), DEPTH),
                Err(ErrorBodyError::Code),
                "{body}"
            );
        }
    }
}
