//! Reads of a certificate what people ask about it: whose it is, for which names, and how long (RFC 5280, 4.1).
//!
//! It verifies nothing; rustls does.

/// What a certificate says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The subject's last common name.
    pub common_name: Option<String>,
    /// From when on, in seconds since 1970.
    pub not_before: i64,
    /// Until when, in seconds since 1970.
    pub not_after: i64,
    /// The names of hosts among the subject's alternative names, as they stand there.
    pub dns_names: Vec<String>,
}

/// Reads one in DER. None: it is no certificate.
#[must_use]
pub fn read(der: &[u8]) -> Option<Certificate> {
    let mut fields = Der(Der(Der(der).take(SEQUENCE)?).take(SEQUENCE)?);
    fields.take_if(VERSION);
    fields.take(INTEGER)?;
    fields.take(SEQUENCE)?;
    fields.take(SEQUENCE)?;
    let mut validity = Der(fields.take(SEQUENCE)?);
    let (not_before, not_after) = (validity.time()?, validity.time()?);
    let common_name = common_name(fields.take(SEQUENCE)?)?;
    fields.take(SEQUENCE)?;
    fields.take_if(ISSUER_ID);
    fields.take_if(SUBJECT_ID);
    let dns_names = match fields.take_if(EXTENSIONS) {
        Some(extensions) => dns_names(extensions)?,
        None => Vec::new(),
    };
    Some(Certificate {
        common_name,
        not_before,
        not_after,
        dns_names,
    })
}

/// None: it is no name. A text that nobody writes any more, in two bytes a letter, is no common name.
fn common_name(subject: &[u8]) -> Option<Option<String>> {
    let mut common_name = None;
    let mut sets = Der(subject);
    while !sets.0.is_empty() {
        let mut set = Der(sets.take(SET)?);
        while !set.0.is_empty() {
            let mut pair = Der(set.take(SEQUENCE)?);
            let kind = pair.take(OBJECT_ID)?;
            let (tag, value) = pair.next()?;
            if kind == COMMON_NAME && matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING) {
                common_name = str::from_utf8(value).ok().map(str::to_owned);
            }
        }
    }
    Some(common_name)
}

fn dns_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut extensions = Der(Der(extensions).take(SEQUENCE)?);
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.take(SEQUENCE)?);
        let kind = extension.take(OBJECT_ID)?;
        extension.take_if(BOOLEAN);
        let value = extension.take(OCTET_STRING)?;
        if kind != SUBJECT_ALT_NAME {
            continue;
        }
        let mut all = Der(Der(value).take(SEQUENCE)?);
        while !all.0.is_empty() {
            if let (DNS_NAME, name) = all.next()? {
                names.extend(str::from_utf8(name).ok().map(str::to_owned));
            }
        }
    }
    Some(names)
}

/// What has not been read of some DER.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next value and its tag.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let tag = *self.0.split_off_first()?;
        let len = match *self.0.split_off_first()? {
            short @ ..=0x7f => short.into(),
            long @ 0x81..=0x83 => {
                let digits = self.0.split_off(..usize::from(long & 0x7f))?;
                digits.iter().fold(0, |len, byte| len << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        Some((tag, self.0.split_off(..len)?))
    }

    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    fn take_if(&mut self, tag: u8) -> Option<&'d [u8]> {
        if self.0.first() == Some(&tag) {
            self.take(tag)
        } else {
            None
        }
    }

    /// `YYMMDDhhmmssZ` from 1950 to 2049, or with the whole year.
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let digits = text.strip_suffix(b"Z")?;
        let (year, rest) = match tag {
            UTC_TIME => digits.split_at_checked(2)?,
            GENERALIZED_TIME => digits.split_at_checked(4)?,
            _ => return None,
        };
        let year = match number(year)? {
            short if tag == UTC_TIME => short + if short < 50 { 2000 } else { 1900 },
            long => long,
        };
        let [month, day, hour, minute, second] = parts(rest)?;
        let is_good = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
        is_good.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
    }
}

fn parts(digits: &[u8]) -> Option<[i64; 5]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let [a, b, c, d, e] = pairs else { return None };
    rest.is_empty().then_some(())?;
    Some([number(a)?, number(b)?, number(c)?, number(d)?, number(e)?])
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// From 1970-01-01 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March ends with the leap day.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_years = year * 365 + year / 4 - year / 100 + year / 400;
    let of_months = (month * 153 + 2) / 5;
    of_years + of_months + day - 1 - DAYS_TO_1970
}

/// From the first of March in the year 0.
const DAYS_TO_1970: i64 = 719_468;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const DNS_NAME: u8 = 0x82;
// Of a certificate's fields, those that need not be there.
const VERSION: u8 = 0xa0;
const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd};

    use super::*;

    fn der(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(["csms.example".to_owned(), "*.ocpp.example".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_dates_are_read() {
        let der = der(|params| {
            params.not_before = date_time_ymd(2024, 2, 29);
            params.not_after = date_time_ymd(2050, 1, 1);
            params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
            params.distinguished_name.push(DnType::OrganizationName, "ACME");
            params.distinguished_name.push(DnType::CommonName, "CP Ä1");
        });
        let certificate = read(&der).unwrap();
        assert_eq!(
            certificate,
            Certificate {
                common_name: Some("CP Ä1".to_owned()),
                // One is written with two digits of the year, the other with four.
                not_before: 1_709_164_800,
                not_after: 2_524_608_000,
                dns_names: vec!["csms.example".to_owned(), "*.ocpp.example".to_owned()],
            }
        );
    }

    #[test]
    fn a_common_name_is_read_in_the_encodings_that_are_ascii_or_utf_8() {
        let printable = DnValue::PrintableString("CP-1".try_into().unwrap());
        let two_bytes = DnValue::BmpString("CP-1".try_into().unwrap());
        for (value, name) in [(printable, Some("CP-1")), (two_bytes, None)] {
            let der = der(|params| params.distinguished_name.push(DnType::CommonName, value));
            assert_eq!(read(&der).unwrap().common_name.as_deref(), name);
        }
        let nobody = der(|params| params.distinguished_name = rcgen::DistinguishedName::new());
        assert_eq!(read(&nobody).unwrap().common_name, None);
    }

    #[test]
    fn what_is_cut_off_or_garbled_is_none_or_something_else_and_never_a_panic() {
        let der = der(|params| params.distinguished_name.push(DnType::CommonName, "CP1"));
        let whole = read(&der).unwrap();
        for len in 0..der.len() {
            assert_eq!(read(&der[..len]), None, "{len}");
        }
        for at in 0..der.len() {
            for bit in 0..8 {
                let mut garbled = der.clone();
                garbled[at] ^= 1 << bit;
                let _ = read(&garbled);
            }
        }
        assert_eq!(read(&der), Some(whole));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (date, day) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((1999, 12, 31), 10_956),
        ] {
            assert_eq!(days(date.0, date.1, date.2), day, "{date:?}");
        }
    }
}
