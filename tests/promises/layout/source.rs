//! Reads a package's files: the modules, what each imports and passes on, and so which file knows which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// A package's files and the arrows between them.
#[derive(Debug)]
pub struct Package {
    pub name: String,
    /// Each file's public items, methods among them.
    pub files: BTreeMap<String, usize>,
    /// From a file to one that it knows.
    pub arrows: BTreeSet<(String, String)>,
}

type Names = Vec<String>;

/// A module, in a file of its own or not.
#[derive(Debug, Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    /// Names that are defined in it.
    items: BTreeSet<String>,
    /// Names that it imports or passes on, and what they stand for.
    names: BTreeMap<String, Names>,
    globs: Vec<Names>,
    /// Every path in it, and every import that is not passed on.
    paths: Vec<Names>,
    public: usize,
}

impl Package {
    /// Reads `folder/src`; files are named from `root`.
    pub fn read(root: &Path, folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        read(root, &folder.join("src"), &mut files);
        let name = folder.strip_prefix(root).expect("a folder of the root").display();
        let name = if name.to_string().is_empty() {
            "ws2api".to_owned()
        } else {
            name.to_string()
        };
        let src = folder.join("src");
        let src = src
            .strip_prefix(root)
            .expect("a folder of the root")
            .display()
            .to_string();
        Self::new(&name, &src, &files)
    }

    /// The package `name` of these files, which are below `src`.
    pub fn new(name: &str, src: &str, files: &BTreeMap<String, String>) -> Self {
        let mut tree = Tree {
            name,
            files,
            modules: BTreeMap::new(),
        };
        for (root, crate_name) in [("lib.rs", "crate"), ("main.rs", "main")] {
            let file = format!("{src}/{root}");
            if let Some(text) = files.get(&file) {
                tree.add(vec![crate_name.to_owned()], &file, src, text);
            }
        }
        let mut package = Self {
            name: name.to_owned(),
            files: BTreeMap::new(),
            arrows: BTreeSet::new(),
        };
        for (module, read) in &tree.modules {
            *package.files.entry(read.file.clone()).or_default() += read.public;
            for path in &read.paths {
                if let Some(file) = tree.resolve(module, path, 0).filter(|file| *file != read.file) {
                    package.arrows.insert((read.file.clone(), file));
                }
            }
        }
        package
    }
}

struct Tree<'f> {
    name: &'f str,
    files: &'f BTreeMap<String, String>,
    modules: BTreeMap<Names, Module>,
}

impl Tree<'_> {
    /// Adds the module of a file, and those in it. The files of its children are in `folder`.
    fn add(&mut self, module: Names, file: &str, folder: &str, text: &str) {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        self.add_items(module, file, folder, &parsed.items);
    }

    fn add_items(&mut self, module: Names, file: &str, folder: &str, items: &[Item]) {
        let mut reader = Reader::default();
        reader.module.file = file.to_owned();
        for item in items {
            let Item::Mod(child) = item else {
                reader.visit_item(item);
                continue;
            };
            let name = child.ident.to_string();
            if is_test(&child.attrs) {
                continue;
            }
            reader.module.children.insert(name.clone());
            let path = [&module[..], std::slice::from_ref(&name)].concat();
            let below = format!("{folder}/{name}");
            match &child.content {
                Some((_, items)) => self.add_items(path, file, &below, items),
                None => {
                    let places = [format!("{below}.rs"), format!("{below}/mod.rs")];
                    let files = self.files;
                    let place = places.iter().find(|place| files.contains_key(*place));
                    let place = place.unwrap_or_else(|| panic!("{file}: mod {name} has no file"));
                    self.add(path, place, &below, &files[place]);
                }
            }
        }
        self.modules.insert(module, reader.module);
    }

    /// The file in which `path`, as `module` has it, ends. `None`: another package's, or a name of no module.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<String> {
        assert!(depth < 20, "{path:?} leads in a circle");
        let [first, rest @ ..] = path else { return None };
        let here = &self.modules[module];
        match first.as_str() {
            "crate" => self.walk(&module[..1], rest, depth),
            "self" => self.walk(module, rest, depth),
            "super" => {
                let parent = &module[..module.len() - 1];
                match rest.first() {
                    Some(next) if next == "super" => self.resolve(parent, rest, depth + 1),
                    _ => self.walk(parent, rest, depth),
                }
            }
            name if name == self.name => self.walk(&["crate".to_owned()], rest, depth),
            name if here.children.contains(name) && !rest.is_empty() => self.walk(module, path, depth),
            name => {
                let target = here.names.get(name)?;
                // A package's name, and that of a macro of its own or so.
                if target.first() == Some(first) {
                    return None;
                }
                self.resolve(module, &[&target[..], rest].concat(), depth + 1)
            }
        }
    }

    fn walk(&self, module: &[String], rest: &[String], depth: usize) -> Option<String> {
        let here = self.modules.get(module)?;
        let Some((name, after)) = rest.split_first() else {
            return Some(here.file.clone());
        };
        if here.children.contains(name) {
            return self.walk(&[module, std::slice::from_ref(name)].concat(), after, depth);
        }
        if here.items.contains(name) {
            return Some(here.file.clone());
        }
        if let Some(target) = here.names.get(name) {
            let path = [&target[..], after].concat();
            // Another package's name, passed on: whoever uses it knows the file that does so.
            return self
                .resolve(module, &path, depth + 1)
                .or_else(|| Some(here.file.clone()));
        }
        for glob in &here.globs {
            let found = self.resolve(module, &[&glob[..], rest].concat(), depth + 1);
            if found.is_some() {
                return found;
            }
        }
        Some(here.file.clone())
    }
}

