//! Reads and writes a part of a whole, such as 0.01.

use std::fmt;

/// A part of a whole, in millionths.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ratio(u32);

impl Ratio {
    /// What `text` says, from 0 to 1. `None`: it is no such number, or less than a millionth and not 0.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let number: f64 = text.parse().ok().filter(|_| is_plain)?;
        let millionths = (number * WHOLE).round();
        ((0.0..=1.0).contains(&number) && (millionths > 0.0 || number == 0.0)).then_some(Self(millionths as u32))
    }

    /// True of 0.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether the one with this random number is among them: of many, as many as the ratio says.
    #[must_use]
    pub fn takes(self, random: u32) -> bool {
        u64::from(random) * (WHOLE as u64) < u64::from(self.0) << 32
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / WHOLE)
    }
}

const WHOLE: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_number_from_0_to_1() {
        for (text, shown) in [
            ("0", "0"),
            ("1", "1"),
            ("1.0", "1"),
            ("0.01", "0.01"),
            (".5", "0.5"),
            ("0.000001", "0.000001"),
        ] {
            assert_eq!(Ratio::parse(text).expect(text).to_string(), shown);
        }
        for text in [
            "",
            ".",
            "-0",
            "1.1",
            "1.0000001",
            "1e-2",
            "inf",
            "NaN",
            "0.0000001",
            "1 %",
            "+1",
        ] {
            assert_eq!(Ratio::parse(text), None, "{text}");
        }
    }

    #[test]
    fn of_many_as_many_are_taken_as_it_says() {
        let count = |text: &str| {
            let ratio = Ratio::parse(text).unwrap();
            (0..=u32::MAX)
                .step_by(1 << 16)
                .filter(|random| ratio.takes(*random))
                .count()
        };
        assert_eq!((count("0"), count("0.25"), count("1")), (0, 1 << 14, 1 << 16));
        let all = Ratio::parse("1").unwrap();
        assert!(all.takes(u32::MAX) && !Ratio::default().takes(0));
    }
}
