//! Shows that records of every version are read, and that nothing else is.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;
use crate::mapping::outgoing::PostKey;
use crate::mapping::{ConnectionId, Identity};
use crate::ocpp::{Action, ClientId, FailReason, Limits, MessageId, Outcome, Outputs, PostContent};
use crate::ocpp::{Push, Session, Subprotocol};
use crate::random::Random;
use crate::trace_context::TraceParent;
use crate::websocket::deflate::{Deflate, DeflateConfig, Deflater, Inflater, negotiate};
use crate::websocket::{Decoder, DecoderLimits};

fn limits() -> Rc<Limits> {
    Rc::new(Limits {
        calls_in_flight: 1,
        calls_queued: 4,
        calls_per_second_max: 2,
        call_timeout: Duration::from_secs(25),
        pushes_in_flight: 1,
        pushes_queued: 4,
        posts_queued: 4,
        queued_len_max: 1000,
        push_timeout: Duration::from_secs(30),
        push_hold: Duration::from_millis(500),
        bad_frames_max: 20,
        number_ids: false,
        json_depth_max: 8,
        ping_after: Duration::from_secs(60),
        dead_after: Duration::from_secs(120),
    })
}

fn identity() -> Identity {
    let client = ClientId::parse("CP 1").expect("a name");
    let connection = ConnectionId::new(0xdead_beef, 5, 77);
    Identity::new(client, connection, Some("ocpp2.1"), "10.0.0.9, 10.1.2.3")
}

fn names(action: &str, id: &str) -> (Action, MessageId) {
    (
        Action::parse(action).expect("an Action"),
        MessageId::parse(id).expect("an id"),
    )
}

