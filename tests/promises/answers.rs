//! A client gets a CallResult or a CallError for what the backend answers, row by row of the table: `answer-1` to
//! `answer-11`.

use support::{Backend, Proxy, Response, json};

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
fn a_call_that_the_backend_does_not_answer_in_time_gets_internal_error() {
    let backend = Backend::start();
    let gate = backend.hold("/call/Slow", |_| Response::json("{\"late\":true}"));
    let proxy = Proxy::with(&backend).set("call_timeout", "200ms").start();
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Slow", "{}");
    assert!(client.expect_error("m1", "InternalError").contains("in time"));
    // The late answer is nobody's: not this Call's, and not the next one's with the same id.
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
fn a_byte_order_mark_of_the_backend_is_ignored() {
    let backend = Backend::start();
    backend.on("/connect", |_| Response::json("\u{feff}\"ok\""));
    backend.on("/call/Good", |_| Response::json("\u{feff}{\"a\": 1}"));
    backend.on("/call/Bad", |_| Response::new(500, "\u{feff}{\"code\":\"X\"}"));
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    client.send_call("m1", "Good", "{}");
    client.expect("[3,\"m1\",{\"a\": 1}]");
    client.send_call("m2", "Bad", "{}");
    client.expect_error("m2", "X");
    proxy.push("CP1", "Reset", "p1", "\u{feff}{}").expect(202);
    client.expect("[2,\"p1\",\"Reset\",{}]");
}
