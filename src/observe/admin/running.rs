//! Holds what the process runs with, for the threads that answer operators.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::Config;
use crate::token::Token;

/// What the process runs with, whoever looks at it.
#[derive(Clone, Debug)]
pub struct Running(Arc<RwLock<Arc<Current>>>);

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
        Self(Arc::new(RwLock::new(Arc::new(Current { config, token }))))
    }

    /// From now on it runs with these.
    pub fn set(&self, config: Config, token: Option<Token>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Current { config, token });
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
