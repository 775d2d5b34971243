//! Reads the configuration again at SIGHUP, or when an operator asks for it, and changes in a server that runs what can change there.

use crate::cli::ServeArgs;
use crate::config::{self, Config, When};
use crate::observe::admin::Reloaded;
use crate::observe::reloads;
use crate::server::{Remote, host, sd_notify, tokens};
use crate::token::{Token, Tokens};

/// What runs, and what it was read from.
#[derive(Debug)]
pub struct Source {
    /// The configuration that runs.
    pub config: Config,
    /// Where it came from.
    pub args: ServeArgs,
    /// The tokens that requests must carry.
    pub tokens: Tokens,
    /// As they were before any thread was pinned.
    pub usable_cpus: Vec<usize>,
}

impl Source {
    /// Reads it again and tells the shards.
    ///
    /// # Errors
    /// What is wrong with it, in words; then everything stays as it was.
    pub fn read_again(&mut self, remote: &Remote) -> Result<Reloaded, String> {
        sd_notify::reloading();
        let reloaded = match self.load() {
            Ok(reload) => Ok(self.apply(reload, remote)),
            Err(error) => {
                reloads::failed();
                tracing::error!("the configuration stays as it was: {error}");
                Err(error)
            }
        };
        sd_notify::ready();
        reloaded
    }

    fn load(&self) -> Result<(Config, Tokens), String> {
        let file = self.args.config.as_deref();
        let config = config::load(file, &self.args.overrides, &self.usable_cpus);
        let mut config = config.map_err(|error| error.to_string())?;
        host::fit(&mut config, &host::Limits::read());
        let tokens = tokens(&config.node).map_err(|error| error.to_string())?;
        Ok((config, tokens))
    }

    fn apply(&mut self, (read, tokens): (Config, Tokens), remote: &Remote) -> Reloaded {
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
        let token = token_words(self.tokens.ingress.as_ref(), tokens.ingress.as_ref());
        if self.tokens.admin.is_some() || tokens.admin.is_some() {
            let token = token_words(self.tokens.admin.as_ref(), tokens.admin.as_ref());
            tracing::info!("at the admin address {token}");
        }
        self.tokens = tokens.clone();
        remote.reload(config, tokens);
        reloads::succeeded();
        let count = changes.iter().filter(|change| change.when != When::Restart).count();
        tracing::info!("configuration read again: {count} values changed, {token}");
        Reloaded { changes, token }
    }
}

fn token_words(old: Option<&Token>, new: Option<&Token>) -> &'static str {
    match (old, new) {
        (None, None) => "no token is asked for",
        (Some(old), Some(new)) if old == new => "the token is the one before",
        (_, Some(new)) if new.count() > 1 => "the token has changed: there are two",
        (_, Some(_)) => "the token has changed",
        (Some(_), None) => "no token is asked for any more",
    }
}
