use std::time::Duration;

use support::nats::INFO;
use support::{PlayedNats, eventually};

use super::driver::{Driver, settings};
use crate::cluster::link::{Event, Refused};

const SPEECH: &[u8] =
    b"MSG a.b 1 3\r\nx\r\n\r\nPING\r\nHMSG r.1 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\nMSG a.b 1 reply.1 0\r\n\r\n";

#[test]
fn what_comes_byte_by_byte_is_understood() {
    let nats = PlayedNats::new();
    let driver = Driver::to(&[&nats.url()]);
    let mut peer = nats.accept();
    let say_slowly = |peer: &mut support::NatsPeer, bytes: &[u8]| bytes.chunks(1).for_each(|byte| peer.say(byte));
    say_slowly(&mut peer, INFO.as_bytes());
    let connect = peer.line();
    assert!(
        connect.contains("\"no_responders\":true") && connect.contains("\"name\":\"n1\""),
        "{connect}"
    );
    assert_eq!(peer.line(), "PING");
    say_slowly(&mut peer, b"PONG\r\n");
    let server = driver.connected();
    assert!(
        server.starts_with("played at 127.0.0.1:") && server.ends_with("(NATS 2.9.10)"),
        "{server}"
    );
    say_slowly(&mut peer, SPEECH);
    let message = |sid, subject: &str, reply: Option<&str>, payload: &[u8], is_no_responders| Event::Message {
        sid,
        subject: subject.to_owned(),
        reply: reply.map(str::to_owned),
        payload: payload.to_vec(),
        is_no_responders,
    };
    assert_eq!(driver.event(), message(1, "a.b", None, b"x\r\n", false));
    assert_eq!(driver.event(), message(2, "r.1", None, b"", true));
    assert_eq!(driver.event(), message(1, "a.b", Some("reply.1"), b"", false));
    assert_eq!(peer.line(), "PONG");
}

#[test]
fn what_is_said_arrives_as_it_was_said() {
    let nats = PlayedNats::new();
    let driver = Driver::to(&[&nats.url()]);
    let away = driver.ask(|link| link.publish("a", None, b"lost"));
    let mut peer = nats.greet();
    driver.connected();
    // It may have been asked before or after the connection was made, and not after it was let in.
    assert_eq!(away, Err(Refused::Away));
    driver.ask(|link| {
        link.subscribe(16, "ws2api.client.Q1AgMQ", Some("node"));
        link.subscribe(17, "ws2api.took.Q1AgMQ", None);
        link.subscribe(18, "no subject", None);
        link.unsubscribe(16);
        assert_eq!(link.publish("a.b", Some("r.1"), b"x\r\ny"), Ok(()));
        assert_eq!(link.publish("a b", None, b""), Err(Refused::Subject));
        assert_eq!(link.publish("a", Some("r\r\nPUB x 0"), b""), Err(Refused::Subject));
        assert_eq!(link.publish("a", None, b""), Ok(()));
    });
    for line in [
        "SUB ws2api.client.Q1AgMQ node 16",
        "SUB ws2api.took.Q1AgMQ 17",
        "UNSUB 16",
        "PUB a.b r.1 4",
        "x",
        "y",
        "PUB a 0",
        "",
    ] {
        assert_eq!(peer.line(), line);
    }
}

#[test]
fn what_is_not_nats_is_no_connection() {
    for (said, why) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "none of the protocol"),
        ("INFO {\r\n", "INFO cannot be read"),
        (&"x".repeat(5000), "longer than 4096"),
        ("INFO {\"version\":\"2.1.9\"}\r\n", "too old, 2.1.9"),
        ("INFO {\"headers\":true,\"tls_required\":true}\r\n", "write tls://"),
        ("MSG a 1 0\r\n\r\n", "before anybody has asked"),
        (
            "-ERR 'maximum connections exceeded'\r\n",
            "maximum connections exceeded",
        ),
        ("", "has closed the connection"),
    ] {
        let nats = PlayedNats::new();
        let driver = Driver::to(&[&nats.url()]);
        let mut peer = nats.accept();
        peer.say(said);
        peer.close();
        let failed = driver.failed();
        assert!(failed.contains(why), "{said}: {failed}");
        // It goes on trying.
        nats.greet();
        driver.connected_again();
    }
}

#[test]
fn garbage_in_the_middle_ends_the_connection_and_another_one_follows() {
    let nats = PlayedNats::new();
    let driver = Driver::to(&[&nats.url()]);
    let mut peer = nats.greet();
    driver.connected();
    peer.say("MSG a 1 2\r\nhi\r\nMSG a 1 2\r\nhi!\r\n");
    assert_eq!(driver.message(), (1, "a".to_owned(), b"hi".to_vec()));
    assert!(driver.lost().contains("does not end where it should"));
    let _peer = nats.greet();
    driver.connected_again();
}

