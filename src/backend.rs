//! Acts: the requests to the backend and the connections that carry them.

mod batch;
mod link;
pub mod outbox;
pub mod pool;
pub mod request;
pub mod targets;
mod upstream;

pub use outbox::Outbox;
pub use pool::{Exchange, Pool, PoolLimits, Response, Target};
pub use request::Request;
