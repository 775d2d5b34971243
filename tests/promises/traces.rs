//! A trace goes through the systems: a push's goes on with its outcome, a sampled Call begins one: `trace-1` to `trace-4`.

use std::collections::HashSet;

use support::http::call_target;
use support::{Backend, Proxy, Request, Response, Value, eventually, parse};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A push with these headers; its status.
#[track_caller]
fn push(proxy: &Proxy, message_id: &str, headers: &[(&str, &str)]) -> u16 {
    let headers = [&[("Content-Type", "application/json")], headers].concat();
    let target = call_target("CP1", "Reset", message_id);
    proxy.http().request("POST", &target, &headers, "{}").status
}

fn trace_of(request: &Request) -> Option<&str> {
    assert!(request.head.count("traceparent") <= 1, "{request:?}");
    request.header("traceparent")
}

#[test]
fn a_pushs_trace_goes_on_with_its_outcome() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).set("push_timeout", "500ms").start();
    let mut client = proxy.client("CP1");
    let traced = [("traceparent", TRACE)];
    assert_eq!(push(&proxy, "result", &traced), 202);
    client.text();
    client.send_result("result", "{}");
    assert_eq!(trace_of(&backend.take("/result/Reset/CP1/result")), Some(TRACE));
    assert_eq!(push(&proxy, "error", &traced), 202);
    client.text();
    client.send("[4,\"error\",\"X\",\"\",{}]");
    assert_eq!(trace_of(&backend.take("/error/Reset/CP1/error")), Some(TRACE));
    assert_eq!(push(&proxy, "timeout", &traced), 202);
    client.text();
    assert_eq!(trace_of(&backend.take("/error/Reset/CP1/timeout")), Some(TRACE));
    // One that waits has no post of its own, unless whoever waits has gone.
    let mut http = proxy.http();
    let headers = [
        ("Content-Type", "application/json"),
        ("Prefer", "wait=30"),
        ("traceparent", TRACE),
    ];
    http.send_request("POST", &call_target("CP1", "Reset", "waited"), &headers, "{}");
    client.text();
    drop(http);
    eventually("the end of the wait to be seen", || {
        // On whichever shard it was: its connection is gone.
        let open: f64 = proxy.metric("ingress_connections").iter().sum();
        (open == 0.0).then_some(())
    });
    client.send_result("waited", "{}");
    assert_eq!(trace_of(&backend.take("/result/Reset/CP1/waited")), Some(TRACE));
    // Those without one have none, also behind one that had one.
    assert_eq!(push(&proxy, "plain", &[]), 202);
    client.text();
    client.send_result("plain", "{}");
    assert_eq!(trace_of(&backend.take("/result/Reset/CP1/plain")), None);
}

#[test]
fn a_push_that_moves_to_the_next_connection_keeps_its_trace() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut first = proxy.client("CP1");
    assert_eq!(push(&proxy, "sent", &[("traceparent", TRACE)]), 202);
    assert_eq!(push(&proxy, "waits", &[("traceparent", TRACE)]), 202);
    first.text();
    let mut second = proxy.client("CP1");
    assert_eq!(trace_of(&backend.take("/error/Reset/CP1/sent")), Some(TRACE));
    second.text();
    second.send_result("waits", "{}");
    assert_eq!(trace_of(&backend.take("/result/Reset/CP1/waits")), Some(TRACE));
}

#[test]
fn a_malformed_trace_is_dropped_and_the_push_is_not() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = proxy.client("CP1");
    let upper = TRACE.to_uppercase();
    let zero = TRACE.replace(TRACE_ID, &"0".repeat(32));
    let later = TRACE.replacen("00", "01", 1) + "-more";
    let cases = [
        (&[("traceparent", "nonsense")][..], None),
        (&[("traceparent", &upper)], None),
        (&[("traceparent", &zero)], None),
        (&[("traceparent", TRACE), ("traceparent", TRACE)], None),
        (&[("traceparent", &later)], Some(TRACE)),
        (&[("Traceparent", TRACE)], Some(TRACE)),
    ];
    for (number, (headers, expected)) in cases.into_iter().enumerate() {
        let id = format!("m{number}");
        assert_eq!(push(&proxy, &id, headers), 202);
        client.text();
        client.send_result(&id, "{}");
        let outcome = backend.take(&format!("/result/Reset/CP1/{id}"));
        assert_eq!(trace_of(&outcome), expected, "{headers:?}");
    }
}

#[test]
fn a_sampled_call_begins_a_trace_and_others_have_none() {
    let traces = |ratio: &str| -> Vec<Option<String>> {
        let backend = Backend::start();
        let proxy = Proxy::with(&backend).shards(2).set("trace_sampled", ratio).start();
        let mut clients = ["CP1", "CP2", "CP3", "CP4"].map(|id| proxy.client(id));
        for number in 0..50 {
            clients.iter_mut().for_each(|client| client.call(number));
        }
        let calls = backend.seen("/call");
        assert_eq!(calls.len(), 200);
        assert!(
            backend
                .seen("/connect")
                .iter()
                .all(|request| trace_of(request).is_none())
        );
        calls.iter().map(|call| trace_of(call).map(str::to_owned)).collect()
    };
    assert!(traces("0").iter().all(Option::is_none));
    let all = traces("1");
    let ids: HashSet<&str> = all
        .iter()
        .map(|trace| &trace.as_ref().expect("every Call has one")[3..35])
        .collect();
    assert_eq!(ids.len(), 200, "each its own");
    for trace in all.iter().flatten() {
        let fields: Vec<&str> = trace.split('-').collect();
        let lens: Vec<usize> = fields.iter().map(|field| field.len()).collect();
        assert_eq!(
            (lens.as_slice(), fields[0], fields[3]),
            (&[2, 32, 16, 2][..], "00", "01"),
            "{trace}"
        );
    }
    let some = traces("0.5").iter().flatten().count();
    assert!((40..160).contains(&some), "{some} of 200");
}

#[test]
fn lines_of_the_log_carry_the_trace() {
    let backend = Backend::start();
    backend.on("/call/Bad", |_| Response::new(500, ""));
    backend.on("/call/No", |_| Response::new(404, ""));
    backend.on("/result", |_| Response::new(422, ""));
    let proxy = Proxy::with(&backend)
        .arg("--log=json")
        .set("pushes_queued", "0")
        .set("trace_sampled", "1")
        .start();
    let mut client = proxy.client("CP1");
    let line = |kind: &str| -> Value {
        eventually(kind, || {
            let log = proxy.stderr();
            let lines = log.lines().map(parse);
            lines.into_iter().find(|line| line["kind"] == kind)
        })
    };
    assert_eq!(push(&proxy, "p1", &[]), 202);
    assert_eq!(push(&proxy, "p2", &[("traceparent", TRACE)]), 429);
    let refused = line("pushes_queued");
    assert_eq!(
        (&refused["trace_id"], &refused["message_id"]),
        (&TRACE_ID.into(), &"p2".into())
    );
    client.text();
    client.send_result("p1", "{}");
    assert_eq!(line("refused")["trace_id"], Value::Null, "it had none");
    for action in ["No", "Bad"] {
        client.send_call(action, action, "{}");
        client.text();
    }
    let failed = line("traced_call");
    let call = backend.take("/call/Bad");
    assert_eq!(failed["trace_id"].as_str(), trace_of(&call).map(|trace| &trace[3..35]));
    assert_eq!((&failed["action"], &failed["client"]), (&"Bad".into(), &"CP1".into()));
}
