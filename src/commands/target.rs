//! Reads where clients that are played connect to: `ws[s]://[:PASSWORD@]host[:port][/prefix/]`.

use std::net::SocketAddr;

/// A server of WebSocket clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    /// wss.
    pub(super) is_tls: bool,
    /// Host and port.
    pub(super) address: String,
    /// What stands before the ClientId: begins and ends with a slash.
    pub(super) prefix: String,
    /// Of HTTP Basic; the user is the ClientId.
    pub(super) password: Option<String>,
}

impl Target {
    /// What stands in the configuration.
    pub(super) fn at(address: SocketAddr, prefix: &str) -> Self {
        Self {
            is_tls: false,
            address: address.to_string(),
            prefix: whole(prefix),
            password: None,
        }
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let (is_tls, rest) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("written as ws://host:port/, or wss://:PASSWORD@host:port/prefix/"),
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (password, host) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, host)) => {
                let password = user
                    .strip_prefix(':')
                    .ok_or("the user is each client's own id: ws://:PASSWORD@host")?;
                (Some(password.to_owned()), host)
            }
        };
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !is_plain(host) || !is_plain(prefix) || prefix.contains(['?', '#']) {
            return Err("the host is missing, or something in it can't stand in a URL");
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if is_tls { 443 } else { 80 };
        Ok(Self {
            is_tls,
            address: if has_port {
                host.to_owned()
            } else {
                format!("{host}:{port}")
            },
            prefix: whole(prefix),
            password,
        })
    }

    /// Without the port, and without brackets.
    pub(super) fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn whole(prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => "/".to_owned(),
        inner => format!("/{inner}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_perhaps_a_port_a_prefix_and_a_password() {
        let target = |url| Target::parse(url).map(|target| (target.address, target.prefix, target.password));
        let some = |address: &str, prefix: &str, password: Option<&str>| {
            Ok((address.to_owned(), prefix.to_owned(), password.map(str::to_owned)))
        };
        assert_eq!(target("ws://a:4000"), some("a:4000", "/", None));
        assert_eq!(
            target("ws://:p:@[::1]:1/ocpp/x"),
            some("[::1]:1", "/ocpp/x/", Some("p:"))
        );
        assert_eq!(target("ws://example.org/"), some("example.org:80", "/", None));
        assert_eq!(target("wss://example.org/"), some("example.org:443", "/", None));
        assert_eq!(
            Target::parse("wss://a:1/").map(|target| (target.is_tls, target.host().to_owned())),
            Ok((true, "a".to_owned()))
        );
        assert_eq!(
            Target::parse("ws://[::1]/").map(|target| target.host().to_owned()),
            Ok("::1".to_owned())
        );
        for bad in [
            "",
            "a:4000",
            "http://a",
            "wss://",
            "ws://",
            "ws://me:p@a",
            "ws://a/?x",
            "ws://a b/",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
