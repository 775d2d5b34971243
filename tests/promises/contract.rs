//! Holds docs/contract.md against the tests and the program: every rule is proved by tests that exist and run, every
//! default is the program's, every test about the contract proves a rule that is written down, and the head of each
//! file cites rules that its tests prove.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ws2api::config::Key;

#[test]
fn every_rule_is_proved_by_tests_that_exist_and_run() {
    let page = read("docs/contract.md");
    let rules = rules(&page);
    assert!(rules.len() >= 150, "the table was read: {} rules", rules.len());
    let tests = all_tests();
    assert!(tests.len() >= 400, "the tests were found: {}", tests.len());
    assert_eq!(complaints(&rules, &tests), Vec::<String>::new());
}

#[test]
fn every_default_in_it_is_the_programs() {
    let page = read("docs/contract.md");
    let wrong: Vec<_> = defaults(&page)
        .into_iter()
        .filter(|(name, value)| {
            let key = Key::find(name).unwrap_or_else(|| panic!("{name} is no key"));
            key.default != *value
        })
        .collect();
    assert!(defaults(&page).len() >= 25, "they were found: {:?}", defaults(&page));
    assert!(wrong.is_empty(), "not the program's: {wrong:?}");
}

#[test]
fn every_test_about_the_contract_proves_a_rule() {
    let page = read("docs/contract.md");
    let rules = rules(&page);
    let named: BTreeSet<&str> = rules.iter().flat_map(|rule| rule.tests.iter().copied()).collect();
    let tests = all_tests();
    let unnamed: Vec<_> = tests
        .keys()
        .filter(
            |test| matches!(test.split("::").collect::<Vec<_>>()[..], [file, _] if ABOUT_THE_CONTRACT.contains(&file)),
        )
        .filter(|test| !named.contains(test.as_str()))
        .collect();
    assert!(
        unnamed.is_empty(),
        "in no row of docs/contract.md; add one, or name them in the one that they prove: {unnamed:#?}"
    );
}

#[test]
fn the_head_of_a_file_cites_rules_that_its_tests_prove() {
    let page = read("docs/contract.md");
    let rules = rules(&page);
    let mut cited_count = 0;
    let mut wrong = Vec::new();
    for (folder, program) in [
        ("tests/promises", ""),
        ("tests/operators", "operators::"),
        ("protocol/tests", ""),
    ] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let name = path.file_stem().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let cited = cited(&text, &rules);
            if cited.is_empty() && ABOUT_THE_CONTRACT.contains(&name) {
                wrong.push(format!("{name}: no rule is cited"));
            }
            cited_count += cited.len();
            wrong.extend(not_proved(&format!("{program}{name}::"), &cited, &rules));
        }
    }
    assert!(cited_count >= 50, "they were found: {cited_count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn all_tests_are_run() {
    let script = read("scripts/test");
    let leaves_out = ["--test", "--lib", "--bin", "--exclude", "--skip", "-p "];
    let all = |line: &str| {
        let is_all = line.starts_with("cargo test ") && line.contains(" --workspace");
        is_all && !leaves_out.iter().any(|part| line.contains(part))
    };
    assert!(script.lines().any(all), "scripts/test runs all of them");
    let manifest = read("Cargo.toml");
    for switch in ["autotests", "\ntest = false"] {
        assert!(!manifest.contains(switch), "{switch}: a test may not be run");
    }
}

