//! Tests a client's Calls, deferred ones, and OCPP 2.1's SEND and CallResultError.

use super::*;

#[test]
fn calls_go_to_the_backend_one_at_a_time_in_the_order_of_arrival() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    assert_eq!(client.says(r#"[2,"a","A",{"x": 1}]"#), [r#"call 0 A a {"x": 1}"#]);
    assert!(client.says(r#"[2,"b","B",{}]"#).is_empty());
    assert!(client.session.wants_read());
    assert!(client.says(r#"[2,"c","C",{}]"#).is_empty());
    assert!(!client.session.wants_read(), "the queue is full");
    assert_eq!(
        client.answered(0, 200, "{\"r\":1}"),
        [r#"[3,"a",{"r":1}]"#, "call 1 B b {}"]
    );
    assert!(client.session.wants_read());
    assert_eq!(client.answered(1, 500, "")[1], "call 2 C c {}");
    assert_eq!(client.answered(2, 204, ""), [r#"[3,"c",{}]"#]);
    assert_eq!(client.session.pending(), Pending::default());
}

#[test]
fn with_more_in_flight_answers_go_out_as_they_come() {
    let mut client = Conversation::with(
        Subprotocol::None,
        Limits {
            calls_in_flight: 2,
            ..limits()
        },
    );
    client.says(r#"[2,"a","A",{}]"#);
    assert_eq!(client.says(r#"[2,"b","B",[1]]"#), ["call 1 B b [1]"]);
    client.says(r#"[2,"c","C",{}]"#);
    assert_eq!(client.answered(1, 200, "1"), [r#"[3,"b",1]"#, "call 2 C c {}"]);
    assert_eq!(client.answered(0, 200, "0"), [r#"[3,"a",0]"#]);
}

#[test]
fn a_call_beyond_the_queue_is_refused_and_the_others_stay() {
    let mut client = Conversation::new(Subprotocol::Ocpp201);
    for id in ["a", "b", "c"] {
        client.says(&format!("[2,\"{id}\",\"A\",{{}}]"));
    }
    let out = client.says(r#"[2,"d","A",{}]"#);
    assert_eq!(
        out,
        ["count CallShed", r#"[4,"d","InternalError","too many Calls wait",{}]"#]
    );
    assert_eq!(client.session.pending().calls_queued, 2);
}

#[test]
fn ids_that_are_numbers_are_compared_as_numbers() {
    let limits = Limits {
        number_ids: true,
        ..limits()
    };
    let mut client = Conversation::with(Subprotocol::Ocpp16, limits);
    assert_eq!(client.says(r#"[2,7,"A",{}]"#), ["call 0 A 7 {}"]);
    assert_eq!(client.says(r#"[2,7,"A",{}]"#), ["count CallCoalesced"]);
    assert_eq!(client.answered(0, 204, ""), ["[3,7,{}]"]);
    assert_eq!(client.says(r#"[2,1234,"A",{}]"#), ["call 2 A 1234 {}"]);
    assert_eq!(client.says(r#"[2,1234,"B",{}]"#)[0], "count CallRepeatedId");
    assert!(client.says(r#"[2,"23","A",{}]"#).is_empty(), "another id: it waits");
}

#[test]
fn a_clients_answers_never_wait_behind_its_calls() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.says(r#"[2,"a","A",{}]"#);
    assert_eq!(client.pushed("p"), Ok(Accepted::Sent));
    assert_eq!(client.shown(), [r#"push 1 [2,"p","Reset",{"a": 1e999}]"#]);
    assert_eq!(client.says(r#"[3,"p",{ "ok" :1}]"#), [r#"/result/Reset/p { "ok" :1}"#]);
    assert_eq!(client.session.pending().calls_in_flight, 1);
}

#[test]
fn an_identical_call_is_coalesced_and_another_with_its_id_refused() {
    for (subprotocol, code) in [
        (Subprotocol::Ocpp16, "GenericError"),
        (Subprotocol::Ocpp201, "RpcFrameworkError"),
        (Subprotocol::None, "RpcFrameworkError"),
    ] {
        let mut client = Conversation::new(subprotocol);
        client.says(r#"[2,"a","A",{}]"#);
        client.says(r#"[2,"b","B",{}]"#);
        for frame in [r#"[2,"a","A",{}]"#, r#"[2,"b","B",{}]"#] {
            assert_eq!(client.says(frame), ["count CallCoalesced"], "in flight and queued");
        }
        // The same value in other bytes is another frame; the same id in other bytes is the same id.
        for (frame, raw_id) in [
            (r#"[2,"a","A",{} ]"#, "\"a\""),
            (r#"[2,"\u0062","B",{}]"#, "\"\\u0062\""),
        ] {
            let refused = format!("[4,{raw_id},\"{code}\",\"another Call with this MessageId is open\",{{}}]");
            assert_eq!(client.says(frame), ["count CallRepeatedId", &refused]);
        }
        assert_eq!(client.answered(0, 200, "{}").len(), 2, "one answer, one request");
        assert_eq!(client.answered(1, 200, "{}").len(), 1);
    }
}

#[test]
fn an_id_is_free_again_after_its_answer() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.says(r#"[2,"a","A",{}]"#);
    client.answered(0, 200, "{}");
    assert_eq!(client.says(r#"[2,"a","A",{}]"#), ["call 1 A a {}"]);
}

#[test]
fn the_id_is_echoed_as_the_client_wrote_it_and_decoded_for_the_backend() {
    let mut client = Conversation::new(Subprotocol::Ocpp21);
    assert_eq!(client.says(r#"[2,"\u00e9\"","\u0041",{}]"#), ["call 0 A é\" {}"]);
    assert_eq!(client.answered(0, 200, "{}"), [r#"[3,"\u00e9\"",{}]"#]);
}

#[test]
fn a_deferred_call_is_answered_later_or_at_its_deadline() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.says(r#"[2,"a","A",{}]"#);
    client.says(r#"[2,"b","A",{}]"#);
    assert!(client.deferred(0).is_empty());
    assert_eq!(
        client.session.pending(),
        Pending {
            calls_in_flight: 1,
            calls_deferred: 1,
            calls_queued: 1,
            ..Pending::default()
        }
    );
    assert_eq!(client.deadline(), Some(25));
    assert_eq!(
        client.late("b", "{}"),
        Err(DeferredRefusal::NoneOpen),
        "that one has not been asked yet"
    );
    assert_eq!(
        client.late_to("B", "a", "{}"),
        Err(DeferredRefusal::NoneOpen),
        "that is another Call"
    );
    assert_eq!(
        client.late("a", "{\"r\":1}").expect("open"),
        [r#"[3,"a",{"r":1}]"#, "call 1 A b {}"]
    );
    assert_eq!(client.late("a", "{}"), Err(DeferredRefusal::Answered));
    assert_eq!(client.late("x", "{}"), Err(DeferredRefusal::NoneOpen));
    client.after(1);
    client.deferred(1);
    assert!(client.after(24).is_empty());
    let out = client.after(25);
    assert_eq!(
        out,
        [
            "count CallDeferredTimeout",
            r#"[4,"b","InternalError","the backend did not answer in time",{}]"#
        ]
    );
    assert_eq!(
        client.late("b", "{}"),
        Err(DeferredRefusal::Answered),
        "by its deadline"
    );
}

#[test]
fn a_worker_may_be_faster_than_its_202() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.says(r#"[2,"a","A",{}]"#);
    client.says(r#"[2,"b","A",{}]"#);
    assert_eq!(
        client.late("a", "{}").expect("open"),
        [r#"[3,"a",{}]"#],
        "the next still waits for the response"
    );
    assert_eq!(client.late("a", "{}"), Err(DeferredRefusal::Answered));
    assert_eq!(client.deferred(0), ["call 1 A b {}"]);
    client.late("b", "{}").expect("open");
    assert_eq!(
        client.answered(1, 200, "{}"),
        ["count BackendAnswerDropped"],
        "it was answered already"
    );
}

#[test]
fn answered_deferrals_are_remembered_but_not_for_ever() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    for key in 0..6 {
        client.says(&format!("[2,\"{key}\",\"A\",{{}}]"));
        client.deferred(key);
        client.late(&key.to_string(), "{}").expect("open");
    }
    assert_eq!(client.late("5", "{}"), Err(DeferredRefusal::Answered));
    assert_eq!(client.late("0", "{}"), Err(DeferredRefusal::NoneOpen), "bounded");
}

#[test]
fn an_answer_for_a_client_that_has_gone_is_counted() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.says(r#"[2,"a","A",{}]"#);
    client.says(r#"[2,"b","A",{}]"#);
    assert_eq!(
        client.ends(FailReason::Disconnected).1,
        ["count CallDropped"],
        "what waited is never sent"
    );
    assert_eq!(client.answered(0, 200, "{}"), ["count BackendAnswerDropped"]);
    assert_eq!(client.late("a", "{}"), Err(DeferredRefusal::NoneOpen));
}

#[test]
fn ocpp_2_1_sends_and_reports_results_it_cannot_use() {
    let mut client = Conversation::new(Subprotocol::Ocpp21);
    assert_eq!(
        client.says(r#"[6,"s","NotifyPeriodicEventStream",{"a": 1}]"#),
        [r#"/send/NotifyPeriodicEventStream/s {"a": 1}"#]
    );
    client.says(r#"[2,"a","BootNotification",{}]"#);
    assert_eq!(
        client.says(r#"[5,"a","X","",{}]"#),
        ["count AnswerUnmatched"],
        "not answered yet"
    );
    client.answered(0, 200, "{}");
    client.says(r#"[2,"b","Heartbeat",{}]"#);
    let out = client.says(r#"[5,"a","FormatViolation","d",{"x": 1}]"#);
    assert_eq!(
        out,
        [r#"/resulterror/BootNotification/a {"code":"FormatViolation","description":"d","details":{"x": 1}}"#]
    );
    assert_eq!(client.says(r#"[5,"a","X","",{}]"#), ["count AnswerUnmatched"], "once");
    client.answered(1, 500, "");
    assert_eq!(
        client.says(r#"[5,"b","X","",{}]"#),
        ["count AnswerUnmatched"],
        "a CallError is no result"
    );
    for subprotocol in [Subprotocol::None, Subprotocol::Ocpp16, Subprotocol::Ocpp201] {
        let mut client = Conversation::new(subprotocol);
        assert_eq!(client.says(r#"[6,"s","A",{}]"#), ["count FrameIgnored"]);
        assert_eq!(client.says(r#"[5,"s","A","",{}]"#), ["count FrameIgnored"]);
    }
}

#[test]
fn calls_that_wait_are_bounded_in_bytes_too() {
    let limits = || Limits {
        calls_queued: 10,
        queued_len_max: 40,
        ..limits()
    };
    let mut client = Conversation::with(Subprotocol::None, limits());
    client.says(r#"[2,"a","A",{"x":"longer than all that may wait, but it does not"}]"#);
    assert!(client.session.wants_read());
    client.says(r#"[2,"b","B",{"x":"less than half"}]"#);
    assert!(client.session.wants_read());
    client.says(r#"[2,"c","C",{"x":"that makes it"}]"#);
    assert!(!client.session.wants_read());
    client.answered(0, 204, "");
    assert!(client.session.wants_read());
    // One alone may be longer.
    client.answered(1, 204, "");
    client.says(r#"[2,"d","D",{"x":"longer than all that may wait, and waits"}]"#);
    assert!(!client.session.wants_read());
    assert_eq!(client.answered(2, 204, "")[0], r#"[3,"c",{}]"#);
    assert!(client.session.wants_read());
}
