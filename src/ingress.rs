//! Acts: the backend's way in. Pushes, deferred answers, and questions about clients, over strict HTTP/1.1.

mod asks;
mod connection;
pub(crate) mod push;
mod routes;
mod server;
mod token;
pub mod waits;

pub use asks::Asks;
pub use routes::PAGE_MAX;
pub use server::serve;
pub use token::Token;
pub use waits::Waits;
