//! Searches HTTP heads.

use memchr::memmem;

/// The value of header `name` (lower case) in a head that has ended, by searching: no more is looked at.
#[must_use]
pub fn find_header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = head;
    while let Some(at) = memmem::find(rest, b"\r\n") {
        rest = &rest[at + 2..];
        let (candidate, after) = rest.split_at_checked(name.len())?;
        if candidate.eq_ignore_ascii_case(name.as_bytes()) && after.first() == Some(&b':') {
            let end = memmem::find(after, b"\r\n").unwrap_or(after.len());
            return Some(after[1..end].trim_ascii());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_whatever_its_case() {
        let head = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nSEC-websocket-ACCEPT:  abc \r\n\r\n";
        assert_eq!(find_header(head, "sec-websocket-accept"), Some(&b"abc"[..]));
        assert_eq!(find_header(head, "sec-websocket"), None);
    }
}
