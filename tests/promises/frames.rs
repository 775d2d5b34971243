//! Frames pass as they are, every byte of a payload, in every way to write one, up to the limits: `frame-3` to
//! `frame-12`, `call-6` to `call-8`.

use support::client::{CONTINUATION, PING, TEXT, frame_bytes};
use support::{Backend, Message, PAYLOADS, Proxy, Response, json};

#[test]
fn an_escaped_name_is_decoded_for_the_path_and_echoed_as_written() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send("[2,\"\\u006d\\u00e41\",\"B\\u006fot\",{}]");
    client.expect("[3,\"\\u006d\\u00e41\",{}]");
    assert_eq!(backend.take("/call").target, "/call/Boot/CP1/m%C3%A41");
}

#[test]
fn a_clients_payload_reaches_the_backend_byte_for_byte() {
    let backend = Backend::start();
    backend.on("/call", |_| Response::json("{}"));
    let proxy = Proxy::start(&backend);
    for subprotocol in ["ocpp1.6", "ocpp2.0.1"] {
        let mut client = proxy.client_of(subprotocol, "CP1");
        for payload in PAYLOADS {
            client.send_call("m1", "Boot", payload);
            client.expect("[3,\"m1\",{}]");
            assert_eq!(backend.take("/call").text(), *payload);
        }
    }
}

#[test]
fn the_backends_answer_reaches_the_client_byte_for_byte() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.0.1", "CP1");
    // Without an OCPP subprotocol any JSON value will do.
    let values = ["1", "-0.0", "\"\\u0041\"", "true", "[ 1 ]", "1e999", "{\"a\":[]}"];
    for payload in PAYLOADS.iter().copied().chain(values) {
        backend.on("/call", move |_| Response::json(payload));
        client.send_call("m1", "Boot", "{}");
        client.expect(&format!("[3,\"m1\",{payload}]"));
        backend.on("/call", move |_| {
            let chunks: Vec<_> = payload.split_inclusive(['"', ' ']).collect();
            Response::chunked(&chunks)
        });
        client.send_call("m2", "Boot", "{}");
        client.expect(&format!("[3,\"m2\",{payload}]"));
    }
}

#[test]
fn white_space_around_the_frame_and_its_elements_is_free() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.0.1", "CP1");
    for frame in [
        " [2,\"m1\",\"Boot\",{ \"a\" : 1 }]",
        "[ 2 , \"m1\" , \"Boot\" , { \"a\" : 1 } ]",
        "\r\n\t[\n2\n,\n\"m1\"\t,\r\"Boot\",{ \"a\" : 1 }\n]\n\n",
    ] {
        client.send(frame);
        client.expect("[3,\"m1\",{ \"a\" : 1 }]");
        assert_eq!(backend.take("/call").text(), "{ \"a\" : 1 }");
    }
    proxy.push("CP1", "Reset", "p1", "{}").expect(202);
    client.text();
    client.send("\n[ 3 ,\t\"p1\" , { \"b\" : 2 } ] ");
    assert_eq!(backend.take("/result").text(), "{ \"b\" : 2 }");
}

#[test]
fn without_an_ocpp_subprotocol_any_json_value_is_a_payload() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("subprotocols", "chat").start();
    for mut client in [proxy.client("CP1"), proxy.client_of("chat", "CP2")] {
        for payload in ["1", "\"x\"", "true", "[1]", "-1e5", "{}"] {
            client.send_call("m1", "Boot", payload);
            client.expect(&format!("[3,\"m1\",{payload}]"));
        }
    }
}

#[test]
fn one_frame_may_come_in_fragments_with_control_frames_between() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_frame(false, TEXT, "[2,\"m1\",");
    client.send_frame(true, PING, "now");
    client.send_frame(false, CONTINUATION, "\"Bo");
    client.send_frame(false, CONTINUATION, "");
    client.send_frame(true, CONTINUATION, "ot\",{\"ä\":1}]");
    assert_eq!(client.message(), Message::Pong(b"now".to_vec()));
    client.expect("[3,\"m1\",{\"ä\":1}]");
}