#[test]
fn a_server_that_goes_in_the_middle_of_a_message_has_not_said_it() {
    let nats = PlayedNats::new();
    let driver = Driver::to(&[&nats.url()]);
    let mut peer = nats.greet();
    driver.connected();
    driver.ask(|link| link.subscribe(1, "a", None));
    assert_eq!(peer.line(), "SUB a 1");
    peer.say("MSG a 1 1000\r\nhalf");
    peer.close();
    assert_eq!(driver.lost(), "it has closed the connection");
    let mut peer = nats.greet();
    driver.connected_again();
    // Nothing is left of what was.
    peer.say("PING\r\n");
    assert_eq!(peer.line(), "PONG");
}

#[test]
fn an_error_is_told_in_words() {
    let nats = PlayedNats::new();
    let driver = Driver::to(&[&nats.url()]);
    let mut peer = nats.accept();
    peer.say(INFO);
    assert!(peer.line().starts_with("CONNECT"));
    assert_eq!(peer.line(), "PING");
    peer.say("-ERR 'Authorization Violation'\r\n");
    peer.close();
    assert!(driver.failed().contains("cluster_credentials_file"));
    let mut peer = nats.greet();
    driver.connected_again();
    peer.say("-ERR 'Permissions Violation for Subscription to \"a\"'\r\n".repeat(1000));
    peer.say("MSG a 1 2\r\nhi\r\n");
    assert!(driver.complaint().contains("Permissions Violation for Subscription"));
    // One of very many is told, and it goes on.
    assert_eq!(driver.message().2, b"hi");
    peer.say("-ERR 'Slow Consumer Detected'\r\n");
    peer.close();
    assert!(driver.lost().contains("too slowly"));
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let nats = PlayedNats::new();
    let mut settings = settings(&[&nats.url()]);
    settings.connect_timeout = Duration::from_millis(300);
    let driver = Driver::start(settings);
    let _silent = nats.accept();
    assert!(driver.failed().contains("is that NATS?"));
    let mut silent = nats.accept();
    silent.say(INFO);
    assert!(driver.failed().contains("has not let us in"));
}

#[test]
fn a_server_that_answers_no_ping_is_given_up() {
    let nats = PlayedNats::new();
    let mut settings = settings(&[&nats.url()]);
    settings.ping_every = Duration::from_secs(1);
    let driver = Driver::start(settings);
    let mut peer = nats.greet();
    driver.connected();
    // As long as it answers it stays.
    for _ in 0..2 {
        assert_eq!(peer.line(), "PING");
        peer.say("PONG\r\n");
    }
    // What it says else is no answer.
    assert_eq!(peer.line(), "PING");
    peer.say("MSG a 1 0\r\n\r\n");
    driver.message();
    assert!(driver.lost().contains("has not answered"));
}

#[test]
fn what_a_slow_server_does_not_take_waits_within_a_bound() {
    let nats = PlayedNats::new();
    let mut settings = settings(&[&nats.url()]);
    settings.waiting_len_max = 4 << 20;
    let driver = Driver::start(settings);
    let mut peer = nats.greet();
    driver.connected();
    let payload = vec![b'x'; 10_000];
    let refused = move |link: &mut super::super::Link| {
        let mut count = 0;
        loop {
            match link.publish("a", None, &payload) {
                Ok(()) => count += 1,
                Err(Refused::Full { waiting }) => return (count, waiting),
                other => panic!("{other:?}"),
            }
        }
    };
    // What the kernel takes comes on top.
    let mut published = 0;
    eventually("the kernel to take no more", || {
        let (count, waiting) = driver.ask(refused.clone());
        published += count;
        assert!(waiting <= 4 << 20 && waiting > (4 << 20) - 11_000, "{waiting}");
        (count == 0).then_some(())
    });
    // What is to be known of subscriptions is not refused.
    driver.ask(|link| link.subscribe(1, "b", None));
    for _ in 0..published {
        assert_eq!(peer.line(), "PUB a 10000");
        assert_eq!(peer.bytes(10_002).len(), 10_002);
    }
    // Between two looks more may have been taken.
    assert_eq!(peer.line(), "SUB b 1");
    assert_eq!(driver.ask(|link| link.waiting_len()), 0);
}

#[test]
fn a_server_that_does_not_take_subscriptions_is_given_up() {
    let nats = PlayedNats::new();
    let mut settings = settings(&[&nats.url()]);
    settings.waiting_len_max = 1 << 20;
    let driver = Driver::start(settings);
    let _peer = nats.greet();
    driver.connected();
    let subject = "a".repeat(1000);
    driver.ask(move |link| {
        for sid in 0..3_000 {
            link.subscribe(sid, &subject, None);
            assert!(link.waiting_len() < 2 * (1 << 20) + 2000);
        }
    });
    let why = loop {
        let subject = "a".repeat(1000);
        driver.ask(move |link| (0..3_000).for_each(|sid| link.subscribe(sid, &subject, None)));
        if !driver.ask(|link| link.is_connected()) {
            break driver.lost();
        }
    };
    assert!(why.contains("does not take"), "{why}");
    assert_eq!(driver.ask(|link| link.waiting_len()), 0);
}

