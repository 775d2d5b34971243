use std::fs;
use std::sync::Arc;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::ClientConfig;
use support::{Authority, Nats};

use super::driver::{Driver, settings};
use crate::cluster::credentials;
use crate::cluster::link::{Event, Refused};
use crate::cluster::reach::reach;

#[test]
fn two_nodes_hear_each_other_and_that_nobody_is_there() {
    let Some(mut nats) = Nats::start("") else { return };
    let (one, other) = (Driver::to(&[&nats.url()]), Driver::to(&[&nats.url()]));
    assert!(one.connected().contains("(NATS 2."));
    other.connected();
    for _ in 0..2 {
        one.ask(|link| link.subscribe(1, "c.node.1.*", None));
        assert_eq!(
            one.ask(|link| link.publish("c.client.x", Some("c.node.1.7"), b"who")),
            Ok(())
        );
        match one.event() {
            Event::Message {
                sid: 1,
                subject,
                payload,
                is_no_responders: true,
                ..
            } => {
                assert_eq!((subject.as_str(), payload.len()), ("c.node.1.7", 0));
            }
            other => panic!("{other:?}"),
        }
        other.ask(|link| link.subscribe(16, "c.client.x", Some("node")));
        // In the order in which they were said: a subscription that another connection has made is known once this one is answered.
        other.ask(|link| {
            link.subscribe(2, "c.ready", None);
            link.publish("c.ready", None, b"").unwrap();
        });
        assert_eq!(other.message().1, "c.ready");
        assert_eq!(
            one.ask(|link| link.publish("c.client.x", Some("c.node.1.8"), b"who")),
            Ok(())
        );
        assert_eq!(other.message(), (16, "c.client.x".to_owned(), b"who".to_vec()));
        other.ask(|link| link.publish("c.node.1.8", None, &vec![b'x'; 100_000]).unwrap());
        let (sid, subject, payload) = one.message();
        assert_eq!((sid, subject.as_str(), payload.len()), (1, "c.node.1.8", 100_000));
        // And once more behind its end, with nothing left of what was subscribed to.
        nats.start_again();
        one.lost();
        other.lost();
        one.connected_again();
        other.connected_again();
    }
}

#[test]
fn another_server_that_the_first_one_has_named_takes_over() {
    let own = "cluster { name: c, listen: \"127.0.0.1:-1\"";
    let Some(mut first) = Nats::start(&format!("{own} }}")) else {
        return;
    };
    let driver = Driver::to(&[&first.url()]);
    driver.connected();
    let second = Nats::start(&format!("{own}, routes: [\"{}\"] }}", first.route())).unwrap();
    // The second one hears of the first one's subscriptions: they know each other, and so does the node.
    let other = Driver::to(&[&second.url()]);
    other.connected();
    driver.ask(|link| link.subscribe(1, "c.a", None));
    other.ask(|link| link.subscribe(1, "c.reply", None));
    support::eventually("a route between the two", || {
        other.ask(|link| link.publish("c.a", Some("c.reply"), b"")).unwrap();
        let Event::Message { is_no_responders, .. } = first_event(&driver, &other) else {
            panic!("a message was to come");
        };
        (!is_no_responders).then_some(())
    });
    first.kill();
    driver.lost();
    assert!(driver.connected_again().contains(&second.address().to_string()));
}

#[test]
fn who_may_not_is_told_so_and_who_may_is_let_in() {
    let config = "authorization { user: ws2api, password: \"p@ss word\" }";
    let Some(nats) = Nats::start(config) else { return };
    let with = |login: &str| format!("nats://{login}@{}", nats.address());
    Driver::to(&[&with("ws2api:p%40ss%20word")]).connected();
    let settings = settings(&[&with("ws2api:p%40ss%20word"), &nats.url()]);
    let [good, bad] = [0, 1].map(|at| reach(&settings.urls[at], &settings));
    assert_eq!(good.map(|reached| reached.max_payload), Ok(1 << 20));
    assert!(bad.unwrap_err().contains("Authorization Violation"));
    for url in [nats.url(), with("ws2api:wrong"), with("token")] {
        let why = Driver::to(&[&url]).failed();
        assert!(
            why.contains("Authorization Violation") && why.contains("cluster_credentials_file"),
            "{why}"
        );
    }
    let Some(nats) = Nats::start("authorization { token: s3cret }") else {
        return;
    };
    Driver::to(&[&format!("nats://s3cret@{}", nats.address())]).connected();
}

