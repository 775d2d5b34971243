//! Parses the URL of a backend: where it listens, and the path that its API begins with.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::authority::{self, AuthorityError};

/// One address of the backend. `prefix` is empty, or begins with `/` and does not end with one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BackendUrl {
    /// `http://host:port[/prefix]` or `https://host:port[/prefix]`
    Tcp {
        /// Over TLS.
        is_tls: bool,
        /// A DNS name, an IPv4 address, or an IPv6 address without its brackets.
        host: String,
        /// 1 to 65535; 80, or 443 over TLS, if the URL names none.
        port: u16,
        /// What request paths begin with.
        prefix: String,
    },
    /// `unix:/path[:/prefix]`
    Unix {
        /// The socket's path in the file system.
        path: PathBuf,
        /// What request paths begin with.
        prefix: String,
    },
}

impl BackendUrl {
    /// The value of the `Host` header: `host:port`, with IPv6 in brackets; `localhost` over a Unix socket.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            BackendUrl::Tcp { host, port, .. } => authority::join(host, *port),
            BackendUrl::Unix { .. } => "localhost".to_owned(),
        }
    }

    /// Whether requests travel over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, BackendUrl::Tcp { is_tls: true, .. })
    }

    /// What request paths begin with; `""` or `/prefix`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            BackendUrl::Tcp { prefix, .. } | BackendUrl::Unix { prefix, .. } => prefix,
        }
    }
}

/// As it would be written in the config.
impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendUrl::Tcp { is_tls, prefix, .. } => {
                let scheme = if *is_tls { "https" } else { "http" };
                write!(f, "{scheme}://{}{prefix}", self.authority())
            }
            BackendUrl::Unix { path, prefix } if prefix.is_empty() => write!(f, "unix:{}", path.display()),
            BackendUrl::Unix { path, prefix } => write!(f, "unix:{}:{prefix}", path.display()),
        }
    }
}

/// Why a text is not the URL of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BackendUrlError {
    /// Neither `http://` nor `https://` nor `unix:/`.
    #[error("not a backend; write it as http[s]://host:port[/prefix] or unix:/path")]
    Scheme,
    /// `user:password@`, `?query` or `#fragment`.
    #[error("only a host, a port and a prefix may follow http:// or https://; no user, query or fragment")]
    Parts,
    /// Empty, or with a character that no host has.
    #[error("the host is a name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is a number from 1 to 65535")]
    Port,
    /// A character that a path cannot hold, or a `.` or `..` segment.
    #[error("the prefix is a path such as /api: letters, digits and -._~!$&'()*+,;=:@% and no . or .. segment")]
    Prefix,
    /// The path of a Unix socket is too long for the kernel, or holds a NUL.
    #[error("the path of a Unix socket has 1 to {SOCKET_PATH_LEN_MAX} bytes and begins with /")]
    SocketPath,
}

impl FromStr for BackendUrl {
    type Err = BackendUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("unix:") {
            let (path, prefix) = match rest.find(":/") {
                Some(colon) => (rest.split_at(colon).0, rest.split_at(colon + 1).1),
                None => (rest, ""),
            };
            let path = path
                .strip_prefix("//")
                .filter(|path| path.starts_with('/'))
                .unwrap_or(path);
            if !path.starts_with('/') || !(2..=SOCKET_PATH_LEN_MAX).contains(&path.len()) || path.contains('\0') {
                return Err(BackendUrlError::SocketPath);
            }
            return Ok(BackendUrl::Unix {
                path: path.into(),
                prefix: prefix_from(prefix)?,
            });
        }
        let (is_tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            (None, None) => return Err(BackendUrlError::Scheme),
        };
        if rest.contains(['?', '#', '@']) {
            return Err(BackendUrlError::Parts);
        }
        let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = authority::split(authority).map_err(|error| match error {
            AuthorityError::Host => BackendUrlError::Host,
            AuthorityError::Port => BackendUrlError::Port,
        })?;
        Ok(BackendUrl::Tcp {
            is_tls,
            host: host.to_owned(),
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
            prefix: prefix_from(prefix)?,
        })
    }
}

/// A path without its last slash; it goes into request lines as it is.
fn prefix_from(path: &str) -> Result<String, BackendUrlError> {
    let prefix = path.strip_suffix('/').unwrap_or(path);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
    if !prefix.bytes().all(allowed) || prefix.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(BackendUrlError::Prefix);
    }
    Ok(prefix.to_owned())
}

