use super::*;
use crate::random::Random;

/// What comes out in words, and the fault at which it ends.
fn heard<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<String>, Option<Fault>) {
    let mut decoder = Decoder::new(16);
    let mut heard = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next() {
                Ok(Some(operation)) => heard.push(format!("{operation:?}")),
                Ok(None) => break,
                Err(fault) => {
                    assert_eq!(decoder.next(), Err(fault));
                    return (heard, Some(fault));
                }
            }
        }
        assert!(decoder.held_len() <= INFO_LEN_MAX);
    }
    (heard, None)
}

/// The operations of a text that is whole and good.
fn all(bytes: &[u8]) -> Vec<Operation<'static>> {
    let mut decoder = Decoder::new(16);
    decoder.feed(bytes);
    let mut all = Vec::new();
    while let Some(operation) = decoder
        .next()
        .unwrap_or_else(|fault| panic!("{}: {fault}", bytes.escape_ascii()))
    {
        all.push(match operation {
            Operation::Message(message) => {
                let own = |bytes: &[u8]| -> &'static [u8] { bytes.to_vec().leak() };
                Operation::Message(Message {
                    sid: message.sid,
                    subject: own(message.subject),
                    reply: message.reply.map(own),
                    status: message.status,
                    payload: own(message.payload),
                })
            }
            Operation::Error(text) => Operation::Error(text.to_vec().leak()),
            Operation::Info(info) => Operation::Info(info),
            Operation::TooLong { sid, len } => Operation::TooLong { sid, len },
            Operation::Ping => Operation::Ping,
            Operation::Pong => Operation::Pong,
            Operation::Ok => Operation::Ok,
        });
    }
    assert_eq!(decoder.held_len(), 0);
    all
}

fn fault(bytes: &[u8]) -> Option<Fault> {
    heard([bytes]).1
}