#[test]
fn a_page_that_is_wrong_is_noticed() {
    let tests = BTreeMap::from([
        ("a::good".to_owned(), Runs::Yes),
        ("a::ignored".to_owned(), Runs::Ignored),
    ]);
    for (page, complaint) in [
        ("| x-1 | A rule. | `a::good` |", ""),
        ("| x-1 | A rule. | |", "x-1: no test"),
        ("| x-1 | A rule. | by hand |", "x-1: no test"),
        ("| x-1 | A rule. | `a::bad` |", "x-1: there is no test a::bad"),
        (
            "| x-1 | A rule. | `a::good` `a::ignored` |",
            "x-1: a::ignored is ignored",
        ),
        ("| x-1 | A rule. | `a::good` `a::good` |", "x-1: a::good twice"),
        ("| x-1 | | `a::good` |", "x-1: no rule"),
        (
            "| x-1 | A rule. | `a::good` |\n| x-3 | B. | `a::good` |",
            "x-3: x-2 was due",
        ),
        (
            "| x-1 | A rule. | `a::good` |\n| x-1 | B. | `a::good` |",
            "x-1: x-2 was due",
        ),
        ("| x-2 | A rule. | `a::good` |", "x-2: x-1 was due"),
    ] {
        let expected: Vec<_> = [complaint].into_iter().filter(|text| !text.is_empty()).collect();
        assert_eq!(complaints(&rules(page), &tests), expected, "{page}");
    }
    let rules = rules("| x-1 | A rule. | `a::good` |\n| x-2 | A rule. | `b::good` |");
    let cited = cited("//! One: `x-1`\n//! to `x-3`, `y-1`.\nmod a; // `x-2`\n", &rules);
    assert_eq!(cited, ["x-1", "x-3"]);
    assert_eq!(not_proved("a::", &["x-1"], &rules), [""; 0]);
    assert_eq!(not_proved("a::", &["x-2", "x-3"], &rules).len(), 2);
    assert_eq!(
        defaults("a (`b`, 10s) c (`d`, x,y) (`e`)"),
        [("b", "10s"), ("d", "x,y")]
    );
}

/// One row of a table.
struct Rule<'p> {
    id: &'p str,
    text: &'p str,
    tests: Vec<&'p str>,
}

/// The rows whose first cell is an id such as `upgrade-3`.
fn rules(page: &str) -> Vec<Rule<'_>> {
    let cells = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows = cells.map(|row| row.split(" |").map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| split_id(cells[0]).is_some())
        .map(|cells| {
            let [id, text, tests, ..] = cells[..] else {
                panic!("a rule has three cells: {cells:?}")
            };
            let tests = tests.split('`').skip(1).step_by(2).collect();
            Rule { id, text, tests }
        })
        .collect()
}

fn split_id(id: &str) -> Option<(&str, usize)> {
    let (section, number) = id.rsplit_once('-')?;
    Some((section, number.parse().ok()?))
}

/// What is wrong with the tables.
fn complaints(rules: &[Rule<'_>], tests: &BTreeMap<String, Runs>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for Rule { id, text, tests: named } in rules {
        let (section, number) = split_id(id).expect("a row has an id");
        let count = counts.entry(section).or_default();
        *count += 1;
        if number != *count {
            complaints.push(format!("{id}: {section}-{count} was due"));
        }
        if text.is_empty() {
            complaints.push(format!("{id}: no rule"));
        }
        if named.is_empty() {
            complaints.push(format!("{id}: no test"));
        }
        for (index, test) in named.iter().enumerate() {
            if named[..index].contains(test) {
                complaints.push(format!("{id}: {test} twice"));
            }
            match tests.get(*test) {
                Some(Runs::Yes) => {}
                Some(Runs::Ignored) => complaints.push(format!("{id}: {test} is ignored")),
                None => complaints.push(format!("{id}: there is no test {test}")),
            }
        }
    }
    complaints
}