#[test]
fn a_key_that_the_server_knows_opens() {
    let user = Signer::new(USER, 7);
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public);
    let Some(nats) = Nats::start(&config) else { return };
    let file = nats.folder().join("user.nk");
    let attempt = |seed: &str| {
        fs::write(&file, seed).unwrap();
        let mut settings = settings(&[&nats.url()]);
        settings.credentials_file = Some(file.clone());
        Driver::start(settings)
    };
    let driver = attempt(&user.seed);
    driver.connected();
    // What is in the file is read again for the next one.
    let other = attempt(&Signer::new(USER, 8).seed);
    assert!(other.failed().contains("Authorization Violation"));
    fs::write(&file, &user.seed).unwrap();
    other.connected_again();
    fs::write(&file, "nothing").unwrap();
    assert!(attempt("nothing").failed().contains("holds no seed"));
    fs::remove_file(&file).unwrap();
    let mut settings = settings(&[&nats.url()]);
    settings.credentials_file = Some(file);
    assert!(Driver::start(settings).failed().contains("there is no such file"));
}

#[test]
fn what_an_account_says_of_a_user_opens() {
    let (operator, account, user) = (Signer::new(OPERATOR, 1), Signer::new(ACCOUNT, 2), Signer::new(USER, 3));
    let operator_jwt = operator.jwt(&operator, "operator", "");
    let account_jwt = operator.jwt(&account, "account", r#""limits":{"subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1},"default_permissions":{"pub":{},"sub":{}},"#);
    let user_jwt = account.jwt(
        &user,
        "user",
        r#""pub":{"allow":["c.>"]},"sub":{"allow":["c.>"]},"subs":-1,"data":-1,"payload":-1,"#,
    );
    let config = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}",
        account.public
    );
    let Some(nats) = Nats::start(&config) else { return };
    let file = nats.folder().join("user.creds");
    fs::write(
        &file,
        format!(
            "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed
        ),
    )
    .unwrap();
    let mut settings = settings(&[&nats.url()]);
    settings.credentials_file = Some(file);
    let driver = Driver::start(settings);
    driver.connected();
    driver.ask(|link| {
        link.subscribe(1, "c.a", None);
        link.subscribe(2, "other", None);
        link.publish("c.a", None, b"hi").unwrap();
    });
    let (one, other) = (driver.event(), driver.event());
    let is_message = |event: &Event| matches!(event, Event::Message { sid: 1, payload, .. } if payload == b"hi");
    let is_complaint =
        |event: &Event| matches!(event, Event::Complaint { what } if what.contains("Permissions Violation"));
    assert!(
        is_message(&one) && is_complaint(&other) || is_message(&other) && is_complaint(&one),
        "{one:?} {other:?}"
    );
    // Without it, nobody is.
    assert!(Driver::to(&[&nats.url()]).failed().contains("Authorization Violation"));
}

#[test]
fn payloads_are_as_long_as_the_server_allows() {
    let Some(nats) = Nats::start("max_payload: 2000") else {
        return;
    };
    let driver = Driver::to(&[&nats.url()]);
    match driver.event() {
        Event::Connected { max_payload, .. } => assert_eq!(max_payload, 2000),
        other => panic!("{other:?}"),
    }
    driver.ask(|link| {
        link.subscribe(1, "c.a", None);
        assert_eq!(
            link.publish("c.a", None, &[b'x'; 2001]),
            Err(Refused::TooLong { len: 2001, limit: 2000 })
        );
        assert_eq!(link.publish("c.a", None, &[b'x'; 2000]), Ok(()));
    });
    assert_eq!(driver.message().2.len(), 2000);
}

