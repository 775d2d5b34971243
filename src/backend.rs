//! Sends requests to the backend, whatever they mean, and keeps the connections that carry them.

mod batch;
mod connect;
mod exchange;
pub mod lending;
mod limits;
mod link;
mod mistrust;
#[allow(
    clippy::indexing_slicing,
    reason = "the balance numbers backends and connections; no byte chooses one"
)]
pub mod pool;
pub mod targets;
mod tls;
mod trust;

pub use connect::Target;
pub use exchange::{Exchange, Response};
pub use lending::Neighbours;
pub use limits::PoolLimits;
pub use mistrust::words as mistrust_words;
pub use pool::Pool;
pub use trust::{Trust, TrustError};
