//! Makes chargers' ids of their numbers: `LOAD{}`, or `CP{:06}` for six digits.

use protocol::ocpp::ids::ClientId;

/// What ids look like.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ids {
    before: String,
    digits: usize,
    after: String,
}

impl Ids {
    /// Reads a pattern; one without a place for the number is good for one charger.
    ///
    /// # Errors
    /// Why it makes no ids.
    pub(super) fn parse(pattern: &str, chargers: u32) -> Result<Self, String> {
        let ids = match pattern.split_once('{') {
            None if chargers == 1 => Self {
                before: pattern.to_owned(),
                digits: 0,
                after: String::new(),
            },
            None => {
                return Err("chargers have an id each: {} stands for the number, such as CP{} or CP{:06}".to_owned());
            }
            Some((before, rest)) => {
                let (place, after) = rest.split_once('}').ok_or("{ without }")?;
                let digits = match place {
                    "" => Some(1),
                    _ => place.strip_prefix(':').and_then(|digits| digits.parse().ok()),
                };
                Self {
                    before: before.to_owned(),
                    digits: digits
                        .filter(|digits| (1..=20).contains(digits))
                        .ok_or("written as CP{} or, for six digits, CP{:06}")?,
                    after: after.to_owned(),
                }
            }
        };
        let longest = ids.text(chargers);
        ClientId::parse(&longest)
            .map_err(|_| format!("{longest} is no ClientId: 1 to 128 bytes without control characters, / or \\"))?;
        Ok(ids)
    }

    /// The id of the charger number `number`, from 1 on.
    pub(super) fn text(&self, number: u32) -> String {
        let Self { before, digits, after } = self;
        match digits {
            0 => before.clone(),
            _ => format!("{before}{number:0digits$}{after}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_a_place_for_the_number() {
        for (pattern, number, id) in [
            ("LOAD{}", 7, "LOAD7"),
            ("CP{:06}-a", 7, "CP000007-a"),
            ("{:3}", 12_345, "12345"),
        ] {
            assert_eq!(Ids::parse(pattern, 12_345).unwrap().text(number), id, "{pattern}");
        }
        assert_eq!(Ids::parse("CP1", 1).unwrap().text(1), "CP1");
        for pattern in ["CP1", "CP{", "CP{x}", "CP{:}", "CP{:99}", "a/{}", ""] {
            assert!(Ids::parse(pattern, 2).is_err(), "{pattern}");
        }
    }
}