fn message(subject: &'static str, sid: u64, reply: Option<&'static str>, payload: &'static str) -> Operation<'static> {
    Operation::Message(Message {
        sid,
        subject: subject.as_bytes(),
        reply: reply.map(str::as_bytes),
        status: None,
        payload: payload.as_bytes(),
    })
}

const SPEECH: &[u8] = b"INFO {\"server_id\":\"X\",\"headers\":true} \r\n+OK\r\nPING\r\nMSG a.b 1 3\r\nx\r\n\r\nmsg a.b\t18446744073709551615 r.1 0\r\n\r\n\
    HMSG r.1 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\nHMSG a 3 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nMSG a 4 17\r\n01234567890123456\r\nPONG\r\n-ERR 'Slow Consumer'\r\n";

#[test]
fn everything_that_a_server_says_is_understood() {
    let info = Info {
        name: "X".into(),
        has_headers: true,
        payload_len_max: 1 << 20,
        ..Info::default()
    };
    let nobody = Message {
        sid: 2,
        subject: b"r.1",
        reply: None,
        status: Some(503),
        payload: b"",
    };
    assert!(nobody.is_no_responders());
    assert_eq!(
        all(SPEECH),
        [
            Operation::Info(Box::new(info)),
            Operation::Ok,
            Operation::Ping,
            message("a.b", 1, None, "x\r\n"),
            message("a.b", u64::MAX, Some("r.1"), ""),
            Operation::Message(nobody),
            message("a", 3, Some("r"), "hi"),
            Operation::TooLong { sid: 4, len: 17 },
            Operation::Pong,
            Operation::Error(b"Slow Consumer"),
        ]
    );
}

#[test]
fn in_pieces_it_is_the_same_as_whole() {
    let whole = heard([SPEECH]);
    assert_eq!((whole.0.len(), whole.1), (10, None));
    for at in 0..=SPEECH.len() {
        let (before, behind) = SPEECH.split_at(at);
        assert_eq!(heard([before, behind]), whole, "{at}");
    }
    for len in 1..20 {
        assert_eq!(heard(SPEECH.chunks(len)), whole, "{len}");
    }
}

#[test]
fn whatever_comes_is_understood_or_refused_and_in_pieces_it_is_the_same() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut refused = 0;
    for _ in 0..5_000 {
        let mut bytes = SPEECH.to_vec();
        random.damage(&mut bytes);
        let whole = heard([&bytes[..]]);
        let len = 1 + random.below(30);
        assert_eq!(
            heard(bytes.chunks(len)),
            whole,
            "SIMULATION_SEED={seed}: {}",
            bytes.escape_ascii()
        );
        refused += usize::from(whole.1.is_some());
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn a_line_may_be_4_kib_long_and_an_info_64() {
    let error = |len: usize| format!("-ERR '{}'\r\n", "x".repeat(len - 9));
    assert_eq!(error(4096).len(), 4096);
    assert_eq!(fault(error(4096).as_bytes()), None);
    let too_long = Some(Fault::LineTooLong { limit: 4096 });
    assert_eq!(fault(error(4097).as_bytes()), too_long);
    assert_eq!(fault(&[b'x'; 4095]), None);
    assert_eq!(fault(&[b'x'; 4096]), too_long);
    let info = |len: usize| format!("info {{\"a\":\"{}\"}}\r\n", "x".repeat(len - 15));
    assert_eq!(info(65536).len(), 65536);
    assert_eq!(fault(info(65536).as_bytes()), None);
    assert_eq!(fault(info(65537).as_bytes()), Some(Fault::LineTooLong { limit: 65536 }));
}

#[test]
fn what_is_not_the_protocol_is_refused() {
    for line in [
        "",
        " PING",
        "HTTP/1.1 400 Bad Request",
        "PING x",
        "PONGS",
        "OK",
        "PUB a 0",
        "MSG",
        "MSG a 1",
        "MSG a x 1",
        "MSG a -1 1",
        "MSG a 1 -1",
        "MSG a 1 +1",
        "MSG a 1 r 1 1",
        "MSG a 18446744073709551616 1",
        "MSG a 1 1073741825",
        "MSG a 1 99999999999999999999",
        "HMSG a 1 1",
        "HMSG a 1 2 1",
        "HMSG a 1 r 1 1 1",
        "PING\n",
    ] {
        assert_eq!(fault(format!("{line}\r\n").as_bytes()), Some(Fault::Line), "{line}");
    }
    assert_eq!(fault(b"PING\n"), Some(Fault::Line));
    for line in [
        "INFO",
        "INFO x",
        "INFO {",
        "INFO []",
        "INFO {} {}",
        "INFO {\"max_payload\":\"x\"}",
    ] {
        assert_eq!(fault(format!("{line}\r\n").as_bytes()), Some(Fault::Info), "{line}");
    }
    for bytes in [
        &b"MSG a 1 1\r\nxyz"[..],
        b"MSG a 1 1\r\nx\n\r",
        b"MSG a 1 17\r\n01234567890123456\n\n",
    ] {
        assert_eq!(fault(bytes), Some(Fault::PayloadEnd), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_status_is_one_and_nothing_else_is() {
    for (headers, expected) in [
        (&b"NATS/1.0 503\r\n\r\n"[..], Some(503)),
        (b"NATS/1.0 503 No Responders\r\n\r\n", Some(503)),
        (b"NATS/1.0 100\r\na:b\r\n\r\n", Some(100)),
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", None),
        (b"NATS/1.0\r\n503:503\r\n\r\n", None),
        (b"NATS/1.0503\r\n\r\n", None),
        (b"NATS/1.0 5030\r\n\r\n", None),
        (b"NATS/2.0 503\r\n\r\n", None),
        (b"", None),
    ] {
        assert_eq!(status(headers), expected, "{}", headers.escape_ascii());
    }
}

#[test]
fn what_is_too_long_is_passed_over_and_never_held() {
    let mut decoder = Decoder::new(16);
    decoder.feed(b"MSG a 9 1073741824\r\n");
    let too_long = Operation::TooLong { sid: 9, len: 1 << 30 };
    assert_eq!(decoder.next(), Ok(Some(too_long)));
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..1024 {
        decoder.feed(&piece);
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!(decoder.held_len(), 0);
    }
    decoder.feed(b"\r\nPING\r\n");
    assert_eq!(decoder.next(), Ok(Some(Operation::Ping)));
    assert!(decoder.buffer.capacity() <= KEPT_LEN);
}
