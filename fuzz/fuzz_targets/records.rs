//! Plays a conversation twice: once in one process, and once with another process after each step at which that may be. Nobody can
//! tell the two apart. And any bytes as a record are read or refused, without a panic and without more memory than they have.
#![no_main]

use std::rc::Rc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use protocol::mapping::{Answer, Reply};
use protocol::ocpp::Subprotocol;
use protocol::ocpp::{Action, CallKey, FailReason, Limits, MessageId, Output, Outputs, Push, PushKey, Session};
use protocol::record::{ClientRecord, Fields, PostRecord, Writer, client_of};

fuzz_target!(|input: &[u8]| {
    believe_nothing(input);
    converse(&mut Choices(input));
});

/// One of the two.
struct Side {
    session: Session,
    out: Outputs,
    /// What the backend has to answer, and whose frames have not left.
    calls: Vec<CallKey>,
    frames: Vec<PushKey>,
    seen: Vec<String>,
}

fn converse(input: &mut Choices<'_>) {
    let limits = Rc::new(limits(input));
    let subprotocols = [
        Subprotocol::None,
        Subprotocol::Ocpp16,
        Subprotocol::Ocpp201,
        Subprotocol::Ocpp21,
        Subprotocol::Other(3),
    ];
    let subprotocol = subprotocols[input.below(5)];
    let start = Instant::now();
    let mut now = start;
    let mut sides = [(); 2].map(|()| Side {
        session: Session::new(subprotocol, limits.clone(), 1 << 30, now),
        out: Outputs::default(),
        calls: Vec::new(),
        frames: Vec::new(),
        seen: Vec::new(),
    });
    while !input.0.is_empty() {
        let step = Step::choose(input);
        now += Duration::from_millis([0, 1, 400, 7_000, 61_000][input.below(5)]);
        for side in &mut sides {
            side.act(&step, now);
        }
        let [stays, moves] = &mut sides;
        assert_eq!(moves.seen, stays.seen, "behind {step:?}");
        compare(&stays.session, &moves.session, now);
        stays.seen.clear();
        moves.seen.clear();
        if moves.session.is_quiet() && moves.frames.is_empty() {
            moves.session = handed_over(&moves.session, &limits, now);
            moves.session.resume(now, &mut moves.out);
            assert!(moves.out.is_empty(), "{:?}", *moves.out);
            compare(&stays.session, &moves.session, now);
        }
    }
    for side in &mut sides {
        side.session.handle_end(now, FailReason::Disconnected, &mut side.out);
        side.note();
    }
    assert_eq!(sides[0].seen, sides[1].seen, "at the end");
}

fn handed_over(session: &Session, limits: &Rc<Limits>, now: Instant) -> Session {
    let mut record = Vec::new();
    session.write_record(now, &mut Writer::new(&mut record));
    let fields = Fields::of_record(&record).expect("its own record");
    Session::from_record(fields, limits.clone(), now).expect("its own record")
}

fn compare(one: &Session, other: &Session, now: Instant) {
    assert_eq!(one.pending(), other.pending());
    assert_eq!(one.traffic(), other.traffic());
    assert_eq!(one.wants_read(), other.wants_read());
    assert_eq!(one.held_len(), other.held_len());
    assert_eq!(one.posts_count(), other.posts_count());
    assert_eq!(one.silent_for(now), other.silent_for(now));
    // What is due already is due now.
    assert_eq!(
        one.next_deadline().map(|deadline| deadline.max(now)),
        other.next_deadline().map(|deadline| deadline.max(now))
    );
}

#[derive(Debug)]
enum Step {
    Says(String),
    Answered(usize, u16, bool),
    Late(String, bool),
    Pushed(String),
    Written,
    Heard,
    Delivered(usize),
    Deadline,
}

impl Step {
    fn choose(input: &mut Choices<'_>) -> Self {
        let id = ["a", "b", "c", "d", "é"][input.below(5)];
        match input.below(12) {
            0..=2 => Self::Says(format!("[2,\"{id}\",\"{}\",{{\"x\":1}}]", ["A", "B"][input.below(2)])),
            3 => Self::Says(format!("[3,\"{id}\",{{}}]")),
            4 => Self::Says(
                [
                    "[2",
                    "",
                    "[6,\"s\",\"Tell\",{}]",
                    "[5,\"a\",\"InternalError\",\"\",{}]",
                    "[4,\"a\",\"GenericError\",\"\",{}]",
                ][input.below(5)]
                .to_owned(),
            ),
            5 => Self::Answered(input.below(3), [200, 204, 500][input.below(3)], false),
            6 => Self::Answered(0, 202, true),
            7 => Self::Late(id.to_owned(), input.below(2) == 0),
            8 => Self::Pushed(id.to_owned()),
            9 => Self::Written,
            10 => match input.below(2) {
                0 => Self::Heard,
                _ => Self::Delivered(input.below(10)),
            },
            _ => Self::Deadline,
        }
    }
}

