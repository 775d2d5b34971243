//! Backends over TLS are asked as those without are, if they are who they should be: `https-1` to `https-6`.

use rustix::process::Signal;
use rustls::version;
use support::certificates::{Authority, Certificate, Wanted};
use support::text_file::TextFile;
use support::tls_front::{Seen, TlsFront};
use support::{Backend, Builder, Handshake, Proxy, Response, eventually, program};

const HOST: &str = "127.0.0.1";

/// A scripted backend behind TLS, and what it is verified by.
struct Scene {
    backend: Backend,
    authority: Authority,
    front: TlsFront,
    ca: TextFile,
}

impl Scene {
    fn start() -> Self {
        let authority = Authority::new("the backend's");
        let leaf = authority.server(&[HOST]);
        Self::with(authority, &leaf)
    }

    fn with(authority: Authority, leaf: &Certificate) -> Self {
        let backend = Backend::start();
        Self {
            front: TlsFront::start(&backend, leaf),
            ca: TextFile::new(&authority.pem()),
            backend,
            authority,
        }
    }

    fn proxy(&self) -> Builder {
        Proxy::with_url(self.front.url(HOST)).set("backend_ca", self.ca.as_str())
    }

    /// Nobody gets in, and the log says why.
    #[track_caller]
    fn expect_refusal(&self, proxy: &Builder, words: &str) {
        let proxy = proxy.clone().set("backend_retry", "0s").start();
        assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 502);
        let line = proxy.wait_log("no TLS with the backend");
        assert!(line.contains(words) && line.contains(&self.front.url(HOST)), "{line}");
        assert_eq!(self.backend.seen("/").len(), 0, "nothing is said to whoever it is");
    }
}

/// An answer that is the last one on its connection.
fn closing() -> Response {
    Response::with_headers(200, &[("Connection", "close")], "{}").then_close()
}

#[test]
fn requests_travel_over_tls_and_a_kept_connection_has_one_handshake() {
    let scene = Scene::start();
    let proxy = scene.proxy().start();
    let mut client = proxy.client("CP1");
    for number in 0..20 {
        let id = format!("m{number}");
        client.send_call(&id, "Echo", "{\"a\":1}");
        client.expect(&format!("[3,\"{id}\",{{\"a\":1}}]"));
    }
    // A request and an answer of many records.
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(200_000));
    client.send_call("large", "Echo", &large);
    client.expect(&format!("[3,\"large\",{large}]"));
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.text();
    client.send_result("p1", "{}");
    scene.backend.take("/result");
    let seen = Seen {
        is_resumed: false,
        server_name: None,
        alpn: Some(b"http/1.1".to_vec()),
        has_certificate: false,
    };
    assert_eq!(scene.front.seen(), [seen]);
    assert_eq!(proxy.count_where("backend_tls_handshakes", "full"), 1);
    assert_eq!(
        scene.backend.take("/connect").header("host"),
        scene.front.url(HOST).strip_prefix("https://")
    );
}

#[test]
fn the_host_of_the_url_is_said_to_the_backend_and_its_certificate_is_held_against_it() {
    let authority = Authority::new("the backend's");
    let leaf = authority.server(&["localhost"]);
    let scene = Scene::with(authority, &leaf);
    let url = scene.front.url("localhost");
    let proxy = Proxy::with_url(url).set("backend_ca", scene.ca.as_str()).start();
    proxy.client("CP1");
    assert_eq!(scene.front.seen()[0].server_name.as_deref(), Some("localhost"));
    let wrong = scene.proxy();
    scene.backend.take("/connect");
    let strange = wrong.set("backend_retry", "0s").start();
    assert_eq!(Handshake::new("CP2").refused(strange.listen).status, 502);
    let line = strange.wait_log("no TLS with the backend");
    assert!(
        line.contains("its certificate is not for 127.0.0.1 but for localhost"),
        "{line}"
    );
}

#[test]
fn a_session_is_resumed_on_the_next_connection() {
    let scene = Scene::start();
    scene.backend.on("/call", |_| closing());
    let proxy = scene.proxy().start();
    let mut client = proxy.client("CP1");
    for number in 0..5 {
        let id = format!("m{number}");
        client.send_call(&id, "Echo", "{}");
        client.expect(&format!("[3,\"{id}\",{{}}]"));
    }
    let is_resumed: Vec<bool> = scene.front.seen().iter().map(|seen| seen.is_resumed).collect();
    assert_eq!(is_resumed, [false, true, true, true, true]);
    assert_eq!(proxy.count_where("backend_tls_handshakes", "resumed"), 4);
}

#[test]
fn a_backend_that_is_not_who_it_should_be_is_told_nothing_and_the_log_says_why() {
    let (authority, stranger) = (Authority::new("the backend's"), Authority::new("a stranger's"));
    for (leaf, words) in [
        (stranger.server(&[HOST]), "signed by nobody who is known"),
        (
            authority.issue(Wanted::server(&[HOST]).valid((2020, 1, 1), (2021, 1, 1))),
            "has expired",
        ),
        (authority.server(&["10.9.8.7"]), "not for 127.0.0.1 but for 10.9.8.7"),
        (authority.server(&[]), "should name 127.0.0.1"),
    ] {
        let backend = Backend::start();
        let scene = Scene {
            front: TlsFront::start(&backend, &leaf),
            ca: TextFile::new(&authority.pem()),
            backend,
            authority: Authority::new("nobody's"),
        };
        scene.expect_refusal(&scene.proxy(), words);
    }
}

