//! Reads what a server says of itself.

use crate::ocpp::json;

/// Of a server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Info {
    /// Its name, or else its id. Nothing in it moves a cursor, and it has 255 bytes at most; so has the version.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The longest payload that it takes, in bytes.
    pub payload_len_max: usize,
    /// It wants TLS from now on.
    pub is_tls_required: bool,
    /// It speaks TLS with those who want it.
    pub is_tls_available: bool,
    /// It knows headers, and so how to say that nobody is there.
    pub has_headers: bool,
    /// What a client signs that has a key.
    pub nonce: Option<String>,
    /// Where it and others of its kind are: `host:port`, some of them at most.
    pub addresses: Vec<String>,
    /// It is about to end, and its clients had better go elsewhere.
    pub is_lame_duck: bool,
}

impl Info {
    /// Reads a JSON object; `None`: it is none, or says something of another type.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text = json::check_value(text, DEPTH_MAX).ok()?;
        let members = json::members(
            text,
            [
                "server_name",
                "server_id",
                "version",
                "max_payload",
                "tls_required",
                "tls_available",
                "headers",
                "nonce",
                "connect_urls",
                "ldm",
            ],
        )?;
        let [
            name,
            id,
            version,
            payload_len_max,
            tls_required,
            tls_available,
            headers,
            nonce,
            addresses,
            lame_duck,
        ] = members;
        Some(Self {
            name: words(name.or(id))?,
            version: words(version)?,
            payload_len_max: payload_len_max.map_or(Some(PAYLOAD_LEN_MAX), |number| number.parse().ok())?,
            is_tls_required: flag(tls_required)?,
            is_tls_available: flag(tls_available)?,
            has_headers: flag(headers)?,
            nonce: match nonce {
                None => None,
                Some(raw) => Some(json::unescape_string(raw).ok()?.into_owned()),
            },
            addresses: addresses.map_or(Some(Vec::new()), strings)?,
            is_lame_duck: flag(lame_duck)?,
        })
    }
}

fn flag(raw: Option<&str>) -> Option<bool> {
    match raw {
        None | Some("false" | "null") => Some(false),
        Some("true") => Some(true),
        Some(_) => None,
    }
}

/// A text that people read.
fn words(raw: Option<&str>) -> Option<String> {
    let Some(raw) = raw else {
        return Some(String::new());
    };
    let text = json::unescape_string_lossy(raw).ok()?;
    let mut words = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if words.len() + character.len_utf8() > WORDS_LEN_MAX {
            break;
        }
        words.push(character);
    }
    Some(words)
}

/// Those of an array, the first ones.
fn strings(raw: &str) -> Option<Vec<String>> {
    let bytes = raw.as_bytes();
    let mut strings = Vec::new();
    if raw == "null" {
        return Some(strings);
    }
    if bytes.first() != Some(&b'[') {
        return None;
    }
    let mut at = 0;
    while strings.len() < ADDRESSES_MAX {
        // At the opening bracket or a comma.
        at = json::skip_space(bytes, at + 1);
        if bytes.get(at) != Some(&b'"') {
            break;
        }
        let end = json::value_end(bytes, at);
        strings.push(json::unescape_string(raw.get(at..end)?).ok()?.into_owned());
        at = json::skip_space(bytes, end);
    }
    Some(strings)
}

const DEPTH_MAX: usize = 8;
const WORDS_LEN_MAX: usize = 255;
const ADDRESSES_MAX: usize = 64;
/// As servers have it where nobody has set it.
const PAYLOAD_LEN_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nats_server_says_is_understood() {
        let text = br#" {"server_id":"NDZC","server_name":"n1","version":"2.9.10","proto":1,"go":"go1.19.5","host":"0.0.0.0","port":4222,"headers":true,"auth_required":true,"tls_required":true,"max_payload":1048576,"client_id":5,"client_ip":"127.0.0.1","nonce":"wwHyAi1tE2YpQd8","cluster":"c","connect_urls":["10.0.0.1:4222", "[fe80::1]:4222"],"ldm":true} "#;
        let info = Info::read(text).unwrap();
        assert_eq!(
            info,
            Info {
                name: "n1".into(),
                version: "2.9.10".into(),
                payload_len_max: 1 << 20,
                is_tls_required: true,
                is_tls_available: false,
                has_headers: true,
                nonce: Some("wwHyAi1tE2YpQd8".into()),
                addresses: vec!["10.0.0.1:4222".into(), "[fe80::1]:4222".into()],
                is_lame_duck: true,
            }
        );
    }

    #[test]
    fn little_is_needed_and_what_has_another_type_is_refused() {
        let info = Info::read(b"{}").unwrap();
        assert_eq!((info.payload_len_max, info.has_headers), (1 << 20, false));
        assert_eq!(Info::read(br#"{"server_id":"X"}"#).unwrap().name, "X");
        for text in [
            "",
            "[]",
            "x",
            "{",
            r#"{"headers":1}"#,
            r#"{"max_payload":-1}"#,
            r#"{"max_payload":"1"}"#,
            r#"{"max_payload":1e6}"#,
            r#"{"server_name":7}"#,
            r#"{"nonce":null}"#,
            r#"{"connect_urls":{}}"#,
        ] {
            assert_eq!(Info::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_are_cut_and_move_no_cursor() {
        let text = format!(r#"{{"server_name":"\u001b[2J{}"}}"#, "ü".repeat(200));
        let name = Info::read(text.as_bytes()).unwrap().name;
        assert!(name.starts_with("[2Jü") && (250..=255).contains(&name.len()), "{name}");
        let many = format!(r#"{{"connect_urls":["{}"]}}"#, ["a:1"; 70].join("\",\""));
        assert_eq!(Info::read(many.as_bytes()).unwrap().addresses.len(), ADDRESSES_MAX);
    }
}
