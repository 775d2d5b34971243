//! Finds the name that was probably meant.

use strsim::osa_distance;

/// The candidate nearest to `wrong`, if it is near enough for a typing error: a third of the letters, at least one. A
/// letter is inserted, removed, replaced or swapped with its neighbour.
#[must_use]
pub fn suggest<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.replace('-', "_").to_ascii_lowercase();
    if wrong.len() > WORD_LEN_MAX {
        return None;
    }
    candidates
        .map(|candidate| (osa_distance(&wrong, &candidate.replace('-', "_")), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().min(wrong.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Nobody mistypes a word this long; the table would only take time.
const WORD_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_corrected_and_another_word_is_not() {
        let names = || ["clients_max", "listen", "cpu", "call_timeout"].into_iter();
        assert_eq!(suggest("client_max", names()), Some("clients_max"));
        assert_eq!(suggest("Clients-Max", names()), Some("clients_max"));
        assert_eq!(suggest("lsiten", names()), Some("listen"));
        assert_eq!(suggest("cpus", names()), Some("cpu"));
        assert_eq!(suggest("workers", names()), None);
        assert_eq!(suggest("", names()), None);
        assert_eq!(suggest(&"x".repeat(100_000), names()), None);
    }
}
