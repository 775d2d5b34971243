//! Turns what was written into a field's type, within its key's bounds, and back.
//!
//! Parsing a [`Setting::literal`] gives the same value again.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::units::{Size, Time, size_from, time_from};
use super::value::{Kind, Raw, Refusal, ValueError, quote};
use super::{BackendUrl, CertificateFiles, NatsUrl, Network, Ratio, words};
use protocol::capacity::Concurrency;
use protocol::cluster::is_name as is_cluster_name;

/// A type that a key can have.
pub(crate) trait Setting: Sized {
    /// Reads a value that `kind` allows.
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError>;
    /// The value as the config file would hold it.
    fn literal(&self, kind: Kind) -> String;
}

fn refuse(raw: &Raw, why: Refusal) -> ValueError {
    ValueError {
        got: raw.to_string(),
        why,
    }
}

impl Setting for bool {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        match raw {
            Raw::Flag(flag) => Ok(*flag),
            Raw::Words(words) if words == "true" => Ok(true),
            Raw::Words(words) if words == "false" => Ok(false),
            _ => Err(refuse(raw, Refusal::Type(kind))),
        }
    }

    fn literal(&self, _: Kind) -> String {
        self.to_string()
    }
}

/// Counts and sizes.
impl Setting for usize {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let (min, max, number) = match kind {
            Kind::Count { min, max } => (min, max, raw.integer()),
            Kind::Size { min, max } => match raw.text() {
                Some(text) if raw.integer().is_none() => (min, max, size_from(text, kind).map_err(|e| refuse(raw, e))?),
                _ => (min, max, raw.integer()),
            },
            _ => unreachable!("{kind} is not a number"),
        };
        let number = number.ok_or_else(|| refuse(raw, Refusal::Type(kind)))?;
        match u64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(usize::try_from(number).expect("the bounds fit")),
            _ => Err(refuse(raw, Refusal::Range(kind))),
        }
    }

    fn literal(&self, kind: Kind) -> String {
        match kind {
            Kind::Size { .. } => quote(&Size(*self as u64).to_string()),
            _ => self.to_string(),
        }
    }
}

impl Setting for Ratio {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let text = match raw {
            Raw::Integer(number) => number.to_string(),
            Raw::Other(text) | Raw::Words(text) => text.clone(),
            _ => return Err(refuse(raw, Refusal::Type(kind))),
        };
        Ratio::parse(&text).ok_or_else(|| refuse(raw, Refusal::Range(kind)))
    }

    fn literal(&self, _: Kind) -> String {
        self.to_string()
    }
}

/// A number, or that it adapts.
impl Setting for Concurrency {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let Kind::CountOr { word, min, max } = kind else {
            unreachable!("{kind} is not a number or a word")
        };
        if raw.text() == Some(word) {
            return Ok(Self::Auto);
        }
        match raw.integer().map(u64::try_from) {
            Some(Ok(number)) if (min..=max).contains(&number) => {
                Ok(Self::Fixed(usize::try_from(number).expect("the bounds fit")))
            }
            Some(_) => Err(refuse(raw, Refusal::Range(kind))),
            None => Err(refuse(raw, Refusal::Type(kind))),
        }
    }

    fn literal(&self, kind: Kind) -> String {
        match (self, kind) {
            (Self::Fixed(number), _) => number.to_string(),
            (Self::Auto, Kind::CountOr { word, .. }) => quote(word),
            (Self::Auto, _) => unreachable!("{kind} is not a number or a word"),
        }
    }
}

impl Setting for Duration {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let Kind::Time { min, max } = kind else {
            unreachable!("{kind} is not a duration")
        };
        if raw.integer().is_some() || raw.text().is_some_and(|text| text.parse::<i64>().is_ok()) {
            return Err(refuse(raw, Refusal::NoUnit(kind)));
        }
        let text = raw.text().ok_or_else(|| refuse(raw, Refusal::Type(kind)))?;
        let time = time_from(text, kind).map_err(|why| refuse(raw, why))?;
        if (min..=max).contains(&time) {
            Ok(time)
        } else {
            Err(refuse(raw, Refusal::Range(kind)))
        }
    }

    fn literal(&self, _: Kind) -> String {
        quote(&Time(*self).to_string())
    }
}

impl Setting for SocketAddr {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        raw.text()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| refuse(raw, Refusal::Type(kind)))
    }

    fn literal(&self, _: Kind) -> String {
        quote(&self.to_string())
    }
}

