//! Reads the configuration again at SIGHUP, and changes in a server that runs what can change there.

use std::sync::Arc;

use shards::mesh::NodeHandle;

use crate::cli::ServeArgs;
use crate::config::{self, Config, When};
use crate::ingress::Token;
use crate::observe::reloads;
use crate::server::{host, ingress_token, sd_notify};
use crate::shard::mail::{Control, Mail, Reload};

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
    pub fn read_again(&mut self, outside: &NodeHandle<Mail>) {
        sd_notify::reloading();
        match self.load() {
            Ok(reload) => self.apply(reload, outside),
            Err(error) => {
                reloads::failed();
                tracing::error!("the configuration stays as it was: {error}");
            }
        }
        sd_notify::ready();
    }

    fn load(&self) -> Result<Reload, String> {
        let file = self.args.config.as_deref();
        let config = config::load(file, &self.args.overrides, &self.usable_cpus);
        let mut config = config.map_err(|error| error.to_string())?;
        host::fit(&mut config, &host::Limits::read());
        let ingress_token = ingress_token(&config.node).map_err(|error| error.to_string())?;
        Ok(Reload { config, ingress_token })
    }

    fn apply(&mut self, reload: Reload, outside: &NodeHandle<Mail>) {
        let changes = config::changes(&self.config, &reload.config);
        for change in &changes {
            let config::Change { key, when, from, to } = change;
            match when {
                When::Now => tracing::info!("{key}: {from} is now {to}"),
                When::NewClients => tracing::info!("{key}: {from} is now {to} for clients that connect from now on"),
                When::Restart => tracing::warn!("{key}: stays {from}; {to} needs a restart"),
            }
        }
        let config = config::merge(&self.config, &reload.config);
        self.config = config.clone();
        let reload = Arc::new(Reload { config, ..reload });
        for shard in 0..outside.shards_count() {
            let mail = Mail::Control(Control::Reload(reload.clone()));
            if outside.try_send(shard, mail).is_err() {
                tracing::error!("shard {shard} is too busy to take the new configuration: send SIGHUP again");
            }
        }
        let token = match (&self.ingress_token, &reload.ingress_token) {
            (None, None) => "no token is asked for",
            (Some(old), Some(new)) if old == new => "the token is the one before",
            (_, Some(new)) if new.count() > 1 => "the token has changed: there are two",
            (_, Some(_)) => "the token has changed",
            (Some(_), None) => "no token is asked for any more",
        };
        self.ingress_token.clone_from(&reload.ingress_token);
        reloads::succeeded();
        let count = changes.iter().filter(|change| change.when != When::Restart).count();
        tracing::info!("configuration read again: {count} values changed, {token}");
    }
}
