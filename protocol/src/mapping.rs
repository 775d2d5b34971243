//! Maps OCPP-J to HTTP and back: a client's frames become requests to the backend, its answers and requests become
//! frames.
//!
//! Tables and text, nothing else. Another dialect of the backend's HTTP would be another file beside each of these.
//!
//! - [`outgoing`]: the requests to the backend, path, headers and body.
//! - [`verdict`]: its answer to `/connect`; [`answer`]: its answer to `/call/…`.
//! - [`client_path`]: the ClientId in the path of an opening handshake.
//! - [`routes`]: what a request at the ingress asks for.
//! - [`bodies`]: the JSON that ws2api itself writes.
//! - [`identity`]: the headers that name a connection; [`forwarded`]: what of a client's own request is believed;
//!   [`tls_facts`]: what is known of its TLS.

pub mod answer;
pub mod bodies;
pub mod client_path;
pub mod forwarded;
pub mod identity;
pub mod outgoing;
pub mod routes;
pub mod tls_facts;
pub mod verdict;

pub use answer::{Answer, Reply};
pub use identity::{ConnectionId, Identity};
pub use tls_facts::TlsFacts;
pub use verdict::Admission;
