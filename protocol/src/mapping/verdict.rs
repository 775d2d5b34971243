//! Turns the backend's answer to `/connect` into what the client gets (docs/contract.md, `upgrade-15` to `upgrade-18`).

use crate::http::{Failure, ResponseHead};

/// The backend's verdict on a new connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admission {
    /// The backend answered `"ok"`: the client comes in.
    Admitted,
    /// The status for the client, and headers that pass through.
    Denied {
        /// 401, 403, 404, 429 or 503.
        status: u16,
        /// `WWW-Authenticate` and `Retry-After`.
        headers: Vec<(&'static str, String)>,
    },
    /// The backend gave no verdict: 502, 503 or 504.
    Unanswered {
        /// The status of the client's answer.
        status: u16,
    },
}

impl Admission {
    /// What a whole answer says.
    #[must_use]
    pub fn from_response(head: &ResponseHead<'_>, content: &[u8]) -> Self {
        let status = match head.status {
            // It had no worker for it.
            500.. if head.header("no-workers").is_some() => return Self::Unanswered { status: 503 },
            200..300 if is_ok(content) => return Self::Admitted,
            200..300 => 403,
            status @ (401 | 403 | 404 | 429 | 503) => status,
            400..500 => 403,
            _ => return Self::Unanswered { status: 502 },
        };
        let passing = [("WWW-Authenticate", "www-authenticate"), ("Retry-After", "retry-after")];
        let headers = passing.into_iter().flat_map(|(name, key)| {
            head.headers(key)
                .filter_map(move |value| Some((name, str::from_utf8(value).ok()?.to_owned())))
        });
        Self::Denied {
            status,
            headers: headers.collect(),
        }
    }

    /// What it means that there is none.
    #[must_use]
    pub fn from_failure(failure: Failure) -> Self {
        let status = match failure {
            Failure::Deadline => 504,
            Failure::Overloaded | Failure::Shutdown => 503,
            Failure::Refused | Failure::CutOff | Failure::Malformed | Failure::TooLarge => 502,
        };
        Self::Unanswered { status }
    }
}

/// The JSON string `"ok"`, behind a byte order mark or not.
fn is_ok(content: &[u8]) -> bool {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    content.trim_ascii() == b"\"ok\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_response;

    fn of(head: &str, content: &str) -> Admission {
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
        let head = parse_response(head.as_bytes(), 8192).unwrap().unwrap();
        Admission::from_response(&head, content.as_bytes())
    }

    fn status(admission: Admission) -> u16 {
        match admission {
            Admission::Admitted => 101,
            Admission::Denied { status, .. } | Admission::Unanswered { status } => status,
        }
    }

    #[test]
    fn each_answer_has_its_status() {
        for (head, content, expected) in [
            ("200 OK", " \"ok\"\n", 101),
            ("204 No Content", "\"ok\"", 101),
            ("200 OK", "\u{feff}\"ok\"", 101),
            ("200 OK", "ok", 403),
            ("200 OK", "", 403),
            ("302 Found", "\"ok\"", 502),
            ("401 Unauthorized", "\"ok\"", 401),
            ("402 Payment Required", "", 403),
            ("403 Forbidden", "", 403),
            ("404 Not Found", "", 404),
            ("418 I'm a teapot", "", 403),
            ("429 Too Many Requests", "", 429),
            ("500 Internal Server Error", "\"ok\"", 502),
            ("503 Service Unavailable", "", 503),
        ] {
            assert_eq!(status(of(head, content)), expected, "{head} {content}");
        }
    }

    #[test]
    fn two_headers_pass_and_no_others() {
        let admission = of(
            "401 Unauthorized\r\nwww-authenticate: Basic\r\nX-Secret: 1\r\nRetry-After: 7",
            "",
        );
        let expected = [("WWW-Authenticate", "Basic"), ("Retry-After", "7")];
        let Admission::Denied { headers, .. } = admission else {
            panic!("denied")
        };
        assert_eq!(headers, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn each_failure_has_its_status() {
        for (failure, expected) in [
            (Failure::Refused, 502),
            (Failure::CutOff, 502),
            (Failure::Malformed, 502),
            (Failure::TooLarge, 502),
            (Failure::Deadline, 504),
            (Failure::Overloaded, 503),
            (Failure::Shutdown, 503),
        ] {
            assert_eq!(status(Admission::from_failure(failure)), expected, "{failure:?}");
        }
    }
}