/// The ids of rules in the head of a file: `x-1` and `x-8` of "`x-1` to `x-8`".
fn cited<'t>(text: &'t str, rules: &[Rule<'_>]) -> Vec<&'t str> {
    let sections: BTreeSet<_> = rules.iter().filter_map(|rule| Some(split_id(rule.id)?.0)).collect();
    let head = text.lines().take_while(|line| line.starts_with("//!"));
    let words = head.flat_map(|line| line.split('`').skip(1).step_by(2));
    words
        .filter(|word| split_id(word).is_some_and(|(section, _)| sections.contains(section)))
        .collect()
}

/// Of these ids, what is no rule, or one that no test with this beginning proves.
fn not_proved(tests: &str, cited: &[&str], rules: &[Rule<'_>]) -> Vec<String> {
    let is_proved = |id: &str| {
        let mut of_id = rules.iter().filter(|rule| rule.id == id);
        of_id.any(|rule| rule.tests.iter().any(|test| test.starts_with(tests)))
    };
    let wrong = cited.iter().filter(|id| !is_proved(id));
    wrong.map(|id| format!("{tests} proves no {id}")).collect()
}

/// Keys and values in ``(`key`, value)``.
fn defaults(page: &str) -> Vec<(&str, &str)> {
    page.split("(`")
        .skip(1)
        .filter_map(|rest| rest.split_once(')')?.0.split_once("`, "))
        .collect()
}

/// Whether `cargo test` runs a test.
#[derive(Debug)]
enum Runs {
    Yes,
    Ignored,
}

/// Every test that is compiled: by the file in `tests/promises/`, the program in `tests/` or the module in `src/`, and its
/// function.
fn all_tests() -> BTreeMap<String, Runs> {
    let mut tests = BTreeMap::new();
    collect(&root().join("src/lib.rs"), &root().join("src"), "", &mut tests);
    for package in ["protocol", "shards"] {
        let folder = root().join(package).join("src");
        collect(&folder.join("lib.rs"), &folder, package, &mut tests);
    }
    for folder in ["tests", "protocol/tests"].map(|folder| root().join(folder)) {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if path.extension().is_some_and(|extension| extension == "rs") {
                collect(&path, &folder, name, &mut tests);
            } else if path.join("main.rs").exists() {
                // Of the promises, each file stands for itself.
                let name = if name == "promises" { "" } else { name };
                collect(&path.join("main.rs"), &path, name, &mut tests);
            }
        }
    }
    tests
}

/// The tests of one file, and of the files that it names as its modules, which are in `folder`.
fn collect(file: &Path, folder: &Path, module: &str, tests: &mut BTreeMap<String, Runs>) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    collect_items(&parsed.items, folder, module, tests);
}

fn collect_items(items: &[syn::Item], folder: &Path, module: &str, tests: &mut BTreeMap<String, Runs>) {
    for item in items {
        match item {
            syn::Item::Fn(function) => {
                let has = |name: &str| function.attrs.iter().any(|attribute| attribute.path().is_ident(name));
                if has("test") {
                    let name = format!("{module}::{}", function.sig.ident);
                    let runs = if has("ignore") { Runs::Ignored } else { Runs::Yes };
                    assert!(tests.insert(name.clone(), runs).is_none(), "two tests are {name}");
                }
            }
            syn::Item::Mod(inner) => {
                let name = inner.ident.to_string();
                // The modules that hold tests have no name of their own here.
                let path = match (module, name.as_str()) {
                    (_, "tests") => module.to_owned(),
                    ("", name) => name.to_owned(),
                    (module, name) => format!("{module}::{name}"),
                };
                let inside = folder.join(&name);
                match (&inner.content, place(&inner.attrs)) {
                    (Some((_, items)), _) => collect_items(items, &inside, &path, tests),
                    (None, Some(place)) => {
                        let file = folder.join(place);
                        collect(&file, file.parent().expect("a file is in a folder"), &path, tests);
                    }
                    (None, None) => {
                        let files = [inside.with_extension("rs"), inside.join("mod.rs")];
                        let file = files.iter().find(|file| file.exists());
                        collect(
                            file.unwrap_or_else(|| panic!("no file of {path}")),
                            &inside,
                            &path,
                            tests,
                        );
                    }
                }
            }
            _ => {}
        }
    }
}

/// What `#[path = "…"]` says.
fn place(attributes: &[syn::Attribute]) -> Option<String> {
    let path = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let syn::Meta::NameValue(pair) = &path.meta else {
        return None;
    };
    let syn::Expr::Lit(syn::ExprLit {
        lit: syn::Lit::Str(text),
        ..
    }) = &pair.value
    else {
        return None;
    };
    Some(text.value())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// Files in `tests/promises/` in which nothing is tested but what is promised on the wire.
const ABOUT_THE_CONTRACT: &[&str] = &[
    "admission",
    "answers",
    "backends",
    "bad_frames",
    "calls",
    "clients",
    "compression",
    "connections",
    "frames",
    "ingress",
    "json",
    "life",
    "outcomes",
    "pipelining",
    "pushes",
    "upgrade",
    "waits",
];
