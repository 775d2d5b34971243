//! Tells the requests that a stranger's page has made a browser send from those of programs and of people.
//!
//! A browser may reach what the network hides from the page's author. It says who asks: `Origin` is on every request
//! that a page can make and that changes something, `Sec-Fetch-Site` on every one to a loopback address or over TLS
//! (Fetch, 3.2; Fetch Metadata, 2.3). A page can still be of the listener's own site when its author lets a name of his
//! point at the listener's address (DNS rebinding): then that name is the request's `Host`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::request::RequestHead;

/// What is known of a listener's own site.
#[derive(Clone, Copy, Debug)]
pub struct Site<'c> {
    /// Names with a dot by which it is reached, without a dot at their end.
    pub hosts: &'c [String],
    /// Whether it has any name, since whoever asks brings a secret that no page of a stranger has.
    pub any_host: bool,
    /// Whether it has pages of its own, which may ask it.
    pub has_pages: bool,
}

/// Why a request is refused: a page may be behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrossSite<'b> {
    /// It has an `Origin`, other than the site's own.
    Origin,
    /// It has a `Sec-Fetch-Site`, other than `none` and `same-origin`.
    FetchSite,
    /// Its host is a name that anybody can have.
    Host(&'b str),
}

impl Site<'_> {
    /// Refuses what a stranger's page can have sent. Programs and address bars pass.
    ///
    /// # Errors
    /// [`CrossSite`]; the answer is 403.
    pub fn check<'b>(&self, head: &RequestHead<'b>) -> Result<(), CrossSite<'b>> {
        if head.headers("origin").any(|origin| !self.is_own_origin(head, origin)) {
            return Err(CrossSite::Origin);
        }
        if head.headers("sec-fetch-site").any(|site| !OWN_SITES.contains(&site)) {
            return Err(CrossSite::FetchSite);
        }
        if self.any_host {
            return Ok(());
        }
        // The authority is the one that counts (RFC 9112, 3.2.2), and there is no good reason for the other to be bad.
        let hosts = head.authority.into_iter().chain(head.host);
        match hosts.into_iter().find(|host| self.is_strange(name(host))) {
            Some(host) => Err(CrossSite::Host(host)),
            None => Ok(()),
        }
    }

    /// Whether `origin` is a page of this site: what stands behind its scheme is the request's host (RFC 6454, 6.2).
    fn is_own_origin(&self, head: &RequestHead<'_>, origin: &[u8]) -> bool {
        let own = head.authority.or(head.host).filter(|_| self.has_pages);
        let host = [&b"http://"[..], b"https://"]
            .iter()
            .find_map(|scheme| origin.strip_prefix(*scheme));
        own.zip(host)
            .is_some_and(|(own, host)| own.as_bytes().eq_ignore_ascii_case(host))
    }

    /// Whether a stranger can have a page under this name: nobody has a name without a dot in public, nor an address.
    fn is_strange(&self, name: &str) -> bool {
        let is_known = || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        name.contains('.') && !is_address(name) && !is_known()
    }
}

