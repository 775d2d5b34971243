//! Gives the tests on real sockets the program as a child process, a scripted backend, clients and HTTP requests.
//!
//! Everything blocks, with [`DEADLINE`] as the limit of each wait: a test waits for what it wants to see, never for a
//! time. Ports are the kernel's choice. A test that fails shows what the program wrote to standard error.

#![allow(missing_docs, reason = "for the tests beside it, to which most names say enough")]

pub mod backend;
pub mod builder;
pub mod certificates;
pub mod client;
pub mod compression;
pub mod gate;
pub mod http;
pub mod nats;
pub mod program;
pub mod proxy;
pub mod proxy_protocol;
pub mod successor;
pub mod tap;
pub mod text_file;
pub mod tls;
pub mod tls_front;
pub mod until;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

pub use backend::{Backend, Request, Response};
pub use builder::Builder;
pub use certificates::Authority;
pub use client::{Client, Handshake, Message};
pub use compression::Compression;
pub use gate::Gate;
pub use http::{Http, Reply};
pub use nats::{Nats, NatsPeer, PlayedNats};
pub use proxy::Proxy;
pub use serde_json::{Value, json};
pub use successor::Successor;
pub use tap::Tap;
pub use tls::Tls;
pub use until::Until;

/// How long anything may take before a test fails. Only a broken program comes near.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer. Only for what nobody announces.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Lets every user write there: `WS2API_UNDER` may make the program another user than the test. As /tmp is, if it is a folder.
#[track_caller]
pub fn open_to_all(path: impl AsRef<Path>) {
    let mode = if path.as_ref().is_dir() { 0o1777 } else { 0o666 };
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// As one path segment: everything but RFC 3986 unreserved characters percent-encoded.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Parses JSON that has to be JSON.
#[track_caller]
pub fn parse(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => panic!("{error}: {text}"),
    }
}

/// JSON objects that a parser and a writer would not give back as they were.
pub const PAYLOADS: &[&str] = &[
    "{}",
    "{ }",
    "{\n\t\"a\" :\r\n [ 1 , 2 ] }",
    "{\"z\":1,\"a\":2,\"z\":3}",
    "{\"n\":1e999}",
    "{\"n\":-0,\"m\":-0.0,\"k\":1E+2,\"j\":1.50}",
    "{\"n\":1234567890123456789012345678901234567890123456789012345678901234}",
    "{\"n\":0.1000000000000000055511151231257827021181583404541015625}",
    "{\"s\":\"\\u0041\\/\\\"\\\\ \\b\\f\\n\\r\\t\"}",
    "{\"s\":\"\\ud83d\\ude00 😀 \\u0000 \\u007f\"}",
    "{\"s\":\"lone \\ud800 and \\udfff\"}",
    "{\"\":{\"\":[[],{},\"\"]}}",
    "{\"a\":null,\"b\":true,\"c\":false}",
    "{\"s\":\"]}[{,:\\\\\\\"\"}",
];
