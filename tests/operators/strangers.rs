//! Who may ask at the admin address: no page of another site, and with a token nobody without it (`admin-5`, `admin-6`).

use std::path::PathBuf;

use rustix::process::Signal;
use support::{Http, Proxy, Reply, eventually};

/// `user:password` in base64.
const BASIC_RIGHT: [&str; 2] = ["Basic bWU6czNjcmV0", "basic OnMzY3JldA=="];
const WRONG: [&str; 7] = [
    "Basic bWU6czNjcmV",
    "Basic bWU6d3Jvbmc=",
    "Basic czNjcmV0Og==",
    "Bearer",
    "Bearer s3cre",
    "Bearer S3CRET",
    "s3cret",
];

const ASKED: [(&str, &str); 8] = [
    ("GET", "/"),
    ("GET", "/status.json"),
    ("GET", "/metrics"),
    ("GET", "/clients/CP1"),
    ("GET", "/nowhere"),
    ("POST", "/trace?client=CP1"),
    ("GET", "/debug/pprof/heap"),
    ("POST", "/debug/pprof/heap?active=true"),
];

#[test]
fn a_page_of_another_site_cannot_ask_the_admin_address() {
    let proxy = Proxy::demo().start();
    let own = format!("http://{}", proxy.admin);
    let own: [&[(&str, &str)]; 3] = [
        &[("Origin", &own), ("Sec-Fetch-Site", "same-origin")],
        &[("Sec-Fetch-Site", "none")],
        &[],
    ];
    let host = proxy.admin.to_string();
    for headers in own {
        // It is the site whose page the status page is.
        let reply = ask(&proxy, ("POST", "/trace?client=CP1"), &host, headers);
        assert_eq!(reply.status, 200, "{headers:?}: {reply:?}");
    }
    let others: [&[(&str, &str)]; 5] = [
        &[("Origin", "http://attacker.example"), ("Sec-Fetch-Site", "cross-site")],
        &[("Origin", "http://localhost:4002")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
    ];
    for headers in others {
        for asked in ASKED {
            let reply = ask(&proxy, asked, &host, headers);
            assert_eq!(reply.status, 403, "{asked:?} {headers:?}: {reply:?}");
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(
                ask(&proxy, ("GET", path), &host, headers).status,
                200,
                "{path} {headers:?}"
            );
        }
    }
}

#[test]
fn a_host_that_a_strangers_page_can_have_is_refused_at_the_admin_address() {
    let hosts = file("hosts");
    let write = |names: &str| std::fs::write(&hosts, format!("admin_hosts = [{names}]\n")).unwrap();
    write("");
    let proxy = Proxy::demo().arg("--config").arg(hosts.to_str().unwrap()).start();
    let statuses = |host: &str| {
        let same_origin = format!("http://{host}");
        let headers = [("Origin", same_origin.as_str())];
        let all = ASKED.map(|asked| ask(&proxy, asked, host, &headers));
        let refused = all.iter().filter(|reply| reply.status == 403).count();
        (refused, all[0].clone())
    };
    for host in ["localhost:4002", "127.0.0.1", "[::1]:4002", "ws2api:4002"] {
        assert_eq!(statuses(host).0, 0, "{host}");
    }
    for host in [
        "attacker.example",
        "attacker.example:4002",
        "127.0.0.1.attacker.example",
    ] {
        let (refused, reply) = statuses(host);
        assert_eq!(refused, ASKED.len(), "{host}");
        assert!(reply.body.contains("admin_hosts"), "{reply:?}");
        assert_eq!(ask(&proxy, ("GET", "/healthz"), host, &[]).status, 200);
    }
    write("\"monitor.example\"");
    proxy.signal(Signal::HUP);
    eventually("the name to be known", || {
        (statuses("monitor.example:4002").0 == 0).then_some(())
    });
    assert_eq!(statuses("attacker.example").0, ASKED.len());
}

#[test]
fn with_a_token_the_admin_address_answers_whoever_brings_it_and_health_checks() {
    let token = file("admin-token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let proxy = Proxy::demo().set("admin_token_file", token.to_str().unwrap()).start();
    // Any name will do, since no page of a stranger has the token.
    for host in ["localhost", "monitor.example"] {
        for asked in ASKED {
            for wrong in [None].into_iter().chain(WRONG.map(Some)) {
                let headers: Vec<_> = wrong.iter().map(|wrong| ("Authorization", *wrong)).collect();
                let reply = ask(&proxy, asked, host, &headers);
                assert_eq!(reply.status, 401, "{asked:?} {wrong:?}: {reply:?}");
                // A browser asks for a name and a password then.
                assert!(
                    reply.header("www-authenticate").unwrap().starts_with("Basic "),
                    "{reply:?}"
                );
            }
            let twice = [("Authorization", "Bearer s3cret"), ("Authorization", "Bearer s3cret")];
            assert_eq!(ask(&proxy, asked, host, &twice).status, 401);
        }
        for right in ["Bearer s3cret"].into_iter().chain(BASIC_RIGHT) {
            let reply = ask(&proxy, ("GET", "/metrics"), host, &[("Authorization", right)]);
            assert_eq!(reply.status, 200, "{right}: {reply:?}");
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(ask(&proxy, ("GET", path), host, &[]).status, 200, "{path}");
        }
        let page = [
            ("Authorization", "Bearer s3cret"),
            ("Origin", "http://attacker.example"),
        ];
        assert_eq!(ask(&proxy, ("GET", "/metrics"), host, &page).status, 403);
    }

    std::fs::write(&token, "other\n").unwrap();
    proxy.signal(Signal::HUP);
    proxy.wait_log("at the admin address the token has changed");
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        ask(&proxy, ("GET", "/metrics"), "localhost", &[("Authorization", &bearer)]).status
    };
    assert_eq!([status("s3cret"), status("other")], [401, 200]);
}

#[track_caller]
/// Its answer's body need not be text.
pub(crate) fn ask(proxy: &Proxy, (method, target): (&str, &str), host: &str, headers: &[(&str, &str)]) -> Reply {
    let mut http = Http::connect(proxy.admin);
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    http.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"));
    let (status, head, body) = http.raw_reply();
    Reply {
        status,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}
