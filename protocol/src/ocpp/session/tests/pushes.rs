//! Tests the backend's pushes and their outcomes.

use super::*;

#[test]
fn pushes_are_first_in_first_out_and_bounded() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    assert_eq!(client.pushed("a"), Ok(Accepted::Sent));
    assert_eq!(client.pushed("b"), Ok(Accepted::Queued));
    assert_eq!(client.pushed("a"), Err(PushRefusal::Pending));
    assert_eq!(client.pushed("b"), Err(PushRefusal::Pending));
    assert_eq!(client.pushed("c"), Ok(Accepted::Queued));
    assert_eq!(client.pushed("d"), Err(PushRefusal::Full));
    assert_eq!(client.pushed(&"x".repeat(37)), Err(PushRefusal::MessageId));
    client.shown();
    let out = client.says(r#"[4,"a","NotSupported","no",{"b": 1}]"#);
    assert_eq!(
        out[0],
        r#"/error/Reset/a {"code":"NotSupported","description":"no","details":{"b": 1}}"#
    );
    assert_eq!(out[1], r#"push 1 [2,"b","Reset",{"a": 1e999}]"#);
    assert_eq!(
        client.says(r#"[4,"b","X"]"#)[0],
        r#"/error/Reset/b {"code":"X","description":"","details":{}}"#
    );
    assert_eq!(
        client.says(r#"[3,"b",{}]"#),
        ["count AnswerUnmatched"],
        "the second answer"
    );
    assert_eq!(client.says(r#"[3,"c",null]"#), ["/result/Reset/c {}"]);
}

#[test]
fn an_answer_to_a_push_that_waits_answers_nothing() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.pushed("a").expect("room");
    client.pushed("b").expect("room");
    client.shown();
    assert_eq!(client.says(r#"[3,"b",{}]"#), ["count AnswerUnmatched"]);
}

#[test]
fn the_time_of_a_push_counts_from_when_it_was_written() {
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    client.pushed("a").expect("room");
    client.pushed("b").expect("room");
    client.shown();
    assert_eq!(client.deadline(), Some(60), "only the ping's");
    client.after(20);
    client.written(0);
    assert_eq!(client.deadline(), Some(50));
    assert!(client.after(49).is_empty());
    let out = client.after(50);
    let body = r#"{"code":"Timeout","description":"the client did not answer in time","details":{"sent":true}}"#;
    assert_eq!(
        out,
        [
            "count PushTimeout",
            &format!("/error/Reset/a {body} from here"),
            r#"push 1 [2,"b","Reset",{"a": 1e999}]"#
        ]
    );
    assert_eq!(client.says(r#"[3,"a",{}]"#), ["count AnswerUnmatched"], "late");
    assert!(client.written(0).is_empty(), "reported once more: of nobody");
    assert_eq!(
        client.says(r#"[3,"b",{}]"#).len(),
        1,
        "answered before it was reported written"
    );
    assert!(client.written(1).is_empty());
    assert_eq!(client.session.pending(), Pending::default());
}

#[test]
fn a_waiting_request_is_told_in_the_place_of_a_post() {
    let waiter = Waiter {
        process: 2,
        shard: 3,
        token: 7,
        ..Waiter::default()
    };
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    for id in ["a", "b", "c"] {
        client
            .session
            .handle_push(client.now, push(id, Some(waiter)), &mut client.out)
            .expect("room");
    }
    client.shown();
    assert_eq!(client.says(r#"[3,"a",{"r":1}]"#)[0], r#"tell 7 a Result(b"{\"r\":1}")"#);
    let (_, out) = client.ends(FailReason::Disconnected);
    assert_eq!(
        out,
        [
            "tell 7 b Failed { reason: Disconnected, sent: true }",
            "tell 7 c Failed { reason: Disconnected, sent: false }"
        ]
    );
}

#[test]
fn a_wait_that_is_over_withdraws_what_was_not_sent_and_only_that() {
    let waiter = Waiter {
        process: 2,
        shard: 3,
        token: 7,
        ..Waiter::default()
    };
    let mut client = Conversation::new(Subprotocol::Ocpp16);
    for id in ["a", "b"] {
        client
            .session
            .handle_push(client.now, push(id, Some(waiter)), &mut client.out)
            .expect("room");
    }
    client.shown();
    let id = |text| MessageId::parse(text).expect("an id");
    let other = Waiter { token: 8, ..waiter };
    assert_eq!(
        client.session.handle_wait_over(&id("b"), other),
        WaitOver::Ended,
        "not its"
    );
    assert_eq!(client.session.handle_wait_over(&id("b"), waiter), WaitOver::Withdrawn);
    assert_eq!(client.session.handle_wait_over(&id("b"), waiter), WaitOver::Ended);
    assert_eq!(client.session.handle_wait_over(&id("a"), waiter), WaitOver::Sent);
    assert_eq!(
        client.says(r#"[3,"a",{}]"#),
        ["tell 7 a Result(b\"{}\")"],
        "and nothing follows"
    );
    assert_eq!(client.session.pending(), Pending::default());
}

#[test]
fn the_end_of_a_connection_ends_every_push_once() {
    for reason in [FailReason::Disconnected, FailReason::Shutdown] {
        let mut client = Conversation::new(Subprotocol::Ocpp16);
        client.pushed("a").expect("room");
        client.pushed("b").expect("room");
        client.shown();
        let (pushes, out) = client.ends(reason);
        assert!(pushes.is_empty());
        assert!(
            out[0].contains(&format!("{reason:?}")) && out[0].contains("\"sent\":true"),
            "{out:?}"
        );
        assert!(
            out[1].contains(&format!("{reason:?}")) && out[1].contains("\"sent\":false"),
            "{out:?}"
        );
        assert_eq!((client.ends(reason).1.len(), client.deadline()), (0, None), "once");
        assert_eq!(client.pushed("c"), Err(PushRefusal::Ending));
    }
}

#[test]
fn a_replaced_client_leaves_its_unsent_pushes_to_the_new_one() {
    let mut old = Conversation::new(Subprotocol::Ocpp16);
    for id in ["a", "b", "c"] {
        old.pushed(id).expect("room");
    }
    old.shown();
    let (pushes, out) = old.ends(FailReason::Replaced);
    assert_eq!(out.len(), 1);
    assert!(out[0].contains("Replaced") && out[0].contains("\"sent\":true"));
    let mut new = Conversation::new(Subprotocol::Ocpp16);
    new.session.adopt(new.now, pushes, &mut new.out);
    assert_eq!(new.shown(), [r#"push 0 [2,"b","Reset",{"a": 1e999}]"#]);
    assert_eq!(new.session.pending().pushes_queued, 1);
}

#[test]
fn adopted_pushes_go_first_and_what_has_no_place_ends_as_replaced() {
    let mut new = Conversation::new(Subprotocol::Ocpp16);
    new.pushed("own").expect("room");
    new.pushed("own2").expect("room");
    new.shown();
    let pushes = [
        push("a", None),
        push("own2", None),
        push(&"x".repeat(40), None),
        push("b", None),
    ];
    new.session.adopt(new.now, pushes.into(), &mut new.out);
    let out = new.shown();
    assert_eq!(out.len(), 3, "{out:?}");
    assert!(
        out.iter()
            .all(|out| out.contains("Replaced") && out.contains("\"sent\":false")),
        "{out:?}"
    );
    assert_eq!(new.says(r#"[3,"own",{}]"#)[1], r#"push 1 [2,"a","Reset",{"a": 1e999}]"#);
    assert_eq!(
        new.says(r#"[3,"a",{}]"#)[1],
        r#"push 2 [2,"own2","Reset",{"a": 1e999}]"#
    );

    let mut draining = Conversation::new(Subprotocol::Ocpp16);
    draining.session.handle_shutdown(draining.now, &mut draining.out);
    draining
        .session
        .adopt(draining.now, vec![push("a", None)], &mut draining.out);
    assert!(draining.shown()[0].contains("Shutdown"));
}

#[test]
fn pushes_that_wait_are_bounded_in_bytes_too() {
    let limits = Limits {
        pushes_queued: 10,
        queued_len_max: 40,
        ..limits()
    };
    let pushed = |client: &mut Conversation, id: &str, len: usize| {
        let payload = " ".repeat(len).into();
        let push = Push {
            payload,
            ..push(id, None)
        };
        client.session.handle_push(client.now, push, &mut client.out)
    };
    let mut client = Conversation::with(Subprotocol::None, limits.clone());
    assert_eq!(
        pushed(&mut client, "sent", 1000),
        Ok(Accepted::Sent),
        "it does not wait"
    );
    assert_eq!(pushed(&mut client, "alone", 1000), Ok(Accepted::Queued));
    assert_eq!(pushed(&mut client, "beside", 1), Err(PushRefusal::Full));
    let mut client = Conversation::with(Subprotocol::None, limits);
    assert_eq!(pushed(&mut client, "sent", 1), Ok(Accepted::Sent));
    assert_eq!(pushed(&mut client, "half", 20), Ok(Accepted::Queued));
    assert_eq!(pushed(&mut client, "too long", 21), Err(PushRefusal::Full));
    assert_eq!(pushed(&mut client, "half again", 20), Ok(Accepted::Queued));
    assert_eq!(pushed(&mut client, "one more", 1), Err(PushRefusal::Full));
}

#[test]
fn adopted_pushes_wait_for_the_clients_first_message_and_no_longer_than_push_hold() {
    let held = || {
        let mut client = Conversation::with(
            Subprotocol::Ocpp16,
            Limits {
                push_hold: Duration::from_secs(2),
                ..limits()
            },
        );
        client.session.adopt(client.now, vec![push("a", None)], &mut client.out);
        assert!(client.shown().is_empty());
        assert_eq!(client.pushed("b"), Ok(Accepted::Queued), "behind it");
        assert_eq!(client.deadline(), Some(2));
        client
    };
    let sent = r#"push 0 [2,"a","Reset",{"a": 1e999}]"#;
    assert_eq!(held().says(" "), [sent, "count FrameEmpty"]);
    assert_eq!(held().after(2), [sent]);
    let mut client = held();
    assert!(client.after(1).is_empty());
    let mut early = Conversation::with(
        Subprotocol::Ocpp16,
        Limits {
            push_hold: Duration::from_secs(2),
            ..limits()
        },
    );
    early.says("ping");
    early.session.adopt(early.now, vec![push("a", None)], &mut early.out);
    assert_eq!(early.shown(), [sent], "it has been heard");
}
