//! From the client to the backend: CALLs, their answers, their order and bounds, and every kind of bad frame.
//! (The contract, sections 2 and 4.)

mod support;

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::client::{BINARY, CLOSE, CONTINUATION, PING, TEXT, frame_bytes};
use support::http::Stream;
use support::{Backend, Client, Handshake, Message, Proxy, Response, json};

#[test]
fn a_call_becomes_a_post_and_its_answer_a_call_result() {
    let backend = Backend::start();
    backend.on("/call", |_| Response::json("{\"status\":\"Accepted\"}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    client.send("[2,\"m1\",\"BootNotification\",{\"chargePointModel\":\"X\"}]");
    client.expect("[3,\"m1\",{\"status\":\"Accepted\"}]");
    let request = backend.take("/call");
    assert_eq!(request.target, "/call/BootNotification/CP1/m1");
    assert_eq!(request.text(), "{\"chargePointModel\":\"X\"}");
}

#[test]
fn the_path_of_the_backends_url_comes_first() {
    let backend = Backend::start();
    backend.on("/api/v1/connect", |_| Response::json("\"ok\""));
    let url = format!("{}/api/v1", backend.url());
    // The latest --set wins over the flag of the same key.
    let proxy = Proxy::with(&backend).set("backend", &url).start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Boot", "{}");
    client.expect("[3,\"m1\",{}]");
    assert_eq!(backend.take("/api/v1/call").target, "/api/v1/call/Boot/CP1/m1");
}

#[test]
fn a_backend_on_a_unix_socket_works() {
    let backend = Backend::start_unix();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Echo", "{\"a\":[1]}");
    client.expect("[3,\"m1\",{\"a\":[1]}]");
    proxy.push("CP1", "Reset", "m2", "{}").expect(202);
    client.text();
    client.send_result("m2", "{\"b\":2}");
    assert_eq!(backend.take("/result").text(), "{\"b\":2}");
}

#[test]
fn with_several_backends_each_gets_some() {
    let backends = [Backend::start(), Backend::start()];
    let gates = [0, 1].map(|index: usize| backends[index].hold("/call", |_| Response::json("{}")));
    let proxy = Proxy::with(&backends[0]).backend(&backends[1]).start();
    let mut clients: Vec<Client> = (0..8).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_call("m1", "Slow", "{}");
    }
    for backend in &backends {
        backend.take("/call");
    }
    for gate in gates {
        gate.open();
    }
    for client in &mut clients {
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn path_parts_are_percent_encoded() {
    let cases = [
        ("CP1", "Boot", "m1", "/call/Boot/CP1/m1"),
        ("CP 1", "a b", "m 1", "/call/a%20b/CP%201/m%201"),
        ("Säule", "Ä", "ü", "/call/%C3%84/S%C3%A4ule/%C3%BC"),
        ("a?b", "a#b", "a%b", "/call/a%23b/a%3Fb/a%25b"),
        ("a&b=c", "a+b", "a;b", "/call/a%2Bb/a%26b%3Dc/a%3Bb"),
        ("-._~", "-._~", "-._~", "/call/-._~/-._~/-._~"),
        (
            "x:y@z",
            "!$'()*,",
            "[]|{}",
            "/call/%21%24%27%28%29%2A%2C/x%3Ay%40z/%5B%5D%7C%7B%7D",
        ),
        ("...", "..a", "a..", "/call/..a/.../a.."),
    ];
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    for (client_id, action, message_id, target) in cases {
        let mut client = proxy.client(client_id);
        client.send_call(message_id, action, "{}");
        client.expect(&format!("[3,\"{message_id}\",{{}}]"));
        assert_eq!(backend.take("/call").target, target);
    }
}

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

#[test]
fn an_escaped_name_is_decoded_for_the_path_and_echoed_as_written() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send("[2,\"\\u006d\\u00e41\",\"B\\u006fot\",{}]");
    client.expect("[3,\"\\u006d\\u00e41\",{}]");
    assert_eq!(backend.take("/call").target, "/call/Boot/CP1/m%C3%A41");
}

/// JSON that a parser and a writer would not give back as it was.
const PAYLOADS: &[&str] = &[
    "{}",
    "{ }",
    "{\n\t\"a\" :\r\n [ 1 , 2 ] }",
    "{\"z\":1,\"a\":2,\"z\":3}",
    "{\"n\":1e999}",
    "{\"n\":-0,\"m\":-0.0,\"k\":1E+2,\"j\":1.50}",
    "{\"n\":1234567890123456789012345678901234567890123456789012345678901234}",
    "{\"n\":0.1000000000000000055511151231257827021181583404541015625}",
    "{\"s\":\"\\u0041\\/\\\"\\\\ \\b\\f\\n\\r\\t\"}",
    "{\"s\":\"\\ud83d\\ude00 😀 \\u0000 \\u007f\"}",
    "{\"s\":\"lone \\ud800 and \\udfff\"}",
    "{\"\":{\"\":[[],{},\"\"]}}",
    "{\"a\":null,\"b\":true,\"c\":false}",
    "{\"s\":\"]}[{,:\\\\\\\"\"}",
];

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

/// One row of the table of answers.
struct Row {
    name: &'static str,
    response: Response,
    expected: Expected,
}

enum Expected {
    /// The whole payload.
    Result(&'static str),
    /// The code, what the description has in it, the details.
    Error(&'static str, &'static str, &'static str),
}

fn row(name: &'static str, response: Response, expected: Expected) -> Row {
    Row {
        name,
        response,
        expected,
    }
}

fn answer_rows(format_violation: &'static str) -> Vec<Row> {
    use Expected::{Error, Result};
    let new = Response::new;
    let code = "{\"code\":\"Custom\",\"description\":\"why \\u00e4\",\"details\":{ \"a\" : 1e999 }}";
    let long = format!("{{\"code\":\"Custom\",\"description\":\"{}\"}}", "ä".repeat(300));
    vec![
        row("200 object", Response::json("{\"a\":1}"), Result("{\"a\":1}")),
        row("200 list", Response::json("[1]"), Result("[1]")),
        row("200 number", Response::json("5"), Result("5")),
        row("200 text", Response::json("\"ok\""), Result("\"ok\"")),
        row("200 false", Response::json("false"), Result("false")),
        row(
            "200 with space around",
            Response::json("\r\n {\"a\": 1}\n"),
            Result("{\"a\": 1}"),
        ),
        row("201", new(201, "{\"a\":1}"), Result("{\"a\":1}")),
        row("202 without X-Deferred", new(202, "{\"a\":1}"), Result("{\"a\":1}")),
        row(
            "202 that is not deferred",
            Response::with_headers(202, &[("X-Deferred", "0")], "{\"a\":1}"),
            Result("{\"a\":1}"),
        ),
        row(
            "200 with X-Deferred",
            Response::with_headers(200, &[("X-Deferred", "1")], "{\"a\":1}"),
            Result("{\"a\":1}"),
        ),
        row(
            "interim answers before",
            Response::raw(
                "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
            ),
            Result("{\"a\":1}"),
        ),
        row("299", new(299, "{\"a\":1}"), Result("{\"a\":1}")),
        row(
            "200 as text/html",
            Response::with_headers(200, &[("Content-Type", "text/html")], "{}"),
            Result("{}"),
        ),
        row(
            "200 until close",
            Response::until_close("{\"a\":1}"),
            Result("{\"a\":1}"),
        ),
        row(
            "200 and surplus bytes",
            Response::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n"),
            Result("{}"),
        ),
        row("204", new(204, ""), Result("{}")),
        row("200 empty", Response::json(""), Result("{}")),
        row("200 empty chunked", Response::chunked(&[]), Result("{}")),
        row("200 white space", Response::json(" \n"), Result("{}")),
        row("200 null", Response::json("null"), Result("{}")),
        row("200 []", Response::json("[]"), Result("{}")),
        row("200 [ ]", Response::json(" [ ] "), Result("{}")),
        row(
            "200 HTML",
            Response::json("<html>"),
            Error("InternalError", "JSON", "{}"),
        ),
        row(
            "200 broken JSON",
            Response::json("{\"a\":}"),
            Error("InternalError", "JSON", "{}"),
        ),
        row(
            "200 two values",
            Response::json("{}{}"),
            Error("InternalError", "JSON", "{}"),
        ),
        row(
            "200 not UTF-8",
            Response::json(b"\"\xFF\""),
            Error("InternalError", "JSON", "{}"),
        ),
        row(
            "200 cut JSON",
            Response::json("{\"a\":1"),
            Error("InternalError", "JSON", "{}"),
        ),
        row(
            "400 with code",
            new(400, code),
            Error("Custom", "why ä", "{\"a\":1e999}"),
        ),
        row(
            "404 with code",
            new(404, code),
            Error("Custom", "why ä", "{\"a\":1e999}"),
        ),
        row(
            "429 with code",
            new(429, code),
            Error("Custom", "why ä", "{\"a\":1e999}"),
        ),
        row(
            "500 with code",
            new(500, code),
            Error("Custom", "why ä", "{\"a\":1e999}"),
        ),
        row(
            "500 with code alone",
            new(500, "{\"code\":\"Custom\"}"),
            Error("Custom", "", "{}"),
        ),
        row(
            "422 with a long description",
            new(422, &long),
            Error("Custom", "äää", "{}"),
        ),
        row(
            "422 with code as a number",
            new(422, "{\"code\":1}"),
            Error("PropertyConstraintViolation", "422", "{}"),
        ),
        row(
            "200 with code",
            Response::json("{\"code\":\"Custom\"}"),
            Result("{\"code\":\"Custom\"}"),
        ),
        row("400", new(400, ""), Error(format_violation, "400", "{}")),
        row(
            "400 with a JSON list",
            new(400, "[\"code\"]"),
            Error(format_violation, "400", "{}"),
        ),
        row("422", new(422, "{}"), Error("PropertyConstraintViolation", "422", "{}")),
        row("401", new(401, ""), Error("SecurityError", "401", "{}")),
        row("403", new(403, "no"), Error("SecurityError", "403", "{}")),
        row("404", new(404, "<html>"), Error("NotImplemented", "404", "{}")),
        row("501", new(501, ""), Error("NotImplemented", "501", "{}")),
        row("405", new(405, ""), Error("NotSupported", "405", "{}")),
        row(
            "301",
            Response::with_headers(301, &[("Location", "/x")], "{}"),
            Error("InternalError", "301", "{}"),
        ),
        row("304", new(304, ""), Error("InternalError", "304", "{}")),
        row("409", new(409, "{}"), Error("InternalError", "409", "{}")),
        row("418", new(418, ""), Error("InternalError", "418", "{}")),
        row("429", new(429, ""), Error("InternalError", "429", "{}")),
        row("500", new(500, "<html>"), Error("InternalError", "500", "{}")),
        row("502", new(502, ""), Error("InternalError", "502", "{}")),
        row("503", new(503, ""), Error("InternalError", "503", "{}")),
        row(
            "closed without an answer",
            Response::raw("").then_close(),
            Error("InternalError", "cut off", "{}"),
        ),
        row(
            "reset without an answer",
            Response::raw("").then_reset(),
            Error("InternalError", "", "{}"),
        ),
        row(
            "closed within the head",
            Response::raw("HTTP/1.1 200 OK\r\nContent-").then_close(),
            Error("InternalError", "cut off", "{}"),
        ),
        row(
            "closed within the body",
            Response::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\":1}").then_close(),
            Error("InternalError", "cut off", "{}"),
        ),
        row(
            "closed within a chunk",
            Response::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}").then_close(),
            Error("InternalError", "cut off", "{}"),
        ),
        row(
            "closed before the last chunk",
            Response::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n").then_close(),
            Error("InternalError", "cut off", "{}"),
        ),
        row(
            "not HTTP",
            Response::raw("hello\r\n\r\n").then_close(),
            Error("InternalError", "HTTP", "{}"),
        ),
        row(
            "both lengths",
            Response::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"),
            Error("InternalError", "HTTP", "{}"),
        ),
        row(
            "101",
            Response::raw("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            Error("InternalError", "HTTP", "{}"),
        ),
    ]
}

#[test]
fn each_answer_of_the_backend_has_its_frame_for_the_client() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for (subprotocol, format_violation) in [
        ("ocpp1.6", "FormationViolation"),
        ("ocpp2.0.1", "FormatViolation"),
        ("ocpp2.1", "FormatViolation"),
    ] {
        let mut client = proxy.client_of(subprotocol, "CP1");
        let rows = answer_rows(format_violation);
        assert!(rows.len() > 50);
        for Row {
            name,
            response,
            expected,
        } in rows
        {
            backend.on("/call", move |_| response.clone());
            client.send_call("m1", "Boot", "{}");
            let text = client.text();
            match expected {
                Expected::Result(payload) => assert_eq!(text, format!("[3,\"m1\",{payload}]"), "{name}"),
                Expected::Error(code, part, details) => {
                    let frame = support::parse(&text);
                    assert_eq!(frame.as_array().map(Vec::len), Some(5), "{name}: {text}");
                    assert_eq!(
                        (&frame[0], &frame[1], &frame[2]),
                        (&json!(4), &json!("m1"), &json!(code)),
                        "{name}"
                    );
                    let description = frame[3].as_str().unwrap();
                    assert!(description.contains(part), "{name}: {text}");
                    assert!(description.chars().count() <= 255, "{name}: {text}");
                    assert_eq!(frame[4], support::parse(details), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_long_description_is_cut_at_255_characters() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for (len, expected) in [(254, 254), (255, 255), (256, 255), (1000, 255)] {
        let body = format!("{{\"code\":\"X\",\"description\":\"{}\"}}", "ä".repeat(len));
        backend.on("/call", move |_| Response::new(400, &body));
        client.send_call("m1", "Boot", "{}");
        assert_eq!(client.expect_error("m1", "X"), "ä".repeat(expected));
    }
}

#[test]
fn details_of_a_backends_error_pass_byte_for_byte() {
    let backend = Backend::start();
    backend.on("/call", |_| {
        Response::new(
            500,
            "{ \"details\" : { \"n\": 1e999 } , \"code\":\"X\\u0041\", \"description\":\"\\u00e4\" }",
        )
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Boot", "{}");
    client.expect("[4,\"m1\",\"X\\u0041\",\"\\u00e4\",{ \"n\": 1e999 }]");
}

#[test]
fn calls_go_to_the_backend_one_at_a_time_in_the_order_of_arrival() {
    let backend = Backend::start();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (current, highest) = (now.clone(), most.clone());
    backend.on("/call", move |request| {
        highest.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        current.fetch_sub(1, Ordering::SeqCst);
        Response::json(&request.body)
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for number in 0..200 {
        client.send_call(&format!("m{number}"), "Count", &format!("{{\"n\":{number}}}"));
    }
    for number in 0..200 {
        client.expect(&format!("[3,\"m{number}\",{{\"n\":{number}}}]"));
    }
    let bodies: Vec<_> = backend
        .seen("/call")
        .iter()
        .map(|request| request.json()["n"].as_u64().unwrap())
        .collect();
    assert_eq!(bodies, (0..200).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn with_more_calls_in_flight_answers_go_out_as_they_come() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).set("calls_in_flight", "2").start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    for number in 2..6 {
        client.send_call(&format!("m{number}"), "Quick", "{}");
    }
    for number in 2..6 {
        client.expect(&format!("[3,\"m{number}\",{{}}]"));
    }
    gate.open();
    client.expect("[3,\"m1\",{}]");
}

#[test]
fn no_more_calls_than_configured_are_at_the_backend_at_once() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).set("calls_in_flight", "3").start();
    let mut client = proxy.client("CP1");
    for number in 0..8 {
        client.send_call(&format!("m{number}"), "Slow", "{}");
    }
    backend.wait_seen("/call", 3);
    // A ping that is answered was read after all of them.
    client.send_frame(true, PING, "x");
    assert_eq!(client.message(), Message::Pong(b"x".to_vec()));
    assert_eq!(backend.seen("/call").len(), 3);
    gate.open();
    for _ in 0..8 {
        assert!(client.text().starts_with("[3,"));
    }
}

#[test]
fn a_client_is_not_read_while_its_queue_of_calls_is_full() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend).set("calls_queued", "2").start();
    let mut client = proxy.client("CP1");
    let payload = format!("{{\"s\":\"{}\"}}", "x".repeat(60_000));
    let mut bytes = Vec::new();
    for number in 0..1000 {
        let frame = format!("[2,\"m{number}\",\"Slow\",{payload}]");
        bytes.extend(frame_bytes(true, TEXT, frame.as_bytes()));
    }
    // 60 MB do not fit into the sockets between: sending gets stuck, for good.
    let Stream::Tcp(mut stream) = client.stream().try_clone().unwrap() else {
        panic!("a client is on TCP")
    };
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut stuck) = (0, 0);
    while stuck < 100 {
        assert!(sent < bytes.len(), "everything was read");
        match stream.write(&bytes[sent..]) {
            Ok(len) => (sent, stuck) = (sent + len, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stuck += 1;
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    assert_eq!(backend.seen("/call").len(), 1);
    // Once the backend goes on, everything that was sent is answered, in order.
    gate.open();
    let rest = std::thread::spawn(move || stream.write_all(&bytes[sent..]).unwrap());
    for number in 0..1000 {
        client.expect(&format!("[3,\"m{number}\",{{}}]"));
    }
    rest.join().unwrap();
}

#[test]
fn a_client_whose_queue_of_calls_is_full_is_not_taken_for_dead() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::with(&backend)
        .set("calls_queued", "1")
        .set("ping_after", "200ms")
        .set("dead_after", "1500ms")
        .start();
    let mut full = proxy.client("CP1");
    for number in 0..3 {
        full.send_call(&format!("m{number}"), "Slow", "{}");
    }
    backend.take("/call/Slow");
    // Somebody else, who came later, is silent for as long as a client may be.
    let mut silent = proxy.client("CP2");
    silent.mute();
    while silent.message() != Message::End {}
    gate.open();
    for number in 0..3 {
        full.expect(&format!("[3,\"m{number}\",{{}}]"));
    }
}

#[test]
fn a_clients_answers_and_pongs_do_not_wait_behind_its_calls() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    client.send_call("m2", "Slow", "{}");
    backend.take("/call/Slow");
    client.send_frame(true, PING, "p");
    assert_eq!(client.message(), Message::Pong(b"p".to_vec()));
    for (message_id, answer, path) in [
        ("p1", "[3,\"p1\",{}]", "/result/Reset/CP1/p1"),
        ("p2", "[4,\"p2\",\"X\",\"\",{}]", "/error/Reset/CP1/p2"),
    ] {
        proxy.push("CP1", "Reset", message_id, "{}").expect(202);
        client.expect(&format!("[2,\"{message_id}\",\"Reset\",{{}}]"));
        client.send(answer);
        backend.take(path);
    }
    gate.open();
    client.expect("[3,\"m1\",{}]");
    client.expect("[3,\"m2\",{}]");
}

#[test]
fn a_slow_call_of_one_client_does_not_hold_up_another() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{}"));
    let proxy = Proxy::start(&backend);
    let mut slow: Vec<Client> = (0..20).map(|number| proxy.client(&format!("slow{number}"))).collect();
    for client in &mut slow {
        client.send_call("m1", "Slow", "{}");
    }
    backend.wait_seen("/call/Slow", 20);
    let mut quick = proxy.client("quick");
    quick.send_call("m1", "Quick", "{}");
    quick.expect("[3,\"m1\",{}]");
    gate.open();
    for client in &mut slow {
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn a_call_that_the_backend_does_not_answer_in_time_gets_internal_error() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{\"late\":true}"));
    let proxy = Proxy::with(&backend).set("call_timeout", "200ms").start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    assert!(client.expect_error("m1", "InternalError").contains("in time"));
    // The late answer is nobody's: not this CALL's, and not the next one's with the same id.
    gate.open();
    client.send_call("m1", "Quick", "{\"a\":1}");
    client.expect("[3,\"m1\",{\"a\":1}]");
}

#[test]
fn a_backend_that_drips_its_answer_is_cut_off_at_the_deadline() {
    let backend = Backend::start();
    backend.on("/call/Slow", |_| {
        Response::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    });
    let proxy = Proxy::with(&backend).set("call_timeout", "200ms").start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    assert!(client.expect_error("m1", "InternalError").contains("in time"));
}

#[test]
fn the_request_of_a_client_that_has_gone_is_finished_and_its_answer_dropped() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{\"late\":true}"));
    let proxy = Proxy::with(&backend).set("backend_connections_max", "2").start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    client.send_call("m2", "Slow", "{}");
    let slow = backend.take("/call/Slow").connection;
    client.vanish();
    backend.take("/disconnect");
    gate.open();
    // Had the request been broken off, its connection would be gone. It serves one of the next two.
    let gate = backend.hold("/call/Both", |_| Response::json("{}"));
    let mut again = [proxy.client("CP1"), proxy.client("CP2")];
    for client in &mut again {
        client.send_call("m1", "Both", "{}");
    }
    let both = backend.wait_seen("/call/Both", 2);
    assert!(both.iter().any(|request| request.connection == slow), "{both:?}");
    gate.open();
    for client in &mut again {
        client.expect("[3,\"m1\",{}]");
    }
    assert_eq!(backend.connections(), 2);
    assert_eq!(backend.seen("/call/Slow").len(), 1, "the one that waited was not sent");
    assert_eq!(
        (proxy.count("backend_answers_dropped"), proxy.count("calls_dropped")),
        (1, 1)
    );
}

#[test]
fn identical_calls_in_flight_are_answered_once() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{\"a\":1}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for _ in 0..5 {
        client.send_call("m1", "Slow", "{}");
    }
    client.send_call("m2", "Slow", "{}");
    for _ in 0..5 {
        client.send_call("m2", "Slow", "{}");
    }
    backend.take("/call");
    gate.open();
    client.expect("[3,\"m1\",{\"a\":1}]");
    client.expect("[3,\"m2\",{\"a\":1}]");
    client.send_frame(true, PING, "");
    assert_eq!(client.message(), Message::Pong(Vec::new()), "nothing else came");
    assert_eq!(backend.seen("/call").len(), 2);
}

#[test]
fn another_call_with_a_message_id_in_flight_is_refused() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{\"a\":1}"));
    let proxy = Proxy::start(&backend);
    for (subprotocol, code) in [
        ("ocpp1.6", "GenericError"),
        ("ocpp2.0.1", "RpcFrameworkError"),
        ("ocpp2.1", "RpcFrameworkError"),
    ] {
        let mut client = proxy.client_of(subprotocol, "CP1");
        client.send_call("m1", "Slow", "{}");
        backend.take("/call");
        client.send_call("m2", "Slow", "{}");
        for (message_id, action, payload) in [
            ("m1", "Slow", "{ }"),
            ("m1", "Other", "{}"),
            ("m1", "Slow", "{\"a\":1}"),
            ("m2", "Slow", "{ }"),
        ] {
            client.send_call(message_id, action, payload);
            client.expect_error(message_id, code);
        }
        gate.pass();
        client.expect("[3,\"m1\",{\"a\":1}]");
        backend.take("/call");
        gate.pass();
        client.expect("[3,\"m2\",{\"a\":1}]");
        // Once answered, an id is free.
        client.send_call("m1", "Other", "{}");
        backend.take("/call");
        gate.pass();
        client.expect("[3,\"m1\",{\"a\":1}]");
    }
}

#[test]
fn the_same_message_id_of_another_client_is_another_call() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    let proxy = Proxy::start(&backend);
    let mut clients: Vec<Client> = (0..3).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_call("m1", "Slow", &format!("{{\"n\":{number}}}"));
    }
    backend.wait_seen("/call", 3);
    gate.open();
    for (number, client) in clients.iter_mut().enumerate() {
        client.expect(&format!("[3,\"m1\",{{\"n\":{number}}}]"));
    }
}

