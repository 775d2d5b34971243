//! A wrong frame gets what the table says, row by row: `bad-1` to `bad-10`.

use support::client::{BINARY, CLOSE, CONTINUATION, PING, TEXT, frame_bytes};
use support::{Backend, Message, Proxy, json};

#[test]
fn names_that_no_path_may_have_are_refused() {
    let bad = [
        "",
        ".",
        "..",
        "a/b",
        "/",
        "a\\\\b",
        "a\\u0000",
        "\\n",
        "a\\u007f",
        "\\u0085",
        "a\\/b",
        "\\u002e\\u002e",
    ];
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for (subprotocol, code) in [("ocpp1.6", "FormationViolation"), ("ocpp2.0.1", "FormatViolation")] {
        let mut client = proxy.client_of(subprotocol, "CP1");
        for name in bad {
            let decoded: String = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            client.send_call(name, "Boot", "{}");
            client.expect_error(&decoded, code);
            client.send_call("m1", name, "{}");
            client.expect_error("m1", code);
            client.send_call("m2", "Good", "{}");
            client.expect("[3,\"m2\",{}]");
        }
    }
    assert!(
        backend
            .seen("/call")
            .iter()
            .all(|request| request.target == "/call/Good/CP1/m2")
    );
}

/// What a bad frame gets.
#[derive(Clone, Copy, Debug)]
enum Bad {
    /// CallError `"-1"`; on ocpp1.6 nothing.
    Unreadable,
    /// CallError with its id.
    Violation(&'static str),
    Nothing,
}

const BAD_FRAMES: &[(&str, Bad)] = &[
    // Not JSON, not an array, no readable MessageId.
    ("hello", Bad::Unreadable),
    ("{", Bad::Unreadable),
    ("[", Bad::Unreadable),
    ("]", Bad::Unreadable),
    ("\u{feff}", Bad::Nothing),
    (" ", Bad::Nothing),
    ("ping", Bad::Nothing),
    ("pong", Bad::Nothing),
    ("Ping", Bad::Unreadable),
    ("null", Bad::Unreadable),
    ("5", Bad::Unreadable),
    ("\"text\"", Bad::Unreadable),
    ("{\"a\":1}", Bad::Unreadable),
    ("[]", Bad::Unreadable),
    ("[null]", Bad::Unreadable),
    ("[\"2\",\"m1\",\"Boot\",{}]", Bad::Unreadable),
    ("[2]", Bad::Unreadable),
    ("[2,", Bad::Unreadable),
    ("[2,5,\"Boot\",{}]", Bad::Unreadable),
    ("[2,null,\"Boot\",{}]", Bad::Unreadable),
    ("[2,[\"m1\"],\"Boot\",{}]", Bad::Unreadable),
    ("[2,\"m1", Bad::Unreadable),
    ("[2,\"\\q\",\"Boot\",{}]", Bad::Unreadable),
    ("[[2,\"m1\",\"Boot\",{}]]", Bad::Unreadable),
    // A Call with a readable MessageId and something else wrong.
    ("[2,\"m1\"]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{},{}]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{}", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{}]]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{}] x", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{\"a\":01}]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{\"a\":1,}]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{'a':1}]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{\"a\":\"\t\"}]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",{\"a\":NaN}]", Bad::Violation("m1")),
    ("[2,\"m1\",Boot,{}]", Bad::Violation("m1")),
    ("[2,\"m1\",5,{}]", Bad::Violation("m1")),
    ("[2,\"m1\",null,{}]", Bad::Violation("m1")),
    ("[2,\"m1\",\"\",{}]", Bad::Violation("m1")),
    ("[2,\"m1\",\"a/b\",{}]", Bad::Violation("m1")),
    ("[2,\"\",\"Boot\",{}]", Bad::Violation("")),
    ("[2,\"..\",\"Boot\",{}]", Bad::Violation("..")),
    ("[2,\"m1\",\"Boot\",,{}]", Bad::Violation("m1")),
    // Answers that answer nothing.
    ("[3,\"m1\",{}]", Bad::Nothing),
    ("[3,\"-1\",{}]", Bad::Nothing),
    ("[4,\"m1\",\"X\",\"\",{}]", Bad::Nothing),
    ("[4,\"m1\",\"X\"]", Bad::Nothing),
    ("[3]", Bad::Nothing),
    ("[3,\"m1\"]", Bad::Nothing),
    ("[3,\"m1\",{}", Bad::Nothing),
    ("[3,5,{}]", Bad::Nothing),
    ("[4,\"m1\",5,\"\",{}]", Bad::Nothing),
    // Other message types.
    ("[0,\"m1\",\"Boot\",{}]", Bad::Nothing),
    ("[1,\"m1\",\"Boot\",{}]", Bad::Nothing),
    ("[7,\"m1\",\"Boot\",{}]", Bad::Nothing),
    ("[-1]", Bad::Nothing),
    ("[22,\"m1\",\"Boot\",{}]", Bad::Nothing),
    ("[5,\"m1\",\"X\",\"\",{}]", Bad::Nothing),
    // An empty message.
    ("", Bad::Nothing),
];

