//! Writes how a client introduces itself.

use crate::ocpp::json;

/// Who connects.
#[derive(Clone, Debug)]
pub struct Connect<'c> {
    /// What operators of NATS see of it.
    pub name: &'c str,
    /// The program's version.
    pub version: &'c str,
    /// Whether this travels over TLS.
    pub is_tls: bool,
    /// By what it is let in.
    pub login: Login<'c>,
}

/// What a client shows. The signatures are those of the nonce of the server's [`Info`](super::Info).
#[derive(Clone, Copy)]
pub enum Login<'c> {
    /// Nothing.
    None,
    /// A name and a password.
    User {
        /// Who.
        name: &'c str,
        /// The secret.
        password: &'c str,
    },
    /// One secret.
    Token(&'c str),
    /// What an account says of this user, and a signature with the user's key.
    Jwt {
        /// As it is in the file.
        jwt: &'c str,
        /// In base64url.
        signature: &'c str,
    },
    /// A key that the server's configuration knows.
    Key {
        /// The public one.
        public: &'c str,
        /// In base64url.
        signature: &'c str,
    },
}

/// Secrets are not shown.
impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::User { .. } => "User",
            Self::Token(_) => "Token",
            Self::Jwt { .. } => "Jwt",
            Self::Key { .. } => "Key",
        })
    }
}

impl Connect<'_> {
    /// Appends it. Nothing is acknowledged, messages may have headers, and it is said when nobody is there.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut text = String::from(
            r#"CONNECT {"verbose":false,"pedantic":false,"lang":"rust","protocol":1,"headers":true,"no_responders":true"#,
        );
        text.push_str(if self.is_tls {
            r#","tls_required":true"#
        } else {
            r#","tls_required":false"#
        });
        let mut member = |name: &str, value: &str| {
            text.push_str(",\"");
            text.push_str(name);
            text.push_str("\":");
            json::write_string(&mut text, value);
        };
        member("name", self.name);
        member("version", self.version);
        match self.login {
            Login::None => {}
            Login::User { name, password } => {
                member("user", name);
                member("pass", password);
            }
            Login::Token(token) => member("auth_token", token),
            Login::Jwt { jwt, signature } => {
                member("jwt", jwt);
                member("sig", signature);
            }
            Login::Key { public, signature } => {
                member("nkey", public);
                member("sig", signature);
            }
        }
        text.push_str("}\r\n");
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(login: Login<'_>) -> Value {
        let connect = Connect {
            name: "n \"1\"\r\nPUB x 0",
            version: "0.1.0",
            is_tls: true,
            login,
        };
        let mut out = Vec::new();
        connect.write(&mut out);
        let line = str::from_utf8(&out).unwrap().strip_suffix("\r\n").unwrap();
        assert!(!line.contains(['\r', '\n']), "{line}");
        serde_json::from_str(line.strip_prefix("CONNECT ").unwrap()).unwrap()
    }

    #[test]
    fn it_is_one_line_whatever_is_in_it() {
        let value = written(Login::User {
            name: "a\n",
            password: "\"}",
        });
        assert_eq!((&value["user"], &value["pass"]), (&json!("a\n"), &json!("\"}")));
        assert_eq!(value["name"], "n \"1\"\r\nPUB x 0");
        for name in ["headers", "no_responders", "tls_required"] {
            assert_eq!(value[name], true, "{name}");
        }
        assert_eq!((&value["verbose"], &value["protocol"]), (&json!(false), &json!(1)));
        assert_eq!(written(Login::Token("t"))["auth_token"], "t");
        let value = written(Login::Jwt {
            jwt: "j",
            signature: "s",
        });
        assert_eq!(
            (&value["jwt"], &value["sig"], &value["nkey"]),
            (&json!("j"), &json!("s"), &Value::Null)
        );
        let value = written(Login::Key {
            public: "U",
            signature: "s",
        });
        assert_eq!((&value["nkey"], &value["sig"]), (&json!("U"), &json!("s")));
        assert!(written(Login::None).get("user").is_none());
        assert_eq!(format!("{:?}", Login::Token("secret")), "Token");
    }
}
