//! Tells where a configuration is allowed and still unwise: it opens a door, or contradicts itself. Nothing here stops
//! the start.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::units::Time;
use super::{Config, Node};

/// One thing to fix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// What will happen, and why.
    pub what: String,
    /// The command or setting that fixes it.
    pub fix: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: {}\n   fix: {}", self.what, self.fix)
    }
}

impl Node {
    /// How long the closing of clients can take: some of `drain_timeout` is left for what they still owe.
    #[must_use]
    pub fn drain_spread_max(&self) -> Duration {
        // Whole milliseconds, as a configuration has them.
        Duration::from_millis((self.drain_timeout.as_millis() as u64).saturating_mul(7) / 10)
    }
}

/// What is worth changing in `config`, whatever machine it runs on; the gravest first.
#[must_use]
pub fn warnings(config: &Config) -> Vec<Warning> {
    let found = [
        open_ingress(config),
        believed_headers(config, "listen"),
        believed_headers(config, "listen_tls"),
        believed_headers(config, "ingress"),
        open_admin(config),
        drain_spread(config),
    ];
    found.into_iter().flatten().collect()
}

fn warning(what: String, fix: String) -> Option<Warning> {
    Some(Warning { what, fix })
}

fn open_ingress(config: &Config) -> Option<Warning> {
    let address = Some(config.node.ingress)
        .filter(is_open)
        .filter(|_| config.node.ingress_token_file.is_none())?;
    warning(
        format!("ingress = {address} asks for no token: whoever reaches it can command every client"),
        "set ingress_token_file, or listen on a loopback address".to_owned(),
    )
}

fn open_admin(config: &Config) -> Option<Warning> {
    let address = Some(config.node.admin)
        .filter(is_open)
        .filter(|_| config.node.admin_token_file.is_none())?;
    warning(
        format!("admin = {address} asks for no token: whoever reaches it sees clients and profiles"),
        "set admin_token_file, or listen on a loopback address".to_owned(),
    )
}

/// The header names the client, and is believed: with every address of the machine, from whomever.
fn believed_headers(config: &Config, listener: &str) -> Option<Warning> {
    let node = &config.node;
    let of_client = ("proxy_protocol", node.proxy_protocol, "any address and any certificate");
    let ((key, is_on, claim), address) = match listener {
        "listen" => (of_client, node.listen),
        "listen_tls" => (of_client, node.listen_tls),
        _ => {
            let of_backend = ("ingress_proxy_protocol", node.ingress_proxy_protocol, "any address");
            (of_backend, Some(node.ingress))
        }
    };
    let address = address?;
    let is_for_all = address.ip().to_canonical().is_unspecified() && node.proxy_protocol_from.is_empty();
    (is_on && is_for_all).then_some(())?;
    warning(
        format!("{key} on {listener} = {address}: whoever reaches any address of this machine can claim {claim}"),
        format!(
            "set proxy_protocol_from to the load balancer's addresses, or let {listener} be an address that only it reaches"
        ),
    )
}

fn drain_spread(config: &Config) -> Option<Warning> {
    let node = &config.node;
    let most = node.drain_spread_max();
    (node.drain_spread > most).then_some(())?;
    warning(
        format!(
            "drain_spread = {} is cut to {}, 70 % of drain_timeout = {}: clients need the rest to leave",
            Time(node.drain_spread),
            Time(most),
            Time(node.drain_timeout)
        ),
        format!(
            "raise drain_timeout to {} at least, or lower drain_spread",
            Time(Duration::from_millis(
                (node.drain_spread.as_millis() as u64).saturating_mul(10).div_ceil(7)
            ))
        ),
    )
}

fn is_open(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::super::two_shards;
    use super::*;

    fn words(config: &Config) -> Vec<(String, String)> {
        warnings(config)
            .into_iter()
            .map(|warning| (warning.what, warning.fix))
            .collect()
    }

    #[test]
    fn an_open_door_is_named() {
        let open = [("ingress", "0.0.0.0:4001")];
        let found = words(&two_shards(&open));
        let what = "ingress = 0.0.0.0:4001 asks for no token: whoever reaches it can command every client";
        assert_eq!(found.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), [what]);
        assert_eq!(words(&two_shards(&[open[0], ("ingress_token_file", "/t")])), []);
        assert_eq!(words(&two_shards(&[("admin", "10.0.0.5:4002")])).len(), 1);
        let guarded = [("admin", "10.0.0.5:4002"), ("admin_token_file", "/t")];
        assert_eq!(words(&two_shards(&guarded)), []);
        assert_eq!(words(&two_shards(&[("admin", "[::1]:4002")])), []);
    }

    #[test]
    fn a_proxy_protocol_header_that_anybody_can_send_is_named() {
        let found = words(&two_shards(&[("proxy_protocol", "true")]));
        let what = "proxy_protocol on listen = 0.0.0.0:4000: whoever reaches any address of this machine can claim any address and any certificate";
        assert_eq!(found.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), [what]);
        let one = ("listen", "10.0.0.5:4000");
        assert_eq!(words(&two_shards(&[("proxy_protocol", "true"), one])), []);
        let tls = [
            ("listen_tls", "0.0.0.0:443"),
            ("tls_certificates", "[{ chain = \"c\", key = \"k\" }]"),
        ];
        let found = words(&two_shards(&[("proxy_protocol", "true"), one, tls[0], tls[1]]));
        assert!(found.len() == 1 && found[0].0.starts_with("proxy_protocol on listen_tls = 0.0.0.0:443: "));
        let balancer = ("proxy_protocol_from", "10.0.0.1");
        assert_eq!(words(&two_shards(&[("proxy_protocol", "true"), balancer])), []);
        let ingress = [
            ("ingress_proxy_protocol", "true"),
            ("ingress", "[::]:4001"),
            ("ingress_token_file", "/t"),
        ];
        let found = words(&two_shards(&ingress));
        assert!(
            found.len() == 1
                && found[0]
                    .0
                    .starts_with("ingress_proxy_protocol on ingress = [::]:4001: ")
        );
    }

    /// At 70 % of `drain_timeout`, and a millisecond above.
    #[test]
    fn a_drain_spread_that_is_cut_is_named() {
        let with = |spread| words(&two_shards(&[("drain_timeout", "10s"), ("drain_spread", spread)]));
        assert_eq!(with("7s"), []);
        let (what, fix) = &with("7001ms")[0];
        assert_eq!(
            what,
            "drain_spread = 7001ms is cut to 7s, 70 % of drain_timeout = 10s: clients need the rest to leave"
        );
        assert_eq!(fix, "raise drain_timeout to 10002ms at least, or lower drain_spread");
        assert_eq!(
            words(&two_shards(&[("drain_timeout", "10002ms"), ("drain_spread", "7001ms")])),
            []
        );
    }
}