#[test]
fn a_dead_backend_gives_internal_error_and_a_returning_one_serves_without_our_restart() {
    let mut backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let mut clients: Vec<Client> = (0..6).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.send_call("up", "Echo", "{}");
            client.expect("[3,\"up\",{}]");
        }
        backend.stop();
        for client in &mut clients {
            client.send_call("down", "Echo", "{}");
            client.expect_error("down", "InternalError");
        }
        assert_eq!(Handshake::new("new").refused(proxy.listen).status, 502, "round {round}");
        backend.restart();
    }
    for client in &mut clients {
        client.send_call("back", "Echo", "{}");
        client.expect("[3,\"back\",{}]");
    }
    assert_eq!(backend.seen("/disconnect").len(), 0, "all stayed connected");
}

#[test]
fn a_refused_connection_is_said_in_the_description() {
    let mut backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    backend.stop();
    client.send_call("m1", "Echo", "{}");
    assert!(client.expect_error("m1", "InternalError").contains("refused"));
}

#[test]
fn a_refused_connection_is_tried_once_more() {
    let backend = Backend::dead();
    let proxy = Proxy::start(&backend);
    assert_eq!(Handshake::new("CP1").refused(proxy.listen).status, 502);
    assert_eq!(proxy.count("backend_connect_failures"), 2);
    assert_eq!(proxy.count("backend_retries"), 1);
}

