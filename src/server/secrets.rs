//! Reads what stands in files beside the configuration: the tokens that requests carry, the certificates of `listen_tls`, and those
//! that backends are verified by and shown.

use super::certificates::{self, Loaded};
use super::{ServeError, tokens};
use crate::backend::Trust;
use crate::config::Node;
use crate::observe;
use crate::shard::control_plane::ShardSecrets;
use crate::token::Tokens;

/// What is read anew at SIGHUP with the configuration.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Who may ask.
    pub tokens: Tokens,
    /// What clients with TLS are met with, if there are any.
    pub listen_tls: Option<Loaded>,
    /// What backends over TLS are verified by and are shown, if there are any.
    pub trust: Option<Trust>,
}

impl Secrets {
    /// Reads the files that `node` names.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn read(node: &Node) -> Result<Self, ServeError> {
        Ok(Self {
            tokens: tokens(node)?,
            listen_tls: certificates::load(node)?,
            trust: Trust::read(node)?,
        })
    }

    /// Operators see from now on until when these certificates are good.
    pub fn show_certificates(&self) {
        let seen = self.listen_tls.as_ref().map(|loaded| loaded.seen.clone());
        observe::certificates::set(seen.unwrap_or_default());
    }

    /// What the shards need of them.
    #[must_use]
    pub fn of_shards(&self) -> ShardSecrets {
        ShardSecrets {
            ingress_token: self.tokens.ingress.clone(),
            trust: self.trust.clone(),
            tls: self.listen_tls.as_ref().map(|loaded| loaded.terms.clone()),
        }
    }
}