/// An address, or none.
impl Setting for Option<SocketAddr> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        match raw.text() {
            Some("") => Ok(None),
            _ => SocketAddr::parse(raw, kind).map(Some),
        }
    }

    fn literal(&self, _: Kind) -> String {
        quote(&self.map_or_else(String::new, |address| address.to_string()))
    }
}

impl Setting for Option<PathBuf> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let text = raw.text().ok_or_else(|| refuse(raw, Refusal::Type(kind)))?;
        if text.contains('\0') {
            return Err(refuse(raw, Refusal::Type(kind)));
        }
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn literal(&self, _: Kind) -> String {
        quote(&self.as_deref().unwrap_or("".as_ref()).to_string_lossy())
    }
}

/// A word that a key allows. The type of a key of [`Kind::Choice`], and in a list that of one of [`Kind::Choices`].
pub trait Word: Copy + PartialEq + 'static {
    /// Each with its spelling, in the order of the key's kind.
    const WORDS: &'static [(&'static str, Self)];

    /// As it is written.
    fn spelling(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, word)| *word == self);
        found.map_or("", |(spelling, _)| spelling)
    }

    /// The word that is spelled so.
    fn find(text: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(spelling, _)| *spelling == text);
        found.map(|(_, word)| *word)
    }
}

/// One word.
impl<W: Word> Setting for W {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let text = match raw {
            // `drain_close = 1001` is meant as `"1001"`.
            Raw::Integer(number) => W::find(&number.to_string()),
            raw => raw.text().and_then(W::find),
        };
        text.ok_or_else(|| refuse(raw, Refusal::Type(kind)))
    }

    fn literal(&self, _: Kind) -> String {
        quote(self.spelling())
    }
}

/// Several words.
impl<W: Word> Setting for Vec<W> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        list(raw, kind, |text| W::find(text).ok_or(Refusal::Type(kind)))
    }

    fn literal(&self, _: Kind) -> String {
        let words: Vec<&str> = self.iter().map(|word| word.spelling()).collect();
        list_literal(&words)
    }
}

impl Setting for Vec<String> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let one = match kind {
            Kind::Subprotocols => words::subprotocol,
            Kind::Headers => words::header,
            Kind::Origins => words::origin,
            Kind::Hosts => words::host,
            Kind::UserAgents => words::user_agent,
            Kind::Members => words::member,
            Kind::PathPrefixes => words::path_prefix,
            _ => unreachable!("{kind} is not a list of texts"),
        };
        let texts = list(raw, kind, |text| Ok(one(text)?))?;
        if texts.is_empty() && kind == Kind::PathPrefixes {
            return Err(refuse(raw, Refusal::Empty(kind)));
        }
        Ok(texts)
    }

    fn literal(&self, _: Kind) -> String {
        list_literal(self)
    }
}

impl Setting for Vec<Network> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        list(raw, kind, |text| Ok(text.parse::<Network>()?))
    }

    fn literal(&self, _: Kind) -> String {
        list_literal(self)
    }
}

impl Setting for Vec<BackendUrl> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let urls = list(raw, kind, |text| Ok(text.parse::<BackendUrl>()?))?;
        if urls.is_empty() {
            Err(refuse(raw, Refusal::Empty(kind)))
        } else {
            Ok(urls)
        }
    }

    fn literal(&self, _: Kind) -> String {
        list_literal(self)
    }
}

/// Without what is secret in them.
impl Setting for Vec<NatsUrl> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        if raw.text() == Some("") {
            return Ok(Vec::new());
        }
        list(raw, kind, |text| Ok(text.parse::<NatsUrl>()?))
    }

    fn literal(&self, _: Kind) -> String {
        list_literal(self)
    }
}

/// A name.
impl Setting for String {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let is_fine = match kind {
            Kind::ClusterName => is_cluster_name,
            Kind::NodeName => words::is_node_name,
            _ => unreachable!("{kind} is not a name"),
        };
        let text = raw.text().filter(|text| is_fine(text));
        text.map(str::to_owned).ok_or_else(|| refuse(raw, Refusal::Type(kind)))
    }

    fn literal(&self, _: Kind) -> String {
        quote(self)
    }
}

/// A certificate, or none.
impl Setting for Option<CertificateFiles> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        match raw.text() {
            Some("") => Ok(None),
            _ => CertificateFiles::from_raw(raw)
                .map(Some)
                .ok_or_else(|| refuse(raw, Refusal::Type(kind))),
        }
    }

    fn literal(&self, _: Kind) -> String {
        self.as_ref().map_or_else(|| quote(""), ToString::to_string)
    }
}

