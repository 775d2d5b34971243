//! Shows what the scripts put into the environment of the builds that they start.

use std::path::{Path, PathBuf};

/// What a build is meant to take from the scripts. A name of our own begins with `WS2API_`.
const MEANT: &[&str] = &[
    "CARGO_",
    "CFLAGS",
    "CC_",
    "CI",
    "DEBIAN_FRONTEND",
    "EXTRA_RUSTFLAGS",
    "GO111MODULE",
    "GOCACHE",
    "GOFLAGS",
    "GOMODCACHE",
    "JEMALLOC_SYS_",
    "LC_ALL",
    "RR",
    "RUSTFLAGS",
    "SOURCE_DATE_EPOCH",
    "TZ",
    "WS2API_",
];

/// configure takes INSTALL for the program that installs, make takes MAKEFLAGS: a word of ours there breaks the build of jemalloc.
#[test]
fn scripts_export_no_name_that_a_build_would_take_for_its_own() {
    let mut seen = 0;
    for script in scripts() {
        let text = std::fs::read_to_string(&script).expect("a script");
        for name in text.lines().flat_map(exported) {
            seen += 1;
            let meant = MEANT
                .iter()
                .any(|known| name == *known || known.ends_with('_') && name.starts_with(known));
            assert!(meant, "{}: exports {name}", script.display());
        }
    }
    assert!(seen >= 10, "the exports were found: {seen}");
}

#[test]
fn an_export_is_found_wherever_a_line_has_it() {
    assert_eq!(exported("    --install) export INSTALL=yes ;;"), ["INSTALL"]);
    assert_eq!(exported("export LC_ALL=C TZ=\"UTC 0\""), ["LC_ALL", "TZ"]);
    assert_eq!(exported("a=1; export MAKEFLAGS"), ["MAKEFLAGS"]);
    assert!(exported("# they export INSTALL=yes").is_empty());
    assert!(exported("exported=1").is_empty());
}

/// The names that a line of a shell script exports.
fn exported(line: &str) -> Vec<&str> {
    let words = line.trim_start();
    if words.starts_with('#') {
        return Vec::new();
    }
    words
        .split_whitespace()
        .skip_while(|word| *word != "export")
        .skip(1)
        .map(|word| word.split('=').next().unwrap_or_default())
        .filter(|name| name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .filter(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()))
        .collect()
}

fn scripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join(".ci/run")];
    for entry in std::fs::read_dir(root.join("scripts")).expect("scripts/") {
        let path = entry.expect("an entry").path();
        if path.is_file() && std::fs::read(&path).is_ok_and(|text| text.starts_with(b"#!/usr/bin/env bash")) {
            found.push(path);
        }
    }
    found
}
