//! Decides who may ask at the admin address: no page but our own, and whoever has the token, if there is one.

use super::connection::Response;
use super::running::Current;
use protocol::http::{CrossSite, RequestHead, Site, basic_password, bearer_token};

/// Refuses who may not ask. Health checks are not asked who they are.
pub(super) fn check(current: &Current, head: &RequestHead<'_>, path: &str) -> Result<(), Response> {
    if HEALTH.contains(&path) {
        return Ok(());
    }
    let site = Site {
        hosts: &current.config.node.admin_hosts,
        any_host: current.token.is_some(),
        has_pages: true,
    };
    site.check(head).map_err(|refusal| match refusal {
        CrossSite::Origin | CrossSite::FetchSite => Response::text(403, "no page of another site may ask here\n"),
        CrossSite::Host(host) => Response::text(
            403,
            format!(
                "{host} may be the name of a stranger's page in a browser: if it is ours, add it to admin_hosts, or set \
                 admin_token_file\n"
            ),
        ),
    })?;
    let Some(token) = &current.token else { return Ok(()) };
    let brings = |authorization: &[u8]| {
        bearer_token(authorization).is_some_and(|secret| token.is(secret))
            || basic_password(authorization).is_some_and(|secret| token.is(&secret))
    };
    if head.only("authorization").is_some_and(brings) {
        return Ok(());
    }
    Err(Response::text(401, UNAUTHORIZED).with("WWW-Authenticate", CHALLENGE))
}

/// They say how the process is, and nothing of anybody.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
/// It makes a browser ask for a name and a password.
const CHALLENGE: &str = "Basic realm=\"ws2api\", charset=\"UTF-8\"";
const UNAUTHORIZED: &str = "\
the token of admin_token_file is missing or wrong: as Authorization: Bearer, or as the password of HTTP Basic with any name
";
