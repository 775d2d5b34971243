//! Holds the documents against the repository: links lead to files and headings that are there, and every rule
//! that is cited is in the contract.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let documents = files(&["md"]);
    assert!(documents.len() >= 10, "the documents were found: {documents:?}");
    let mut count = 0;
    let mut broken = Vec::new();
    for document in &documents {
        let folder = document.parent().expect("a file is in a folder");
        for link in links(&read(document)) {
            count += 1;
            if let Some(why) = complaint(document, folder, &link) {
                broken.push(format!("{}: ({link}) {why}", shown(document)));
            }
        }
    }
    assert!(count >= 60, "the links were found: {count}");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_rule_that_is_cited_is_in_the_contract() {
    let page = read(&root().join("docs/contract.md"));
    let rules: BTreeSet<&str> = page.lines().filter_map(rule_of_row).collect();
    assert!(rules.len() >= 150, "the rules were found: {}", rules.len());
    let sections: BTreeSet<&str> = rules.iter().filter_map(|rule| Some(rule.rsplit_once('-')?.0)).collect();
    let mut unknown = Vec::new();
    for file in files(&["md", "rs", "toml"]) {
        for (index, line) in read(&file).lines().enumerate() {
            for cited in line.split('`').skip(1).step_by(2) {
                let in_a_section = split_rule(cited).is_some_and(|(section, _)| sections.contains(section));
                if in_a_section && !rules.contains(cited) {
                    unknown.push(format!("{}:{}: {cited}", shown(&file), index + 1));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn a_document_that_is_wrong_is_noticed() {
    let text = "[a](b.md) `[no](c.md)` ![d](e.png)\n```\n[no](f.md)\n```\n    [no](g.md)\n[h](i.md#j) [k](#l)";
    assert_eq!(links(text), ["b.md", "e.png", "i.md#j", "#l"]);
    let readme = root().join("README.md");
    let of = |link: &str| complaint(&readme, &root(), link);
    for good in [
        "docs/contract.md",
        "docs",
        "docs/contract.md#calls",
        "#two-commands",
        "https://example.com/x",
    ] {
        assert_eq!(of(good), None, "{good}");
    }
    for bad in [
        "docs/nothing.md",
        "docs/contract.md#nothing",
        "#nothing",
        "/docs/contract.md",
    ] {
        assert!(of(bad).is_some(), "{bad}");
    }
    assert_eq!(slug("`a_b`: what, [c](d) & e-f?"), "a_b-what-c--e-f");
    assert_eq!(rule_of_row("| call-3 | A rule. | `a::b` |"), Some("call-3"));
    assert_eq!(split_rule("call-x"), None);
}

/// What is wrong with a link in `document`, if anything. Links to other machines are believed.
fn complaint(document: &Path, folder: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => document.to_owned(),
        file if file.starts_with('/') => return Some("is not relative".to_owned()),
        file => folder.join(file),
    };
    if !target.exists() {
        return Some("is not there".to_owned());
    }
    let is_document = target.extension().is_some_and(|extension| extension == "md");
    let has_heading = |text: &str| headings(text).any(|known| known == heading);
    let is_found = heading.is_empty() || !is_document || has_heading(&read(&target));
    (!is_found).then(|| "has no such heading".to_owned())
}

/// The targets of Markdown's links and images, but those in code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        for rest in plain.split("](").skip(1) {
            links.extend(rest.split_once(')').map(|(target, _)| target.to_owned()));
        }
    }
    links
}

fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| slug(line.trim_start_matches('#').trim()))
}

/// The lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !is_fence && !in_code && !line.starts_with("    ")
    })
}

/// A heading's name in a link, as GitHub makes it.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    // Of a link in a heading only the words count.
    for (index, part) in heading.split("](").enumerate() {
        text.push_str(if index == 0 {
            part
        } else {
            part.split_once(')').map_or(part, |(_, rest)| rest)
        });
    }
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn rule_of_row(line: &str) -> Option<&str> {
    let id = line.strip_prefix("| ")?.split_once(" |")?.0;
    split_rule(id).map(|_| id)
}

fn split_rule(id: &str) -> Option<(&str, usize)> {
    let (section, number) = id.rsplit_once('-')?;
    Some((section, number.parse().ok()?))
}

/// All files of the repository with one of these extensions, this one left out.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().expect("names are text");
            let extension = path
                .extension()
                .map_or("", |extension| extension.to_str().expect("names are text"));
            if entry.file_type().unwrap().is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if extensions.contains(&extension) && !path.ends_with("documents.rs") && !name.starts_with('.') {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Its text. What is no UTF-8 (a seed of a fuzz target) is read as far as it goes.
fn read(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Folders that hold what others wrote, what was built and what was found.
const NOT_OURS: &[&str] = &[
    ".git",
    "target",
    "node_modules",
    "vendor",
    "corpus",
    "artifacts",
    "seeds",
    "__pycache__",
];
