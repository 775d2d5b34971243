//! The name that was probably meant.

/// The candidate nearest to `wrong`, if it is near enough for a typing error: a third of the letters, at least one.
#[must_use]
pub fn suggest<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.replace('-', "_").to_ascii_lowercase();
    if wrong.len() > WORD_LEN_MAX {
        return None;
    }
    candidates
        .map(|candidate| (distance(&wrong, &candidate.replace('-', "_")), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().min(wrong.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Nobody mistypes a word this long; the table would only take time.
const WORD_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_errors() {
        let cases = [
            ("", "", 0),
            ("a", "", 1),
            ("listen", "listne", 1),
            ("cores", "core", 1),
            ("kitten", "sitting", 3),
        ];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

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
