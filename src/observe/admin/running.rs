//! Holds what the process runs with, for the threads that answer operators.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::config::{Change, Config};
use crate::token::Token;

/// What the process runs with, whoever looks at it. Clones are the same.
#[derive(Clone)]
pub struct Running {
    current: Arc<RwLock<Arc<Current>>>,
    reload: Arc<OnceLock<Reload>>,
}

/// Reads the configuration again.
type Reload = Box<dyn Fn() -> Result<Reloaded, String> + Send + Sync>;

/// What came of reading the configuration again.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What differs, also what needs a restart.
    pub changes: Vec<Change>,
    /// What became of the token, in words.
    pub token: &'static str,
}

/// What it runs with now.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) config: Config,
    /// What operators must bring; `None`: everybody may ask.
    pub(super) token: Option<Token>,
}

impl Running {
    /// At first it runs with these.
    #[must_use]
    pub fn new(config: Config, token: Option<Token>) -> Self {
        Self {
            current: Arc::new(RwLock::new(Arc::new(Current { config, token }))),
            reload: Arc::default(),
        }
    }

    /// From now on operators may have the configuration read again, which `reload` does. Only the first one counts.
    pub fn reload_with(&self, reload: impl Fn() -> Result<Reloaded, String> + Send + Sync + 'static) {
        let _ = self.reload.set(Box::new(reload));
    }

    /// Has it read again; `None`: nobody can yet.
    pub(super) fn reload(&self) -> Option<Result<Reloaded, String>> {
        self.reload.get().map(|reload| reload())
    }

    /// From now on it runs with these.
    pub fn set(&self, config: Config, token: Option<Token>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Current { config, token });
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}
