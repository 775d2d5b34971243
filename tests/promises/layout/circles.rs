//! Finds the circles in a graph of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every set of at least two files each of which leads to all others, the largest first.
pub fn circles(arrows: &BTreeSet<(String, String)>) -> Vec<Vec<String>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in arrows {
        next.entry(from).or_default().push(to);
    }
    let reach = |start: &str| {
        let mut seen = BTreeSet::new();
        let mut left: Vec<&str> = next.get(start).cloned().unwrap_or_default();
        while let Some(file) = left.pop() {
            if seen.insert(file.to_owned()) {
                left.extend(next.get(file).into_iter().flatten());
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = next.keys().map(|file| (*file, reach(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reaches) in &reached {
        let is_back = |other: &&String| reached.get(other.as_str()).is_some_and(|back| back.contains(*file));
        let circle: Vec<String> = reaches.iter().filter(is_back).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

/// Two files of one folder below `src`, or a file and one of its parts.
pub fn is_pair_of_one_folder(circle: &[String]) -> bool {
    let [one, other] = circle else { return false };
    let folder = |file: &str| Path::new(file).parent().map(Path::to_path_buf);
    let parts = |file: &str| Some(Path::new(file).with_extension(""));
    let is_top = |file: &str| Path::new(file).parent().is_some_and(|folder| folder.ends_with("src"));
    (folder(one) == folder(other) && !is_top(one)) || parts(one) == folder(other) || parts(other) == folder(one)
}
