//! Tests bad frames, a client that is silent, shutdown, and the bound in bytes.

use super::*;

#[test]
fn bad_frames_are_answered_as_the_version_wants_it() {
    for (text, ocpp16, others) in [
        ("nonsense", None, Some("[4,\"-1\",\"RpcFrameworkError\"")),
        ("[2,5,\"A\",{}]", None, Some("[4,\"-1\",\"RpcFrameworkError\"")),
        (
            "[2,\"a\",5,{}]",
            Some("[4,\"a\",\"FormationViolation\""),
            Some("[4,\"a\",\"FormatViolation\""),
        ),
        (
            "[2,\"a\",\"A\",[[",
            Some("[4,\"a\",\"FormationViolation\""),
            Some("[4,\"a\",\"FormatViolation\""),
        ),
        ("[3,\"x\"]", None, None),
        ("[3,\"x\",{}]", None, None),
        ("[4,\"x\",5]", None, None),
        ("[77]", None, None),
        ("", None, None),
    ] {
        for subprotocol in [
            Subprotocol::Ocpp16,
            Subprotocol::Ocpp201,
            Subprotocol::Ocpp21,
            Subprotocol::None,
        ] {
            let expected = if subprotocol == Subprotocol::Ocpp16 {
                ocpp16
            } else {
                others
            };
            let out = Conversation::new(subprotocol).says(text);
            assert!(out[0].starts_with("count "), "never silent: {text}");
            assert_eq!(out.len(), 1 + usize::from(expected.is_some()), "{text}: {out:?}");
            if let Some(expected) = expected {
                assert!(out[1].starts_with(expected), "{text}: {out:?}");
                let valid: Result<serde_json::Value, _> = serde_json::from_str(&out[1]);
                assert!(valid.is_ok(), "{out:?}");
            }
        }
    }
}

#[test]
fn the_twentieth_bad_frame_in_a_row_closes_and_a_good_one_starts_anew() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    let bad = |client: &mut Conversation, count: usize| {
        (0..count)
            .flat_map(|_| client.says("x"))
            .filter(|out| out.starts_with("close"))
            .collect::<Vec<_>>()
    };
    assert!(bad(&mut client, 19).is_empty());
    client.says(r#"[3,"late",{}]"#);
    assert!(
        bad(&mut client, 19).is_empty(),
        "an unmatched answer is still a good frame"
    );
    client.says("[99]");
    client.says("");
    assert_eq!(
        bad(&mut client, 1),
        ["close 1008 too many bad frames"],
        "what is ignored is neither good nor bad"
    );
    assert!(
        client.says(r#"[2,"a","A",{}]"#).is_empty(),
        "nothing comes out after the close"
    );
    assert_eq!(client.deadline(), None);
}

#[test]
fn the_closing_frame_is_still_answered_where_the_version_answers() {
    let mut client = Conversation::with(
        Subprotocol::Ocpp201,
        Limits {
            bad_frames_max: 1,
            ..limits()
        },
    );
    let out = client.says("x");
    assert_eq!(out.len(), 4, "{out:?}");
    assert!(out[1].starts_with("[4,\"-1\"") && out[3].starts_with("close 1008"));
}

#[test]
fn messages_that_are_no_text_close() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.session.handle_binary(&mut client.out);
    assert_eq!(client.shown(), ["count FrameBinary", "close 1003 text messages only"]);
    client.session.handle_binary(&mut client.out);
    assert!(client.shown().is_empty(), "once");
}