#[test]
fn a_pooled_connection_found_closed_is_replaced_unseen() {
    let backend = Backend::start();
    // It says nothing of closing, and closes.
    backend.on("/call", |request| Response::json(&request.body).then_close());
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for number in 0..10 {
        client.send_call(&format!("m{number}"), "Echo", "{}");
        client.expect(&format!("[3,\"m{number}\",{{}}]"));
        backend.wait_ended(number + 1);
    }
    assert_eq!(backend.seen("/call").len(), 10, "none was sent twice");
}

#[test]
fn pooled_connections_that_were_reset_meanwhile_are_replaced_unseen() {
    let mut backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for number in 0..10 {
        client.send_call(&format!("m{number}"), "Echo", "{}");
        client.expect(&format!("[3,\"m{number}\",{{}}]"));
        let connections = backend.connections();
        backend.stop();
        backend.wait_ended(connections);
        backend.restart();
    }
    assert_eq!(backend.seen("/call").len(), 10);
}

#[test]
fn a_call_that_was_written_is_never_sent_twice() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for (number, response) in [
        Response::raw("").then_close(),
        Response::raw("").then_reset(),
        Response::raw("HTTP/1.1 2").then_close(),
    ]
    .into_iter()
    .enumerate()
    {
        // First one that fills the pool, so that the next goes over a reused connection.
        client.send_call("warm", "Echo", "{}");
        client.expect("[3,\"warm\",{}]");
        let pooled = backend.take("/call/Echo").connection;
        let action = format!("Lost{number}");
        backend.on(&format!("/call/{action}"), move |_| response.clone());
        client.send_call("m1", &action, "{}");
        client.expect_error("m1", "InternalError");
        assert_eq!(backend.take(&format!("/call/{action}")).connection, pooled);
        client.send_call("m2", "Echo", "{}");
        client.expect("[3,\"m2\",{}]");
        backend.take("/call/Echo");
        assert_eq!(backend.seen(&format!("/call/{action}")).len(), 1);
    }
}