/// One certificate, or several.
impl Setting for Vec<CertificateFiles> {
    fn parse(raw: &Raw, kind: Kind) -> Result<Self, ValueError> {
        let items = match raw {
            Raw::List(items) => &items[..],
            Raw::Words(words) if words.is_empty() => &[],
            _ => std::slice::from_ref(raw),
        };
        if items.len() > CERTIFICATES_MAX {
            return Err(refuse(raw, Refusal::TooMany(CERTIFICATES_MAX)));
        }
        let mut certificates = Vec::with_capacity(items.len());
        for item in items {
            let files = CertificateFiles::from_raw(item).ok_or_else(|| refuse(item, Refusal::Type(kind)))?;
            if certificates.contains(&files) {
                return Err(refuse(item, Refusal::Twice));
            }
            certificates.push(files);
        }
        Ok(certificates)
    }

    fn literal(&self, _: Kind) -> String {
        let items: Vec<String> = self.iter().map(ToString::to_string).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A list: a TOML array of strings, one string alone, or a flag's words between commas. Nothing may come twice.
fn list<T: PartialEq>(raw: &Raw, kind: Kind, one: impl Fn(&str) -> Result<T, Refusal>) -> Result<Vec<T>, ValueError> {
    let texts: Vec<&str> = match raw {
        Raw::Text(text) => vec![text],
        Raw::Words(words) => words
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect(),
        Raw::List(items) => {
            let text = |item: &'_ Raw| match item {
                Raw::Text(_) | Raw::Words(_) => Ok(()),
                _ => Err(refuse(item, Refusal::Type(kind))),
            };
            items.iter().try_for_each(text)?;
            items.iter().filter_map(Raw::text).collect()
        }
        _ => return Err(refuse(raw, Refusal::Type(kind))),
    };
    if texts.len() > LIST_LEN_MAX {
        return Err(refuse(raw, Refusal::TooMany(LIST_LEN_MAX)));
    }
    let mut values = Vec::with_capacity(texts.len());
    for text in texts {
        let error = |why| ValueError { got: quote(text), why };
        let value = one(text).map_err(error)?;
        if values.contains(&value) {
            return Err(error(Refusal::Twice));
        }
        values.push(value);
    }
    Ok(values)
}

/// No list of the configuration is as long; each entry is looked at for every client that comes.
const LIST_LEN_MAX: usize = 128;
/// Each is looked at in every TLS handshake.
const CERTIFICATES_MAX: usize = 64;

fn list_literal<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quote(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::choice::{DRAIN_CLOSE, DrainClose, TLS_VERSIONS, TOLERATED, TlsVersion, Tolerated};

    fn round_trip<T: Setting + PartialEq + fmt::Debug>(kind: Kind, words: &str, literal: &str) {
        let value = T::parse(&Raw::Words(words.to_owned()), kind).expect(words);
        assert_eq!(value.literal(kind), literal, "{words}");
        assert_eq!(
            T::parse(&Raw::from_words(literal), kind).expect(literal),
            value,
            "{words}"
        );
    }

    #[test]
    fn a_literal_means_the_same_value() {
        let (size, time) = (
            Kind::Size { min: 0, max: 1 << 40 },
            Kind::Time {
                min: Duration::ZERO,
                max: Duration::MAX,
            },
        );
        round_trip::<usize>(size, "1536", "\"1536B\"");
        round_trip::<usize>(size, "3072", "\"3KiB\"");
        round_trip::<usize>(size, "1024MiB", "\"1GiB\"");
        round_trip::<usize>(size, "0", "\"0B\"");
        round_trip::<usize>(Kind::Count { min: 0, max: 10 }, "10", "10");
        round_trip::<Duration>(time, "0h", "\"0s\"");
        round_trip::<Duration>(time, "1500ms", "\"1500ms\"");
        round_trip::<Duration>(time, "120s", "\"120s\"");
        round_trip::<Duration>(time, "180s", "\"3m\"");
        round_trip::<Duration>(time, "60m", "\"1h\"");
        let concurrency = Kind::CountOr {
            word: "auto",
            min: 1,
            max: 10,
        };
        round_trip::<Concurrency>(concurrency, "auto", "\"auto\"");
        round_trip::<Concurrency>(concurrency, "10", "10");
        round_trip::<Ratio>(Kind::Ratio, "0.050", "0.05");
        round_trip::<bool>(Kind::Flag, "true", "true");
        round_trip::<SocketAddr>(Kind::Address, "[::1]:80", "\"[::1]:80\"");
        round_trip::<Vec<String>>(Kind::PathPrefixes, "/a, /", "[\"/a/\", \"/\"]");
        round_trip::<Vec<String>>(Kind::Subprotocols, "a,b=a", "[\"a\", \"b=a\"]");
        round_trip::<Vec<String>>(Kind::Hosts, "B.example, a.example.", "[\"b.example\", \"a.example\"]");
        round_trip::<Vec<String>>(Kind::UserAgents, "Java-WebSocket/1.5", "[\"Java-WebSocket/1.5\"]");
        round_trip::<Vec<String>>(Kind::Members, "idTag", "[\"idTag\"]");
        round_trip::<DrainClose>(Kind::Choice(DRAIN_CLOSE), "fin", "\"fin\"");
        round_trip::<Vec<Tolerated>>(Kind::Choices(TOLERATED), "any-key", "[\"any-key\"]");
        round_trip::<Option<PathBuf>>(Kind::OptionalPath, "", "\"\"");
        round_trip::<Option<PathBuf>>(Kind::OptionalPath, "/a \"b\"\\\t", "\"/a \\\"b\\\"\\\\\\u0009\"");
        round_trip::<Option<SocketAddr>>(Kind::OptionalAddress, "", "\"\"");
        round_trip::<Option<SocketAddr>>(Kind::OptionalAddress, "[::1]:80", "\"[::1]:80\"");
        round_trip::<Vec<CertificateFiles>>(Kind::Certificates, "", "[]");
        round_trip::<Option<CertificateFiles>>(Kind::OptionalCertificate, "", "\"\"");
        round_trip::<Vec<TlsVersion>>(Kind::Choices(TLS_VERSIONS), "1.3", "[\"1.3\"]");
        round_trip::<Vec<String>>(Kind::Subprotocols, "a, b", "[\"a\", \"b\"]");
        round_trip::<Vec<Network>>(Kind::Networks, "10.0.0.0/8,::1", "[\"10.0.0.0/8\", \"::1/128\"]");
        round_trip::<Vec<NatsUrl>>(Kind::NatsUrls, "", "[]");
        round_trip::<Vec<NatsUrl>>(
            Kind::NatsUrls,
            "nats://a, tls://b:1",
            "[\"nats://a:4222\", \"tls://b:1\"]",
        );
        round_trip::<String>(Kind::ClusterName, "east-1", "\"east-1\"");
        round_trip::<String>(Kind::NodeName, "", "\"\"");
        round_trip::<String>(Kind::NodeName, "node.1", "\"node.1\"");
        round_trip::<Vec<BackendUrl>>(Kind::Backends, "http://a", "[\"http://a:80\"]");
    }

    #[test]
    fn a_certificate_is_a_table_of_two_files_and_a_list_has_several() {
        let kind = Kind::Certificates;
        let read = |words: &str| Vec::<CertificateFiles>::parse(&Raw::from_words(words), kind);
        let one = read("{ key = \"/k.pem\", chain = \"/c.pem\" }").unwrap();
        let literal = "[{ chain = \"/c.pem\", key = \"/k.pem\" }]";
        assert_eq!(one.literal(kind), literal);
        assert_eq!(read(literal), Ok(one));
        let two = "[{ chain = \"/a\", key = \"/b\" }, { chain = \"/c\", key = \"/b\" }]";
        assert_eq!(read(two).unwrap().literal(kind), two);
        for wrong in [
            "/c.pem",
            "[\"/c.pem\"]",
            "{ chain = \"/c.pem\" }",
            "{ chain = \"/c.pem\", key = \"\" }",
            "{ chain = \"/c.pem\", key = 5 }",
            "{ chain = \"/c.pem\", key = \"/k.pem\", ca = \"/a.pem\" }",
        ] {
            assert!(
                read(wrong).is_err_and(|error| error.why == Refusal::Type(kind)),
                "{wrong}"
            );
        }
        let twice = "[{ chain = \"/c\", key = \"/k\" }, { chain = \"/c\", key = \"/k\" }]";
        assert!(read(twice).is_err_and(|error| error.why == Refusal::Twice));
    }
}