#[test]
fn a_shutdown_ends_what_waits_and_lets_the_rest_finish() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.says(r#"[2,"x","A",{}]"#);
    client.pushed("a").expect("room");
    client.pushed("b").expect("room");
    client.shown();
    client.session.handle_shutdown(client.now, &mut client.out);
    let out = client.shown();
    assert_eq!(out.len(), 1);
    assert!(out[0].starts_with("/error/Reset/b") && out[0].contains("Shutdown") && out[0].contains("\"sent\":false"));
    assert_eq!(client.pushed("c"), Err(PushRefusal::Ending));
    assert_eq!(client.says(r#"[3,"a",{}]"#), ["/result/Reset/a {}"]);
    assert_eq!(client.answered(0, 200, "{}"), [r#"[3,"x",{}]"#]);
    assert_eq!(
        client.says(r#"[2,"y","A",{}]"#),
        ["call 2 A y {}"],
        "until it is closed"
    );
}

#[test]
fn a_silent_client_is_pinged_and_then_dropped() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    assert_eq!(client.deadline(), Some(60));
    assert!(client.after(59).is_empty());
    assert_eq!(client.after(60), ["ping"]);
    assert_eq!(client.deadline(), Some(120));
    client.now = client.start + Duration::from_secs(61);
    client.session.handle_heard(client.now);
    assert_eq!(client.deadline(), Some(121), "a pong counts");
    assert_eq!(client.after(121), ["ping"]);
    client.pushed("a").expect("room");
    client.shown();
    assert!(client.after(180).is_empty());
    assert_eq!(client.after(181), ["drop"]);
    assert_eq!(client.deadline(), None);
    assert_eq!(client.pushed("b"), Err(PushRefusal::Ending));
    assert_eq!(
        client.ends(FailReason::Disconnected).1.len(),
        1,
        "the outcome of the push"
    );
}

#[test]
fn after_a_stopped_clock_a_client_still_gets_its_ping() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    assert_eq!(client.after(1_000), ["ping"]);
    assert_eq!(client.deadline(), Some(1_060));
    assert_eq!(client.after(1_060), ["drop"]);
}

#[test]
fn silence_means_nothing_while_the_socket_is_not_read() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    for id in ["a", "b", "c"] {
        client.says(&format!("[2,\"{id}\",\"A\",{{}}]"));
    }
    assert!(!client.session.wants_read());
    assert_eq!(client.deadline(), None);
    assert!(client.after(500).is_empty());
    client.answered(0, 200, "{}");
    assert_eq!(
        client.deadline(),
        Some(560),
        "it counts from the moment of reading again"
    );
}

#[test]
fn pings_are_spread_over_the_last_quarter() {
    let start = Instant::now();
    let mut last = None;
    for spread in [0, 1 << 30, 1 << 31, 3 << 30, u32::MAX] {
        let session = Session::new(Subprotocol::None, Rc::new(limits()), spread, start);
        let after = session.next_deadline().expect("a ping") - start;
        assert!(
            after <= Duration::from_secs(60) && after >= Duration::from_secs(45),
            "{after:?}"
        );
        assert!(last.is_none_or(|last| after < last));
        last = Some(after);
    }
    let never = Limits {
        ping_after: Duration::MAX,
        dead_after: Duration::MAX,
        ..limits()
    };
    for spread in [0, u32::MAX] {
        let session = Session::new(Subprotocol::None, Rc::new(never.clone()), spread, start);
        assert!(
            session
                .next_deadline()
                .is_none_or(|deadline| deadline - start > Duration::from_secs(1 << 30))
        );
    }
}

#[test]
fn a_frame_that_has_left_lends_its_memory_to_the_next() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    let mut frame = String::with_capacity(4096);
    frame.push_str("what was sent before");
    let memory = frame.as_ptr();
    client.out.recycle(frame.into_bytes());
    client.says(r#"[2,"a","A",{}]"#);
    let answer = Answer::Response {
        status: 200,
        deferred: false,
        content: b"{}",
    };
    client
        .session
        .handle_answer(client.now, CallKey(0), answer, &mut client.out);
    match client.out.pop() {
        Some(Output::Send { frame, .. }) => assert_eq!((&*frame, frame.as_ptr()), (r#"[3,"a",{}]"#, memory)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn odd_json_passes_byte_for_byte_both_ways() {
    let payloads = [
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\ud83d\ude00\u0000\/\"\\"}"#,
        r#"{"n":1e999,"m":-0.0E-999}"#,
        r#"{"n":1234567890123456789012345678901234567890123456789012345678901234}"#,
        r#"{"a":1,"a":2,"":{}}"#,
        "{ \"a\"\t:\r\n[ 1 , { } , [ ] ] }",
        "{\"ü\":\"😀\u{7f}\u{2028}\"}",
        r#"{"a":[[[[[[]]]]]]}"#,
    ];
    for payload in payloads {
        let mut client = Conversation::new(Subprotocol::Ocpp16);
        assert_eq!(
            client.says(&format!(" [ 2 , \"a\" , \"A\" , {payload} ] ")),
            [format!("call 0 A a {payload}")]
        );
        assert_eq!(client.answered(0, 200, payload), [format!("[3,\"a\",{payload}]")]);
        let push = Push {
            payload: payload.into(),
            ..push("p", None)
        };
        client
            .session
            .handle_push(client.now, push, &mut client.out)
            .expect("room");
        assert_eq!(client.shown(), [format!("push 1 [2,\"p\",\"Reset\",{payload}]")]);
        assert_eq!(
            client.says(&format!("[3,\"p\",{payload}]")),
            [format!("/result/Reset/p {payload}")]
        );
    }
}

#[test]
fn a_client_ahead_of_its_pace_is_not_read_until_it_may_go_on() {
    let limits = Limits {
        calls_per_second_max: 2,
        calls_queued: 100,
        ..limits()
    };
    let mut client = Conversation::with(Subprotocol::Ocpp21, limits);
    // As many as in a second at once, of Calls and SENDs; what else it says costs nothing.
    client.says("[2,\"a\",\"A\",{}]");
    client.says("[3,\"x\",{}]");
    assert!(client.session.wants_read());
    client.says("[6,\"b\",\"A\",{}]");
    assert!(!client.session.wants_read());
    let until =
        |client: &Conversation| (client.session.next_deadline().expect("a deadline") - client.start).as_millis();
    assert_eq!(until(&client), 500);
    let pass = |client: &mut Conversation, millis| {
        client.now = client.start + Duration::from_millis(millis);
        client.session.handle_deadline(client.now, &mut client.out);
        client.session.wants_read()
    };
    assert!(!pass(&mut client, 499) && pass(&mut client, 500));
    // One more, then again.
    client.says("[2,\"c\",\"A\",{}]");
    assert!(!client.session.wants_read());
    assert_eq!(until(&client), 1000);
    // The backend's answer does not make it faster.
    client.answered(0, 200, "{}");
    assert!(!client.session.wants_read());
    assert!(pass(&mut client, 1000));
    // Who was quiet has saved a second, and no more; silence while it is not read is not held against it.
    assert!(pass(&mut client, 50_000));
    for id in ["d", "e"] {
        assert!(client.session.wants_read());
        client.says(&format!("[2,\"{id}\",\"A\",{{}}]"));
    }
    assert!(!client.session.wants_read());
    assert!(pass(&mut client, 50_500));
    assert_eq!(client.deadline(), Some(110), "a ping");
}

#[test]
fn what_goes_to_and_fro_is_counted() {
    let mut client = Conversation::new(Subprotocol::Ocpp21);
    assert_eq!(client.session.traffic(), Traffic::default());
    let call = "[2,\"a\",\"A\",{}]";
    client.says(call);
    let answer = &client.answered(0, 200, "{}")[0];
    client.pushed("p").expect("it is accepted");
    let push = client.shown()[0].strip_prefix("push 1 ").expect("a push").to_owned();
    client.says("[3,\"p\",{}]");
    client.says("[6,\"s\",\"A\",{}]");
    let refused = client.says("nonsense")[1].clone();
    client.says("");
    let words = [call, "[3,\"p\",{}]", "[6,\"s\",\"A\",{}]", "nonsense", ""];
    let expected = Traffic {
        bytes_in: words.iter().map(|text| text.len() as u64).sum(),
        bytes_out: (answer.len() + push.len() + refused.len()) as u64,
        frames_in: 5,
        frames_out: 3,
        calls: 2,
        pushes: 1,
        bad_frames: 1,
    };
    assert_eq!(client.session.traffic(), expected);
    client.after(7);
    assert_eq!(client.session.silent_for(client.now).as_secs(), 7);
}
