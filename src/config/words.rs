//! Checks texts that go into HTTP heads or are compared with them: paths, names of headers, subprotocols and hosts,
//! origins.

use super::authority::HOST_LEN_MAX;
use protocol::http::is_token;

/// Why a text is none of these.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WordError {
    /// Not an RFC 9110 token.
    #[error("not a name; one or more of letters, digits and !#$%&'*+-.^_`|~ are allowed")]
    Token,
    /// A header that ws2api writes itself.
    #[error("ws2api writes this header itself and does not pass the client's")]
    OwnHeader,
    /// Not a path that requests can begin with.
    #[error("a path begins with / and holds letters, digits and -._~!$&'()*+,;=:@ without . or .. segments")]
    Path,
    /// Not what a browser writes into `Origin`.
    #[error("the value of an Origin header is visible ASCII without commas; leave the list empty for any")]
    Origin,
    /// Not what a browser writes into `Host`.
    #[error("a host name is letters, digits and -._, as it stands in a URL, without scheme and port")]
    Host,
    /// Not what can stand in a `User-Agent`.
    #[error("a part of a User-Agent is visible ASCII, with spaces inside")]
    UserAgent,
    /// Not the name of a member.
    #[error("the name of a member has 1 to {TOKEN_LEN_MAX} bytes, no control character and no comma")]
    Member,
}

/// The name of a subprotocol, as it is, or `alias=name`.
pub(super) fn subprotocol(text: &str) -> Result<String, WordError> {
    let (alias, name) = text.split_once('=').unwrap_or((text, text));
    if is_name(alias) && is_name(name) {
        Ok(text.to_owned())
    } else {
        Err(WordError::Token)
    }
}

/// The name of a header in lower case.
pub(super) fn header(text: &str) -> Result<String, WordError> {
    if !is_name(text) {
        return Err(WordError::Token);
    }
    let name = text.to_ascii_lowercase();
    if OWN_HEADERS.contains(&name.as_str()) || name.starts_with("sec-websocket-") {
        return Err(WordError::OwnHeader);
    }
    Ok(name)
}

/// A path that ends with a slash.
pub(super) fn path_prefix(text: &str) -> Result<String, WordError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&b);
    let dots = text.split('/').any(|segment| matches!(segment, "." | ".."));
    if !text.starts_with('/') || text.contains("//") || text.len() > PATH_LEN_MAX || dots || !text.bytes().all(allowed)
    {
        return Err(WordError::Path);
    }
    Ok(if text.ends_with('/') {
        text.to_owned()
    } else {
        format!("{text}/")
    })
}

/// A value that a client writes into `Origin`: a page's scheme, host and port (RFC 6454, 6.2), `null`, or what firmware
/// puts there.
pub(super) fn origin(text: &str) -> Result<String, WordError> {
    let is_good = !text.is_empty() && text.len() <= ORIGIN_LEN_MAX;
    if is_good && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
        Ok(text.to_owned())
    } else {
        Err(WordError::Origin)
    }
}

/// The name of a host in lower case, without the dot that may end it.
pub(super) fn host(text: &str) -> Result<String, WordError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_good = !name.is_empty() && name.len() <= HOST_LEN_MAX && !name.split('.').any(str::is_empty);
    if is_good && name.bytes().all(allowed) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(WordError::Host)
    }
}

/// A part of a `User-Agent`: the name of a stack, with its version or without.
pub(super) fn user_agent(text: &str) -> Result<String, WordError> {
    let is_good = !text.is_empty() && text.len() <= TOKEN_LEN_MAX && text.trim() == text;
    if is_good && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        Ok(text.to_owned())
    } else {
        Err(WordError::UserAgent)
    }
}

/// The name of a member of a JSON object.
pub(super) fn member(text: &str) -> Result<String, WordError> {
    let is_good = !text.is_empty() && text.len() <= TOKEN_LEN_MAX && text.trim() == text;
    if is_good && !text.contains(|character: char| character.is_control() || character == ',') {
        Ok(text.to_owned())
    } else {
        Err(WordError::Member)
    }
}

