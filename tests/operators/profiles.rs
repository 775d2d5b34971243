//! Profiles are written by the flags and served at the admin address, for what reads pprof: `admin-4`.

use std::io::Read as _;
use std::path::PathBuf;

use pprof::protos::{Message as _, Profile};

use rustix::process::Signal;
use support::{Client, Http, Proxy, Until, eventually, open_to_all};

#[test]
fn a_cpu_profile_shows_the_shards_at_work() {
    let proxy = Proxy::demo().shards(2).start();
    proxy.get("/debug/pprof/profile?seconds=0").expect(400);
    let until = Until::default();
    std::thread::scope(|scope| {
        let _end = until.end();
        scope.spawn(|| talk(&proxy, &until));
        // On a busy machine the shards may get little time within one second.
        eventually("the shards' stacks", || {
            let profile = Http::connect(proxy.admin).download("/debug/pprof/profile?seconds=1");
            shows_shards(&parse(&profile)).then_some(())
        });
    });
}

/// Walked stacks of threads named after shards, with the names of our functions.
fn shows_shards(profile: &Profile) -> bool {
    let text = |number: i64| profile.string_table[number as usize].as_str();
    assert_eq!(text(profile.period_type.as_ref().unwrap().ty), "cpu");
    let is_deep = |sample: &pprof::protos::Sample| {
        text(sample.label[0].str).starts_with("shard-") && sample.location_id.len() > 4
    };
    let mut names = profile.function.iter().map(|function| text(function.name));
    profile.sample.iter().any(is_deep) && names.any(|name| name.contains("Reactor"))
}

#[test]
fn one_cpu_profile_at_a_time() {
    let file = temporary("busy.pprof");
    let proxy = Proxy::demo()
        .shards(2)
        .arg("-cpuprofile")
        .arg(file.to_str().unwrap())
        .start();
    let answer = proxy.get("/debug/pprof/profile?seconds=1").expect(409);
    assert_eq!(answer.body, "another CPU profile is being taken\n");
}

#[test]
fn the_flags_write_profiles_on_sigusr1_and_at_the_end() {
    let (cpu, heap) = (temporary("cpu.pprof"), temporary("heap.pprof"));
    let mut proxy = Proxy::demo()
        .shards(2)
        .arg(&format!("-cpuprofile={}", cpu.display()))
        .arg(&format!("--memprofile={}", heap.display()))
        .set("drain_timeout", "0s")
        .start();
    let until = Until::default();
    std::thread::scope(|scope| {
        let _end = until.end();
        scope.spawn(|| talk(&proxy, &until));
        eventually("work to be seen", || {
            proxy.signal(Signal::USR1);
            let written = std::fs::read(&cpu).unwrap();
            // A file may be read while it is written.
            let profile = try_parse(&written).filter(|profile| !profile.sample.is_empty())?;
            (profile.period == 10_000_000).then_some(())
        });
    });
    assert!(proxy.terminate().success());
    assert!(!parse(&std::fs::read(&cpu).unwrap()).sample.is_empty());
    let profile = parse(&std::fs::read(&heap).unwrap());
    let kind = profile.string_table[profile.sample_type[0].ty as usize].as_str();
    assert_eq!(kind, "inuse_space");
    assert!(
        !profile.sample.is_empty(),
        "the start allocates more than one sample's worth"
    );
}

#[test]
fn heap_profiling_is_off_until_switched_on() {
    let proxy = Proxy::demo().shards(2).start();
    let answer = proxy.get("/debug/pprof/heap").expect(409);
    assert!(answer.body.contains("heap?active=true"));
    let post = |target| Http::connect(proxy.admin).post(target, "").status;
    assert_eq!(post("/debug/pprof/heap?active=maybe"), 400);
    assert_eq!(post("/debug/pprof/heap?active=true"), 200);
    parse(&Http::connect(proxy.admin).download("/debug/pprof/heap"));
    assert_eq!(post("/debug/pprof/heap?active=false"), 200);
    proxy.get("/debug/pprof/heap").expect(409);
}

fn talk(proxy: &Proxy, until: &Until) {
    let mut clients: Vec<Client> = (0..8).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let mut number = 0;
    while !until.is_over() {
        for client in &mut clients {
            number += 1;
            client.call(number);
        }
    }
}

fn parse(bytes: &[u8]) -> Profile {
    try_parse(bytes).expect("a gzipped profile.proto")
}

fn try_parse(bytes: &[u8]) -> Option<Profile> {
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut raw).ok()?;
    let profile = Profile::decode(raw.as_slice()).ok()?;
    (!profile.string_table.is_empty()).then_some(profile)
}

fn temporary(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    open_to_all(&folder);
    folder.join(format!("{}-{name}", std::process::id()))
}
