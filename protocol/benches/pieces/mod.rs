//! Makes closures of the pure pieces that every message passes, to be timed or counted: one call does the piece's work
//! once.

use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use protocol::http::{HeaderLines, PathPart, RequestTemplate, parse_request, parse_response, whole_body};
use protocol::mapping::answer::{Answer, Reply, map};
use protocol::ocpp::frame::Reading;
use protocol::ocpp::{Limits, Output, Outputs, Session, Subprotocol, frame};
use protocol::record::{Fields, Writer};
use protocol::tls::{Records, Suite};
use protocol::websocket::deflate::{Deflate, DeflateConfig, Deflater, Inflater, negotiate};
use protocol::websocket::{Decoder, DecoderLimits, Incoming, Tolerance, check_upgrade};

/// A piece and its name.
pub struct Piece {
    /// As it stands in protocol/benches/instructions.txt.
    pub name: &'static str,
    /// Does it once.
    pub run: Box<dyn FnMut()>,
}

/// All of them.
pub fn pieces() -> Vec<Piece> {
    vec![
        split("split a Call of 64 B", 64),
        split("split a Call of 1 KiB", 1024),
        build_result(),
        session_call(),
        write_request(),
        read_answer(),
        read_push(),
        read_upgrade(),
        read_frame(),
        inflate(),
        seal(),
        seal_and_open(),
    ]
}

fn piece(name: &'static str, run: impl FnMut() + 'static) -> Piece {
    Piece {
        name,
        run: Box::new(run),
    }
}

