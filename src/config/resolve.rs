//! Lays file and flags over the defaults, which gives a [`Config`], and checks what no single key can check.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::error::{ConfigError, Conflict, Place};
use super::file::{self, Assignment, CoreTable, File};
use super::keys::Scope;
use super::units::Time;
use super::value::Raw;
use super::{Config, Core, Node, Overrides, SHARDS_MAX, TlsClientAuth, cpu_ranges};

/// Where each key was set last; absent means nowhere.
type Places = HashMap<&'static str, Place>;

/// One shard to be.
struct Shard<'a> {
    cpu: usize,
    overrides: &'a [Assignment],
}

/// Lays `overrides` over `file` over the defaults.
pub(super) fn resolve(file: &File, overrides: &Overrides, usable_cpus: &[usize]) -> Result<Config, ConfigError> {
    let flags = flag_assignments(overrides)?;
    let of = |scope| flags.iter().filter(move |flag| flag.key.scope == scope);

    let mut node = Node::default();
    let mut places = Places::new();
    for setting in file.node.iter().chain(of(Scope::Node)) {
        node.set(setting.key, &setting.raw)
            .map_err(|error| value_error(setting, error))?;
        places.insert(setting.key.name, setting.place.clone());
    }
    check_node(&node, &places)?;

    let mut keys_set: BTreeSet<&'static str> = places.into_keys().collect();
    let mut cores = Vec::new();
    for shard in shards(file, overrides, usable_cpus)? {
        let mut core = Core {
            cpu: shard.cpu,
            ..Core::default()
        };
        let mut places = Places::new();
        for setting in file.defaults.iter().chain(shard.overrides).chain(of(Scope::Core)) {
            core.set(setting.key, &setting.raw)
                .map_err(|error| value_error(setting, error))?;
            places.insert(setting.key.name, setting.place.clone());
        }
        check_core(&core, &places)?;
        keys_set.extend(places.into_keys());
        cores.push(core);
    }
    Ok(Config { node, cores, keys_set })
}

fn flag_assignments(overrides: &Overrides) -> Result<Vec<Assignment>, ConfigError> {
    let assign = |set: &super::Override| {
        let place = Place::Flag(set.flag.clone());
        if set.key == "cpu" {
            return Err(ConfigError::CpuOutsideCore { place });
        }
        let key = file::find(&set.key, Scope::Core, place.clone())?;
        let raw = match set.values.as_slice() {
            [words] => Raw::from_words(words),
            many => Raw::List(many.iter().cloned().map(Raw::Text).collect()),
        };
        Ok(Assignment { key, raw, place })
    };
    overrides.set.iter().map(assign).collect()
}

fn value_error(setting: &Assignment, error: super::ValueError) -> ConfigError {
    ConfigError::Value {
        place: setting.place.clone(),
        key: setting.key.name,
        error: Box::new(error),
    }
}

/// Which shards there are: `--cores`, else the `[[core]]` tables, else one per usable CPU.
///
/// With `--cores`, a shard keeps the overrides of the first `[[core]]` of its CPU that no shard before it took.
fn shards<'a>(file: &'a File, overrides: &Overrides, usable: &[usize]) -> Result<Vec<Shard<'a>>, ConfigError> {
    let is_usable = |cpu: &usize| overrides.elsewhere || usable.contains(cpu);
    let mut tables = Vec::new();
    for table in &file.cores {
        tables.push((cpu_of(table, usable)?, table));
    }
    let shards: Vec<Shard<'a>> = if let Some(cores) = &overrides.cores {
        let place = || Place::Flag("--cores".to_owned());
        if let Some(&cpu) = cores.iter().find(|cpu| !is_usable(cpu)) {
            return Err(ConfigError::CpuUnusable {
                place: place(),
                cpu,
                usable: cpu_ranges(usable),
            });
        }
        let mut take = |cpu: usize| {
            let found = tables.iter().position(|(table_cpu, _)| *table_cpu == cpu)?;
            Some(tables.remove(found).1.overrides.as_slice())
        };
        cores
            .iter()
            .map(|&cpu| Shard {
                cpu,
                overrides: take(cpu).unwrap_or_default(),
            })
            .collect()
    } else {
        for (cpu, table) in &tables {
            if !is_usable(cpu) {
                let place = table.cpu.as_ref().map_or(&table.place, |(_, place)| place).clone();
                return Err(ConfigError::CpuUnusable {
                    place,
                    cpu: *cpu,
                    usable: cpu_ranges(usable),
                });
            }
        }
        if tables.is_empty() {
            usable.iter().map(|&cpu| Shard { cpu, overrides: &[] }).collect()
        } else {
            tables
                .iter()
                .map(|(cpu, table)| Shard {
                    cpu: *cpu,
                    overrides: &table.overrides,
                })
                .collect()
        }
    };
    if shards.is_empty() || shards.len() > SHARDS_MAX {
        let place = match (&overrides.cores, file.cores.last()) {
            (Some(_), _) => Place::Flag("--cores".to_owned()),
            (None, Some(table)) => table.place.clone(),
            (None, None) => Place::Default,
        };
        return Err(ConfigError::ShardCount {
            place,
            count: shards.len(),
            limit: SHARDS_MAX,
        });
    }
    Ok(shards)
}