/// What only an OCPP subprotocol minds.
const BAD_OCPP_FRAMES: &[(&str, Bad)] = &[
    ("[2,\"m1\",\"Boot\",[]]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",\"x\"]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\",5]", Bad::Violation("m1")),
    (
        "[2,\"1234567890123456789012345678901234567\",\"Boot\",{}]",
        Bad::Violation("1234567890123456789012345678901234567"),
    ),
];

#[test]
fn each_bad_frame_gets_what_the_contract_says() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("bad_frames_max", "1000").start();
    let mut sent = 0;
    for subprotocol in ["", "ocpp1.6", "ocpp2.0.1", "ocpp2.1"] {
        let mut client = match subprotocol {
            "" => proxy.client("CP1"),
            name => proxy.client_of(name, "CP1"),
        };
        let ocpp: &[_] = if subprotocol.is_empty() { &[] } else { BAD_OCPP_FRAMES };
        for (frame, bad) in BAD_FRAMES.iter().chain(ocpp) {
            client.send(frame);
            sent += 1;
            // The ping shows what came before its answer, and that nothing did.
            client.send_frame(true, PING, frame.len().to_be_bytes());
            let answer = match client.message() {
                Message::Text(text) => Some(support::parse(&text)),
                other => {
                    assert_eq!(
                        other,
                        Message::Pong(frame.len().to_be_bytes().to_vec()),
                        "{subprotocol} {frame}"
                    );
                    None
                }
            };
            let expected = match (bad, subprotocol) {
                (Bad::Unreadable, "ocpp1.6") | (Bad::Nothing, _) => None,
                (Bad::Unreadable, _) => Some(("-1", "RpcFrameworkError")),
                (Bad::Violation(id), "ocpp1.6") => Some((*id, "FormationViolation")),
                (Bad::Violation(id), _) => Some((*id, "FormatViolation")),
            };
            match (&answer, expected) {
                (None, None) => {}
                (Some(answer), Some((id, code))) => {
                    let found = (&answer[0], &answer[1], &answer[2]);
                    assert_eq!(found, (&json!(4), &json!(id), &json!(code)), "{subprotocol} {frame}");
                    assert!(
                        answer[3].is_string() && answer[4].is_object(),
                        "{subprotocol} {frame}: {answer}"
                    );
                    assert!(
                        matches!(client.message(), Message::Pong(_)),
                        "one answer to {subprotocol} {frame}"
                    );
                }
                other => panic!("{subprotocol} {frame}: {other:?}"),
            }
        }
        client.send_call("good", "Echo", "{}");
        client.expect("[3,\"good\",{}]");
    }
    let kinds = [
        "unreadable",
        "malformed_call",
        "malformed_answer",
        "unmatched_answer",
        "unknown_type",
        "empty",
        "ping_text",
    ];
    let counts = kinds.map(|kind| proxy.count_where("frames_bad", kind));
    assert_eq!(counts.iter().sum::<u64>(), sent, "each is counted once: {counts:?}");
    assert!(!counts.contains(&0), "of each kind there was one: {counts:?}");
    assert!(
        backend
            .seen("/call")
            .iter()
            .all(|request| request.target == "/call/Echo/CP1/good")
    );
}

#[test]
fn a_fault_behind_a_good_frame_is_found_without_a_byte_more() {
    let backend = Backend::start();
    // No ping of ours may bring the byte more.
    let proxy = Proxy::with(&backend)
        .set("ping_after", "30m")
        .set("dead_after", "1h")
        .start();
    let call = frame_bytes(true, TEXT, b"[2,\"m1\",\"Boot\",{}]");
    // The header of a frame of 2^40 bytes, and what continues nothing and does not end.
    let endless = [0x80 | TEXT, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4].to_vec();
    for (fault, code) in [(endless, 1009), (frame_bytes(false, CONTINUATION, b"x"), 1002)] {
        let mut client = proxy.client("CP1");
        client.send_raw([call.clone(), fault].concat());
        let seen: Vec<_> = std::iter::repeat_with(|| client.message())
            .take_while(|message| !matches!(message, Message::Close(Some(close), _) if *close == code))
            .collect();
        // The close may come before the backend's answer.
        assert!(seen.len() <= 1, "{seen:?}");
    }
}