#[derive(Default)]
struct Reader {
    module: Module,
    is_in_item: bool,
}

impl Reader {
    fn import(&mut self, tree: &UseTree, before: &mut Names, is_public: bool) {
        let take = |before: &Names, name: &str| {
            let mut path = before.clone();
            if name != "self" || path.is_empty() {
                path.push(name.to_owned());
            }
            path
        };
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before, is_public);
                before.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, before, is_public);
                }
            }
            UseTree::Name(name) => {
                let path = take(before, &name.ident.to_string());
                let alias = path.last().cloned().unwrap_or_default();
                self.add_import(alias, path, is_public);
            }
            UseTree::Rename(rename) => {
                let path = take(before, &rename.ident.to_string());
                self.add_import(rename.rename.to_string(), path, is_public);
            }
            UseTree::Glob(_) => {
                if !is_public {
                    self.module.paths.push(before.clone());
                }
                self.module.globs.push(before.clone());
            }
        }
    }

    fn add_import(&mut self, alias: String, path: Names, is_public: bool) {
        if !is_public {
            self.module.paths.push(path.clone());
        }
        self.module.names.insert(alias, path);
    }

    fn define(&mut self, name: &syn::Ident, visibility: &Visibility) {
        self.module.items.insert(name.to_string());
        self.count(visibility);
    }

    fn count(&mut self, visibility: &Visibility) {
        self.module.public += usize::from(matches!(visibility, Visibility::Public(_)));
    }
}

impl<'a> Visit<'a> for Reader {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if is_test(attributes) {
            return;
        }
        if !self.is_in_item {
            match item {
                Item::Const(item) => self.define(&item.ident, &item.vis),
                Item::Enum(item) => self.define(&item.ident, &item.vis),
                Item::Fn(item) => self.define(&item.sig.ident, &item.vis),
                Item::Static(item) => self.define(&item.ident, &item.vis),
                Item::Struct(item) => self.define(&item.ident, &item.vis),
                Item::Trait(item) => self.define(&item.ident, &item.vis),
                Item::Type(item) => self.define(&item.ident, &item.vis),
                _ => {}
            }
        }
        let before = std::mem::replace(&mut self.is_in_item, true);
        visit::visit_item(self, item);
        self.is_in_item = before;
    }

    fn visit_impl_item_fn(&mut self, method: &'a syn::ImplItemFn) {
        if !is_test(&method.attrs) {
            self.count(&method.vis);
            visit::visit_impl_item_fn(self, method);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, &mut Vec::new(), is_public);
    }

    // `pub(super)` says who may know it, not what it knows.
    fn visit_visibility(&mut self, _: &'a Visibility) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string());
        self.module.paths.push(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        visit::visit_path(self, &call.path);
        // What is between its brackets need not be Rust: every chain of names is taken for a path.
        let text = call.tokens.to_string().replace(" :: ", "::");
        let chains = text.split(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter));
        for chain in chains.filter(|chain| chain.contains("::")) {
            self.module.paths.push(chain.split("::").map(str::to_owned).collect());
        }
    }
}

/// What is there in test builds alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| {
                list.tokens
                    .to_string()
                    .split(|letter: char| !letter.is_alphanumeric())
                    .any(|word| word == "test")
            })
    })
}

fn read(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() {
            read(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path
                .strip_prefix(root)
                .expect("a file of the root")
                .display()
                .to_string();
            files.insert(name, text);
        }
    }
}