#[test]
fn payloads_have_the_length_that_the_server_says() {
    let nats = PlayedNats::new();
    let mut settings = settings(&[&nats.url()]);
    settings.payload_len_max = 100;
    let driver = Driver::start(settings);
    let mut peer = nats.accept();
    peer.say("INFO {\"headers\":true,\"max_payload\":10}\r\n");
    peer.line();
    assert_eq!(peer.line(), "PING");
    peer.say("PONG\r\n");
    match driver.event() {
        Event::Connected { max_payload, .. } => assert_eq!(max_payload, 10),
        other => panic!("{other:?}"),
    }
    let publish = |len: usize| driver.ask(move |link| link.publish("a", None, &vec![b'x'; len]));
    assert_eq!(publish(10), Ok(()));
    assert_eq!(publish(11), Err(Refused::TooLong { len: 11, limit: 10 }));
    peer.say("INFO {\"headers\":true,\"max_payload\":11}\r\nMSG a 1 0\r\n\r\n");
    driver.message();
    assert_eq!(publish(11), Ok(()));
    // What comes has a bound of its own.
    peer.say(format!("MSG a 1 101\r\n{}\r\nMSG a 1 2\r\nhi\r\n", "x".repeat(101)));
    assert!(driver.complaint().contains("101 bytes"));
    assert_eq!(driver.message().2, b"hi");
}

#[test]
fn subjects_that_are_no_text_are_passed_over() {
    let nats = PlayedNats::new();
    let driver = Driver::to(&[&nats.url()]);
    let mut peer = nats.greet();
    driver.connected();
    peer.say(b"MSG \xff 1 0\r\n\r\nMSG a 1 \xff 0\r\n\r\nMSG a 2 0\r\n\r\n");
    assert_eq!(driver.message().0, 2);
}

#[test]
fn of_several_servers_the_next_one_is_taken() {
    let (first, second) = (PlayedNats::new(), PlayedNats::new());
    let (one, other) = (first.url(), second.url());
    drop(first);
    let driver = Driver::to(&[&one, &other]);
    let peer = second.greet();
    driver.connected_again();
    peer.close();
    driver.lost();
    let _peer = second.greet();
    driver.connected_again();
}

#[test]
fn a_server_that_another_one_has_named_is_found() {
    let (first, second) = (PlayedNats::new(), PlayedNats::new());
    let driver = Driver::to(&[&first.url()]);
    let peer = first.greet();
    driver.connected();
    let mut peer = peer;
    let named = second.address();
    peer.say(format!(
        "INFO {{\"headers\":true,\"max_payload\":1048576,\"connect_urls\":[\"{named}\"]}}\r\nMSG a 1 0\r\n\r\n"
    ));
    driver.message();
    drop(first);
    peer.close();
    driver.lost();
    let _peer = second.greet();
    assert!(driver.connected_again().contains(&named.to_string()));
}

#[test]
fn nothing_that_was_said_before_tls_is_believed() {
    let nats = PlayedNats::new();
    let url = nats.url().replace("nats://", "tls://");
    let mut settings = settings(&[&url]);
    settings.tls = Some(
        crate::cluster::credentials::trust(None)
            .unwrap_or_else(|_| super::real::trust_of(&support::Authority::new("none"))),
    );
    let driver = Driver::start(settings);
    nats.accept().say(INFO);
    assert!(driver.failed().contains("speaks no TLS"));
    let mut peer = nats.accept();
    peer.say("INFO {\"headers\":true,\"tls_required\":true}\r\nPONG\r\n");
    assert!(driver.failed().contains("before TLS"));
    let mut peer_of_tls = nats.accept();
    peer_of_tls.say("INFO {\"headers\":true,\"tls_required\":true}\r\n");
    // A ClientHello, and nothing of who we are.
    assert_eq!(peer_of_tls.bytes(1), [0x16]);
    peer_of_tls.say("PONG\r\n");
    assert!(driver.failed().contains("no TLS"));
}

#[test]
fn the_last_words_arrive_though_nobody_listens_any_more() {
    let nats = PlayedNats::new();
    let driver = Driver::to(&[&nats.url()]);
    let mut peer = nats.greet();
    driver.connected();
    let mut link = driver.into_link();
    peer.say("MSG a 1 2\r\nhi\r\n");
    link.publish("last", None, b"word").unwrap();
    let reader = std::thread::spawn(move || peer.rest());
    link.finish(support::DEADLINE);
    assert_eq!(reader.join().unwrap(), b"PUB last 4\r\nword\r\n");
}

#[test]
fn a_name_without_an_address_is_said() {
    let mut settings = settings(&["nats://no-such-host.invalid"]);
    settings.connect_timeout = Duration::from_secs(1);
    let driver = Driver::start(settings);
    let why = driver.failed();
    assert!(why.contains("no address") || why.contains("DNS"), "{why}");
}
