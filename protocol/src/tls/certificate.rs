//! Reads of a certificate what it is for and how long it is good (RFC 5280, 4.1). Whether it is genuine is rustls' to say.

/// What is read of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate<'c> {
    /// The Common Name of its subject. `None`: it has none, or several, or one that is not text.
    pub common_name: Option<String>,
    /// The names of hosts that it is for; where it has none, its Common Name.
    pub hosts: Vec<String>,
    /// It is for addresses.
    pub has_addresses: bool,
    /// In seconds since 1970, both inclusive.
    pub not_before: i64,
    /// See `not_before`.
    pub not_after: i64,
    /// Who it is, as bytes.
    pub subject: &'c [u8],
    /// Who has issued it, as bytes.
    pub issuer: &'c [u8],
    /// What it is signed with, if that is nothing that anybody should believe: its name.
    pub weak_signature: Option<&'static str>,
    /// The length of its key in bits, if it is an RSA key.
    pub rsa_bits: Option<usize>,
}

impl<'c> Certificate<'c> {
    /// Reads a certificate in DER. `None`: it is none.
    #[must_use]
    pub fn read(der: &'c [u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).take(SEQUENCE)?);
        let mut fields = Der(certificate.take(SEQUENCE)?);
        fields.skip(VERSION)?;
        fields.take(INTEGER)?;
        let signature = Der(fields.take(SEQUENCE)?).take(OBJECT_ID);
        let issuer = fields.take(SEQUENCE)?;
        let mut validity = Der(fields.take(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = fields.take(SEQUENCE)?;
        let rsa_bits = rsa_bits(fields.take(SEQUENCE)?);
        let (mut hosts, mut has_addresses) = (Vec::new(), false);
        while let Some((tag, value)) = fields.next() {
            if tag == EXTENSIONS {
                (hosts, has_addresses) = alternative_names(value)?;
            }
        }
        let common_name = common_name(subject)?;
        if hosts.is_empty() && !has_addresses {
            hosts.extend(common_name.clone());
        }
        Some(Self {
            common_name,
            hosts,
            has_addresses,
            not_before,
            not_after,
            subject,
            issuer,
            weak_signature: signature.and_then(weak_signature),
            rsa_bits,
        })
    }

    /// Whether it is for the host of that name. Upper and lower case are the same; `*` stands for one label (RFC 9525, 6.3).
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| names_match(own, host))
    }
}

/// Whether a certificate's name covers that of a host.
pub(super) fn names_match(name: &str, host: &str) -> bool {
    let covered = match name.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .filter(|(label, _)| !label.is_empty())
            .map(|(_, rest)| (domain, rest)),
        None => Some((name, host)),
    };
    covered.is_some_and(|(own, asked)| own.eq_ignore_ascii_case(asked))
}

/// The name of a signature that can be forged.
fn weak_signature(algorithm: &[u8]) -> Option<&'static str> {
    let known = WEAK_SIGNATURES.iter().find(|(id, _)| *id == algorithm);
    known.map(|(_, name)| *name)
}

/// `None`: the key is of another kind.
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let mut key = Der(key);
    if Der(key.take(SEQUENCE)?).take(OBJECT_ID)? != RSA {
        return None;
    }
    // So many bits of its last byte are not used: none.
    let bits = key.take(BITS)?.strip_prefix(&[0])?;
    let modulus = Der(Der(bits).take(SEQUENCE)?).take(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let (_, digits) = modulus.split_at(zeros);
    let unused = digits.first()?.leading_zeros();
    Some(8 * digits.len() - unused as usize)
}

/// `None`: what is there is no list of extensions.
fn alternative_names(extensions: &[u8]) -> Option<(Vec<String>, bool)> {
    let mut extensions = Der(Der(extensions).take(SEQUENCE)?);
    let (mut hosts, mut has_addresses) = (Vec::new(), false);
    while let Some((tag, extension)) = extensions.next() {
        let mut extension = Der((tag == SEQUENCE).then_some(extension)?);
        let id = extension.take(OBJECT_ID)?;
        extension.skip(BOOLEAN)?;
        let value = extension.take(OCTETS)?;
        if id != ALTERNATIVE_NAME {
            continue;
        }
        let mut names = Der(Der(value).take(SEQUENCE)?);
        while let Some((tag, name)) = names.next() {
            match tag {
                DNS_NAME => hosts.extend(str::from_utf8(name).ok().map(str::to_owned)),
                IP_ADDRESS => has_addresses = true,
                _ => {}
            }
        }
    }
    Some((hosts, has_addresses))
}