#[test]
fn a_frame_may_come_in_two_pieces_wherever_they_part() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let call = |id: usize| frame_bytes(true, TEXT, format!("[2,\"m{id}\",\"Boot\",{{}}]").as_bytes());
    let between = frame_bytes(true, PING, b"?");
    for cut in 1..call(0).len() {
        // The answer to the first shows that the piece was read before the rest was sent.
        let bytes = [call(0), between.clone(), call(1)].concat();
        let (piece, rest) = bytes.split_at(call(0).len() + between.len() + cut);
        client.send_raw(piece);
        let (mut answered, mut pinged) = (false, false);
        while !(answered && pinged) {
            match client.message() {
                Message::Pong(payload) => pinged = payload == b"?",
                other => answered = other == Message::Text("[3,\"m0\",{}]".to_owned()),
            }
        }
        client.send_raw(rest);
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn fragments_may_cut_a_character_in_two() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let frame = "[2,\"m1\",\"Boot\",{\"s\":\"😀\"}]".as_bytes();
    for (index, byte) in frame.iter().enumerate() {
        let opcode = if index == 0 { TEXT } else { CONTINUATION };
        client.send_frame(index + 1 == frame.len(), opcode, [*byte]);
    }
    client.expect("[3,\"m1\",{\"s\":\"😀\"}]");
}

#[test]
fn a_mebibyte_passes_both_ways() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.0.1", "CP1");
    let frame = "[2,\"m1\",\"Big\",{\"s\":\"\"}]".len();
    let payload = format!("{{\"s\":\"{}\"}}", "é".repeat((1024 * 1024 - frame) / 2));
    for _ in 0..3 {
        client.send_call("m1", "Big", &payload);
        client.expect(&format!("[3,\"m1\",{payload}]"));
        assert_eq!(backend.take("/call").text(), payload);
    }
}

#[test]
fn a_message_at_the_size_limit_is_taken_and_one_byte_more_closes_with_1009() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("message_max", "4KiB").start();
    let message = |len: usize| {
        let frame = "[2,\"m1\",\"Big\",\"\"]".len();
        format!("[2,\"m1\",\"Big\",\"{}\"]", "x".repeat(len - frame))
    };
    let mut client = proxy.client("CP1");
    client.send(message(4096));
    assert!(client.text().starts_with("[3,"));
    let (first, last) = (message(4096), message(4097));
    client.send_frame(false, TEXT, &first[..1000]);
    client.send_frame(true, CONTINUATION, &first[1000..]);
    assert!(client.text().starts_with("[3,"));
    client.send(&last);
    client.expect_close(1009);

    let mut client = proxy.client("CP2");
    client.send_frame(false, TEXT, &last[..1000]);
    client.send_frame(true, CONTINUATION, &last[1000..]);
    client.expect_close(1009);

    // A length that is only announced.
    let mut client = proxy.client("CP3");
    client.send_raw([0x81, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]);
    client.expect_close(1009);
}

#[test]
fn nesting_at_the_limit_passes_and_one_level_more_is_refused() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("json_depth_max", "10").start();
    let mut client = proxy.client("CP1");
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    // The frame's own array is the first level.
    let at_limit = nested(9).replace("[]", "[1]");
    client.send_call("m1", "Deep", &at_limit);
    client.expect(&format!("[3,\"m1\",{at_limit}]"));
    client.send_call("m2", "Deep", &nested(10));
    client.expect_error("m2", "FormatViolation");
    // Brackets in texts are no levels.
    let text = format!("\"{}\"", "[{\\\"".repeat(50));
    client.send_call("m3", "Deep", &text);
    client.expect(&format!("[3,\"m3\",{text}]"));
    for (levels, passes) in [(10, true), (11, false)] {
        let body = nested(levels).replace("[]", "[1]");
        backend.on("/call", move |_| Response::json(&body));
        client.send_call("m4", "Deep", "{}");
        if passes {
            assert!(client.text().starts_with("[3,"));
        } else {
            client.expect_error("m4", "InternalError");
        }
    }
}

