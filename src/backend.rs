//! Acts: the connections to the backend that carry requests, whatever those mean.

mod batch;
mod link;
pub mod pool;
pub mod targets;
mod upstream;

pub use pool::{Exchange, Pool, PoolLimits, Response, Target};
