//! Parses the URL of a NATS server.

use std::fmt;
use std::str::FromStr;

use super::authority::{self, AuthorityError};

/// `nats://[user:password@]host[:port]` or `tls://…`; a user without a password is a token.
#[derive(Clone, Eq, PartialEq)]
pub struct NatsUrl {
    /// Over TLS, or not at all.
    pub is_tls: bool,
    /// A DNS name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// 1 to 65535; 4222 if the URL names none.
    pub port: u16,
    /// What the server is shown.
    pub login: Option<NatsLogin>,
}

/// By what a server lets us in, as far as it stands in its URL.
#[derive(Clone, Eq, PartialEq)]
pub enum NatsLogin {
    /// A name and a password.
    User {
        /// Who.
        name: String,
        /// The secret.
        password: String,
    },
    /// One secret.
    Token(String),
}

/// Without the secret.
impl fmt::Debug for NatsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a text is not the URL of a NATS server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NatsUrlError {
    /// Neither `nats://` nor `tls://`.
    #[error("not a NATS server; write it as nats://host:port or tls://host:port")]
    Scheme,
    /// A path, a query or a fragment.
    #[error("nothing follows the host and the port")]
    Parts,
    /// Empty, too long, or with a `%` that two hexadecimal digits do not follow.
    #[error("before the @ stands user:password or a token, with %40 for @, %3A for : and %25 for %")]
    Login,
    /// Empty, or with a character that no host has.
    #[error("the host is a name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is a number from 1 to 65535")]
    Port,
}

impl NatsUrl {
    /// `host:port`, with IPv6 in brackets.
    #[must_use]
    pub fn address(&self) -> String {
        authority::join(&self.host, self.port)
    }

    /// Another server, known by `host:port` alone, that is asked in the same way as this one. `None`: that is none.
    #[must_use]
    pub fn beside(&self, address: &str) -> Option<Self> {
        let (host, port) = host_and_port(address).ok()?;
        Some(Self {
            host,
            port,
            ..self.clone()
        })
    }
}

/// Without what is secret in it: `nats://***@host:port`.
impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls" } else { "nats" };
        let login = match &self.login {
            None => "",
            Some(_) => "***@",
        };
        write!(f, "{scheme}://{login}{}", self.address())
    }
}

/// Without what is secret in it.
impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NatsUrl {
    type Err = NatsUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (is_tls, rest) = match (text.strip_prefix("nats://"), text.strip_prefix("tls://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            (None, None) => return Err(NatsUrlError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, authority) = match rest.rsplit_once('@') {
            Some((login, authority)) => (Some(login_from(login)?), authority),
            None => (None, rest),
        };
        if authority.contains(['/', '?', '#']) {
            return Err(NatsUrlError::Parts);
        }
        let (host, port) = host_and_port(authority)?;
        Ok(Self {
            is_tls,
            host,
            port,
            login,
        })
    }
}

fn login_from(text: &str) -> Result<NatsLogin, NatsUrlError> {
    Ok(match text.split_once(':') {
        Some((name, password)) => NatsLogin::User {
            name: decoded(name)?,
            password: decoded(password)?,
        },
        None => NatsLogin::Token(decoded(text)?),
    })
}

fn host_and_port(authority: &str) -> Result<(String, u16), NatsUrlError> {
    let (host, port) = authority::split(authority).map_err(|error| match error {
        AuthorityError::Host => NatsUrlError::Host,
        AuthorityError::Port => NatsUrlError::Port,
    })?;
    Ok((host.to_owned(), port.unwrap_or(PORT)))
}

/// With `%xx` as the byte that it stands for.
fn decoded(text: &str) -> Result<String, NatsUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(NatsUrlError::Login)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NatsUrlError::Login);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| NatsUrlError::Login)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    match String::from_utf8(bytes) {
        Ok(text) if (1..=SECRET_LEN_MAX).contains(&text.len()) => Ok(text),
        _ => Err(NatsUrlError::Login),
    }
}

/// What NATS servers listen on.
const PORT: u16 = 4222;
/// It goes into a line of 4 KiB.
const SECRET_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NatsUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn urls_of_servers_are_read() {
        for (text, is_tls, host, port, shown) in [
            ("nats://localhost", false, "localhost", 4222, "nats://localhost:4222"),
            (
                "nats://n1.example:4223/",
                false,
                "n1.example",
                4223,
                "nats://n1.example:4223",
            ),
            ("tls://[::1]:1", true, "::1", 1, "tls://[::1]:1"),
            ("tls://10.0.0.1:65535", true, "10.0.0.1", 65535, "tls://10.0.0.1:65535"),
        ] {
            let url = parse(text);
            assert_eq!(
                (url.is_tls, url.host.as_str(), url.port),
                (is_tls, host, port),
                "{text}"
            );
            assert_eq!((url.to_string().as_str(), &url.login), (shown, &None));
            assert_eq!(parse(shown), url);
        }
    }

    #[test]
    fn what_is_secret_in_a_url_is_read_and_not_shown() {
        let url = parse("nats://ws2api:p%40ss%3A%25@host:1");
        let login = NatsLogin::User {
            name: "ws2api".into(),
            password: "p@ss:%".into(),
        };
        assert!(url.login == Some(login));
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            ("nats://***@host:1".into(), "nats://***@host:1".into())
        );
        assert!(parse("tls://s3cret@host").login == Some(NatsLogin::Token("s3cret".into())));
        let password = parse("nats://u:a:b/?#@host").login;
        assert!(matches!(password, Some(NatsLogin::User { password, .. }) if password == "a:b/?#"));
    }

    #[test]
    fn another_server_is_asked_in_the_same_way() {
        let url = parse("tls://u:p@n1:4222");
        let other = url.beside("[fe80::1]:4333").unwrap();
        assert_eq!((other.host.as_str(), other.port, other.is_tls), ("fe80::1", 4333, true));
        assert!(other.login == url.login);
        for text in ["", "a b:1", "host:0", "host:70000", "[::1", "a/b:1"] {
            assert!(url.beside(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for (text, error) in [
            ("", NatsUrlError::Scheme),
            ("host:4222", NatsUrlError::Scheme),
            ("http://host", NatsUrlError::Scheme),
            ("NATS://host", NatsUrlError::Scheme),
            ("nats://", NatsUrlError::Host),
            ("nats://a b", NatsUrlError::Host),
            ("nats://[::1", NatsUrlError::Host),
            ("nats://[x]", NatsUrlError::Host),
            ("nats://host:", NatsUrlError::Port),
            ("nats://host:0", NatsUrlError::Port),
            ("nats://host:+1", NatsUrlError::Port),
            ("nats://host:65536", NatsUrlError::Port),
            ("nats://host/path", NatsUrlError::Parts),
            ("nats://host?a", NatsUrlError::Parts),
            ("nats://@host", NatsUrlError::Login),
            ("nats://:@host", NatsUrlError::Login),
            ("nats://u:@host", NatsUrlError::Login),
            ("nats://u:%4@host", NatsUrlError::Login),
            ("nats://u:%+4@host", NatsUrlError::Login),
            ("nats://u:%ff@host", NatsUrlError::Login),
            (&format!("nats://{}@host", "x".repeat(1025)), NatsUrlError::Login),
        ] {
            assert_eq!(text.parse::<NatsUrl>(), Err(error), "{text}");
        }
    }
}
