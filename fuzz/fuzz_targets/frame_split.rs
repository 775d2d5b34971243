//! Reads any bytes as a client's text message and as a JSON body: no panic, no overflow, the oracle's verdict, exact
//! slices.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use protocol::mapping::answer::{self, Answer, Reply};
use protocol::ocpp::frame::{NO_PAYLOAD, Reading};
use protocol::ocpp::{Action, Frame, FrameError, JsonError, MessageId, Subprotocol, frame, json};

const DEPTH: usize = 64;
const SUBPROTOCOLS: [Subprotocol; 4] = [
    Subprotocol::None,
    Subprotocol::Ocpp16,
    Subprotocol::Ocpp201,
    Subprotocol::Ocpp21,
];

fuzz_target!(|input: &[u8]| {
    let text = std::str::from_utf8(input);
    let valid = text.is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    match json::check_value(input, DEPTH) {
        Err(JsonError::TooDeep { .. }) => {}
        checked => assert_eq!(checked.is_ok(), valid, "{checked:?}"),
    }
    // A byte order mark in front is ignored: what follows it counts.
    let bare = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let valid = std::str::from_utf8(bare).is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    check_answer(input, valid, bare);
    let Ok(text) = text else { return };
    for subprotocol in SUBPROTOCOLS {
        check_frame(text, subprotocol, valid);
    }
});

fn check_frame(text: &str, subprotocol: Subprotocol, valid: bool) {
    let reading = Reading {
        subprotocol,
        depth_max: DEPTH,
        number_ids: text.len() % 2 == 0,
    };
    let split = frame::split(text, &reading);
    assert!(valid || split.is_err(), "a frame in what is not JSON");
    match split {
        Ok(Frame::Call {
            message_id,
            raw_id,
            action,
            raw_action,
            payload,
        }) => {
            let elements: Vec<&RawValue> =
                serde_json::from_str(json::without_mark(text)).expect("a Call is an array");
            let mut slices: Vec<_> = elements.iter().map(|element| element.get()).collect();
            if slices.len() == 3 {
                slices.push(NO_PAYLOAD);
            }
            if slices[3] == "null" {
                slices[3] = NO_PAYLOAD;
            }
            assert_eq!(slices, ["2", raw_id, raw_action, payload]);
            let id = MessageId::parse(&message_id).expect("checked");
            let mut again = String::new();
            frame::write_call(&mut again, &id, &Action::parse(&action).expect("checked"), payload);
            let Ok(Frame::Call {
                message_id: id,
                action: name,
                payload: same,
                ..
            }) = frame::split(&again, &reading)
            else {
                panic!("what is built is a frame: {again}");
            };
            assert_eq!((id, name, same), (message_id, action, payload));
        }
        Err(FrameError::Call { raw_id, .. }) => {
            assert!(raw_id.len() <= frame::RAW_ID_LEN_MAX);
            let mut error = String::new();
            frame::write_call_error(&mut error, raw_id, "\"X\"", "\"\"", "{}");
            serde_json::from_str::<&RawValue>(&error).expect("the echoed id is JSON");
        }
        Ok(Frame::CallError { error, .. } | Frame::CallResultError { error, .. }) => {
            serde_json::from_str::<&RawValue>(&error.body()).expect("the body is JSON");
        }
        _ => {}
    }
}

/// Whatever a backend answers, the client gets a frame.
fn check_answer(content: &[u8], valid: bool, bare: &[u8]) {
    for status in [200, 400, 500] {
        let answer = Answer::Response {
            status,
            deferred: false,
            content,
        };
        let mut frame = String::new();
        match answer::map(answer, Subprotocol::Ocpp16, DEPTH) {
            Reply::Result(payload) => {
                assert!(valid || bare.trim_ascii().is_empty());
                frame::write_call_result(&mut frame, "\"1\"", payload);
            }
            Reply::Error {
                code,
                description,
                details,
            } => {
                let text: String = serde_json::from_str(&code).expect("a string");
                assert!((1..=answer::CODE_CHARACTERS_MAX).contains(&text.chars().count()));
                assert!(details.starts_with('{'));
                frame::write_call_error(&mut frame, "\"1\"", &code, &description, details);
            }
            Reply::Deferred => panic!("only a 202 is deferred"),
        }
        serde_json::from_str::<&RawValue>(&frame).expect("a frame is JSON");
    }
}
