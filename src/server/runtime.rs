//! Chooses what the shards run on: their executor, and whose table their descriptors are in.
//!
//! The program starts wherever it may: what a system forbids is done without, and [`Runtime::rows`] says so.

use shards::node;
use shards::{Executor, StartError, Tables};

use crate::config::{Config, ExecutorKey};
use crate::server::host;

/// What the shards run on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Runtime {
    /// What runs their tasks.
    pub executor: Executor,
    /// Whose their descriptors are.
    pub tables: Tables,
    /// Whether the executor was left to us.
    chosen: bool,
    /// Why there is one table for all, in the kernel's words, and what that comes to.
    refused: Option<String>,
}

impl Runtime {
    /// Tries what this process may.
    ///
    /// # Errors
    /// When the configuration names glommio, and something that it needs is refused: io_uring, locked memory, a table
    /// of descriptors per shard.
    pub fn choose(config: &Config) -> Result<Self, StartError> {
        let refused = node::probe_tables(Tables::Private).err();
        let executor = match config.node.executor {
            ExecutorKey::Plain => Executor::Plain,
            ExecutorKey::Glommio => Executor::Glommio,
            // Which one costs less is not decided in every scene (docs/performance.md).
            ExecutorKey::Auto if refused.is_none() && glommio_is_allowed(config) => Executor::Glommio,
            ExecutorKey::Auto => Executor::Plain,
        };
        node::probe(executor)?;
        if let (Executor::Glommio, Some(error)) = (executor, &refused) {
            return Err(StartError::Table {
                reason: error.to_string(),
            });
        }
        Ok(Self {
            executor,
            tables: if refused.is_none() {
                Tables::Private
            } else {
                Tables::Shared
            },
            chosen: config.node.executor == ExecutorKey::Auto,
            refused: refused.map(|error| {
                let clients: usize = config.cores.iter().map(|core| core.clients_max).sum();
                format!("{error}; together they hold {clients} clients at the most")
            }),
        })
    }

    /// A line for each choice, for the log and `ws2api check`.
    #[must_use]
    pub fn rows(&self) -> [String; 2] {
        let executor = match self.executor {
            Executor::Plain => "plain",
            Executor::Glommio => "glommio",
        };
        let auto = if self.chosen { " (auto)" } else { "" };
        let tables = match &self.refused {
            None => "descriptors: each shard has a table of its own".to_owned(),
            Some(error) => {
                format!("descriptors: all shards share one table, since unshare(CLONE_FILES) is refused: {error}")
            }
        };
        [format!("executor: {executor}{auto}"), tables]
    }
}

/// Whether all shards may have what glommio needs; what one needs is tried.
fn glommio_is_allowed(config: &Config) -> bool {
    let needed = config.cores.len() as u64 * host::LOCKED_MEMORY_PER_SHARD;
    let limit = host::Limits::read().locked_memory;
    limit.is_none_or(|limit| limit >= needed) && node::probe(Executor::Glommio).is_ok()
}
