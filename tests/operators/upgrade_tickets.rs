//! Who has a ticket of the process before resumes its session at the one that has taken over: `tls-13`.

use std::fs;
use std::net::SocketAddr;

use rustls::{SupportedProtocolVersion, version};
use support::{Authority, Backend, Builder, Handshake, Tls, open_to_all};

use super::installed::Installed;
use super::upgrade::{ask, slow, wait_for_the_old_one};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A node with a certificate.
fn node(backend: &Backend, authority: &Authority, installed: &Installed) -> Builder {
    let certificate = authority.server(&["localhost"]).save(&installed.0, "own");
    slow(backend)
        .program(installed.program())
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &certificate)
}

/// Connects, gets another ticket, and goes: whether its session was resumed.
fn resumes(tls: &Tls, address: SocketAddr) -> bool {
    let stream = tls.connect(address);
    let is_resumed = stream.is_resumed();
    let mut http = stream.into_http();
    http.send(Handshake::new("CP1").bytes());
    let mut client = support::Client::upgrade(http);
    client.call(1);
    client.close(1000, "");
    is_resumed
}

/// A client of each version that has a ticket.
fn clients(authority: &Authority, address: SocketAddr) -> Vec<Tls> {
    let clients = VERSIONS.map(|version| Tls::version(authority, version));
    assert!(clients.iter().all(|tls| !resumes(tls, address)));
    clients.to_vec()
}

#[test]
fn a_ticket_of_the_old_process_is_good_in_the_new_one_and_in_the_one_after_it() {
    let (backend, authority, installed) = (Backend::start(), Authority::new("authority"), Installed::new());
    let mut proxy = node(&backend, &authority, &installed).start();
    let address = proxy.listen_tls.unwrap();
    let first = clients(&authority, address);
    let patient = clients(&authority, address);
    let second = proxy.upgrade();
    assert_eq!(proxy.wait().code(), Some(0));
    wait_for_the_old_one(&proxy);
    assert!(first.iter().all(|tls| resumes(tls, address)));
    assert_eq!(proxy.count_where("tls_handshakes", "resumed"), 2);
    let third = proxy.upgrade();
    second.wait();
    wait_for_the_old_one(&proxy);
    // Those of both processes.
    assert!(first.iter().chain(&patient).all(|tls| resumes(tls, address)));
    assert_eq!(proxy.count_where("tls_handshakes", "full"), 0);
    third.terminate();
}

#[test]
fn an_upgrade_that_is_undone_leaves_the_old_ones_tickets_good() {
    let (backend, authority, installed) = (Backend::start(), Authority::new("authority"), Installed::new());
    let mut proxy = node(&backend, &authority, &installed)
        .set("upgrade_timeout", "500ms")
        .start();
    let address = proxy.listen_tls.unwrap();
    let clients = clients(&authority, address);
    // It has heard the keys, and never serves.
    for step in ["dies-when-it-may", "hangs-when-it-may"] {
        installed.exchange_for_step(step);
        ask(&proxy, "POST").expect(500);
        assert!(clients.iter().all(|tls| resumes(tls, address)), "{step}");
    }
    assert_eq!(proxy.count_where("tls_handshakes", "full"), 2);
    assert!(proxy.terminate().success());
}

#[test]
fn a_ticket_is_of_no_use_in_a_new_process_that_believes_other_authorities() {
    let (backend, authority, installed) = (Backend::start(), Authority::new("authority"), Installed::new());
    let ca = installed.0.join("clients.pem");
    let believe = |authority: &Authority| {
        fs::write(&ca, authority.pem()).unwrap();
        open_to_all(&ca);
    };
    let before = Authority::new("clients");
    believe(&before);
    let mut proxy = node(&backend, &authority, &installed)
        .set("tls_client_ca", ca.to_str().unwrap())
        .set("tls_client_auth", "optional")
        .start();
    let address = proxy.listen_tls.unwrap();
    let clients = clients(&authority, address);
    let known = Tls::showing(&authority, &before.client("CP1"));
    assert!(!resumes(&known, address) && resumes(&known, address));
    believe(&Authority::new("others"));
    let new = proxy.upgrade();
    assert_eq!(proxy.wait().code(), Some(0));
    wait_for_the_old_one(&proxy);
    assert!(clients.iter().all(|tls| !resumes(tls, address)));
    // What it shows is nobody's any more, and it has to show it.
    let stream = known.try_connect(address);
    assert!(stream.is_err() || !stream.unwrap().is_resumed());
    new.terminate();
}