/// A session with something of everything that there is, three seconds after it was connected.
fn session(start: Instant) -> Session {
    let mut session = Session::new(Subprotocol::Ocpp21, limits(), 0, start);
    let mut out = Outputs::default();
    let at = |millis| start + Duration::from_millis(millis);
    let (action, message_id) = names("Reset", "held");
    let push = |payload: &str| Push {
        action: action.clone(),
        message_id: message_id.clone(),
        payload: payload.into(),
        waiter: None,
        trace: Some(Box::new(TraceParent::begin(0xface, 0xf00d))),
    };
    session.handle_text(at(100), r#"[6,"s","Report",{"n":1}]"#, &mut out);
    session.handle_push(at(200), push("{}"), &mut out).expect("accepted");
    session.handle_push_written(at(250), crate::ocpp::PushKey(0), &mut out);
    let queued = Push {
        message_id: names("Reset", "queued").1,
        ..push("[1]")
    };
    session.handle_push(at(260), queued, &mut out).expect("accepted");
    for text in [
        r#"[2,"done","A",{}]"#,
        r#"[2,"late","B",{"x":"é"}]"#,
        r#"[2,"behind","C",{}]"#,
    ] {
        session.handle_text(at(700), text, &mut out);
    }
    let answer = |status, deferred| crate::mapping::Answer::Response {
        status,
        deferred,
        content: b"{}",
    };
    let keys: Vec<_> = out
        .drain(..)
        .filter_map(|output| match output {
            crate::ocpp::Output::Call { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    session.handle_answer(at(800), keys[0], answer(200, false), &mut out);
    let key = crate::ocpp::CallKey(keys[0].0 + 1);
    session.handle_answer(at(900), key, answer(202, true), &mut out);
    session.handle_text(at(1000), "nonsense", &mut out);
    out.clear();
    session
}

fn deflate() -> Deflate {
    let offer = b"permessage-deflate; client_max_window_bits=10";
    let agreement = negotiate([&offer[..]], DeflateConfig { window_bits: 11 }).expect("acceptable");
    Deflate {
        received: crate::websocket::deflate::History::from_bytes(b"from the client", 1024),
        sent: crate::websocket::deflate::History::from_bytes(b"to the client", 2048),
        ..Deflate::new(agreement)
    }
}

fn posts() -> Vec<PostRecord> {
    let (action, message_id) = names("Reset", "p");
    let trace = || Some(Box::new(TraceParent::begin(0xface, 0xf00d)));
    let post = |content| Notice::Post(action.clone(), message_id.clone(), content, trace());
    let body = || bytes::Bytes::from_static(b"{\"a\":1}");
    let earlier = Identity::new(identity().client, ConnectionId::new(1, 2, 3), None, "10.0.0.1");
    let failed = Outcome::Failed {
        reason: FailReason::Replaced,
        sent: true,
    };
    [
        post(PostContent::Outcome(Outcome::Result(body()))),
        post(PostContent::Outcome(Outcome::Error { body: body() })),
        post(PostContent::Outcome(failed)),
        post(PostContent::Send(body())),
        post(PostContent::ResultError(body())),
        Notice::Disconnect(b"{}".to_vec()),
    ]
    .into_iter()
    .enumerate()
    .map(|(index, notice)| PostRecord {
        identity: if index == 5 { earlier.clone() } else { identity() },
        notice,
        key: PostKey {
            shard: 2,
            number: index as u64 + 300,
        },
        age: Duration::from_millis(700),
        due_in: Duration::from_millis(250),
        tries: 2,
        is_clients_own: index == 3,
    })
    .collect()
}

/// In the middle of the second fragment of a text.
fn decoder() -> Decoder {
    let limits = DecoderLimits {
        message_max: 1000,
        is_deflate_agreed: true,
    };
    let mut decoder = Decoder::default();
    let mut stream = *b"\x01\x83\0\0\0\0abc\x00\x85\x01\x02\x03\x04ee";
    let mut input = &mut stream[..];
    while !input.is_empty() {
        decoder.decode(&mut input, limits).expect("good frames");
    }
    decoder
}

fn written(session: &Session, deflate: Option<&Deflate>, posts: &[PostRecord], now: Instant) -> Vec<u8> {
    let (decoder, unread) = match deflate {
        Some(_) => (decoder(), &b"rest"[..]),
        None => (Decoder::default(), &[][..]),
    };
    let parts = ClientParts {
        identity: &identity(),
        since_ms: 1_700_000_000_123,
        age: Duration::from_secs(3),
        tls: None,
        deflate,
        decoder: &decoder,
        unread,
        posts,
    };
    parts.record(|record| session.write_record(now, record))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    digits.chunks(2).map(|two| digit(two[0]) << 4 | digit(two[1])).collect()
}

/// What the first version has written for the client of these tests. It does not change: a version that comes later still reads it.
const VERSION_1: &str = "\
    010104435020310214646561646265656630303530303030303030346403076f637070322e31041231302e302e302e392c2031302e312e322e330506fbd095ff\
    bc31060580bcc1960b07cc02010103020101030101040580a8d6b9070503e0d4030703020101081501015d02016c030105040103050104060101070101090101\
    0a0107403701195b322c226c617465222c2242222c7b2278223a22c3a9227d5d02010303010604010a05010306010e07010a080101090580c8f1f754402e0113\
    5b322c22626568696e64222c2243222c7b7d5d02010303010804010c0501030601100701020a0580eedcc8084150010468656c64020552657365740301030405\
    8081e8c165063730302d30303030303030303030303030303030303030303030303030303030666163652d303030303030303030303030663030642d3031414d\
    01067175657565640205526573657405035b315d063730302d30303030303030303030303030303030303030303030303030303030666163652d303030303030\
    303030303030663030642d303142090104646f6e65020141082901010b03010a040101050f66726f6d2074686520636c69656e74060d746f2074686520636c69\
    656e740919020104030401020304040102050103070101090561626364670a047265737440660501010605526573657407017008077b2261223a317d0b01020c\
    02ac020d0580cee4cd020e0480e59a770f0102113730302d30303030303030303030303030303030303030303030303030303030666163652d30303030303030\
    3030303030663030642d303140660501020605526573657407017008077b2261223a317d0b01020c02ad020d0580cee4cd020e0480e59a770f0102113730302d\
    30303030303030303030303030303030303030303030303030303030666163652d303030303030303030303030663030642d3031406305010306055265736574\
    0701700901030a01010b01020c02ae020d0580cee4cd020e0480e59a770f0102113730302d303030303030303030303030303030303030303030303030303030\
    30666163652d303030303030303030303030663030642d303140690501040605526573657407017008077b2261223a317d0b01020c02af020d0580cee4cd020e\
    0480e59a770f0102100101113730302d30303030303030303030303030303030303030303030303030303030666163652d303030303030303030303030663030\
    642d303140660501050605526573657407017008077b2261223a317d0b01020c02b0020d0580cee4cd020e0480e59a770f0102113730302d3030303030303030\
    3030303030303030303030303030303030303030666163652d303030303030303030303030663030642d30314044010443502031021430303030303030313030\
    32303030303030303033040831302e302e302e3105010608027b7d0b01020c02b1020d0580cee4cd020e0480e59a770f0102";

#[test]
fn the_first_versions_record_is_read_as_it_was_meant() {
    let start = Instant::now();
    let now = start + Duration::from_secs(3);
    let bytes = from_hex(VERSION_1);
    let record = ClientRecord::read(&bytes, 9).expect("a record");
    assert_eq!(client_of(&bytes), Ok(identity().client));
    assert_eq!(record.identity.lines().as_str(), identity().lines().as_str());
    assert_eq!(
        (record.since_ms, record.age),
        (1_700_000_000_123, Duration::from_secs(3))
    );
    assert_eq!(record.deflate, Some(deflate()));
    assert_eq!((&record.decoder, record.unread), (&decoder(), &b"rest"[..]));
    let mut restored = Session::from_record(record.session.clone(), limits(), now).expect("a session");
    let original = session(start);
    assert_eq!(restored.pending(), original.pending());
    assert_eq!(restored.traffic(), original.traffic());
    assert_eq!(restored.silent_for(now), original.silent_for(now));
    // What is due already is due now.
    let due = |session: &Session| session.next_deadline().map(|deadline| deadline.max(now));
    assert_eq!(due(&restored), due(&original));
    assert_eq!(restored.wants_read(), original.wants_read());
    assert_eq!(restored.posts_count(), 1);
    let mut out = Outputs::default();
    restored.resume(now, &mut out);
    assert!(out.is_empty(), "it is as quiet as it was: {:?}", *out);
    assert_eq!(record.posts.len(), 6);
    for (post, expected) in record.posts.iter().zip(posts()) {
        assert_eq!(post.identity.lines().as_str(), expected.identity.lines().as_str());
        assert_eq!((&post.notice, post.key), (&expected.notice, expected.key));
        assert_eq!(
            (post.age, post.due_in, post.tries, post.is_clients_own),
            (expected.age, expected.due_in, expected.tries, expected.is_clients_own)
        );
    }
}

/// Whoever changes this has changed what a process of yesterday reads. A new field goes into a new vector beside this one.
#[test]
fn what_is_written_is_what_the_first_version_has_written() {
    let start = Instant::now();
    let now = start + Duration::from_secs(3);
    let record = written(&session(start), Some(&deflate()), &posts(), now);
    assert_eq!(hex(&record), hex(&from_hex(VERSION_1)));
}

#[test]
fn a_client_that_has_said_nothing_is_a_small_record() {
    let start = Instant::now();
    let session = Session::new(Subprotocol::Ocpp16, limits(), 0, start);
    let record = written(&session, None, &[], start + Duration::from_secs(3));
    assert!(record.len() < 100, "{} bytes", record.len());
}

#[test]
fn an_unknown_version_is_refused_and_so_is_nothing() {
    let mut record = from_hex(VERSION_1);
    record[0] = VERSION_TLS + 1;
    let error = RecordError::Version(VERSION_TLS + 1);
    assert_eq!(client_of(&record), Err(error));
    assert_eq!(ClientRecord::read(&record, 0).map(|_| ()), Err(error));
    assert_eq!(PostRecord::read(&record).map(|_| ()), Err(error));
    assert_eq!(client_of(&[]), Err(RecordError::Form));
    assert_eq!(client_of(&[VERSION]), Err(RecordError::Field(1)));
    assert!(is_readable(VERSION) && is_readable(VERSION_TLS) && !is_readable(VERSION_TLS + 1) && !is_readable(0));
}

/// The same fields, and one that nobody knows in each list of fields that `paths` leads to.
fn with_unknown(mut fields: Fields<'_>, is_record: bool, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = match is_record {
        true => Writer::new(&mut bytes),
        false => Writer::fields_only(&mut bytes),
    };
    while let Some(field) = fields.next().expect("fields") {
        // Of a record: the session, compression, decoder and posts; of a session: pace, traffic, Calls, pushes and results.
        let is_list = match depth {
            0 => matches!(field.number, 7..=9) || field.number >= LIST,
            1 => matches!(field.number, 7 | 8) && field.bytes().len() > 2 || (LIST..LIST + 3).contains(&field.number),
            _ => false,
        };
        if is_list && is_fields(field.fields()) {
            writer.bytes(field.number, &with_unknown(field.fields(), false, depth + 1));
        } else {
            writer.bytes(field.number, field.bytes());
        }
    }
    writer.bytes(1000, b"from tomorrow");
    bytes
}

fn is_fields(mut fields: Fields<'_>) -> bool {
    loop {
        match fields.next() {
            Ok(None) => return true,
            Ok(Some(_)) => {}
            Err(_) => return false,
        }
    }
}

#[test]
fn what_a_later_version_adds_is_skipped() {
    let now = Instant::now();
    let known = from_hex(VERSION_1);
    let more = with_unknown(Fields::of_record(&known).expect("fields"), true, 0);
    assert!(more.len() > known.len() + 10 * 13, "{} and {}", more.len(), known.len());
    let record = ClientRecord::read(&more, 9).expect("a record");
    let session = Session::from_record(record.session.clone(), limits(), now).expect("a session");
    let again = record.parts().record(|record| session.write_record(now, record));
    assert_eq!(hex(&again), hex(&known));
}

#[test]
fn broken_records_are_refused_or_read_and_never_panic() {
    let now = Instant::now();
    let whole = from_hex(VERSION_1);
    let mut read = 0;
    let mut try_it = |bytes: &[u8]| {
        let Ok(record) = ClientRecord::read(bytes, 0) else {
            return;
        };
        let Ok(mut session) = Session::from_record(record.session, limits(), now) else {
            return;
        };
        read += 1;
        let mut out = Outputs::default();
        session.resume(now, &mut out);
        session.handle_text(now, r#"[2,"late","B",{}]"#, &mut out);
        session.handle_text(now, r#"[3,"held",{}]"#, &mut out);
        session.handle_deadline(now + Duration::from_secs(1000), &mut out);
        session.handle_end(now, FailReason::Disconnected, &mut out);
        let mut decoder = record.decoder;
        let limits = DecoderLimits {
            message_max: 1000,
            is_deflate_agreed: record.deflate.is_some(),
        };
        let mut stream = [record.unread, b"\x81\x80\0\0\0\0"].concat();
        let mut input = &mut stream[..];
        while !input.is_empty() && decoder.decode(&mut input, limits).is_ok() {}
        if let Some(mut deflate) = record.deflate {
            let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
            let deflated = deflater.deflate(&mut deflate, &[b'a'; 300]).map(<[u8]>::to_vec);
            let _ = inflater.inflate(&mut deflate, &deflated.unwrap_or_default(), 1000);
        }
    };
    for len in 0..whole.len() {
        try_it(&whole[..len]);
    }
    for at in 1..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            try_it(&bytes);
        }
    }
    let mut random = Random::new(7);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(4) {
            let at = 1 + random.below(bytes.len() - 1);
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.next() as u8),
            }
        }
        try_it(&bytes);
    }
    assert!(read > 1000, "only {read} of them were read at all");
}