#[test]
fn a_backend_that_speaks_no_tls_is_told_nothing() {
    let backend = Backend::start();
    let url = backend.url().replace("http://", "https://");
    let ca = TextFile::new(&Authority::new("anybody's").pem());
    let proxy = Proxy::with_url(url)
        .set("backend_ca", ca.as_str())
        .set("backend_retry", "0s")
        .set("connect_timeout", "300ms")
        .start();
    assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 502);
    // It waits for the end of a line.
    let line = proxy.wait_log("no TLS with the backend");
    assert!(line.contains("is it http:// there?"), "{line}");
    let alerts = proxy.wait_log("is down: it is not who it should be");
    assert!(alerts.contains("https://"), "{alerts}");
    assert_eq!(backend.seen("/").len(), 0);
}

#[test]
fn a_backend_that_asks_for_a_certificate_is_shown_ours() {
    let (ours, stranger) = (Authority::new("ours"), Authority::new("a stranger's"));
    // With TLS 1.3 it refuses when the handshake is over for us.
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let scene = Scene::start();
        scene.front.want(&scene.authority.server(&[HOST]), &ours, versions);
        let stranger = stranger.client("ws2api");
        let (chain, key) = (TextFile::new(&stranger.chain), TextFile::new(&stranger.key));
        let files = format!("{{ chain = \"{}\", key = \"{}\" }}", chain.as_str(), key.as_str());
        let proxy = scene.proxy().set("backend_certificate", &files);
        scene.expect_refusal(&scene.proxy(), "set backend_certificate");
        scene.expect_refusal(&proxy, "does not take our certificate");
        let own = ours.client("ws2api");
        chain.set(&own.chain);
        key.set(&own.key);
        proxy.start().client("CP1");
        assert!(scene.front.seen().last().unwrap().has_certificate);
    }
}

#[test]
fn a_backend_that_refuses_our_certificate_is_down_for_that_with_either_version() {
    let scene = Scene::start();
    let ours = Authority::new("ours");
    let leaf = scene.authority.server(&[HOST]);
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        scene.front.want(&leaf, &ours, versions);
        let proxy = scene.proxy().set("backend_retry", "0s").start();
        assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 502);
        proxy.wait_count_where("backend_tls_handshakes", "failed", 1);
        let line = proxy.wait_log("is down: it is not who it should be, does not take our certificate");
        assert!(line.contains("the log says what is wrong"), "{line}");
        assert_eq!(scene.backend.seen("/").len(), 0, "nobody has heard a request");
    }
}

#[test]
fn an_authority_of_the_same_name_is_not_the_same() {
    let (authority, namesake) = (Authority::new("the backend's"), Authority::new("the backend's"));
    let leaf = namesake.server(&[HOST]);
    let scene = Scene::with(authority, &leaf);
    scene.expect_refusal(&scene.proxy(), "Most likely another one of the same name has signed it");
}

#[test]
fn an_answer_that_is_cut_off_is_none() {
    let scene = Scene::start();
    scene.backend.on("/call", |_| Response::until_close("{}"));
    let proxy = scene.proxy().start();
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
    scene.front.cut_off();
    client.send_call("m2", "Echo", "{}");
    let answer = client.text();
    assert!(answer.starts_with("[4,\"m2\",\"InternalError\""), "{answer}");
}

#[test]
fn certificates_are_read_again_and_connections_stay() {
    let scene = Scene::start();
    let proxy = scene.proxy().set("backend_retry", "0s").start();
    let mut client = proxy.client("CP1");
    let next = Authority::new("the next one");
    scene.front.show(&next.server(&[HOST]));
    scene.ca.set("no certificate");
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("the configuration stays as it was");
    assert!(line.contains("backend_ca"), "{line}");
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
    scene.ca.set(&next.pem());
    proxy.signal(Signal::HUP);
    proxy.wait_log("configuration read again");
    client.send_call("m2", "Echo", "{}");
    client.expect("[3,\"m2\",{}]");
    assert_eq!(scene.front.seen().len(), 1, "the connection is the one before");
    scene.backend.on("/call", |_| closing());
    client.send_call("m3", "Echo", "{}");
    client.expect("[3,\"m3\",{}]");
    client.send_call("m4", "Echo", "{}");
    client.expect("[3,\"m4\",{}]");
    eventually("a new handshake", || (scene.front.seen().len() == 2).then_some(()));
}

#[test]
fn check_says_whether_the_backend_is_who_it_should_be() {
    let scene = Scene::start();
    let check = |ca: &TextFile| {
        let (url, ca) = (scene.front.url(HOST), ca.as_str());
        let file = TextFile::new(&format!(
            "backend = \"{url}\"\nbackend_ca = \"{ca}\"\n[defaults]\nconnect_timeout = \"60s\"\n"
        ));
        program::run(&["check", file.as_str()])
    };
    let (code, stdout, stderr) = check(&scene.ca);
    assert_eq!(code, 0, "{stderr}");
    let row = format!("# {}: TLSv1.3", scene.front.url(HOST));
    assert!(stdout.contains(&row), "{stdout}");
    let stranger = TextFile::new(&Authority::new("a stranger's").pem());
    let (_, _, stderr) = check(&stranger);
    assert!(stderr.contains("signed by nobody who is known"), "{stderr}");
    let nonsense = TextFile::new("nonsense");
    let (code, _, stderr) = check(&nonsense);
    assert!(code != 0 && stderr.contains("backend_ca"), "{stderr}");
    assert_eq!(scene.backend.seen("/").len(), 0, "nothing is asked");
}
