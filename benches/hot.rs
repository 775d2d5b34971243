//! The pure pieces that every CALL passes: split the frame, write the request, read the answer, build the frame.
//!
//! `cargo bench --bench hot`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ws2api::http::{RequestTemplate, parse_request, parse_response, whole_body};
use ws2api::protocol::answer::{Answer, Reply, map};
use ws2api::protocol::{Subprotocol, frame};

const DEPTH_MAX: usize = 128;

fn call(payload_len: usize) -> String {
    let padding = "x".repeat(payload_len.saturating_sub(r#"{"k":""}"#.len()));
    format!(r#"[2,"c1f2a7de-0b51-4e7b-9a53-0d3b7f1a2b3c","MeterValues",{{"k":"{padding}"}}]"#)
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for payload_len in [64, 1024] {
        let text = call(payload_len);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("split a CALL, payload of {payload_len} B"), |bencher| {
            bencher.iter(|| frame::split(black_box(&text), Subprotocol::Ocpp16, DEPTH_MAX).is_ok());
        });
    }
    let payload = br#"{"currentTime":"2026-01-01T00:00:00Z"}"#;
    group.bench_function("answer and build a CALLRESULT", |bencher| {
        bencher.iter(|| {
            let answer = Answer::Response {
                status: 200,
                deferred: false,
                content: black_box(payload),
            };
            match map(answer, Subprotocol::Ocpp16, DEPTH_MAX) {
                Reply::Result(payload) => frame::build_call_result("\"c1f2a7de-0b51\"", payload),
                _ => unreachable!("a 200 with an object is a result"),
            }
        });
    });
    group.finish();
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http");
    let template = RequestTemplate::new("127.0.0.1:5000", "");
    let headers = [
        ("X-Client-Id", "CP1"),
        ("X-Connection-Id", "deadbeef00100000004d"),
        ("X-Subprotocol", "ocpp1.6"),
    ];
    let mut request = Vec::new();
    group.bench_function("write a request", |bencher| {
        bencher.iter(|| {
            request.clear();
            template.write(
                &mut request,
                &["/call/", "Heartbeat", "/", "CP1", "/", "1"],
                &headers,
                b"{}",
            );
            black_box(request.len())
        });
    });
    let response = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nContent-Length: 38\r\n\r\n\
                     {\"currentTime\":\"2026-01-01T00:00:00Z\"}";
    group.bench_function("read an answer", |bencher| {
        bencher.iter(|| {
            let head = parse_response(black_box(response), 8192)
                .ok()
                .flatten()
                .expect("a whole head");
            whole_body(head.framing, &response[head.len..]).map(<[u8]>::len)
        });
    });
    let push = b"POST /call/Reset/CP1/p1 HTTP/1.1\r\nHost: 127.0.0.1:4001\r\nContent-Type: application/json\r\n\
                 Content-Length: 15\r\n\r\n{\"type\":\"Soft\"}";
    group.bench_function("read a push's head", |bencher| {
        bencher.iter(|| parse_request(black_box(push), 8192).is_ok());
    });
    group.finish();
}

criterion_group!(hot, frames, heads);
criterion_main!(hot);