#[test]
fn what_no_process_has_written_is_refused() {
    for (what, fields) in [
        ("a length beyond the end", &[1, 5, b'a'][..]),
        (
            "a length beyond all memory",
            &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        (
            "a number of more than 64 bits",
            &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ),
        ("a number without an end", &[0x80]),
        (
            "a field number of more than 32 bits",
            &[0x80, 0x80, 0x80, 0x80, 0x10, 0],
        ),
        ("a field twice", &[1, 0, 1, 0]),
        ("fields in another order", &[2, 0, 1, 0]),
        ("no field", &[0, 0]),
    ] {
        let record = [&[VERSION], fields].concat();
        let mut fields = Fields::of_record(&record).expect("its version is known");
        let error = loop {
            match fields.next() {
                Ok(None) => break None,
                Ok(Some(_)) => {}
                Err(error) => break Some(error),
            }
        };
        assert_eq!(error, Some(RecordError::Form), "{what}");
    }
}

#[test]
fn numbers_texts_and_times_are_what_they_were() {
    let now = Instant::now();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    let numbers = [1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX];
    for (index, number) in numbers.iter().enumerate() {
        writer.number(index as u32 + 1, *number);
    }
    writer.number(20, 0);
    writer.duration(21, Duration::MAX);
    writer.fields(LIST, |writer| writer.bytes(1, &[b'x'; 200]));
    writer.fields(LIST, |_| {});
    let mut fields = Fields::of_record(&bytes).expect("fields");
    for number in numbers {
        let field = fields.next().expect("fields").expect("one more");
        assert_eq!(field.number::<u64>(), Ok(number));
        assert_eq!(field.number::<u8>().is_ok(), number < 256, "{number}");
        assert_eq!(field.flag().is_ok(), number == 1);
    }
    let longest = fields.next().expect("fields").expect("0 is not written");
    assert_eq!(longest.number, 21);
    assert_eq!(longest.duration(), Ok(Duration::from_nanos(u64::MAX)));
    assert!(longest.time_before(now).expect("a time") <= now);
    let mut part = fields.next().expect("fields").expect("a list").fields();
    assert_eq!(part.next().expect("fields").expect("one").text(), Ok(&*"x".repeat(200)));
    let empty = fields.next().expect("fields").expect("a list");
    assert_eq!((empty.number, empty.bytes()), (LIST, &[][..]));
    assert!(fields.next().expect("fields").is_none());
}

#[test]
fn compression_goes_on_where_it_was() {
    let offer = b"permessage-deflate; client_max_window_bits";
    let agreement = negotiate([&offer[..]], DeflateConfig { window_bits: 9 }).expect("acceptable");
    let (mut ours, mut theirs) = (Deflate::new(agreement), Deflate::new(agreement));
    let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
    for number in 0..50 {
        let message =
            format!("{{\"meterValue\":[{{\"timestamp\":\"2026-12-01T00:00:{number:02}Z\",\"value\":{number}}}]}}");
        let deflated = deflater
            .deflate(&mut ours, message.as_bytes())
            .expect("shorter")
            .to_vec();
        // The other side is one of ours, with the directions the other way round.
        let plain = inflater
            .inflate(&mut theirs, &deflated, 1000)
            .expect("what was deflated");
        assert_eq!(&plain[..], message.as_bytes());
        let mut bytes = Vec::new();
        ours.write_record(&mut Writer::new(&mut bytes));
        let restored = Deflate::from_record(Fields::of_record(&bytes).expect("fields")).expect("its own record");
        assert_eq!(restored, ours);
        ours = restored;
    }
}

#[test]
fn a_record_says_what_is_wrong_with_it() {
    let bytes = |write: &dyn Fn(&mut Writer<'_>)| {
        let mut bytes = Vec::new();
        write(&mut Writer::new(&mut bytes));
        bytes
    };
    for (record, error) in [
        (
            bytes(&|record| record.bytes(2, b"00c0ffee00100000004d")),
            RecordError::Field(1),
        ),
        (bytes(&|record| record.bytes(1, b"CP1")), RecordError::Field(2)),
        (bytes(&|record| record.bytes(1, b"a/b")), RecordError::Field(1)),
        (
            bytes(&|record| {
                record.bytes(1, b"CP1");
                record.bytes(2, b"00c0ffee00100000004d");
                record.bytes(4, b"10.0.0.1\r\nX-Evil: 1");
            }),
            RecordError::Field(4),
        ),
        (
            bytes(&|record| {
                record.bytes(1, b"CP1");
                record.bytes(2, b"00c0ffee00100000004d");
            }),
            RecordError::Field(7),
        ),
    ] {
        assert_eq!(ClientRecord::read(&record, 0).map(|_| ()), Err(error), "{record:?}");
    }
}