/// A host without its port and the dot that may end it.
fn name(host: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn is_address(name: &str) -> bool {
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bracketed.unwrap_or(name).parse::<Ipv6Addr>().is_ok() || name.parse::<Ipv4Addr>().is_ok()
}

/// Of an address bar, and of a page of the same origin.
const OWN_SITES: [&[u8]; 2] = [b"none", b"same-origin"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_request;

    fn judge(site: &Site<'_>, target: &str, lines: &str) -> Result<(), CrossSite<'static>> {
        let head = format!("POST {target} HTTP/1.1\r\n{lines}\r\n");
        let head = parse_request(head.as_bytes(), 8192).unwrap().expect("a whole head");
        site.check(&head).map_err(|refusal| match refusal {
            CrossSite::Host(_) => CrossSite::Host(""),
            CrossSite::Origin => CrossSite::Origin,
            CrossSite::FetchSite => CrossSite::FetchSite,
        })
    }

    const CLOSED: Site<'_> = Site {
        hosts: &[],
        any_host: false,
        has_pages: false,
    };

    #[test]
    fn an_origin_is_refused_but_of_a_page_of_ones_own() {
        let own = Site {
            has_pages: true,
            ..CLOSED
        };
        for (lines, of_a_page) in [
            ("Host: h:1\r\nOrigin: http://h:1\r\n", Ok(())),
            ("Host: h:1\r\nOrigin: https://H:1\r\n", Ok(())),
            ("Host: h:1\r\nOrigin: http://h\r\n", Err(CrossSite::Origin)),
            ("Host: h:1\r\nOrigin: http://h:1/\r\n", Err(CrossSite::Origin)),
            ("Host: h:1\r\nOrigin: http://x:1\r\n", Err(CrossSite::Origin)),
            ("Host: h:1\r\nOrigin: ws://h:1\r\n", Err(CrossSite::Origin)),
            ("Host: h:1\r\nOrigin: null\r\n", Err(CrossSite::Origin)),
            ("Host: h:1\r\nOrigin:\r\n", Err(CrossSite::Origin)),
            ("Host:\r\nOrigin: http://h\r\n", Err(CrossSite::Origin)),
            (
                "Host: h\r\nOrigin: http://h\r\nOrigin: http://x\r\n",
                Err(CrossSite::Origin),
            ),
            ("Host: h\r\nOrigin: http://h\r\nOrigin: http://h\r\n", Ok(())),
        ] {
            assert_eq!(judge(&own, "/", lines), of_a_page, "{lines}");
            assert_eq!(judge(&CLOSED, "/", lines), Err(CrossSite::Origin), "{lines}");
        }
        let absolute = "Host: h\r\nOrigin: http://h\r\n";
        assert_eq!(judge(&own, "http://x/", absolute), Err(CrossSite::Origin));
    }

    #[test]
    fn a_site_that_a_browser_says_is_another_one_is_refused() {
        for (site, expected) in [
            ("none", Ok(())),
            ("same-origin", Ok(())),
            ("same-site", Err(CrossSite::FetchSite)),
            ("cross-site", Err(CrossSite::FetchSite)),
            ("None", Err(CrossSite::FetchSite)),
            ("", Err(CrossSite::FetchSite)),
            ("none, cross-site", Err(CrossSite::FetchSite)),
        ] {
            let lines = format!("Host: h\r\nSec-Fetch-Site: {site}\r\n");
            assert_eq!(judge(&CLOSED, "/", &lines), expected, "{site}");
        }
    }

    #[test]
    fn a_host_is_an_address_a_name_without_dot_or_a_known_one() {
        let hosts = ["known.example".to_owned()];
        let site = Site {
            hosts: &hosts,
            ..CLOSED
        };
        let strange = Err(CrossSite::Host(""));
        for (host, expected) in [
            ("", Ok(())),
            (":80", Ok(())),
            ("localhost", Ok(())),
            ("localhost.", Ok(())),
            ("localhost:4001", Ok(())),
            ("a-service_1:80", Ok(())),
            ("127.0.0.1", Ok(())),
            ("127.0.0.1:80", Ok(())),
            ("255.255.255.255:", Ok(())),
            ("[::1]", Ok(())),
            ("[::1]:80", Ok(())),
            ("::1", Ok(())),
            ("[::ffff:1.2.3.4]:80", Ok(())),
            ("::ffff:1.2.3.4", Ok(())),
            ("known.example", Ok(())),
            ("KNOWN.example.:80", Ok(())),
            ("known.example..", strange),
            ("a.known.example", strange),
            ("known.example.com", strange),
            ("a.example:80", strange),
            ("a.example:80:90", strange),
            ("127.0.0.1.a", strange),
            ("127.0.0.1.1", strange),
            ("127.0.0.01", strange),
            ("127.1", strange),
            ("1.2.3.256", strange),
            ("[::1].a", strange),
            ("[a.b]", strange),
            ("[1.2.3.4]:80", strange),
            (".", Ok(())),
            ("..", strange),
        ] {
            let lines = format!("Host: {host}\r\n");
            assert_eq!(judge(&site, "/", &lines), expected, "{host}");
            let any = Site { any_host: true, ..site };
            assert_eq!(judge(&any, "/", &lines), Ok(()), "{host}");
            if !host.is_empty() {
                let target = format!("http://{host}/");
                assert_eq!(judge(&site, &target, "Host: h\r\n"), expected, "{host}");
                assert_eq!(judge(&site, "http://h/", &lines), expected, "{host}");
            }
        }
    }
}
