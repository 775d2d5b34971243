//! An idle client costs little memory, also after large messages: `bound-7`, and where it compresses: `deflate-12`; with TLS: `tls-15`. This is the guard; `hold120k --mode idle`
//! measures it for 15,000.

use support::certificates::Folder;
use support::client::{CONTINUATION, PING, TEXT, frame_bytes};
use support::{Authority, Backend, Client, Handshake, Message, Proxy, Tls};

#[test]
fn an_idle_client_costs_at_most_4_kib() {
    const CLIENTS: u64 = 4_000;
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    // What the first ones bring along (connections to the backend, buffers of the shard) is not theirs.
    let mut clients: Vec<_> = (0..200).map(|number| proxy.client(&format!("first{number}"))).collect();
    let before = proxy.resident();
    clients.extend((0..CLIENTS).map(|number| proxy.client(&format!("CP{number}"))));
    let each = proxy.resident().saturating_sub(before) / CLIENTS;
    assert!(each <= 4096, "{each} bytes per idle client");
    assert_eq!(clients.len() as u64, CLIENTS + 200);
}

#[test]
fn a_client_costs_no_more_after_large_messages() {
    const CLIENTS: u64 = 1_000;
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let payload = format!(r#"{{"a":"{}"}}"#, "x".repeat(16 * 1024));
    let exchange = |name: &str| {
        let mut client = proxy.client(name);
        client.send_call("1", "DataTransfer", &payload);
        client.expect(&format!(r#"[3,"1",{payload}]"#));
        client
    };
    let mut clients: Vec<_> = (0..200).map(|number| exchange(&format!("first{number}"))).collect();
    let before = proxy.resident();
    clients.extend((0..CLIENTS).map(|number| exchange(&format!("CP{number}"))));
    let each = proxy.resident().saturating_sub(before) / CLIENTS;
    assert!(each <= 4096, "{each} bytes per client");
    assert_eq!(clients.len() as u64, CLIENTS + 200);
}

/// Keys and numbers, beside the socket: that is all that TLS leaves of a handshake.
#[test]
fn a_client_with_tls_costs_its_keys_and_no_more() {
    const CLIENTS: u64 = 2_000;
    let (backend, authority, folder) = (Backend::start(), Authority::new("authority"), Folder::new("idle"));
    let certificate = authority.server(&["localhost"]).save(&folder, "own");
    let proxy = Proxy::with(&backend)
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &certificate)
        .start();
    let tls = Tls::trusting(&authority);
    let exchange = |name: &str, is_tls: bool| {
        let handshake = Handshake::new(name);
        let mut client = match is_tls {
            true => tls.open(&handshake, proxy.listen_tls.expect("it is configured")),
            false => handshake.open(proxy.listen),
        };
        client.call(1);
        client
    };
    let mut clients = Vec::new();
    let mut cost = |kind: &str, is_tls| {
        clients.extend((0..200).map(|number| exchange(&format!("{kind}-first{number}"), is_tls)));
        let before = proxy.resident();
        clients.extend((0..CLIENTS).map(|number| exchange(&format!("{kind}{number}"), is_tls)));
        proxy.resident().saturating_sub(before) / CLIENTS
    };
    // The room that handshakes need for a moment is there before anything is compared.
    cost("warm", true);
    let plain = cost("plain", false);
    let with_tls = cost("tls", true);
    // For who wants to see it: --nocapture.
    println!("{plain} bytes per client, {with_tls} per client with TLS");
    assert!(with_tls <= plain + 400, "{with_tls} bytes per client, {plain} without");
}

#[test]
fn a_client_that_compresses_costs_its_windows_and_no_more() {
    const CLIENTS: u64 = 1_000;
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let payload = format!(r#"{{"a":"{}"}}"#, "0123456789".repeat(400));
    let exchange = |name: &str, offer: &str| {
        let mut client = Handshake::new(name).offer(offer).open(proxy.listen);
        for number in 0..3 {
            let call = format!(r#"[2,"{number}","DataTransfer",{payload}]"#);
            match client.extensions() {
                Some(_) => {
                    client.send_compressed(call);
                }
                None => client.send(call),
            }
            client.expect(&format!(r#"[3,"{number}",{payload}]"#));
        }
        client
    };
    let mut clients = Vec::new();
    // Also of those that do not compress, so that what is compared differs in nothing else.
    let mut cost = |kind: &str, offer: &str| {
        clients.extend((0..200).map(|number| exchange(&format!("{kind}-first{number}"), offer)));
        let before = proxy.resident();
        clients.extend((0..CLIENTS).map(|number| exchange(&format!("{kind}{number}"), offer)));
        proxy.resident().saturating_sub(before) / CLIENTS
    };
    let plain = cost("plain", "none");
    let compressing = cost("compressing", "permessage-deflate; client_max_window_bits");
    // For who wants to see it: --nocapture.
    println!("{plain} bytes per client, {compressing} per client that compresses");
    // Two windows of 2 KiB, and what remembers them.
    assert!(
        compressing <= plain + 4403,
        "{compressing} bytes per client, {plain} without"
    );
}

/// The buffers of large frames are given back in the midst of all this.
#[test]
fn large_messages_arrive_whole_wherever_they_are_cut() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let payload = format!(r#"{{"a":"{}"}}"#, "x".repeat(3000));
    let (begin, end) = payload.split_at(1500);
    let mut bytes = frame_bytes(true, TEXT, format!(r#"[2,"1","A",{payload}]"#).as_bytes());
    bytes.extend(frame_bytes(false, TEXT, format!(r#"[2,"2","A",{begin}"#).as_bytes()));
    bytes.extend(frame_bytes(true, PING, b"still there?"));
    bytes.extend(frame_bytes(true, CONTINUATION, format!("{end}]").as_bytes()));
    bytes.extend(frame_bytes(true, TEXT, br#"[2,"3","A",{}]"#));
    for cut in (1..bytes.len()).step_by(61).chain(1..20) {
        client.send_raw(&bytes[..cut]);
        let mut pongs = 0;
        let mut texts = Vec::new();
        let mut receive = |client: &mut Client, texts_due, pongs_due| {
            while texts.len() < texts_due || pongs < pongs_due {
                match client.message() {
                    Message::Text(text) => texts.push(text),
                    Message::Pong(_) => pongs += 1,
                    other => panic!("{other:?}"),
                }
            }
            texts.clone()
        };
        // Once the first is whole it comes and goes, and its buffer with it, before the rest is sent.
        receive(&mut client, usize::from(cut > payload.len() + 30), 0);
        client.send_raw(&bytes[cut..]);
        let [first, second] = ["1", "2"].map(|id| format!(r#"[3,"{id}",{payload}]"#));
        assert_eq!(receive(&mut client, 3, 1), [&first, &second, r#"[3,"3",{}]"#]);
    }
}
