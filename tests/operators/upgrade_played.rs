//! Plays a new process that goes wrong at a step: a program for tests to start, by the name of the test that it is.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::thread;

use protocol::takeover::{Hello, Message};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendFlags};

/// Plays a new process up to a step.
#[test]
#[ignore = "started by tests of upgrade and upgrade_deaths"]
fn the_new_process_of_a_test() {
    let step = std::env::var("STEP").unwrap();
    let stdin = std::io::stdin();
    let say = |bytes: &[u8]| {
        let _ = rustix::net::send(&stdin, bytes, SendFlags::empty());
    };
    let hear = || {
        let mut packet = vec![0; protocol::takeover::PACKET_LEN_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &stdin,
            &mut [IoSliceMut::new(&mut packet)],
            &mut control,
            RecvFlags::empty(),
        );
        let len = received.unwrap().bytes;
        control.drain().for_each(drop);
        Message::parse(&packet[..len]).unwrap().unwrap()
    };
    let die = || -> ! { std::process::abort() };
    let hang = || -> ! {
        loop {
            thread::park();
        }
    };
    let is = |name: &str| step == name;
    if is("dies-at-once") {
        die();
    }
    let Message::Hello(hello) = hear() else { panic!() };
    if is("talks-nonsense") {
        say(b"\x01nonsense");
        hang();
    }
    let mut own = Hello::own("a test", 0, 0);
    if is("is-of-a-version-that-is-not-known") {
        (own.oldest, own.protocol) = (7, 9);
    }
    say(&Message::Hello(own).to_bytes());
    for _ in 0..hello.listeners {
        assert!(matches!(hear(), Message::Listener(_)));
    }
    if is("says-that-it-serves-before-it-may") {
        say(&Message::Serving.to_bytes());
        hang();
    }
    if is("dies-with-the-listeners") {
        die();
    }
    if is("hangs-with-the-listeners") {
        hang();
    }
    if is("fails") {
        say(&Message::Failed("the words of the new process".into()).to_bytes());
        std::process::exit(1);
    }
    say(&Message::Ready.to_bytes());
    if is("dies-when-ready") {
        die();
    }
    let mut said = hear();
    if matches!(said, Message::TicketKeys(_)) {
        said = hear();
    }
    assert_eq!(said, Message::Go);
    if is("hangs-when-it-may") {
        hang();
    }
    if is("serves-and-dies") {
        say(&Message::Serving.to_bytes());
    }
    if is("serves-and-hangs") || is("serves-and-says-what-cannot-be-read") {
        say(&Message::Serving.to_bytes());
        if is("serves-and-says-what-cannot-be-read") {
            say(b"\x01nonsense");
        }
        hang();
    }
    if is("talks-nonsense-about-clients-and-dies") {
        say(&Message::Serving.to_bytes());
        let Message::Client { number, .. } = hear() else {
            panic!()
        };
        // Each can be read, and none is about anything that there is.
        let (is_taken, shard, token, nonsense) = (true, 9_999, u64::MAX, vec![1, 0, 0, 0, 9]);
        let waiter = protocol::ocpp::Waiter {
            process: 0,
            shard: 9_999,
            token,
            ..Default::default()
        };
        for message in [
            Message::Taken {
                number: number + 1_000_000,
                is_taken,
            },
            Message::Taken {
                number: u64::MAX,
                is_taken,
            },
            Message::Client {
                number,
                record: nonsense.clone(),
            },
            Message::Question {
                shard,
                token,
                answer_by: 0,
                question: nonsense.clone(),
            },
            Message::Told {
                shard: 0,
                token,
                told: nonsense.clone(),
            },
            Message::Told {
                shard,
                token,
                told: Vec::new(),
            },
            Message::Outcome {
                waiter,
                post: nonsense.clone(),
            },
            Message::Post {
                shard,
                number,
                post: nonsense.clone(),
            },
            Message::PostTaken { shard: 0, number },
            Message::Backend { about: nonsense },
            Message::Ready,
            Message::Serving,
            Message::Go,
        ] {
            say(&message.to_bytes());
        }
    }
    if is("takes-clients-and-dies") || is("confirms-clients-and-dies") {
        say(&Message::Serving.to_bytes());
        for count in 0..5 {
            let Message::Client { number, .. } = hear() else {
                panic!()
            };
            if is("confirms-clients-and-dies") && count < 3 {
                say(&Message::Taken { number, is_taken: true }.to_bytes());
            }
        }
    }
    if is("refuses-a-client") {
        say(&Message::Serving.to_bytes());
        let mut is_first = true;
        // Until the old process ends.
        while let Message::Client { number, .. } = hear() {
            let is_taken = !std::mem::take(&mut is_first);
            say(&Message::Taken { number, is_taken }.to_bytes());
        }
    }
    die();
}
