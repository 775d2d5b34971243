//! Tells where a configuration is allowed and still unwise: it opens a door. Nothing here stops the start.

use std::fmt;
use std::net::SocketAddr;

use super::Config;

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

/// What is worth changing in `config`, whatever machine it runs on; the gravest first.
#[must_use]
pub fn warnings(config: &Config) -> Vec<Warning> {
    let found = [open_ingress(config), open_admin(config)];
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
    let address = Some(config.node.admin).filter(is_open)?;
    warning(
        format!("admin = {address} has no password: whoever reaches it sees clients and profiles"),
        "listen on a loopback address, or let only operators through the firewall".to_owned(),
    )
}

fn is_open(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, resolve};
    use super::*;

    fn two_shards(settings: &[(&str, &str)]) -> Config {
        let mut overrides = Overrides::default();
        for (key, value) in settings {
            overrides.set(key, value);
        }
        resolve(None, &overrides, &[0, 1]).expect("a configuration")
    }

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
        assert_eq!(words(&two_shards(&[("admin", "[::1]:4002")])), []);
    }
}