#[test]
fn a_million_brackets_hurt_nobody() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let brackets = "[".repeat(1_000_000);
    client.send(&brackets);
    client.expect_error("-1", "RpcFrameworkError");
    client.send(format!("[2,\"m1\",\"Deep\",{brackets}"));
    client.expect_error("m1", "FormatViolation");
    client.send(format!("[2,\"m1\",\"Deep\",{}]", "{\"a\":".repeat(200_000)));
    client.expect_error("m1", "FormatViolation");
    backend.on("/call", move |_| Response::json(&brackets));
    client.send_call("m2", "Deep", "{}");
    client.expect_error("m2", "InternalError");
    assert_eq!(proxy.push("CP1", "Reset", "p1", &"[".repeat(1_000_000)).status, 400);
    backend.on("/call", |_| Response::json("{\"a\":1}"));
    client.send_call("m3", "Deep", "{}");
    client.expect("[3,\"m3\",{\"a\":1}]");
}

#[test]
fn a_message_id_of_36_characters_is_taken_under_ocpp() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    for id in ["x".repeat(36), "ä".repeat(36)] {
        client.send_call(&id, "Echo", "{}");
        client.expect(&format!("[3,\"{id}\",{{}}]"));
    }
    let mut free = proxy.client("CP2");
    let id = "x".repeat(100);
    free.send_call(&id, "Echo", "{}");
    free.expect(&format!("[3,\"{id}\",{{}}]"));
}

#[test]
fn a_send_of_ocpp_2_1_is_posted_and_never_answered() {
    let backend = Backend::start();
    backend.on("/send", |_| Response::new(500, "{\"code\":\"X\"}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    client.send("[6,\"s1\",\"NotifyPeriodicEventStream\",{\"n\":1e999}]");
    let request = backend.take("/send");
    assert_eq!(request.target, "/send/NotifyPeriodicEventStream/CP1/s1");
    assert_eq!(request.text(), "{\"n\":1e999}");
    client.send("[6,\"s2\",\"Bad\",5]");
    client.send_call("m1", "Echo", "{}");
    client.expect("[3,\"m1\",{}]");
}

#[test]
fn a_call_result_error_of_ocpp_2_1_is_posted() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp2.1", "CP1");
    client.send_call("m1", "Boot", "{}");
    client.expect("[3,\"m1\",{}]");
    client.send("[5,\"m1\",\"FormatViolation\",\"odd\",{\"a\":1}]");
    let request = backend.take("/resulterror");
    assert_eq!(request.target, "/resulterror/Boot/CP1/m1");
    assert_eq!(
        request.json(),
        json!({"code": "FormatViolation", "description": "odd", "details": {"a": 1}})
    );
}

#[test]
fn message_types_5_and_6_are_ignored_before_ocpp_2_1() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for subprotocol in ["ocpp1.6", "ocpp2.0.1"] {
        let mut client = proxy.client_of(subprotocol, "CP1");
        client.send("[6,\"s1\",\"Notify\",{}]");
        client.send_call("m1", "Boot", "{}");
        client.expect("[3,\"m1\",{}]");
        client.send("[5,\"m1\",\"FormatViolation\",\"\",{}]");
        client.send_call("m2", "Boot", "{}");
        client.expect("[3,\"m2\",{}]");
    }
    assert_eq!(backend.seen("/send").len() + backend.seen("/resulterror").len(), 0);
}

#[test]
fn message_ids_that_are_numbers_are_echoed_where_they_are_tolerated() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("tolerate", "number-ids").start();
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    client.send("[2,17,\"Heartbeat\",{}]");
    client.expect("[3,17,{}]");
    assert_eq!(backend.take("/call").segment(3), "17");
    client.send("[2,\"17\",\"Heartbeat\",{}]");
    client.expect("[3,\"17\",{}]");
    proxy.push("CP1", "Reset", "5", "{}").expect(202);
    client.expect("[2,\"5\",\"Reset\",{}]");
    client.send("[3,5,{\"a\":1}]");
    assert_eq!(backend.take("/result").text(), "{\"a\":1}");
}