#[test]
fn over_tls_the_server_has_to_be_who_it_should_be() {
    let (authority, stranger) = (Authority::new("Authority"), Authority::new("Stranger"));
    let folder = std::env::temp_dir().join(format!("ws2api-link-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let serve = |hosts: &[&str]| {
        authority.server(hosts).save(&folder, "server");
        let file = |name: &str| folder.join(name).display().to_string();
        Nats::start(&format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
            file("server.pem"),
            file("server.key")
        ))
    };
    let attempt = |nats: &Nats, scheme: &str, authority: &Authority| {
        let mut settings = settings(&[&format!("{scheme}://{}", nats.address())]);
        settings.tls = Some(trust_of(authority));
        Driver::start(settings)
    };
    let Some(mut nats) = serve(&["127.0.0.1"]) else { return };
    let driver = attempt(&nats, "tls", &authority);
    driver.connected();
    for _ in 0..2 {
        // More than one turn, and one record.
        driver.ask(|link| {
            link.subscribe(1, "c.>", None);
            for at in 0..20 {
                link.publish(&format!("c.{at}"), None, &vec![b'x'; 200_000]).unwrap();
            }
        });
        for at in 0..20 {
            let (_, subject, payload) = driver.message();
            assert_eq!((subject, payload.len()), (format!("c.{at}"), 200_000));
        }
        nats.start_again();
        driver.lost();
        driver.connected_again();
    }
    let why = attempt(&nats, "tls", &stranger).failed();
    assert!(
        why.contains("signed by nobody who is known") && why.contains("cluster_ca"),
        "{why}"
    );
    let why = attempt(&nats, "nats", &authority).failed();
    assert!(why.contains("write tls://"), "{why}");
    let nats = serve(&["n1.example"]).unwrap();
    let why = attempt(&nats, "tls", &authority).failed();
    assert!(why.contains("n1.example"), "{why}");
    let nats = Nats::start("").unwrap();
    let why = attempt(&nats, "tls", &authority).failed();
    assert!(why.contains("speaks no TLS"), "{why}");
    fs::remove_dir_all(&folder).unwrap();
}

/// What comes first, at either.
fn first_event(one: &Driver, other: &Driver) -> Event {
    support::eventually("an event", || one.try_event().or_else(|| other.try_event()))
}

pub(super) fn trust_of(authority: &Authority) -> Arc<ClientConfig> {
    let file = support::text_file::TextFile::new(&authority.pem());
    credentials::trust(Some(file.path())).unwrap()
}

/// A key as NATS has it, and what it signs.
struct Signer {
    pair: Ed25519KeyPair,
    public: String,
    seed: String,
}

impl Signer {
    fn new(kind: u8, byte: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[byte; 32]).unwrap();
        let with_sum = |mut bytes: Vec<u8>| {
            bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
            BASE32_NOPAD.encode(&bytes)
        };
        let public = with_sum([&[kind][..], pair.public_key().as_ref()].concat());
        let seed = with_sum([&[18 << 3 | kind >> 5, (kind & 31) << 3][..], &[byte; 32]].concat());
        Self { pair, public, seed }
    }

    /// What this one says of the other.
    fn jwt(&self, of: &Self, kind: &str, more: &str) -> String {
        let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let claims = format!(
            r#"{{"jti":"X","iat":1700000000,"iss":"{}","name":"{kind}","sub":"{}","nats":{{{more}"type":"{kind}","version":2}}}}"#,
            self.public, of.public
        );
        let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(claims.as_bytes()));
        let signature = BASE64URL_NOPAD.encode(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;