/// `sun_path` has 108 bytes with its NUL (unix(7)).
const SOCKET_PATH_LEN_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, prefix: &str) -> BackendUrl {
        BackendUrl::Tcp {
            is_tls: false,
            host: host.into(),
            port,
            prefix: prefix.into(),
        }
    }

    #[test]
    fn a_url_is_read_and_written_the_same() {
        let unix = |path: &str, prefix: &str| BackendUrl::Unix {
            path: path.into(),
            prefix: prefix.into(),
        };
        let cases = [
            ("http://127.0.0.1:5000", tcp("127.0.0.1", 5000, ""), "127.0.0.1:5000"),
            (
                "http://[2001:db8::1]:5000/api",
                tcp("2001:db8::1", 5000, "/api"),
                "[2001:db8::1]:5000",
            ),
            (
                "http://backend.internal:65535/a/b%20c",
                tcp("backend.internal", 65535, "/a/b%20c"),
                "backend.internal:65535",
            ),
            (
                "https://backend.internal:8443/api",
                BackendUrl::Tcp {
                    is_tls: true,
                    host: "backend.internal".into(),
                    port: 8443,
                    prefix: "/api".into(),
                },
                "backend.internal:8443",
            ),
            ("unix:/run/api.sock", unix("/run/api.sock", ""), "localhost"),
            ("unix:/run/api.sock:/v1", unix("/run/api.sock", "/v1"), "localhost"),
        ];
        for (text, url, authority) in cases {
            assert_eq!(text.parse(), Ok(url.clone()), "{text}");
            assert_eq!(url.to_string(), text);
            assert_eq!(url.authority(), authority);
            assert_eq!(url.is_tls(), text.starts_with("https:"));
        }
    }

    #[test]
    fn what_means_the_same_is_made_the_same() {
        let cases = [
            ("http://backend", "http://backend:80"),
            ("http://backend/", "http://backend:80"),
            ("https://backend", "https://backend:443"),
            ("https://[::1]/", "https://[::1]:443"),
            ("http://backend:80/api/", "http://backend:80/api"),
            ("unix:///run/api.sock", "unix:/run/api.sock"),
            ("unix:/run/api.sock:/", "unix:/run/api.sock"),
        ];
        for (text, same) in cases {
            assert_eq!(text.parse::<BackendUrl>().expect(text).to_string(), same);
        }
    }

    #[test]
    fn what_is_no_backend_is_refused() {
        let long = format!("unix:/{}", "x".repeat(SOCKET_PATH_LEN_MAX));
        let cases = [
            ("", BackendUrlError::Scheme),
            ("127.0.0.1:5000", BackendUrlError::Scheme),
            ("https:backend", BackendUrlError::Scheme),
            ("HTTPS://backend", BackendUrlError::Scheme),
            ("https://", BackendUrlError::Host),
            ("https://user:word@backend", BackendUrlError::Parts),
            ("http://", BackendUrlError::Host),
            ("http://:80", BackendUrlError::Host),
            ("http://ba ckend", BackendUrlError::Host),
            ("http://b\r\nX: y", BackendUrlError::Host),
            ("http://[::1", BackendUrlError::Host),
            ("http://[localhost]:80", BackendUrlError::Host),
            ("http://::1:80", BackendUrlError::Host),
            ("http://backend:", BackendUrlError::Port),
            ("http://backend:0", BackendUrlError::Port),
            ("http://backend:65536", BackendUrlError::Port),
            ("http://backend:+80", BackendUrlError::Port),
            ("http://[::1]80", BackendUrlError::Port),
            ("http://user:word@backend", BackendUrlError::Parts),
            ("http://backend/?a", BackendUrlError::Parts),
            ("http://backend/a b", BackendUrlError::Prefix),
            ("http://backend/a/../b", BackendUrlError::Prefix),
            ("unix:run/api.sock", BackendUrlError::SocketPath),
            ("unix:/", BackendUrlError::SocketPath),
            (&long, BackendUrlError::SocketPath),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<BackendUrl>(), Err(error), "{text:?}");
        }
        assert!(
            long[..long.len() - 1].parse::<BackendUrl>().is_ok(),
            "one byte less is at the limit"
        );
    }
}
