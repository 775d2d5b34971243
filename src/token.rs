//! Knows the tokens that requests at the ingress and at the admin address must carry, where they are configured.
//!
//! There may be two at once: while a token is replaced, those who send the new one and those who still send the old one
//! are let in.

use std::path::Path;

use sha1::{Digest, Sha1};

/// One secret, or two that are as good as each other, compared in constant time. Only their digests are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    digest: Digest20,
    other: Option<Digest20>,
}

type Digest20 = [u8; 20];

/// The tokens of a process; `None`: everybody may ask.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tokens {
    /// What pushes must carry.
    pub ingress: Option<Token>,
    /// What operators must.
    pub admin: Option<Token>,
}

impl Token {
    /// Reads `file`: a token on its first line, and another one on its second, if there is any.
    ///
    /// # Errors
    /// When it can't be read, its first line is empty, or there are more than two.
    pub fn read(file: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(file)?;
        Self::parse(&text).map_err(|why| std::io::Error::new(std::io::ErrorKind::InvalidData, why))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines().map(str::trim);
        let first = lines.next().filter(|token| !token.is_empty());
        let first = first.ok_or("its first line is empty")?;
        let second = lines.next().filter(|token| !token.is_empty());
        if lines.any(|line| !line.is_empty()) {
            return Err("it holds more than two lines; each of them would be a token");
        }
        Ok(Self {
            digest: Sha1::digest(first).into(),
            other: second.map(|token| Sha1::digest(token).into()),
        })
    }

    /// How many secrets are good: 1 or 2.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + usize::from(self.other.is_some())
    }

    /// Whether `secret` is the token, or one of the two. Takes the same time wherever they differ.
    #[must_use]
    pub fn is(&self, secret: &[u8]) -> bool {
        let offered: Digest20 = Sha1::digest(secret).into();
        let difference = |own: &Digest20| {
            let bits = own.iter().zip(offered);
            bits.fold(0, |difference, (own, offered)| difference | (own ^ offered))
        };
        // Where there is one, it is compared twice.
        let first = std::hint::black_box(difference(&self.digest));
        let second = std::hint::black_box(difference(self.other.as_ref().unwrap_or(&self.digest)));
        (first == 0) | (second == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_fits() {
        let token = Token::parse("s3cret\n").unwrap();
        assert_eq!(token.count(), 1);
        assert!(token.is(b"s3cret"));
        for wrong in [&b"s3cre"[..], b"s3crett", b"S3cret", b""] {
            assert!(!token.is(wrong), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn of_two_tokens_both_fit_and_three_are_refused() {
        let token = Token::parse("old\r\n new \n\n").unwrap();
        assert_eq!(token.count(), 2);
        assert!(token.is(b"old") && token.is(b"new"));
        assert!(!token.is(b"oldnew") && !token.is(b"") && !token.is(b"old\nnew"));
        assert!(Token::parse("\nnew\n").is_err_and(|why| why.contains("first line is empty")));
        assert!(Token::parse("a\nb\nc\n").is_err_and(|why| why.contains("more than two")));
        assert_eq!(Token::parse("a\n").unwrap(), Token::parse("a").unwrap());
        assert_ne!(Token::parse("a\nb").unwrap(), Token::parse("a").unwrap());
    }
}
