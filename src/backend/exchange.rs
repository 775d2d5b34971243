//! Pairs a request to the backend with what is to be done with its answer, whatever it is about.

use std::time::Instant;

use protocol::balance::Kind;
use protocol::http::{Failure, RequestTemplate, ResponseHead};

/// One request and what is to be done with its answer.
pub trait Exchange: 'static {
    /// What it is about, as far as fairness goes.
    fn kind(&self) -> Kind;
    /// When the answer must be there.
    fn deadline(&self) -> Instant;
    /// How many bytes of content it has.
    fn content_len(&self) -> usize;
    /// Appends the request. Called again for a second try.
    fn write(&self, template: &RequestTemplate, out: &mut Vec<u8>);
    /// Takes the answer, or why there is none.
    fn finish(self, response: Result<Response<'_>, Failure>);
}

/// A backend's whole answer.
#[derive(Debug)]
pub struct Response<'a> {
    /// The answer's status and headers.
    pub head: &'a ResponseHead<'a>,
    /// Decoded from any transfer coding.
    pub content: &'a [u8],
}
