//! Reads the text of a `.creds` file: what an account says of a user (a JWT), and the seed of the user's key. The seed may stand alone: then
//! the server's configuration knows the key.

use super::connect::Login;
use super::key::{Key, KeyError};

/// What a file of credentials holds.
#[derive(Debug)]
pub struct Credentials {
    jwt: Option<Jwt>,
    key: Key,
}

/// Who has it and the key is let in.
struct Jwt(String);

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jwt")
    }
}

/// Why a text holds no credentials.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CredentialsError {
    /// Neither a block nor a line of its own.
    #[error("it holds no seed of a user: a line that begins with SU, as nsc and nk write it")]
    NoSeed,
    /// The seed is none.
    #[error("{0}")]
    Seed(#[from] KeyError),
    /// A block of the JWT without one, or with something else in it.
    #[error("what stands in its block of the user's JWT is none")]
    Jwt,
}

impl Credentials {
    /// Reads a file's text.
    ///
    /// # Errors
    /// [`CredentialsError`] says what is missing.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let jwt = match block(text, "USER JWT") {
            None => None,
            Some(content) => {
                let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                let jwt = content.filter(|jwt| jwt.bytes().all(is_fine) && jwt.matches('.').count() == 2);
                Some(Jwt(jwt.ok_or(CredentialsError::Jwt)?.to_owned()))
            }
        };
        let alone = || text.lines().map(str::trim).find(|line| line.starts_with("SU"));
        let seed = match block(text, "NKEY SEED") {
            Some(content) => content,
            None => alone(),
        };
        let key = Key::from_seed(seed.ok_or(CredentialsError::NoSeed)?)?;
        Ok(Self { jwt, key })
    }

    /// What a server that has shown this nonce is shown. `signature` is made here.
    pub fn login<'c>(&'c self, nonce: &str, signature: &'c mut String) -> Login<'c> {
        *signature = self.key.sign(nonce);
        match &self.jwt {
            Some(Jwt(jwt)) => Login::Jwt { jwt, signature },
            None => Login::Key {
                public: self.key.public(),
                signature,
            },
        }
    }
}

/// The line inside of `-----BEGIN … name-----` to `------END … name------`; `Some(None)`: nothing is.
fn block<'t>(text: &'t str, name: &str) -> Option<Option<&'t str>> {
    let mut lines = text.lines().map(str::trim);
    let is_mark = |line: &str, word: &str| line.starts_with("---") && line.contains(word) && line.contains(name);
    lines.find(|line| is_mark(line, "BEGIN"))?;
    Some(
        lines
            .find(|line| !line.is_empty())
            .filter(|line| !line.starts_with("---")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";

    fn file(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\r\n{jwt}\r\n------END NATS USER JWT------\r\n\r\n\
             ************************* IMPORTANT *************************\r\n\
             NKEY Seed printed below can be used to sign and prove identity.\r\nSUCH is life\r\n\r\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n**********\n"
        )
    }

    #[test]
    fn a_file_of_credentials_is_read_as_nsc_writes_it() {
        let credentials = Credentials::parse(&file("eyJ0.eyJq.a-_b", SEED)).unwrap();
        let mut signature = String::new();
        let Login::Jwt { jwt, signature } = credentials.login("nonce", &mut signature) else {
            panic!("it has a JWT")
        };
        assert_eq!((jwt, signature.len()), ("eyJ0.eyJq.a-_b", 86));
        assert!(!format!("{credentials:?}").contains("eyJ"));
        for text in [SEED.to_owned(), format!("# a comment\n\n  {SEED}\n")] {
            let credentials = Credentials::parse(&text).unwrap();
            let mut signature = String::new();
            assert!(matches!(
                credentials.login("nonce", &mut signature),
                Login::Key { public, .. } if public.starts_with('U')
            ));
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, error) in [
            (String::new(), CredentialsError::NoSeed),
            ("password".to_owned(), CredentialsError::NoSeed),
            (file("a.b.c", ""), CredentialsError::NoSeed),
            (file("a.b.c", "SU"), CredentialsError::Seed(KeyError::Form)),
            (file("", SEED), CredentialsError::Jwt),
            (file("a.b", SEED), CredentialsError::Jwt),
            (file("a.b.c d", SEED), CredentialsError::Jwt),
        ] {
            assert_eq!(Credentials::parse(&text).err(), Some(error), "{text}");
        }
    }
}
