//! Holds the documents against the repository: links lead to files and headings that are there, and nothing cites a
//! document or a rule that is not.

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
fn every_path_that_a_document_names_is_there() {
    let mut count = 0;
    let mut missing = Vec::new();
    for document in files(&["md"]) {
        // These speak of the past.
        if shown(&document).starts_with("docs/measurements/") || document.ends_with("CHANGELOG.md") {
            continue;
        }
        let folder = document.parent().expect("a file is in a folder");
        for path in paths(&read(&document)) {
            count += 1;
            if !root().join(&path).exists() && !folder.join(&path).exists() {
                missing.push(format!("{}: {path}", shown(&document)));
            }
        }
    }
    assert!(count >= 100, "the paths were found: {count}");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn nothing_cites_a_document_that_is_not_here() {
    let texts = files(&["md", "rs", "toml", "mjs", "py", "php", "yaml", "yml", "cfg", "conf", ""]);
    assert!(texts.len() >= 100, "the files were found: {}", texts.len());
    let mut citations = Vec::new();
    for file in texts
        .iter()
        .filter(|file| !shown(file).starts_with("docs/measurements/"))
    {
        for (index, line) in read(file).lines().enumerate() {
            if cites_another_book(line) {
                citations.push(format!("{}:{}: {line}", shown(file), index + 1));
            }
        }
    }
    assert!(citations.is_empty(), "{citations:#?}");
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
    assert_eq!(
        paths("see src/a.rs, `tests/b/` (docs/c.md#d). https://x/docs/e tests/*.rs"),
        ["src/a.rs", "tests/b/", "docs/c.md"]
    );
    for (word, tail) in [
        ("SPEC", " section 3.4"),
        ("DESIGN", ": they wake late"),
        ("contract,", " section 4"),
    ] {
        assert!(cites_another_book(&format!("// by {word}{tail}")), "{word}{tail}");
    }
    assert!(!cites_another_book(
        "// OCPP-J's specification, section 4; SPECIAL, REDESIGNED, a design"
    ));
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

/// The words that begin with one of the repository's folders.
fn paths(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-./*:".contains(c));
    words
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains('*'))
        .map(|word| word.trim_end_matches(['.', ':', '-']).to_owned())
        .collect()
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

/// Whether it names one of the papers that this was planned with, or the contract by sections that it does not have.
fn cites_another_book(line: &str) -> bool {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names_a_paper = words.into_iter().any(|word| PAPERS.contains(&word));
    names_a_paper || line.split("ontract, ").skip(1).any(|rest| rest.starts_with("section"))
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

/// Names in capitals of papers that are not in the repository.
const PAPERS: &[&str] = &["SPEC", "DESIGN"];

/// Folders whose files documents name.
const FOLDERS: &[&str] = &[
    "bench/",
    "config/",
    "docs/",
    "examples/",
    "fuzz/",
    "loadgen/",
    "php/",
    "protocol/",
    "scripts/",
    "shards/",
    "src/",
    "tests/",
];

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
