//! Reads the configuration again at SIGHUP, and changes in a server that runs what can change there.

use crate::cli::ServeArgs;
use crate::config::{self, Config, When};
use crate::ingress::Token;
use crate::observe::reloads;
use crate::server::{Remote, host, ingress_token, sd_notify};

/// What runs, and what it was read from.
#[derive(Debug)]
pub struct Source {
    /// The configuration that runs.
    pub config: Config,
    /// Where it came from.
    pub args: ServeArgs,
    /// The token that pushes must carry; `None`: everybody may push.
    pub ingress_token: Option<Token>,
    /// As they were before any thread was pinned.
    pub usable_cpus: Vec<usize>,
}

impl Source {
    /// Reads it again and tells the shards. If anything is wrong with it, everything stays as it was.
    pub fn read_again(&mut self, remote: &Remote) {
        sd_notify::reloading();
        match self.load() {
            Ok(reload) => self.apply(reload, remote),
            Err(error) => {
                reloads::failed();
                tracing::error!("the configuration stays as it was: {error}");
            }
        }
        sd_notify::ready();
    }

    fn load(&self) -> Result<(Config, Option<Token>), String> {
        let file = self.args.config.as_deref();
        let config = config::load(file, &self.args.overrides, &self.usable_cpus);
        let mut config = config.map_err(|error| error.to_string())?;
        host::fit(&mut config, &host::Limits::read());
        let ingress_token = ingress_token(&config.node).map_err(|error| error.to_string())?;
        Ok((config, ingress_token))
    }

    fn apply(&mut self, (read, ingress_token): (Config, Option<Token>), remote: &Remote) {
        let changes = config::changes(&self.config, &read);
        for change in &changes {
            let config::Change { key, when, from, to } = change;
            match when {
                When::Now => tracing::info!("{key}: {from} is now {to}"),
                When::NewClients => tracing::info!("{key}: {from} is now {to} for clients that connect from now on"),
                When::Restart => tracing::warn!("{key}: stays {from}; {to} needs a restart"),
            }
        }
        let config = config::merge(&self.config, &read);
        self.config = config.clone();
        let token = match (&self.ingress_token, &ingress_token) {
            (None, None) => "no token is asked for",
            (Some(old), Some(new)) if old == new => "the token is the one before",
            (_, Some(new)) if new.count() > 1 => "the token has changed: there are two",
            (_, Some(_)) => "the token has changed",
            (Some(_), None) => "no token is asked for any more",
        };
        self.ingress_token.clone_from(&ingress_token);
        remote.reload(config, ingress_token);
        reloads::succeeded();
        let count = changes.iter().filter(|change| change.when != When::Restart).count();
        tracing::info!("configuration read again: {count} values changed, {token}");
    }
}
