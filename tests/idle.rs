//! What an idle client costs. `hold120k --mode idle` measures it for 15,000; this is the guard.

mod support;

use support::{Backend, Proxy};

/// Resident memory of the process, in bytes.
fn resident(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[test]
fn an_idle_client_costs_at_most_4_kib() {
    const CLIENTS: u64 = 4_000;
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    // What the first ones bring along (connections to the backend, buffers of the shard) is not theirs.
    let mut clients: Vec<_> = (0..200).map(|number| proxy.client(&format!("first{number}"))).collect();
    let before = resident(&proxy);
    clients.extend((0..CLIENTS).map(|number| proxy.client(&format!("CP{number}"))));
    let each = resident(&proxy).saturating_sub(before) / CLIENTS;
    assert!(each <= 4096, "{each} bytes per idle client");
    assert_eq!(clients.len() as u64, CLIENTS + 200);
}
