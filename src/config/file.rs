//! Reads a TOML text into what it sets, and where. It looks at no value yet: that is `resolve`'s.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::keys::{Key, Scope};
use super::suggest::suggest;
use super::value::Raw;

/// One key set to one value.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) key: &'static Key,
    pub(super) raw: Raw,
    pub(super) place: Place,
}

/// The keys of one `[[core]]`.
#[derive(Clone, Debug)]
pub(super) struct CoreTable {
    pub(super) place: Place,
    pub(super) cpu: Option<(Raw, Place)>,
    pub(super) overrides: Vec<Assignment>,
}

/// What a file sets, in the order of its lines.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) node: Vec<Assignment>,
    pub(super) defaults: Vec<Assignment>,
    pub(super) cores: Vec<CoreTable>,
}

/// Reads `text`, which was found in the file called `name`.
///
/// # Errors
/// The first of: not TOML, an unknown key, a key in the wrong table.
pub(super) fn parse(name: &str, text: &str) -> Result<File, ConfigError> {
    let place = |at: usize| Place::File {
        file: name.to_owned(),
        line: line_of(text, at),
    };
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: place(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let mut file = File::default();
    for (key, value) in in_order(document.get_ref()) {
        let at = place(key.span().start);
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("defaults", DeValue::Table(table)) => {
                for (key, value) in in_order(table) {
                    let at = place(key.span().start);
                    if key.get_ref() == "cpu" {
                        return Err(ConfigError::CpuOutsideCore { place: at });
                    }
                    file.defaults
                        .push(assignment(key.get_ref(), value.get_ref(), Scope::Core, at)?);
                }
            }
            ("defaults", _) => {
                return Err(ConfigError::Table {
                    place: at,
                    key: "defaults",
                    form: "[defaults]",
                });
            }
            ("core", DeValue::Array(tables)) if tables.iter().all(|table| table.get_ref().is_table()) => {
                for table in tables.iter() {
                    let fields = table.get_ref().as_table().expect("all are tables");
                    file.cores.push(core_table(fields, place(table.span().start), place)?);
                }
            }
            ("core", _) => {
                return Err(ConfigError::Table {
                    place: at,
                    key: "core",
                    form: "[[core]], once per shard",
                });
            }
            ("cpu", _) => return Err(ConfigError::CpuOutsideCore { place: at }),
            (key, value) => file.node.push(assignment(key, value, Scope::Node, at)?),
        }
    }
    Ok(file)
}

fn core_table(fields: &DeTable<'_>, at: Place, place: impl Fn(usize) -> Place) -> Result<CoreTable, ConfigError> {
    let mut core = CoreTable {
        place: at,
        cpu: None,
        overrides: Vec::new(),
    };
    for (key, value) in in_order(fields) {
        let at = place(key.span().start);
        if key.get_ref() == "cpu" {
            core.cpu = Some((Raw::from_toml(value.get_ref()), at));
        } else {
            core.overrides
                .push(assignment(key.get_ref(), value.get_ref(), Scope::Core, at)?);
        }
    }
    Ok(core)
}

fn assignment(name: &str, value: &DeValue<'_>, scope: Scope, place: Place) -> Result<Assignment, ConfigError> {
    let key = find(name, scope, place.clone())?;
    match (scope, key.scope) {
        (Scope::Node, Scope::Core) => Err(ConfigError::CoreKey { place, key: key.name }),
        (Scope::Core, Scope::Node) => Err(ConfigError::NodeKey { place, key: key.name }),
        _ => Ok(Assignment {
            key,
            raw: Raw::from_toml(value),
            place,
        }),
    }
}

/// The key called `name`. A suggestion comes from the keys of `scope` first.
pub(super) fn find(name: &str, scope: Scope, place: Place) -> Result<&'static Key, ConfigError> {
    Key::find(name).ok_or_else(|| {
        let tables: &[&str] = if scope == Scope::Node {
            &["defaults", "core"]
        } else {
            &["cpu"]
        };
        let here = Key::all().filter(|key| key.scope == scope).map(|key| key.name);
        let meant = suggest(name, here.chain(tables.iter().copied()));
        let meant = meant.or_else(|| suggest(name, Key::all().map(|key| key.name)));
        ConfigError::UnknownKey {
            place,
            key: name.to_owned(),
            meant: meant.map(str::to_owned),
        }
    })
}

/// The entries by their place in the file: the first error is the topmost.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The line, counted from 1, of the byte at `at`.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.bytes().take(at);
    1 + before.filter(|byte| *byte == b'\n').count()
}