fn cpu_of(table: &CoreTable, usable: &[usize]) -> Result<usize, ConfigError> {
    let usable = || cpu_ranges(usable);
    match &table.cpu {
        None => Err(ConfigError::CpuMissing {
            place: table.place.clone(),
            usable: usable(),
        }),
        Some((Raw::Integer(cpu), place)) => usize::try_from(*cpu).map_err(|_| ConfigError::CpuNumber {
            place: place.clone(),
            got: cpu.to_string(),
            usable: usable(),
        }),
        Some((raw, place)) => Err(ConfigError::CpuNumber {
            place: place.clone(),
            got: raw.to_string(),
            usable: usable(),
        }),
    }
}

/// Of two keys that conflict, the one that was set comes first: it is what the error points to.
fn blame(places: &Places, [key, other]: [&'static str; 2]) -> [&'static str; 2] {
    if places.contains_key(key) || !places.contains_key(other) {
        [key, other]
    } else {
        [other, key]
    }
}

fn conflict(places: &Places, key: &'static str, value: String, conflict: Conflict) -> ConfigError {
    ConfigError::Conflict {
        place: places.get(key).cloned().unwrap_or(Place::Default),
        key,
        value,
        conflict: Box::new(conflict),
    }
}

fn check_node(node: &Node, places: &Places) -> Result<(), ConfigError> {
    let refuse = |keys, why| {
        let [key, _] = blame(places, keys);
        Err(conflict(places, key, node.literal(key), why))
    };
    let addresses = [
        ("listen", node.listen),
        ("listen_tls", node.listen_tls),
        ("ingress", Some(node.ingress)),
        ("admin", Some(node.admin)),
    ];
    let listeners: Vec<_> = addresses
        .into_iter()
        .filter_map(|(key, address)| Some((key, address?)))
        .collect();
    for (index, &(key, address)) in listeners.iter().enumerate() {
        // SO_REUSEPORT would let both bind, and each would get some of the other's connections.
        if let Some(&(other, _)) = listeners.iter().take(index).find(|(_, taken)| collide(address, *taken)) {
            let [key, other] = blame(places, [key, other]);
            let why = Conflict::SamePort {
                other,
                address: node.literal(other),
            };
            return Err(conflict(places, key, node.literal(key), why));
        }
    }
    if node.listen.is_none() && node.listen_tls.is_none() {
        return refuse(["listen", "listen_tls"], Conflict::NoListener);
    }
    if node.listen_tls.is_some() && node.tls_certificates.is_empty() {
        return refuse(["listen_tls", "tls_certificates"], Conflict::NoCertificate);
    }
    if node.tls_versions.is_empty() {
        return refuse(["tls_versions", "tls_versions"], Conflict::NoTlsVersions);
    }
    if node.tls_client_auth != TlsClientAuth::None && node.tls_client_ca.is_none() {
        return refuse(["tls_client_auth", "tls_client_ca"], Conflict::NoClientCa);
    }
    if node.subprotocol_required && node.subprotocols.is_empty() {
        return refuse(["subprotocol_required", "subprotocols"], Conflict::NoSubprotocols);
    }
    if let Some(header) = node
        .trusted_headers
        .iter()
        .find(|header| node.forward_headers.contains(header))
    {
        let why = Conflict::TrustedAndForwarded { header: header.clone() };
        return refuse(["trusted_headers", "forward_headers"], why);
    }
    if !node.trusted_headers.is_empty() && node.trusted_proxies.is_empty() {
        return refuse(["trusted_headers", "trusted_proxies"], Conflict::NobodyTrusted);
    }
    Ok(())
}

/// Whether two listeners would compete for connections. Port 0 takes a free one; `::` takes IPv4 too.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0 && a.port() == b.port() && (covers(ip_a, ip_b) || covers(ip_b, ip_a))
}

fn check_core(core: &Core, places: &Places) -> Result<(), ConfigError> {
    if core.ping_after >= core.dead_after {
        let (ping_after, dead_after) = (Time(core.ping_after).to_string(), Time(core.dead_after).to_string());
        let [key, _] = blame(places, ["ping_after", "dead_after"]);
        let why = Conflict::PingAfterDead { ping_after, dead_after };
        return Err(conflict(places, key, core.literal(key), why));
    }
    Ok(())
}