impl Side {
    fn act(&mut self, step: &Step, now: Instant) {
        let Self { session, out, .. } = self;
        match step {
            Step::Says(text) => session.handle_text(now, text, out),
            Step::Answered(nth, status, deferred) => {
                if *nth < self.calls.len() {
                    let key = self.calls.remove(*nth);
                    let answer = Answer::Response {
                        status: *status,
                        deferred: *deferred,
                        content: if *status == 200 { b"{}" } else { b"" },
                    };
                    session.handle_answer(now, key, answer, out);
                }
            }
            Step::Late(id, is_a) => {
                let action = Action::parse(if *is_a { "A" } else { "B" }).expect("an Action");
                let id = MessageId::parse(id).expect("an id");
                let refused = session.handle_deferred(now, &action, &id, &Reply::Result("{}"), out);
                self.seen.push(format!("{refused:?}"));
            }
            Step::Pushed(id) => {
                let push = Push {
                    action: Action::parse("Reset").expect("an Action"),
                    message_id: MessageId::parse(id).expect("an id"),
                    payload: "{}".into(),
                    waiter: None,
                    trace: None,
                };
                let accepted = session.handle_push(now, push, out);
                self.seen.push(format!("{accepted:?}"));
            }
            Step::Written => {
                if !self.frames.is_empty() {
                    session.handle_push_written(now, self.frames.remove(0), out);
                }
            }
            Step::Heard => session.handle_heard(now),
            Step::Delivered(len) => {
                if session.posts_count() > 0 {
                    session.handle_post_over(now, *len);
                }
            }
            Step::Deadline => session.handle_deadline(now, out),
        }
        self.note();
    }

    /// Keys are each process's own: they are not seen.
    fn note(&mut self) {
        for output in self.out.drain(..) {
            self.seen.push(match output {
                Output::Send { frame, push } => {
                    self.frames.extend(push);
                    format!("{frame} {}", push.is_some())
                }
                Output::Call {
                    key,
                    text,
                    deadline,
                    arrived,
                } => {
                    self.calls.push(key);
                    format!("{} {deadline:?} {arrived:?}", text.message())
                }
                // A measurement: of one that is overdue it begins later.
                Output::PushAnswered { .. } => continue,
                other => format!("{other:?}"),
            });
        }
    }
}

fn limits(input: &mut Choices<'_>) -> Limits {
    Limits {
        calls_in_flight: 1 + input.below(2),
        calls_queued: 1 + input.below(3),
        calls_per_second_max: [0, 2, 16][input.below(3)],
        call_timeout: Duration::from_secs(25),
        pushes_in_flight: 1 + input.below(2),
        pushes_queued: input.below(4),
        posts_queued: 1 + input.below(4),
        queued_len_max: 20 + 40 * input.below(4),
        push_timeout: Duration::from_secs(30),
        push_hold: Duration::from_millis(500),
        bad_frames_max: 5,
        number_ids: false,
        json_depth_max: 16,
        ping_after: Duration::from_secs(60),
        dead_after: Duration::from_secs(120),
    }
}

/// Whatever is read can be written, and is the same when it is read again.
fn believe_nothing(bytes: &[u8]) {
    let now = Instant::now();
    let owner = client_of(bytes);
    if let Ok(post) = PostRecord::read(bytes) {
        let again = PostRecord::read(&post.record()).expect("its own record");
        assert_eq!(again.record(), post.record());
        assert_eq!(owner.as_ref(), Ok(&post.identity.client));
    }
    let Ok(record) = ClientRecord::read(bytes, 7) else {
        return;
    };
    assert_eq!(owner.as_ref(), Ok(&record.identity.client));
    let limits = Rc::new(limits(&mut Choices(bytes)));
    let Ok(mut session) = Session::from_record(record.session.clone(), limits.clone(), now) else {
        return;
    };
    if !session.is_quiet() {
        return;
    }
    let written = record.parts().record(|record| session.write_record(now, record));
    assert!(
        written.len() <= 4 * bytes.len() + 256,
        "{} of {}",
        written.len(),
        bytes.len()
    );
    let again = ClientRecord::read(&written, 7).expect("its own record");
    let restored = Session::from_record(again.session, limits, now).expect("its own record");
    compare(&session, &restored, now);
    assert_eq!(again.deflate, record.deflate);
    assert_eq!((&again.decoder, again.unread), (&record.decoder, record.unread));
    let mut out = Outputs::default();
    session.resume(now, &mut out);
    session.handle_text(now, "[2,\"a\",\"A\",{}]", &mut out);
    session.handle_text(now, "[3,\"a\",{}]", &mut out);
    session.handle_deadline(now + Duration::from_secs(3600), &mut out);
    session.handle_end(now, FailReason::Shutdown, &mut out);
}

struct Choices<'i>(&'i [u8]);

impl Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        self.0.split_off_first().map_or(0, |byte| usize::from(*byte) % limit)
    }
}
