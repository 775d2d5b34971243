//! Holds the splitting against the table of bad frames, and the building against the bytes of good ones.

use serde_json::value::RawValue;

use super::*;
use crate::random::Random;

const DEPTH: usize = 8;
const ALL: [Subprotocol; 5] = [
    Subprotocol::None,
    Subprotocol::Ocpp16,
    Subprotocol::Ocpp201,
    Subprotocol::Ocpp21,
    Subprotocol::Other(0),
];
const OCPP: [Subprotocol; 3] = [Subprotocol::Ocpp16, Subprotocol::Ocpp201, Subprotocol::Ocpp21];

/// The frame in short: kind and its parts, as far as they are the client's.
fn shown(text: &str, subprotocol: Subprotocol) -> String {
    shown_by(text, &reading(subprotocol))
}

fn reading(subprotocol: Subprotocol) -> Reading {
    Reading {
        subprotocol,
        depth_max: DEPTH,
        number_ids: false,
    }
}

fn shown_by(text: &str, reading: &Reading) -> String {
    let error = |RawError {
                     code,
                     description,
                     details,
                 }: RawError<'_>| format!("{code} {description} {details}");
    match split(text, reading) {
        Ok(Frame::Call {
            message_id,
            raw_id,
            action,
            raw_action,
            payload,
            ..
        }) => {
            format!("call {message_id} {raw_id} {action} {raw_action} {payload}")
        }
        Ok(Frame::CallResult { message_id, payload }) => format!("result {message_id} {payload}"),
        Ok(Frame::CallError { message_id, error: raw }) => format!("error {message_id} {}", error(raw)),
        Ok(Frame::CallResultError { message_id, error: raw }) => format!("resulterror {message_id} {}", error(raw)),
        Ok(Frame::Send {
            message_id,
            action,
            payload,
        }) => format!("send {message_id} {action} {payload}"),
        Ok(Frame::Ignored) => "ignored".to_owned(),
        Err(FrameError::Unreadable) => "unreadable".to_owned(),
        Err(FrameError::Call { raw_id, fault }) => format!("bad call {raw_id} {fault:?}"),
        Err(FrameError::Answer { message_id }) => format!("bad answer {message_id}"),
        Err(FrameError::NeverAnswered) => "dropped".to_owned(),
    }
}

