//! Holds the source to its layout: which file knows which. `scripts/map` prints it.

mod circles;
mod source;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use self::circles::{circles, is_pair_of_one_folder};
use self::source::Package;

#[test]
fn no_files_know_each_other_in_a_circle_but_pairs_of_one_folder() {
    let packages = packages(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(packages.len() >= 5, "the packages were found: {packages:?}");
    let arrows: usize = packages.iter().map(|package| package.arrows.len()).sum();
    assert!(arrows >= 200, "the arrows were found: {arrows}");
    let wrong: Vec<_> = packages
        .iter()
        .flat_map(|package| circles(&package.arrows))
        .filter(|circle| !is_pair_of_one_folder(circle))
        .collect();
    assert!(
        wrong.is_empty(),
        "each of these files needs all others of its circle: {wrong:#?}"
    );
}

#[test]
fn a_circle_is_found_also_through_names_that_others_pass_on() {
    let lib = ("src/lib.rs", "pub mod a; pub mod b; pub mod c;");
    let facade = ("src/b.rs", "mod inner; pub use inner::B; pub use inner::*;");
    let a = ("src/a.rs", "use crate::b::B; pub struct A(B);");
    let c = ("src/c.rs", "pub struct C(crate::a::A);");
    let cases = [
        ("a private use", "use crate::c::C; pub struct B(C);"),
        ("a path", "pub struct B(crate::c::C);"),
        ("a path from where one is", "pub struct B(super::super::c::C);"),
        ("a module", "use crate::c; pub struct B(c::C);"),
        (
            "another name",
            "use crate::c::C as Other; pub struct B; fn f() { let _: Other; }",
        ),
        ("inside a function", "pub struct B; fn f() { use crate::c::C; }"),
        (
            "inside a macro",
            "pub struct B; fn f() { println!(\"{}\", crate::c::C) }",
        ),
    ];
    for (case, inner) in cases {
        let package = package(&[lib, facade, a, c, ("src/b/inner.rs", inner)]);
        let expected = [vec!["src/a.rs", "src/b/inner.rs", "src/c.rs"]];
        assert_eq!(circles(&package.arrows), expected, "{case}");
    }
    for (case, inner) in [
        ("its own", "pub struct B;"),
        ("another package's", "use c::{C, c}; pub struct B(C);"),
        (
            "only in its tests",
            "pub struct B; #[cfg(test)] mod tests { use crate::c::C; }",
        ),
        (
            "who may know it",
            "pub(in crate::c) struct B; pub(crate) use crate::c::C;",
        ),
        ("only in words", "//! See crate::c::C.\npub struct B;"),
    ] {
        let package = package(&[lib, facade, a, c, ("src/b/inner.rs", inner)]);
        assert_eq!(circles(&package.arrows), Vec::<Vec<String>>::new(), "{case}");
    }
}

#[test]
fn only_a_pair_of_one_folder_may_know_each_other() {
    for (circle, is_allowed) in [
        (&["src/a/b.rs", "src/a/c.rs"][..], true),
        (&["src/a.rs", "src/a/b.rs"], true),
        (&["src/a.rs", "src/a/b/c.rs"], false),
        (&["src/a/b.rs", "src/c/d.rs"], false),
        (&["src/a.rs", "src/b.rs"], false),
        (&["src/a/b.rs", "src/a/c.rs", "src/a/d.rs"], false),
    ] {
        let circle: Vec<String> = circle.iter().map(|&file| file.to_owned()).collect();
        assert_eq!(is_pair_of_one_folder(&circle), is_allowed, "{circle:?}");
    }
}

#[test]
#[ignore = "scripts/map: prints the map of MAP_OF, or of this source"]
fn the_map() {
    let root = std::env::var_os("MAP_OF").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    for package in packages(&root) {
        println!("{}", map(&package));
    }
}

/// A package as text: its rooms, what each is and which others it knows; then its circles.
fn map(package: &Package) -> String {
    let room = |file: &str| {
        let inside = file.split_once("src/").map_or(file, |(_, inside)| inside);
        inside.split(['/', '.']).next().unwrap_or(inside).to_owned()
    };
    let mut rooms: BTreeMap<String, (usize, usize, Vec<String>)> = BTreeMap::new();
    for (file, public) in &package.files {
        let (files, items, _) = rooms.entry(room(file)).or_default();
        *files += 1;
        *items += public;
    }
    for (from, to) in &package.arrows {
        let (from, to) = (room(from), room(to));
        if let Some((_, _, known)) = rooms.get_mut(&from).filter(|_| from != to)
            && !known.contains(&to)
        {
            known.push(to);
        }
    }
    let public: usize = package.files.values().sum();
    let mut text = format!(
        "{}: {} files, {} public items, {} arrows\n",
        package.name,
        package.files.len(),
        public,
        package.arrows.len()
    );
    for (name, (files, items, mut known)) in rooms {
        known.sort();
        let known = known.join(" ");
        let _ = writeln!(text, "    {name:<18}{files:>4} files{items:>5} public  → {known}");
    }
    for circle in circles(&package.arrows) {
        let _ = writeln!(text, "    circle of {}: {}", circle.len(), circle.join(" "));
    }
    text
}

fn packages(root: &Path) -> Vec<Package> {
    let folders = ["", "protocol", "shards", "loadgen", "bench"];
    folders
        .iter()
        .map(|folder| root.join(folder))
        .filter(|folder| folder.join("src").is_dir())
        .map(|folder| Package::read(root, &folder))
        .collect()
}

fn package(files: &[(&str, &str)]) -> Package {
    let files = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
        .collect();
    Package::new("planted", "src", &files)
}
