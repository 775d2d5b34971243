//! A Call allocates what its libraries force and nothing else. The allocator counts, on the shard's own threads: the
//! server runs in this process, which is why this is a program of its own.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustls::version;
use support::certificates::Folder;
use support::{Authority, Backend, Client, Handshake, Http, Tap, Tls, eventually};
use ws2api::config::{self, Overrides};
use ws2api::server::listeners::Origin;
use ws2api::server::{Addresses as SocketAddresses, Server, Start};

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The test's own threads are not what is counted; a shard's thread is found out once, by its name.
    static IS_SHARD: Cell<Option<bool>> = const { Cell::new(None) };
}

impl Counting {
    fn count() {
        if !COUNTS.load(Ordering::Relaxed) {
            return;
        }
        let is_shard = IS_SHARD.get().unwrap_or_else(|| {
            // Asking for the name must not come back here.
            IS_SHARD.set(Some(false));
            let name = rustix::thread::name().unwrap_or_default();
            let is_shard = name.to_bytes().starts_with(b"shard-");
            IS_SHARD.set(Some(is_shard));
            is_shard
        });
        if is_shard {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Starts the server in this process: the allocator has to be ours.
fn serve(backend: &Backend, certificate: &str) -> Server {
    let mut overrides = Overrides::default();
    for key in ["listen", "listen_tls", "ingress", "admin"] {
        overrides.set(key, "127.0.0.1:0");
    }
    overrides.set("tls_certificates", certificate);
    overrides.set("backend", backend.url());
    let cpus = ws2api::server::host::usable_cpus();
    let config = config::resolve(None, &overrides, &cpus[..1]).expect("the defaults and free ports");
    let start = Start {
        origin: Origin::default(),
        generation: 0,
        line: None,
        program: None,
        version: String::new(),
        traced: None,
    };
    let mut server = Server::start(&config, start).expect("it starts");
    server.open().expect("it serves");
    server
}

/// How many allocations one round costs: the least of many batches, because once a second the shard is asked for its
/// counters too.
fn per_round(mut round: impl FnMut(u64)) -> f64 {
    let batch = |first: u64, round: &mut dyn FnMut(u64)| {
        ALLOCATIONS.store(0, Ordering::SeqCst);
        COUNTS.store(true, Ordering::SeqCst);
        for number in first..first + ROUNDS {
            round(number);
        }
        COUNTS.store(false, Ordering::SeqCst);
        ALLOCATIONS.load(Ordering::SeqCst) as f64 / ROUNDS as f64
    };
    let counts = (0..BATCHES).map(|index| batch(index * ROUNDS, &mut round));
    counts.fold(f64::INFINITY, f64::min)
}

#[test]
fn the_steady_path_allocates_what_the_libraries_force() {
    let (backend, authority, folder) = (
        Backend::start(),
        Authority::new("authority"),
        Folder::new("allocations"),
    );
    let certificate = authority.server(&["localhost"]).save(&folder, "own");
    let server = serve(&backend, &certificate);
    let SocketAddresses {
        listen,
        listen_tls,
        ingress,
        admin,
    } = server.addresses;
    let listen = listen.expect("it is configured");
    let mut client = Handshake::new("CP1").subprotocols("ocpp1.6").open(listen);

    // One at a time: several would leave together.
    let call_with = |client: &mut Client, prefix: &str| {
        per_round(|number| {
            client.send_call(&format!("{prefix}{number}"), "Heartbeat", r#"{"a":1}"#);
            client.expect(&format!(r#"[3,"{prefix}{number}",{{"a":1}}]"#));
        })
    };
    let mut calls = |prefix: &str| call_with(&mut client, prefix);
    let call = calls("c");
    // Nor does a tap allocate anything on a shard: one that is not read, one of another client, and none again.
    let taps = ["", "?client=CP2"].map(|query| Tap::open(admin, query));
    let tapped = calls("t");
    taps.into_iter().for_each(Tap::close);
    eventually("the taps' end", || {
        let metrics = Http::connect(admin).get("/metrics").body;
        metrics.contains("ws2api_taps{shard=\"0\"} 0").then_some(())
    });
    let untapped = calls("u");
    let with_tls = [&version::TLS12, &version::TLS13].map(|version| {
        let handshake = Handshake::new("CP2").subprotocols("ocpp1.6");
        let mut client = Tls::version(&authority, version).open(&handshake, listen_tls.expect("it is configured"));
        call_with(&mut client, "s")
    });
    let mut http = Http::connect(ingress);
    let push = per_round(|number| {
        let reply = http.post(&format!("/call/Reset/CP1/p{number}"), r#"{"type":"Soft"}"#);
        assert_eq!(reply.status, 202, "{reply:?}");
        client.expect(&format!(r#"[2,"p{number}","Reset",{{"type":"Soft"}}]"#));
        client.send_result(&format!("p{number}"), "{}");
        backend.take(&format!("/result/Reset/CP1/p{number}"));
    });

    // For who wants to see it: --nocapture.
    println!("allocations: {call} per Call, {with_tls:?} with TLS 1.2 and 1.3, {push} per push");
    assert!(call > 0.0 && push > 0.0, "the counter counts");
    assert!(call <= CALL_MAX, "{call} allocations per Call, {CALL_MAX} are forced");
    assert!(tapped <= CALL_MAX, "{tapped} allocations per Call with a tap");
    assert!(untapped <= CALL_MAX, "{untapped} allocations per Call after a tap");
    assert!(
        with_tls.iter().all(|call| (1.0..=CALL_MAX).contains(call)),
        "{with_tls:?} allocations per Call with TLS"
    );
    assert!(push <= PUSH_MAX, "{push} allocations per push, {PUSH_MAX} are forced");
}

const ROUNDS: u64 = 200;
const BATCHES: u64 = 10;
/// The message, as long as the client waits for its answer.
const CALL_MAX: f64 = 1.0;
/// As it passes the shard: the body; the client's list of pushes, which it has only while there are some;
/// the answer's body; the answer; the post of the outcome, which may have to wait; its key.
const PUSH_MAX: f64 = 6.0;
