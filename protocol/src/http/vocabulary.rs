//! Borrows the words of HTTP from `http-types`. Nothing else in the crate names that library.

pub use http_types::{Method, StatusCode};

/// The reason phrase of `status` (RFC 9110, 15), empty for a status that has none.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        // The library says "Modified".
        304 => "Not Modified",
        _ => StatusCode::try_from(status).map_or("", |status| status.canonical_reason()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_that_we_answer_has_a_reason() {
        let ours = [
            100, 101, 200, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 426, 429, 431, 500, 501,
            502, 503, 504, 505,
        ];
        for status in ours {
            assert_ne!(reason(status), "", "{status}");
        }
        assert_eq!(reason(200), "OK");
        assert_eq!(reason(304), "Not Modified");
        assert_eq!(reason(299), "");
        assert_eq!(reason(0), "");
    }
}