/// Whether a node may be called that, in a header and elsewhere. Nothing: it is called as its host.
pub(super) fn is_node_name(text: &str) -> bool {
    text.len() <= NODE_NAME_LEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A token of a length that a header can carry.
fn is_name(text: &str) -> bool {
    text.len() <= TOKEN_LEN_MAX && is_token(text.as_bytes())
}

const TOKEN_LEN_MAX: usize = 128;
const NODE_NAME_LEN_MAX: usize = 64;
const PATH_LEN_MAX: usize = 256;
const ORIGIN_LEN_MAX: usize = 512;

/// Headers that say something about the connection to the backend or about who queries: a client's copy would lie.
const OWN_HEADERS: [&str; 25] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-client-cert-cn",
    "x-client-cert-verified",
    "x-client-id",
    "x-connection-id",
    "x-forwarded-for",
    "x-node",
    "x-origin",
    "x-query",
    "x-subprotocol",
    "x-tls-cipher",
    "x-tls-version",
    "x-deferred",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_lower_case_and_never_ours() {
        assert_eq!(header("X-SSL-Client-CN"), Ok("x-ssl-client-cn".to_owned()));
        for own in [
            "X-Client-Id",
            "host",
            "Transfer-Encoding",
            "Sec-WebSocket-Key",
            "X-Forwarded-For",
            "X-Tls-Version",
            "X-Tls-Cipher",
            "X-Client-Cert-CN",
            "X-Client-Cert-Verified",
        ] {
            assert_eq!(header(own), Err(WordError::OwnHeader), "{own}");
        }
        for bad in ["", "a b", "a:", "ä", "a\r\nb", &"x".repeat(TOKEN_LEN_MAX + 1)] {
            assert_eq!(header(bad), Err(WordError::Token), "{bad:?}");
        }
        assert!(header(&"x".repeat(TOKEN_LEN_MAX)).is_ok());
    }

    #[test]
    fn a_path_prefix_ends_with_a_slash() {
        assert_eq!(path_prefix("/"), Ok("/".to_owned()));
        assert_eq!(path_prefix("/ocpp"), Ok("/ocpp/".to_owned()));
        assert_eq!(path_prefix("/ocpp/v1/"), Ok("/ocpp/v1/".to_owned()));
        for bad in [
            "",
            "ocpp",
            "/a//b",
            "/a/../b",
            "/a?b",
            "/a%20",
            "/a b",
            &"/x".repeat(PATH_LEN_MAX),
        ] {
            assert_eq!(path_prefix(bad), Err(WordError::Path), "{bad:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_without_scheme_and_port() {
        assert_eq!(host("Admin.Example.Org."), Ok("admin.example.org".to_owned()));
        assert_eq!(host("a_b"), Ok("a_b".to_owned()));
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "a:1",
            "http://a",
            "a/b",
            "a b",
            "*.a",
            "ä.example",
            &"x".repeat(HOST_LEN_MAX + 1),
        ] {
            assert_eq!(host(bad), Err(WordError::Host), "{bad:?}");
        }
    }

    #[test]
    fn a_part_of_a_user_agent_is_visible_ascii() {
        for good in ["Java-WebSocket/1.5.2", "okhttp", "Mozilla/5.0 (X11)"] {
            assert_eq!(user_agent(good), Ok(good.to_owned()));
        }
        for bad in ["", " ", " a", "a\tb", "a\r\nb", "é", &"x".repeat(TOKEN_LEN_MAX + 1)] {
            assert_eq!(user_agent(bad), Err(WordError::UserAgent), "{bad:?}");
        }
    }

    #[test]
    fn a_member_has_any_name_that_a_list_can_hold() {
        for good in ["idTag", "id token", "größe", "a\"b"] {
            assert_eq!(member(good), Ok(good.to_owned()));
        }
        for bad in ["", " ", " a", "a,b", "a\nb", &"x".repeat(TOKEN_LEN_MAX + 1)] {
            assert_eq!(member(bad), Err(WordError::Member), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_is_visible_ascii() {
        for good in [
            "https://example.org",
            "http://localhost:8080",
            "https://[::1]:8443",
            "null",
            "moz-extension://a-b",
            "file://",
            "https://Example.org/page",
            "*",
        ] {
            assert_eq!(origin(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "https://a b",
            "https://a,https://b",
            "https://é",
            "a\r\nb",
            &"x".repeat(ORIGIN_LEN_MAX + 1),
        ] {
            assert_eq!(origin(bad), Err(WordError::Origin), "{bad:?}");
        }
    }
}