#[test]
fn backend_connections_are_kept_and_used_again() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for number in 0..50 {
        client.send_call(&format!("m{number}"), "Echo", "{}");
        client.text();
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_backend_connection_with_surplus_bytes_is_not_used_again() {
    let backend = Backend::start();
    backend.on("/call/Odd", |_| {
        Response::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{\"stolen\":1}")
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Odd", "{}");
    client.expect("[3,\"m1\",{}]");
    let odd = backend.take("/call/Odd").connection;
    client.send_call("m2", "Echo", "{\"a\":1}");
    client.expect("[3,\"m2\",{\"a\":1}]");
    assert_ne!(backend.take("/call/Echo").connection, odd);
}

#[test]
fn a_connection_that_the_backend_announces_to_close_is_not_used_again() {
    let backend = Backend::start();
    backend.on("/call/Close", |_| {
        Response::with_headers(200, &[("Connection", "close")], "{}")
    });
    backend.on("/call/Old", |_| {
        Response::raw("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    });
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    for action in ["Close", "Old"] {
        client.send_call("m1", action, "{}");
        client.expect("[3,\"m1\",{}]");
        let announced = backend.take(&format!("/call/{action}")).connection;
        client.send_call("m2", "Echo", "{}");
        client.expect("[3,\"m2\",{}]");
        assert_ne!(backend.take("/call/Echo").connection, announced, "{action}");
    }
}

#[test]
fn calls_beyond_the_backends_connections_wait_for_one() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    let proxy = Proxy::with(&backend).set("backend_connections_max", "2").start();
    let mut clients: Vec<Client> = (0..10).map(|number| proxy.client(&format!("CP{number}"))).collect();
    for client in &mut clients {
        client.send_call("m1", "Slow", "{\"a\":1}");
    }
    backend.wait_seen("/call", 2);
    for client in &mut clients {
        client.send_frame(true, PING, "");
        assert_eq!(client.message(), Message::Pong(Vec::new()));
    }
    assert_eq!(backend.seen("/call").len(), 2);
    gate.open();
    for client in &mut clients {
        client.expect("[3,\"m1\",{\"a\":1}]");
    }
    assert_eq!(backend.connections(), 2);
}

#[test]
fn calls_beyond_those_that_may_wait_get_internal_error_at_once() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("backend_connections_max", "1")
        .set("backend_waiters_max", "1")
        .start();
    let mut clients: Vec<Client> = (0..3).map(|number| proxy.client(&format!("CP{number}"))).collect();
    let gate = backend.hold("/call", |request| Response::json(&request.body));
    clients[0].send_call("m1", "Slow", "{}");
    backend.take("/call");
    clients[1].send_call("m1", "Slow", "{}");
    clients[1].send_frame(true, PING, "");
    assert_eq!(clients[1].message(), Message::Pong(Vec::new()));
    clients[2].send_call("m1", "Slow", "{}");
    clients[2].expect_error("m1", "InternalError");
    gate.open();
    for client in &mut clients[..2] {
        client.expect("[3,\"m1\",{}]");
    }
}

#[test]
fn an_answer_at_the_size_limit_passes_and_one_byte_more_gets_internal_error() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("message_max", "64KiB").start();
    let mut client = proxy.client("CP1");
    let body = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    type Framed = fn(&str) -> Response;
    let framings: [Framed; 3] = [
        |body| Response::json(body),
        |body| Response::chunked(&[&body[..100], &body[100..]]),
        |body| Response::until_close(body),
    ];
    for framing in framings {
        for (len, passes) in [(65536, true), (65537, false), (10 * 65536, false)] {
            let response = framing(&body(len));
            backend.on("/call", move |_| response.clone());
            client.send_call("m1", "Big", "{}");
            if passes {
                client.expect(&format!("[3,\"m1\",{}]", body(len)));
            } else {
                assert!(client.expect_error("m1", "InternalError").contains("large"));
            }
        }
    }
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

/// What a bad frame gets.
#[derive(Clone, Copy, Debug)]
enum Bad {
    /// CALLERROR `"-1"`; on ocpp1.6 nothing.
    Unreadable,
    /// CALLERROR with its id.
    Violation(&'static str),
    Nothing,
}

const BAD_FRAMES: &[(&str, Bad)] = &[
    // Not JSON, not an array, no readable MessageId.
    ("hello", Bad::Unreadable),
    ("{", Bad::Unreadable),
    ("[", Bad::Unreadable),
    ("]", Bad::Unreadable),
    (" ", Bad::Unreadable),
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
    // A CALL with a readable MessageId and something else wrong.
    ("[2,\"m1\"]", Bad::Violation("m1")),
    ("[2,\"m1\",\"Boot\"]", Bad::Violation("m1")),
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
    ("[2,\"m1\",\"Boot\",null]", Bad::Violation("m1")),
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
    let counters = [
        "frames_unreadable",
        "frames_ignored",
        "frames_empty",
        "calls_malformed",
        "answers_malformed",
        "answers_unmatched",
    ];
    let counts = counters.map(|name| proxy.count(name));
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
fn twenty_bad_frames_in_a_row_close_with_1008() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for subprotocol in ["ocpp1.6", "ocpp2.0.1"] {
        for bad in ["hello", "[2,\"m1\"]", "[3,\"m1\"]"] {
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
    let counts = ["frames_empty", "frames_ignored", "answers_unmatched"].map(|name| proxy.count(name));
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
    assert_eq!(proxy.count("frames_binary"), 2);
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
fn a_steady_stream_of_calls_never_stalls() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let mut client = proxy.client(&format!("CP{number}"));
            std::thread::spawn(move || {
                for call in 0..1500 {
                    let payload = format!("{{\"n\":{call}}}");
                    client.send_call(&format!("m{call}"), "Echo", &payload);
                    client.expect(&format!("[3,\"m{call}\",{payload}]"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(backend.seen("/call").len(), 8 * 1500);
}
