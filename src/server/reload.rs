//! Reads the configuration again at SIGHUP, or when an operator asks for it, and changes in a server that runs what can change there.

use std::time::SystemTime;

use crate::cli::ServeArgs;
use crate::config::{self, Config, When};
use crate::observe::admin::Reloaded;
use crate::observe::reloads;
use crate::server::secrets::Secrets;
use crate::server::{Remote, host, sd_notify};
use crate::token::Token;

/// What runs, and what it was read from.
#[derive(Debug)]
pub struct Source {
    /// The configuration that runs.
    pub config: Config,
    /// Where it came from.
    pub args: ServeArgs,
    /// What was read beside it.
    pub secrets: Secrets,
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

    fn load(&self) -> Result<(Config, Secrets), String> {
        let file = self.args.config.as_deref();
        let config = config::load(file, &self.args.overrides, &self.usable_cpus);
        let mut config = config.map_err(|error| error.to_string())?;
        host::fit(&mut config, &host::Limits::read());
        // A listener that is there needs its certificates, whatever a restart would do.
        let node = config::merge(&self.config, &config).node;
        let secrets = Secrets::read(&node).map_err(|error| error.to_string())?;
        Ok((config, secrets))
    }

    fn apply(&mut self, (read, secrets): (Config, Secrets), remote: &Remote) -> Reloaded {
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
        let (old, new) = (&self.secrets.tokens, &secrets.tokens);
        let token = token_words(old.ingress.as_ref(), new.ingress.as_ref());
        if old.admin.is_some() || new.admin.is_some() {
            let token = token_words(old.admin.as_ref(), new.admin.as_ref());
            tracing::info!("at the admin address {token}");
        }
        self.tell_certificates(&secrets);
        remote.reload(config, &secrets);
        self.secrets = secrets;
        reloads::succeeded();
        let count = changes.iter().filter(|change| change.when != When::Restart).count();
        tracing::info!("configuration read again: {count} values changed, {token}");
        Reloaded { changes, token }
    }
}

impl Source {
    /// What becomes of TLS is told, with what is wrong with the certificates.
    fn tell_certificates(&self, secrets: &Secrets) {
        let (old, new) = (&self.secrets.listen_tls, &secrets.listen_tls);
        let Some(new) = new else { return };
        for row in new.rows(SystemTime::now()) {
            tracing::info!("a certificate of listen_tls: {row}");
        }
        for warning in new.warnings() {
            tracing::warn!(fix = warning.fix, "{}", warning.what);
        }
        if old.as_ref().is_some_and(|old| old.terms.trust != new.terms.trust) {
            tracing::info!(
                "clients are verified by other authorities now: whoever comes to listen_tls shows a certificate anew"
            );
        }
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
