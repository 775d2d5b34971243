//! Finds the secret in an `Authorization` value.

use data_encoding::BASE64;

/// The token of `Bearer` (RFC 6750, 2.1).
#[must_use]
pub fn bearer_token(authorization: &[u8]) -> Option<&[u8]> {
    credentials(authorization, b"bearer")
}

/// The password of `Basic`, whoever's it is (RFC 7617, 2): what a browser sends once a person has typed it in.
#[must_use]
pub fn basic_password(authorization: &[u8]) -> Option<Vec<u8>> {
    let mut pair = BASE64.decode(credentials(authorization, b"basic")?).ok()?;
    let colon = memchr::memchr(b':', &pair)?;
    Some(pair.split_off(colon + 1))
}

/// What follows the scheme, if it is this one (RFC 9110, 11.4).
fn credentials<'v>(authorization: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (own, credentials) = authorization.split_at_checked(scheme.len())?;
    let is_apart = credentials.first().is_some_and(u8::is_ascii_whitespace);
    (own.eq_ignore_ascii_case(scheme) && is_apart).then(|| credentials.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_follows_its_scheme() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Bearerabc", None),
            ("Basic abc", None),
            ("abc", None),
            ("", None),
        ] {
            assert_eq!(bearer_token(value.as_bytes()), token.map(str::as_bytes), "{value:?}");
        }
    }

    #[test]
    fn a_password_is_what_follows_the_first_colon() {
        let encoded = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
        for (value, password) in [
            (encoded("me:secret"), Some("secret")),
            (encoded(":secret"), Some("secret")),
            (encoded("me:a:b"), Some("a:b")),
            (encoded("me:"), Some("")),
            (encoded("me:schlüssel"), Some("schlüssel")),
            (encoded("secret"), None),
            (encoded("me:secret").replace("Basic", "BASIC "), Some("secret")),
            ("Basic !!!".to_owned(), None),
            ("Basic".to_owned(), None),
            ("Bearer secret".to_owned(), None),
        ] {
            let found = basic_password(value.as_bytes());
            assert_eq!(found.as_deref(), password.map(str::as_bytes), "{value:?}");
        }
    }
}