#[test]
fn good_frames_are_sliced_byte_for_byte() {
    for (text, expected) in [
        (r#"[2,"1","Heartbeat",{}]"#, r#"call 1 "1" Heartbeat "Heartbeat" {}"#),
        (
            " [\t2 ,\r\n\"1\" , \"A\" , { \"a\" : [ 1 , 2 ] } ] ",
            "call 1 \"1\" A \"A\" { \"a\" : [ 1 , 2 ] }",
        ),
        (
            r#"[2,"\u0031","\u0041",{"x":"\ud800"}]"#,
            r#"call 1 "\u0031" A "\u0041" {"x":"\ud800"}"#,
        ),
        (
            r#"[2,"ü😀","A",{"a":1e999,"a":12345678901234567890123456789012345678901234567890}]"#,
            r#"call ü😀 "ü😀" A "A" {"a":1e999,"a":12345678901234567890123456789012345678901234567890}"#,
        ),
        (r#"[3,"1",{"a":1}]"#, r#"result 1 {"a":1}"#),
        (r#"[3,"1",null]"#, "result 1 {}"),
        (r#"[3,"1"]"#, "result 1 {}"),
        (r#"[3,"1",{"a":1},"surplus",5]"#, r#"result 1 {"a":1}"#),
        (r#"[2,"1","Heartbeat",null]"#, r#"call 1 "1" Heartbeat "Heartbeat" {}"#),
        (r#"[2,"1","Heartbeat"]"#, r#"call 1 "1" Heartbeat "Heartbeat" {}"#),
        ("\u{feff}[2,\"1\",\"A\",{}]", r#"call 1 "1" A "A" {}"#),
        (r#"[4,"1","X",null,{}]"#, r#"error 1 "X" "" {}"#),
        (r#"[4,"1","X",5]"#, r#"error 1 "X" "" {}"#),
        (r#"[4,"1","X","d",{"a":1},"surplus"]"#, r#"error 1 "X" "d" {"a":1}"#),
        (r#"[3 , "\u0031" , [ 1 ] ]"#, "result 1 [ 1 ]"),
        (r#"[4,"1","X"]"#, r#"error 1 "X" "" {}"#),
        (r#"[4,"1","X","d"]"#, r#"error 1 "X" "d" {}"#),
        (
            r#"[4,"1","X\n","\ud800",{"a": 1}]"#,
            r#"error 1 "X\n" "\ud800" {"a": 1}"#,
        ),
        (r#"[4,"-1","X","",null]"#, r#"error -1 "X" "" null"#),
        ("[7,1]", "ignored"),
        ("[0]", "ignored"),
        ("[-1,{}]", "ignored"),
        ("[2.0,\"1\",\"A\",{}]", "ignored"),
        ("[22,\"1\",\"A\",{}]", "ignored"),
    ] {
        for subprotocol in ALL {
            assert_eq!(shown(text, subprotocol), expected, "{text}");
        }
    }
}

#[test]
fn types_5_and_6_are_those_of_ocpp_2_1() {
    for (text, expected) in [
        (r#"[5,"1","X","d",{}]"#, r#"resulterror 1 "X" "d" {}"#),
        (r#"[5,"1"]"#, "dropped"),
        (r#"[6,"1","A",{"a":1}]"#, r#"send 1 A {"a":1}"#),
        (r#"[6,"1","A",[]]"#, "dropped"),
        (r#"[6,"1","A"]"#, "send 1 A {}"),
        (r#"[6,"1","A",null]"#, "send 1 A {}"),
        (r#"[6,5,"A",{}]"#, "dropped"),
    ] {
        for subprotocol in ALL {
            let expected = if subprotocol == Subprotocol::Ocpp21 {
                expected
            } else {
                "ignored"
            };
            assert_eq!(shown(text, subprotocol), expected, "{text}");
        }
    }
    assert_eq!(shown(r#"[6,"1","#, Subprotocol::Ocpp21), "dropped");
    assert_eq!(shown(r#"[5,"1","#, Subprotocol::Ocpp21), "dropped");
    assert_eq!(shown(r#"[6,"1","#, Subprotocol::Ocpp16), "unreadable");
}

#[test]
fn what_has_no_readable_message_id_is_unreadable() {
    let texts = [
        "x",
        "{}",
        "null",
        "2",
        "\"\"",
        "[",
        "[]",
        "[]]",
        "[2",
        "[2]",
        "[2,",
        "[2,5,\"A\",{}]",
        "[2,null,\"A\",{}]",
        "[2,[],\"A\",{}]",
        "[\"2\",\"1\",\"A\",{}]",
        "[null]",
        "[[]]",
        "[2,\"1",
        "[2,\"\\ud800\",\"A\",{}]",
        "[2,\"\\q\",\"A\",{}]",
        "[2 \"1\"",
        "[,2]",
        "[9,\"1\",",
        "[9,\"1\"]]",
        "{\"2\":1",
        " ",
        "\u{feff}\u{feff}[2,\"1\",\"A\",{}]",
        "[02,\"1\",\"A\",{}]",
    ];
    for text in texts {
        for subprotocol in ALL {
            assert_eq!(shown(text, subprotocol), "unreadable", "{text}");
        }
    }
    let deep = "[".repeat(1_000_000);
    assert_eq!(shown(&deep, Subprotocol::Ocpp16), "unreadable");
}

#[test]
fn a_call_that_is_wrong_behind_its_id_names_the_id() {
    for (text, expected) in [
        (r#"[2,"1"]"#, r#"bad call "1" Count"#),
        (r#"[2,"1","A",{},1]"#, r#"bad call "1" Count"#),
        (r#"[2,"1","A",{},1,1,1,1]"#, r#"bad call "1" Count"#),
        (r#"[2,"1""#, r#"bad call "1" Json"#),
        (r#"[2,"1","#, r#"bad call "1" Json"#),
        (r#"[2,"1" "A",{}]"#, r#"bad call "1" Json"#),
        (r#"[2,"1","A",{]"#, r#"bad call "1" Json"#),
        (r#"[2,"1","A",{}]]"#, r#"bad call "1" Json"#),
        (r#"[2,"1","A",{}] x"#, r#"bad call "1" Json"#),
        (r#"[2,"\u0031","A",{"a":"\u12"}]"#, r#"bad call "\u0031" Json"#),
        (r#"[2,"1","A",[[[[[[[[]]]]]]]]]"#, r#"bad call "1" Json"#),
        (r#"[2,"1",5,{}]"#, r#"bad call "1" Action"#),
        (r#"[2,"1","",{}]"#, r#"bad call "1" Action"#),
        (r#"[2,"1","..",{}]"#, r#"bad call "1" Action"#),
        (r#"[2,"1","a\/b",{}]"#, r#"bad call "1" Action"#),
        (r#"[2,"1","\ud800",{}]"#, r#"bad call "1" Action"#),
        (r#"[2,"","A",{}]"#, r#"bad call "" MessageId"#),
        (r#"[2,"a/b","A",{}]"#, r#"bad call "a/b" MessageId"#),
        (r#"[2,"\n","A",{}]"#, r#"bad call "\n" MessageId"#),
        (r#"[2,".","A",{}]"#, r#"bad call "." MessageId"#),
    ] {
        for subprotocol in ALL {
            assert_eq!(shown(text, subprotocol), expected, "{text}");
        }
    }
    let deep = format!("[2,\"1\",\"A\",{}", "{\"a\":".repeat(200_000));
    assert_eq!(shown(&deep, Subprotocol::Ocpp16), "bad call \"1\" Json");
    assert_eq!(
        shown(r#"[2,"1","A",[[[[[[[]]]]]]]]"#, Subprotocol::None),
        r#"call 1 "1" A "A" [[[[[[[]]]]]]]"#
    );
}

#[test]
fn ocpp_wants_objects_and_short_ids() {
    for payload in ["[]", "5", "\"\"", "true"] {
        let text = format!("[2,\"1\",\"A\",{payload}]");
        for subprotocol in ALL {
            let expected = match subprotocol.is_ocpp() {
                true => "bad call \"1\" Payload".to_owned(),
                false => format!("call 1 \"1\" A \"A\" {payload}"),
            };
            assert_eq!(shown(&text, subprotocol), expected);
        }
    }
    let call = |id: &str| format!("[2,\"{id}\",\"A\",{{}}]");
    for (id, ocpp, other) in [
        ("x".repeat(36), true, true),
        ("\\u00e9".repeat(36), true, true),
        ("x".repeat(37), false, true),
        ("x".repeat(255), false, true),
        ("\\u0041".repeat(255), false, true),
        ("x".repeat(256), false, false),
    ] {
        for subprotocol in OCPP {
            let prefix = if ocpp { "call " } else { "bad call " };
            assert!(shown(&call(&id), subprotocol).starts_with(prefix), "{id}");
        }
        let prefix = if other { "call " } else { "bad call " };
        assert!(shown(&call(&id), Subprotocol::None).starts_with(prefix), "{id}");
    }
    assert!(shown(&call(&"x".repeat(RAW_ID_LEN_MAX - 2)), Subprotocol::Ocpp16).starts_with("bad call"));
    assert_eq!(
        shown(&call(&"x".repeat(RAW_ID_LEN_MAX - 1)), Subprotocol::Ocpp16),
        "unreadable"
    );
}

#[test]
fn a_broken_answer_is_never_answered_but_may_show_what_it_answers() {
    for text in [
        "[3]",
        "[3,1,{}]",
        "[3,\"\\ud800\",{}]",
        "[4]",
        "[4,5,\"X\"]",
        "[3,\"1",
        "[4,",
    ] {
        for subprotocol in ALL {
            assert_eq!(shown(text, subprotocol), "dropped", "{text}");
        }
    }
    for text in [
        "[3,\"1\",{]",
        "[3,\"1\",",
        "[3,\"1\",{}]]",
        "[4,\"1\"]",
        "[4,\"1\",5]",
        "[4,\"1\",\"X\",\"\",",
        "\u{feff}[3,\"\\u0031\",{",
    ] {
        for subprotocol in ALL {
            assert_eq!(shown(text, subprotocol), "bad answer 1", "{text}");
        }
    }
}

#[test]
fn numbers_are_ids_where_they_are_tolerated() {
    let tolerant = Reading {
        number_ids: true,
        ..reading(Subprotocol::Ocpp16)
    };
    for (text, expected) in [
        (r#"[2,17,"A",{}]"#, r#"call 17 17 A "A" {}"#),
        (r#"[2,-1.5e3,"A",{}]"#, r#"call -1.5e3 -1.5e3 A "A" {}"#),
        (r#"[2,"17","A",{}]"#, r#"call 17 "17" A "A" {}"#),
        ("[3,17,{}]", "result 17 {}"),
        ("[3,17,{", "bad answer 17"),
        (r#"[4,17,"X"]"#, r#"error 17 "X" "" {}"#),
        (r#"[2,null,"A",{}]"#, "unreadable"),
        (r#"[2,[17],"A",{}]"#, "unreadable"),
    ] {
        assert_eq!(shown_by(text, &tolerant), expected, "{text}");
    }
    assert_eq!(shown(r#"[2,17,"A",{}]"#, Subprotocol::Ocpp16), "unreadable");
}

#[test]
fn what_is_built_is_what_the_oracle_reads() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    for _ in 0..2_000 {
        let (mut payload, mut raw) = (String::new(), String::new());
        random.json(3, &mut payload);
        random.json_string(&mut raw);
        let Ok(text) = json::unescape_string(&raw) else {
            continue;
        };
        let (Ok(id), Ok(action)) = (MessageId::parse(&text), Action::parse(&text)) else {
            continue;
        };
        let mut call = String::new();
        write_call(&mut call, &id, &action, &payload);
        assert_eq!(call.len(), call.capacity(), "one allocation of the exact size");
        let elements: Vec<&RawValue> = serde_json::from_str(&call).expect("JSON");
        assert_eq!(elements[0].get(), "2");
        assert_eq!(
            serde_json::from_str::<String>(elements[1].get()).expect("a string"),
            *text
        );
        assert_eq!(
            serde_json::from_str::<String>(elements[2].get()).expect("a string"),
            *text
        );
        assert_eq!(elements[3].get(), json::trim(&payload), "seed {seed}");

        let mut result = String::new();
        write_call_result(&mut result, &raw, &payload);
        assert_eq!(result.len(), result.capacity());
        assert_eq!(result, format!("[3,{raw},{payload}]"));
        let mut error = String::new();
        write_call_error(&mut error, &raw, "\"X\"", &raw, "{}");
        assert_eq!(error.len(), error.capacity());
        assert_eq!(error, format!("[4,{raw},\"X\",{raw},{{}}]"));
    }
}

#[test]
fn random_bytes_never_panic_and_slices_stay_inside() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    for round in 0..20_000 {
        let mut text = random.pick(&["[2,", "[3,", "[4,", "[5,", "[6,", "[7,", ""]).to_owned();
        for index in 0..random.below(5) {
            if index > 0 {
                text.push(',');
            }
            match random.percent(60) {
                true => random.json_string(&mut text),
                false => random.json(3, &mut text),
            }
        }
        text.push(']');
        if random.percent(50) {
            random.mutate(&mut text);
        }
        for subprotocol in ALL {
            if let Ok(Frame::Call {
                payload,
                raw_id,
                raw_action,
                ..
            }) = split(&text, &reading(subprotocol))
            {
                let parts: Vec<&RawValue> = serde_json::from_str(&text).expect("a Call is JSON");
                let payload_as_sent = parts.get(3).map_or("null", |payload| payload.get());
                let expected = [parts[1].get(), parts[2].get(), or_none(payload_as_sent)];
                assert_eq!(
                    [raw_id, raw_action, payload],
                    expected,
                    "seed {seed}, round {round}: {text}"
                );
            }
        }
    }
}