/// `Some(None)`: there is none, or it can be read in two ways.
fn common_name(subject: &[u8]) -> Option<Option<String>> {
    let mut found = Vec::new();
    let mut sets = Der(subject);
    while let Some((tag, set)) = sets.next() {
        let mut set = Der((tag == SET).then_some(set)?);
        while let Some((tag, attribute)) = set.next() {
            let mut attribute = Der((tag == SEQUENCE).then_some(attribute)?);
            if attribute.take(OBJECT_ID)? == COMMON_NAME {
                found.push(attribute.next()?);
            }
        }
    }
    let [(tag, value)] = &found[..] else { return Some(None) };
    let text = match *tag {
        UTF8_TEXT => str::from_utf8(value).ok(),
        PRINTABLE_TEXT | IA5_TEXT | TELETEX_TEXT => str::from_utf8(value).ok().filter(|text| text.is_ascii()),
        _ => None,
    };
    let text = text.filter(|text| !text.is_empty() && !text.contains(char::is_control));
    Some(text.map(str::to_owned))
}

/// In seconds since 1970 (RFC 5280, 4.1.2.5).
fn time((tag, value): (u8, &[u8])) -> Option<i64> {
    let digits = value.strip_suffix(b"Z")?;
    let number = |part: &[u8]| {
        part.iter().try_fold(0_i64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_first_chunk::<2>()?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_first_chunk::<4>()?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let (pairs, []) = rest.as_chunks::<2>() else {
        return None;
    };
    let pairs: Vec<i64> = pairs.iter().map(|pair| number(pair)).collect::<Option<_>>()?;
    let [
        month @ 1..=12,
        day @ 1..=31,
        hour @ 0..24,
        minute @ 0..60,
        second @ 0..=60,
    ] = pairs[..]
    else {
        return None;
    };
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Of the Gregorian calendar, counted in years that begin with March: the day that is added now and then is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// What is left of a value in DER (X.690): one element after the other.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next element's tag and value. `None`: there is none, or it can't be read.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            len @ 0..=0x7f => (usize::from(len), rest),
            // Lengths without end are no DER, and no certificate has four bytes of length.
            count @ 0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(count - 0x80))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The next element's value, which has to have that tag.
    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// Passes over the next element if it has that tag.
    fn skip(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.next()?;
        }
        Some(())
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTF8_TEXT: u8 = 0x0c;
const PRINTABLE_TEXT: u8 = 0x13;
const TELETEX_TEXT: u8 = 0x14;
const IA5_TEXT: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.113549.1.1.4, 1.2.840.113549.1.1.5 and 1.2.840.10045.4.1.
const WEAK_SIGNATURES: [(&[u8], &str); 3] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], "MD5"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "SHA-1"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "SHA-1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, value: &[u8]) -> Vec<u8> {
        let len = value.len();
        let len = match len {
            0..0x80 => vec![len as u8],
            _ => vec![0x82, (len >> 8) as u8, len as u8],
        };
        [&[tag][..], &len, value].concat()
    }

    fn name(values: &[(u8, &str)]) -> Vec<u8> {
        let sets = values.iter().map(|(tag, text)| {
            let attribute = [element(OBJECT_ID, COMMON_NAME), element(*tag, text.as_bytes())].concat();
            element(SET, &element(SEQUENCE, &attribute))
        });
        element(SEQUENCE, &sets.collect::<Vec<_>>().concat())
    }

    fn certificate(subject: &[(u8, &str)], hosts: &[&str], until: (u8, &str)) -> Vec<u8> {
        let names: Vec<u8> = hosts
            .iter()
            .flat_map(|host| element(DNS_NAME, host.as_bytes()))
            .collect();
        let names = element(OCTETS, &element(SEQUENCE, &names));
        let extension = element(
            SEQUENCE,
            &[element(OBJECT_ID, ALTERNATIVE_NAME), element(BOOLEAN, &[255]), names].concat(),
        );
        let extensions = element(EXTENSIONS, &element(SEQUENCE, &extension));
        let validity = [
            element(UTC_TIME, b"700101000000Z"),
            element(until.0, until.1.as_bytes()),
        ]
        .concat();
        let fields = [
            element(VERSION, &element(INTEGER, &[2])),
            element(INTEGER, &[1]),
            element(SEQUENCE, &[]),
            name(&[(UTF8_TEXT, "Issuer")]),
            element(SEQUENCE, &validity),
            name(subject),
            element(SEQUENCE, &[0; 300]),
            if hosts.is_empty() { Vec::new() } else { extensions },
        ];
        element(SEQUENCE, &element(SEQUENCE, &fields.concat()))
    }

    const UNTIL: (u8, &str) = (GENERALIZED_TIME, "20500101000000Z");

    #[test]
    fn names_and_times_are_read() {
        let der = certificate(&[(UTF8_TEXT, "CP1")], &["a.example", "*.b.example"], UNTIL);
        let read = Certificate::read(&der).unwrap();
        assert_eq!(read.common_name.as_deref(), Some("CP1"));
        assert_eq!(read.hosts, ["a.example", "*.b.example"]);
        assert_eq!((read.not_before, read.not_after), (0, 2_524_608_000));
        assert!(read.subject.ends_with(b"CP1") && read.issuer.ends_with(b"Issuer"));
        for (host, is_for) in [
            ("A.example", true),
            ("x.b.example", true),
            ("b.example", false),
            ("x.y.b.example", false),
            (".b.example", false),
            ("c.example", false),
        ] {
            assert_eq!(read.is_for(host), is_for, "{host}");
        }
    }

    #[test]
    fn a_common_name_that_can_be_read_in_two_ways_is_none() {
        let read = |subject: &[(u8, &str)]| {
            let der = certificate(subject, &[], UNTIL);
            Certificate::read(&der).unwrap().common_name
        };
        assert_eq!(read(&[(PRINTABLE_TEXT, "CP-1")]).as_deref(), Some("CP-1"));
        for subject in [
            &[(UTF8_TEXT, "CP1"), (UTF8_TEXT, "CP2")][..],
            &[],
            &[(UTF8_TEXT, "")],
            &[(UTF8_TEXT, "CP1\0.example")],
            &[(PRINTABLE_TEXT, "ü")],
            &[(0x1e, "C\0P\0")],
        ] {
            assert_eq!(read(subject), None, "{subject:?}");
        }
    }

    #[test]
    fn the_length_of_an_rsa_key_is_that_of_its_modulus_and_weak_signatures_have_a_name() {
        let key = |modulus: &[u8]| {
            let numbers = element(SEQUENCE, &[element(INTEGER, modulus), element(INTEGER, &[3])].concat());
            let algorithm = element(SEQUENCE, &element(OBJECT_ID, RSA));
            [algorithm, element(BITS, &[&[0][..], &numbers].concat())].concat()
        };
        for (modulus, bits) in [
            ([&[0, 0x80][..], &[1; 127]].concat(), Some(1024)),
            ([&[0x7f][..], &[1; 127]].concat(), Some(1023)),
            ([&[0, 0xff][..], &[1; 255]].concat(), Some(2048)),
            (vec![1], Some(1)),
            (vec![0], None),
        ] {
            assert_eq!(rsa_bits(&key(&modulus)), bits, "{}", modulus.len());
        }
        let ec = [element(SEQUENCE, &element(OBJECT_ID, &[1, 2])), element(BITS, &[0; 66])].concat();
        assert_eq!(rsa_bits(&ec), None);
        assert_eq!(weak_signature(WEAK_SIGNATURES[1].0), Some("SHA-1"));
        assert_eq!(weak_signature(RSA), None);
    }

    #[test]
    fn a_certificate_without_alternative_names_is_for_its_common_name() {
        let der = certificate(&[(UTF8_TEXT, "a.example")], &[], UNTIL);
        assert!(Certificate::read(&der).unwrap().is_for("a.example"));
    }

    #[test]
    fn times_are_those_of_the_calendar_and_others_are_refused() {
        let until = |tag, text| Certificate::read(&certificate(&[], &[], (tag, text))).map(|read| read.not_after);
        assert_eq!(until(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(until(UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(until(UTC_TIME, "240229120000Z"), Some(1_709_208_000));
        assert_eq!(until(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for wrong in [
            "",
            "Z",
            "2402291200Z",
            "240229120000",
            "241329120000Z",
            "240200120000Z",
            "24022912000aZ",
        ] {
            assert_eq!(until(UTC_TIME, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_is_read_or_refused_and_nothing_else() {
        let der = certificate(&[(UTF8_TEXT, "CP1")], &["a.example"], UNTIL);
        for len in 0..der.len() {
            assert_eq!(Certificate::read(&der[..len]), None, "{len}");
        }
        for place in 0..der.len() {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[place] = value;
                let _ = Certificate::read(&changed);
            }
        }
    }
}