#[test]
fn twenty_bad_frames_in_a_row_close_with_1008() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for subprotocol in ["ocpp1.6", "ocpp2.0.1"] {
        for bad in ["hello", "[2,\"m1\"]", "[3,\"m1\""] {
            let mut client = proxy.client_of(subprotocol, "CP1");
            for _ in 0..2 {
                for _ in 0..19 {
                    client.send(bad);
                }
                // A good one makes the row begin anew; answers to bad ones come before its own.
                client.send_call("good", "Echo", "{}");
                while client.text() != "[3,\"good\",{}]" {}
            }
            for _ in 0..20 {
                client.send(bad);
            }
            loop {
                match client.message() {
                    Message::Text(text) => assert!(text.starts_with("[4,"), "{text}"),
                    other => {
                        assert!(matches!(other, Message::Close(Some(1008), _)), "{other:?}");
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn frames_that_are_merely_ignored_are_not_bad() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("bad_frames_max", "2").start();
    let mut client = proxy.client("CP1");
    for frame in ["", "[9]", "[3,\"late\",{}]", "[4,\"late\",\"X\",\"\",{}]"] {
        for _ in 0..5 {
            client.send(frame);
        }
    }
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
    let counts = ["empty", "unknown_type", "unmatched_answer"].map(|kind| proxy.count_where("frames_bad", kind));
    assert_eq!(counts, [5, 5, 10]);
}

#[test]
fn a_binary_message_closes_with_1003() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for fragments in 1..3 {
        let mut client = proxy.client("CP1");
        match fragments {
            1 => client.send_frame(true, BINARY, "[2,\"m1\",\"Boot\",{}]"),
            _ => {
                client.send_frame(false, BINARY, "[2,");
                client.send_frame(true, CONTINUATION, "\"m1\",\"Boot\",{}]");
            }
        }
        client.expect_close(1003);
    }
    assert_eq!(backend.seen("/call").len(), 0);
    assert_eq!(proxy.count_where("frames_bad", "binary"), 2);
}

#[test]
fn text_that_is_not_utf8_closes_with_1007() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for bytes in [
        &b"\xFF"[..],
        b"[2,\"m1\",\"Boot\",{\"a\":\"\xC3\"}]",
        b"\xED\xA0\x80",
        b"\xC0\x80",
        b"\xF5\x80\x80\x80",
    ] {
        let mut client = proxy.client("CP1");
        client.send_frame(true, TEXT, bytes);
        client.expect_close(1007);
    }
    assert_eq!(backend.seen("/call").len(), 0);
}

#[test]
fn protocol_errors_close_with_1002() {
    let masked = |bytes: &[u8]| bytes.to_vec();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not masked", masked(b"\x81\x02[]")),
        ("reserved bit 1", masked(b"\xC1\x80\0\0\0\0")),
        ("reserved bit 3", masked(b"\x91\x80\0\0\0\0")),
        ("opcode 3", frame_bytes(true, 3, b"")),
        ("opcode 11", frame_bytes(true, 11, b"")),
        ("a ping in fragments", frame_bytes(false, PING, b"")),
        ("a ping of 126 bytes", frame_bytes(true, PING, &[0; 126])),
        ("a continuation of nothing", frame_bytes(true, CONTINUATION, b"")),
        (
            "a message in a message",
            [frame_bytes(false, TEXT, b"["), frame_bytes(true, TEXT, b"]")].concat(),
        ),
        ("a close of one byte", frame_bytes(true, CLOSE, b"\x03")),
        ("close code 1005", frame_bytes(true, CLOSE, &1005u16.to_be_bytes())),
        ("close code 999", frame_bytes(true, CLOSE, &999u16.to_be_bytes())),
    ];
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for (what, bytes) in cases {
        let mut client = proxy.client("CP1");
        client.send_raw(bytes);
        match client.message() {
            Message::Close(Some(1002), _) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    let mut client = proxy.client("CP2");
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
}

#[test]
fn a_close_is_echoed_with_its_code() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for code in [1000, 1001, 1003, 1011, 3000, 4999] {
        proxy.client("CP1").close(code, "bye");
        assert_eq!(backend.take("/disconnect").json()["code"], json!(code));
    }
    let mut client = proxy.client("CP1");
    client.send_frame(true, CLOSE, "");
    assert!(matches!(client.message(), Message::Close(None | Some(1000), _)));
    assert_eq!(client.message(), Message::End);
    assert_eq!(
        backend.take("/disconnect").json()["code"],
        json!(1005),
        "a close without a code"
    );
}
