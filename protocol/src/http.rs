//! Reads and writes HTTP/1.1 messages, strictly: bytes in, decisions out.
//!
//! No socket, clock, thread or async in here. A reader collects bytes and calls [`parse_request`] or
//! [`parse_response`] until a head comes out, then drives a [`BodyDecoder`] (or takes the slice that [`whole_body`]
//! finds) with what follows the head. A writer appends whole messages to a `Vec<u8>`.
//!
//! Invariants:
//! - No bytes from the network make anything in here panic, and nothing is reserved for a length that was only claimed.
//! - A message with two readings is refused, never interpreted: both lengths, repeated or odd lengths, obs-fold, bare LF
//!   or CR, control characters, a space before the colon (RFC 9112, 11.2 "Request Smuggling").
//! - How a message is cut into reads never changes what comes out.
//! - What was accepted as a header value may be written as one ([`is_header_value_safe`]).

mod authorization;
mod body;
mod chunked;
mod cross_site;
mod failure;
mod framing;
mod head;
mod headers;
mod request;
mod response;
mod vocabulary;
mod writer;

pub use authorization::{basic_password, bearer_token};
pub use body::{BodyDecoder, BodyError, Decoded, whole_body};
pub use cross_site::{CrossSite, Site};
pub use failure::Failure;
pub use framing::Framing;
pub use head::{HEAD_LEN_MAX, HeadError};
pub use headers::{HEADERS_MAX, Headers, is_token};
pub use request::{RequestHead, is_request_decided, parse_request};
pub use response::{INTERIM_MAX, ResponseHead, parse_response};
pub use vocabulary::{Method, StatusCode, reason};
pub use writer::write_chunked_head;
pub use writer::write_response_head;
pub use writer::write_switching_protocols;
pub use writer::{
    HeaderLines, PathPart, RequestTemplate, is_header_value_safe, write_continue, write_request, write_response,
};
