//! Acts: the backend's way in. Pushes, deferred answers, and questions about clients, over strict HTTP/1.1.

mod connection;
pub mod outcome_waits;
pub(crate) mod push;
mod queries;
mod server;
mod token;

pub use outcome_waits::OutcomeWaits;
pub use protocol::mapping::routes::PAGE_MAX;
pub use queries::Queries;
pub use server::serve;
pub use token::Token;