fn call(payload_len: usize) -> String {
    let padding = "x".repeat(payload_len.saturating_sub(r#"{"k":""}"#.len()));
    format!(r#"[2,"c1f2a7de-0b51-4e7b-9a53-0d3b7f1a2b3c","MeterValues",{{"k":"{padding}"}}]"#)
}

fn split(name: &'static str, payload_len: usize) -> Piece {
    let text = call(payload_len);
    let reading = Reading {
        subprotocol: Subprotocol::Ocpp16,
        depth_max: DEPTH_MAX,
        number_ids: false,
    };
    piece(name, move || {
        let frame = frame::split(black_box(&text), &reading);
        assert!(black_box(frame).is_ok(), "it is a Call");
    })
}

fn answer() -> Answer<'static> {
    Answer::Response {
        status: 200,
        deferred: false,
        content: black_box(ANSWER_BODY),
    }
}

fn build_result() -> Piece {
    let mut frame = String::new();
    piece("build a CallResult from an answer", move || {
        frame.clear();
        match map(answer(), Subprotocol::Ocpp16, DEPTH_MAX) {
            Reply::Result(payload) => {
                frame::write_call_result(&mut frame, "\"c1f2a7de-0b51\"", payload);
                black_box(&frame);
            }
            _ => unreachable!("a 200 with an object is a result"),
        }
    })
}

/// What the session does for a Call: take it, give it out, take the answer, give out the frame.
fn session_call() -> Piece {
    let now = Instant::now();
    let limits = Rc::new(limits());
    let mut session = Session::new(Subprotocol::Ocpp16, limits, 0, now);
    let text = call(64);
    let mut out = Outputs::default();
    piece("a Call's way through the session", move || {
        session.handle_text(now, black_box(&text), &mut out);
        let key = out.drain(..).find_map(|output| match output {
            Output::Call { key, .. } => Some(key),
            _ => None,
        });
        session.handle_answer(now, key.expect("a Call goes to the backend"), answer(), &mut out);
        match out.pop() {
            Some(Output::Send { frame, .. }) => out.recycle(frame.into_bytes()),
            other => unreachable!("the client gets its answer, not {other:?}"),
        }
    })
}

/// The defaults of config/ws2api.toml.
fn limits() -> Limits {
    Limits {
        calls_in_flight: 1,
        calls_queued: 16,
        calls_per_second_max: 0,
        posts_queued: 16,
        call_timeout: Duration::from_secs(25),
        pushes_in_flight: 1,
        pushes_queued: 16,
        queued_len_max: 1 << 20,
        push_timeout: Duration::from_secs(30),
        push_hold: Duration::ZERO,
        bad_frames_max: 20,
        number_ids: false,
        json_depth_max: 128,
        ping_after: Duration::from_secs(60),
        dead_after: Duration::from_secs(120),
    }
}

fn write_request() -> Piece {
    let template = RequestTemplate::new("127.0.0.1:5000", "", &[("X-Node", "node-1")]);
    let lines = HeaderLines::new(&[
        ("X-Client-Id", "CP1"),
        ("X-Connection-Id", "deadbeef00100000004d"),
        ("X-Subprotocol", "ocpp1.6"),
    ]);
    let path = ["/call/", "Heartbeat", "/", "CP1", "/", "1"].map(PathPart::new);
    let mut request = Vec::new();
    piece("write a request", move || {
        request.clear();
        template.write(&mut request, black_box(&path), &lines, &[], b"{}");
        black_box(&request);
    })
}

fn read_answer() -> Piece {
    let response = format!(
        "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
        ANSWER_BODY.len(),
        str::from_utf8(ANSWER_BODY).expect("it is text"),
    );
    piece("read an answer", move || {
        let head = parse_response(black_box(response.as_bytes()), HEAD_MAX);
        let head = head.ok().flatten().expect("a whole head");
        let body = whole_body(head.framing, &response.as_bytes()[head.len..]);
        assert_eq!(body.map(<[u8]>::len), Some(ANSWER_BODY.len()));
    })
}

fn read_push() -> Piece {
    let push = b"POST /call/Reset/CP1/p1 HTTP/1.1\r\nHost: 127.0.0.1:4001\r\nContent-Type: application/json\r\n\
                 Content-Length: 15\r\n\r\n{\"type\":\"Soft\"}";
    piece("read a push's head", || {
        assert!(black_box(parse_request(black_box(push), HEAD_MAX)).is_ok());
    })
}

fn read_upgrade() -> Piece {
    let request = b"GET /CP1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n";
    piece("read and check an upgrade request", || {
        let head = parse_request(black_box(request), HEAD_MAX).ok().flatten();
        assert!(check_upgrade(&head.expect("a whole head"), Tolerance::default()).is_ok());
    })
}

fn read_frame() -> Piece {
    let limits = DecoderLimits {
        message_max: 1 << 20,
        is_deflate_agreed: true,
    };
    let text = call(64);
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    let mut decoder = Decoder::default();
    // The mask is zeros, so that unmasking changes nothing and the same bytes do again.
    piece("read a frame", move || {
        let incoming = decoder.decode(&mut black_box(&mut frame[..]), limits);
        assert!(matches!(incoming, Ok(Some(Incoming::Text(_)))), "it is whole");
    })
}

/// Meter values of 700 bytes, of which each differs from the one before as those of a charge point do.
fn meter_values() -> Vec<String> {
    let sample = |measurand: &str, value: u32| {
        format!(
            r#"{{"value":"{value}","context":"Sample.Periodic","measurand":"{measurand}","location":"Outlet","unit":"Wh"}}"#
        )
    };
    (0..64)
        .map(|number| {
            let samples: Vec<String> = ["Energy.Active.Import.Register", "Power.Active.Import", "Current.Import", "Voltage"]
                .iter()
                .zip(1..)
                .map(|(measurand, place)| sample(measurand, (number * 7919 * place) % 100_003))
                .collect();
            format!(
                r#"[2,"c1f2a7de-0b51-4e7b-9a53-{:012x}","MeterValues",{{"connectorId":1,"transactionId":{},"meterValue":[{{"timestamp":"2026-11-22T22:{:02}:11Z","sampledValue":[{}]}}]}}]"#,
                number * 104_729,
                4711,
                number % 60,
                samples.join(",")
            )
        })
        .collect()
}

/// A client with a window of 2 KiB each way.
fn compressing_client() -> Deflate {
    let offer = [&b"permessage-deflate; client_max_window_bits"[..]];
    Deflate::new(negotiate(offer, DeflateConfig { window_bits: 11 }).expect("a good offer"))
}

fn inflate() -> Piece {
    let (mut deflater, mut sender) = (Deflater::default(), compressing_client());
    let messages = meter_values();
    // Both windows are alike, so what we send is what such a client sends.
    let deflated: Vec<Vec<u8>> = messages
        .iter()
        .map(|text| {
            deflater
                .deflate(&mut sender, text.as_bytes())
                .expect("it gets shorter")
                .to_vec()
        })
        .collect();
    let (mut inflater, mut client, mut number) = (Inflater::default(), compressing_client(), 0);
    piece("inflate MeterValues of 700 B", move || {
        if number == deflated.len() {
            (client, number) = (compressing_client(), 0);
        }
        let plain = inflater.inflate(&mut client, black_box(&deflated[number]), 1 << 20);
        assert_eq!(plain.map(|plain| plain.len()), Ok(messages[number].len()));
        number += 1;
    })
}

/// One side of a connection of TLS 1.3 with AES-128-GCM: no handshake, its keys are drawn by nobody.
fn records(sending: u8, receiving: u8) -> Records {
    let mut bytes = Vec::new();
    let mut record = Writer::new(&mut bytes);
    record.number(1, Suite::Aes128GcmSha256.number().into());
    for (number, secret) in [(3, sending), (4, receiving)] {
        record.fields(number, |record| record.bytes(3, &[secret; 32]));
    }
    Records::from_record(Fields::of_record(&bytes).expect("it was written")).expect("all of it")
}

fn seal() -> Piece {
    let (mut records, text, mut out) = (records(1, 2), call(256 - 64), Vec::new());
    piece("seal a message of 256 B", move || {
        out.clear();
        let sealed = records.seal(&[&[0x81, 126, 1, 0], black_box(text.as_bytes())], &mut out);
        assert!(sealed.is_ok(), "nothing is closed");
    })
}

fn seal_and_open() -> Piece {
    let (mut client, mut server) = (records(1, 2), records(2, 1));
    let (text, mut wire) = (call(256 - 64), Vec::new());
    piece("seal and open a message of 256 B", move || {
        wire.clear();
        let sealed = client.seal(&[black_box(text.as_bytes())], &mut wire);
        assert!(sealed.is_ok(), "nothing is closed");
        assert_eq!(server.open(black_box(&mut wire)).plain_len, text.len());
    })
}

const DEPTH_MAX: usize = 128;
const HEAD_MAX: usize = 8192;
const ANSWER_BODY: &[u8] = br#"{"currentTime":"2026-01-01T00:00:00Z"}"#;
