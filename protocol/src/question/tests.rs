use super::*;
use crate::mapping::Identity;
use crate::mapping::outgoing::PostKey;
use crate::ocpp::{Accepted, DeferredRefusal, FailReason, Outcome, PostContent, PushRefusal};
use crate::random::Random;
use crate::record::{Notice, PostRecord};
use crate::trace_context::TraceParent;
use std::time::Duration;

fn push() -> Push {
    Push {
        action: Action::parse("Reset").unwrap(),
        message_id: MessageId::parse("p1").unwrap(),
        payload: r#"{"type":"Ünique"}"#.to_owned().into(),
        waiter: Some(waiter()),
        trace: TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").map(Box::new),
    }
}

fn waiter() -> Waiter {
    Waiter {
        process: 3,
        shard: 7,
        token: 1 << 40,
        ..Waiter::default()
    }
}

fn identity() -> Identity {
    let connection = ConnectionId::new(1, 2, 3);
    Identity::new(
        ClientId::parse("CP 1").unwrap(),
        connection,
        Some("ocpp1.6"),
        "10.1.2.3",
    )
}

fn questions() -> Vec<Question> {
    let (action, message_id, waiter) = (push().action, push().message_id, waiter());
    [
        About::Push(push()),
        About::Push(Push {
            waiter: None,
            trace: None,
            ..push()
        }),
        About::Answer {
            action,
            message_id: message_id.clone(),
            is_error: true,
            body: Bytes::from_static(b"{\"code\":\"x\"}"),
        },
        About::EndWait {
            message_id: message_id.clone(),
            waiter,
        },
        About::ForgetWait { message_id, waiter },
        About::Describe,
        About::Close {
            code: 4321,
            reason: "gö".into(),
        },
        About::Replace {
            by: ConnectionId::new(1, 2, 3),
        },
    ]
    .map(|about| Question {
        client: ClientId::parse("CP 1").unwrap(),
        about,
    })
    .into()
}

fn told() -> Vec<Told> {
    let post = PostRecord {
        identity: identity(),
        notice: Notice::Post(
            push().action,
            push().message_id,
            PostContent::Outcome(Outcome::Failed {
                reason: FailReason::Replaced,
                sent: true,
            }),
            None,
        ),
        key: PostKey { shard: 3, number: 9 },
        age: Duration::from_secs(3),
        due_in: Duration::from_millis(250),
        tries: 2,
        is_clients_own: false,
    };
    let connection = ConnectionId::new(1, 2, 3);
    vec![
        Told::NotConnected,
        Told::OnItsWay,
        Told::Pushed {
            accepted: Accepted::Sent,
            connection,
        },
        Told::Pushed {
            accepted: Accepted::Queued,
            connection,
        },
        Told::PushRefused(PushRefusal::Pending),
        Told::PushRefused(PushRefusal::Full),
        Told::PushRefused(PushRefusal::MessageId),
        Told::PushRefused(PushRefusal::Ending),
        Told::WaitEnded,
        Told::WaitWithdrawn(identity().into()),
        Told::Answered(Ok(())),
        Told::Answered(Err(AnswerRefusal::Body)),
        Told::Answered(Err(AnswerRefusal::Deferred(DeferredRefusal::NoneOpen))),
        Told::Answered(Err(AnswerRefusal::Deferred(DeferredRefusal::Answered))),
        Told::Described("{\"clientId\":\"CP 1\"}".into()),
        Told::Closed,
        Told::Replaced(Replaced::default().into()),
        Told::Replaced(
            Replaced {
                identity: Some(identity()),
                pushes: vec![push(), push()],
                posts: vec![post.clone(), post],
            }
            .into(),
        ),
        Told::Listed(
            Page {
                is_last: true,
                ..Page::default()
            }
            .into(),
        ),
        Told::Listed(page().into()),
    ]
}

fn page() -> Page {
    let client = |name: &str| ClientId::parse(name).unwrap();
    Page {
        clients: vec![
            (client("CP 1"), "{\"clientId\":\"CP 1\"}".into()),
            (client("CP2"), "{}".into()),
        ],
        moving: vec![client("CP1"), client("CP3")],
        is_last: false,
    }
}

fn page_questions() -> [PageQuestion; 2] {
    [
        PageQuestion::new(None, 100),
        PageQuestion {
            after: Some(ClientId::parse("CP 1").unwrap()),
            limit: 1000,
            len_max: 500_000,
        },
    ]
}

/// Connections' places in an order are not written.
fn shown(what: &impl std::fmt::Debug) -> String {
    format!("{what:?}")
}

