//! The bearer token that every request at the ingress must carry, when one is configured.

use std::path::Path;

use sha1::{Digest, Sha1};

/// A secret, compared in constant time. Only its digest is kept.
#[derive(Clone, Debug)]
pub struct Token([u8; 20]);

impl Token {
    /// Reads the first line of `file`.
    ///
    /// # Errors
    /// When it can't be read, or its first line is empty.
    pub fn read(file: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(file)?;
        match text.lines().next().map(str::trim) {
            Some(token) if !token.is_empty() => Ok(Self::new(token.as_bytes())),
            _ => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "its first line is empty",
            )),
        }
    }

    /// The token itself.
    #[must_use]
    pub fn new(token: &[u8]) -> Self {
        Self(Sha1::digest(token).into())
    }

    /// Whether an `Authorization` value is `Bearer` and this token. Takes the same time wherever they differ.
    #[must_use]
    pub fn fits(&self, authorization: &[u8]) -> bool {
        let Some((scheme, token)) = authorization.split_at_checked(SCHEME.len()) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return false;
        }
        let offered: [u8; 20] = Sha1::digest(token.trim_ascii()).into();
        let difference = self
            .0
            .iter()
            .zip(offered)
            .fold(0, |difference, (own, offered)| difference | (own ^ offered));
        std::hint::black_box(difference) == 0
    }
}

const SCHEME: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_fits() {
        let token = Token::new(b"s3cret");
        assert!(token.fits(b"Bearer s3cret"));
        assert!(token.fits(b"bearer  s3cret"));
        for wrong in [
            &b"Bearer s3cre"[..],
            b"Bearer s3crett",
            b"Bearer ",
            b"Basic s3cret",
            b"s3cret",
            b"",
        ] {
            assert!(!token.fits(wrong), "{}", wrong.escape_ascii());
        }
    }
}