#[test]
fn what_is_written_is_read_and_later_fields_are_passed_over() {
    for question in questions() {
        let mut bytes = question.to_bytes();
        assert_eq!(shown(&Question::read(&bytes).unwrap()), shown(&question));
        bytes.extend_from_slice(&[60, 3, b'n', b'e', b'w']);
        assert_eq!(shown(&Question::read(&bytes).unwrap()), shown(&question));
    }
    for question in page_questions() {
        let mut bytes = question.to_bytes();
        bytes.extend_from_slice(&[60, 3, b'n', b'e', b'w']);
        assert_eq!(PageQuestion::read(&bytes), Ok(question));
        // Each is read as what it is.
        assert!(Question::read(&bytes).is_err());
    }
    for question in questions() {
        assert!(PageQuestion::read(&question.to_bytes()).is_err());
    }
    for told in told() {
        let bytes = told.to_bytes();
        assert_eq!(shown(&Told::read(&bytes).unwrap()), shown(&told));
    }
}

/// Whoever changes this has changed what a process of yesterday, or another node, understands.
#[test]
fn what_is_written_is_what_the_first_version_has_written() {
    let hex = |bytes: Vec<u8>| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let written: Vec<String> = questions().iter().map(|question| hex(question.to_bytes())).collect();
    assert_eq!(written, QUESTIONS_1);
    let written = page_questions().map(|question| hex(question.to_bytes()));
    assert_eq!(written, PAGE_QUESTIONS_1);
    let written: Vec<String> = told().iter().map(|told| hex(told.to_bytes())).collect();
    assert_eq!(written, TOLD_1);
}

const QUESTIONS_1: [&str; 8] = [
    "010104435020310201010368010270310205526573657403127b2274797065223a22c39c6e69717565227d043730302d3462663932663335\
     3737623334646136613363653932396430653065343733362d303066303637616130626139303262372d3031050e01010302010703068080\
     80808020",
    "01010443502031020101031f010270310205526573657403127b2274797065223a22c39c6e69717565227d",
    "010104435020310201020402703105055265736574060101070c7b22636f6465223a2278227d",
    "0101044350203102010304027031080e0101030201070306808080808020",
    "0101044350203102010404027031080e0101030201070306808080808020",
    "01010443502031020105",
    "01010443502031020106070367c3b60902e121",
    "0101044350203102010707143030303030303031303032303030303030303033",
];

const PAGE_QUESTIONS_1: [&str; 2] = ["010201080a01640b0480808004", "010104435020310201080a02e8070b03a0c21e"];

const TOLD_1: [&str; 20] = [
    "01010101",
    "01010102",
    "0101010303143030303030303031303032303030303030303033",
    "0101010302010103143030303030303031303032303030303030303033",
    "01010104",
    "01010104020101",
    "01010104020102",
    "01010104020103",
    "01010105",
    "01010106042f0104435020310214303030303030303130303230303030303030303303076f637070312e36040831302e312e322e33",
    "01010107",
    "01010107020103",
    "01010107020101",
    "01010107020102",
    "0101010803137b22636c69656e744964223a2243502031227d",
    "01010109",
    "0101010a",
    "0101010a042f0104435020310214303030303030303130303230303030303030303303076f637070312e36040831302e312e322e334068\
     010270310205526573657403127b2274797065223a22c39c6e69717565227d043730302d34626639326633353737623334646136613363\
     653932396430653065343733362d303066303637616130626139303262372d3031050e0101030201070306808080808020406801027031\
     0205526573657403127b2274797065223a22c39c6e69717565227d043730302d3462663932663335373762333464613661336365393239\
     6430653065343733362d303066303637616130626139303262372d3031050e0101030201070306808080808020415a0101044350203102\
     14303030303030303130303230303030303030303303076f637070312e36040831302e312e322e33050103060552657365740702703109\
     01030a01010b01030c01090d0580bcc1960b0e0480e59a770f0102415a0101044350203102143030303030303031303032303030303030\
     30303303076f637070312e36040831302e312e322e3305010306055265736574070270310901030a01010b01030c01090d0580bcc1960b\
     0e0480e59a770f0102",
    "0101010b0503010101",
    "0101010b0532401b01044350203102137b22636c69656e744964223a2243502031227d4009010343503202027b7d410343503141034350\
     33",
];

#[test]
fn whatever_comes_is_read_or_refused() {
    let mut random = Random::new(5);
    let all = questions().iter().map(Question::to_bytes).collect::<Vec<_>>();
    let pages = page_questions().map(|question| question.to_bytes());
    let all = [all, told().iter().map(Told::to_bytes).collect(), pages.into()].concat();
    let mut refused = 0;
    for bytes in all.iter().cycle().take(20_000) {
        let mut bytes = bytes.clone();
        random.damage(&mut bytes);
        let is_question = Question::read(&bytes).is_ok() || PageQuestion::read(&bytes).is_ok();
        refused += usize::from(!is_question && Told::read(&bytes).is_err());
    }
    assert!(refused > 2_000, "{refused}");
    assert!(Question::read(&[]).is_err() && Told::read(&[]).is_err());
}
