//! Keeps what must be true of one connection, apart from the session and much simpler: lists of what is open, and what
//! the step under way has to bring about. [`Ledger::settle`] compares that with what came out.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::ocpp::{
    CallKey, Event, FailReason, Limits, Outcome, Output, Outputs, Pending, PostContent, Push, PushKey, Session,
    Subprotocol, Text, Waiter,
};
use crate::trace_context::TraceParent;

/// A Call that the client has sent and that is not over.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) raw_id: String,
    pub(super) action: String,
    pub(super) payload: String,
    pub(super) frame: Text,
    pub(super) stage: CallStage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CallStage {
    Waiting,
    AtBackend(CallKey, Instant),
    Deferred(CallKey, Instant),
    AnsweredEarly(CallKey),
}

/// A push that was accepted and has no outcome.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) push: Push,
    pub(super) stage: PushStage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PushStage {
    Waiting,
    Sent(PushKey),
    Written(Instant),
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Stage {
    Open,
    Draining,
    Leaving,
    Closing,
    Ended,
}

/// What the step has to bring about, no more and no less; each list in its order.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Whole frames, for refusals; behind the id anything for those that end in `…`.
    pub(super) frames: Vec<String>,
    /// MessageId and outcome of pushes, in any order.
    pub(super) outcomes: Vec<(String, Outcome)>,
    /// Posts that are not outcomes: kind, Action, MessageId, body.
    pub(super) posts: Vec<(PostContent, String, String)>,
    pub(super) counts: Vec<Event>,
    pub(super) ping: bool,
    pub(super) drop: bool,
    pub(super) close: Option<u16>,
}

/// What has left the session and now goes its own way.
#[derive(Debug)]
pub(super) enum Effect {
    Called {
        key: CallKey,
        id: String,
        deadline: Instant,
    },
    Pushed {
        key: PushKey,
        id: String,
    },
    /// The client's own word, of so many bytes.
    Posted {
        len: usize,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) limits: Limits,
    pub(super) subprotocol: Subprotocol,
    pub(super) stage: Stage,
    /// In the order of arrival.
    pub(super) calls: Vec<Call>,
    /// In the order of acceptance, adopted ones first.
    pub(super) pushes: Vec<Pushed>,
    pub(super) expected: Expected,
    pub(super) bad_frames: u32,
    /// OCPP 2.1: the Calls that got the last CallResults.
    pub(super) last_results: Vec<(String, String)>,
    /// The client's own words that the backend has not taken: their lengths.
    pub(super) undelivered: Vec<usize>,
    /// Calls of the client's earlier connections that the backend has not answered.
    pub(super) earlier_calls: usize,
    /// It is to move: of its Calls none is begun that waits for another one.
    pub(super) holds_calls: bool,
    pub(super) answered_deferred: Vec<String>,
    pub(super) outcomes: usize,
    pub(super) has_spoken: bool,
    /// Adopted pushes wait until then for the client's first message.
    pub(super) hold: Option<Instant>,
    heard_at: Instant,
    pinged: bool,
    ping_after: Duration,
    /// When the last Calls and SENDs came.
    said: Vec<Instant>,
    /// It is ahead of its pace, and not read until then.
    held_until: Option<Instant>,
}

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

impl Ledger {
    pub(super) fn new(session: &Session, limits: &Limits, now: Instant) -> Result<Self, String> {
        let ping_after = session.next_deadline().map_or(Duration::MAX, |deadline| deadline - now);
        ensure!(ping_after <= limits.ping_after, "pinged too late: {ping_after:?}");
        ensure!(
            ping_after >= limits.ping_after * 3 / 4,
            "pinged too early: {ping_after:?}"
        );
        Ok(Self {
            limits: limits.clone(),
            subprotocol: session.subprotocol(),
            stage: Stage::Open,
            calls: Vec::new(),
            pushes: Vec::new(),
            expected: Expected::default(),
            bad_frames: 0,
            last_results: Vec::new(),
            undelivered: Vec::new(),
            earlier_calls: 0,
            holds_calls: false,
            answered_deferred: Vec::new(),
            outcomes: 0,
            has_spoken: false,
            hold: None,
            heard_at: now,
            pinged: false,
            ping_after,
            said: Vec::new(),
            held_until: None,
        })
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged = false;
    }

    /// A Call or a SEND has come. The client is held if any row of the last ones was faster than its pace, a second's worth of
    /// them aside.
    pub(super) fn said(&mut self, now: Instant) {
        let count = u32::try_from(self.limits.calls_per_second_max).expect("a small number");
        let Some(interval) = Duration::from_secs(1).checked_div(count) else {
            return;
        };
        self.said.push(now);
        let rows = (1..).zip(self.said.iter().rev());
        let paid_until = rows.map(|(len, begin)| *begin + interval * len).max().expect("a row");
        let resume_at = paid_until + interval - Duration::from_secs(1);
        self.held_until = (resume_at > now).then_some(resume_at);
        // What was paid for long ago is in no such row.
        let recent = now - Duration::from_secs(10);
        self.said.retain(|said| *said >= recent);
    }

    /// Whether it is ahead of its pace.
    pub(super) fn is_held(&self) -> bool {
        self.held_until.is_some()
    }

    /// Pushes were adopted.
    pub(super) fn hold(&mut self, now: Instant) {
        self.hold = (!self.has_spoken).then_some(now + self.limits.push_hold);
    }

    /// The client has sent a message.
    pub(super) fn speaks(&mut self) {
        self.has_spoken = true;
        self.hold = None;
    }

    /// The Call of that id that the client waits for.
    pub(super) fn open_call(&self, id: &str) -> Option<&Call> {
        self.calls
            .iter()
            .find(|call| call.id == id && !matches!(call.stage, CallStage::AnsweredEarly(_)))
    }

    /// The Call is over, or answered early; its answer is expected. `result`: it is a CallResult.
    pub(super) fn expect_answer(&mut self, now: Instant, index: usize, rest: &str, early: bool) {
        let read_before = self.wants_read();
        let (call, result) = (&mut self.calls[index], rest.starts_with('3'));
        self.expected
            .frames
            .push(format!("[{},{}{}", &rest[..1], call.raw_id, &rest[1..]));
        if result && self.subprotocol == Subprotocol::Ocpp21 {
            self.last_results.push((call.id.clone(), call.action.clone()));
            if self.last_results.len() > 4 {
                self.last_results.remove(0);
            }
        }
        match (early, call.stage) {
            (true, CallStage::AtBackend(key, _)) => call.stage = CallStage::AnsweredEarly(key),
            _ => self.remove_call(now, index, read_before),
        }
    }

    pub(super) fn remove_call(&mut self, now: Instant, index: usize, read_before: bool) {
        self.calls.remove(index);
        if !read_before {
            self.heard(now);
        }
    }

    pub(super) fn remember_deferred(&mut self, id: String) {
        self.answered_deferred.push(id);
        if self.answered_deferred.len() > 4 {
            self.answered_deferred.remove(0);
        }
    }

    pub(super) fn expect_bad_frame(&mut self, event: Event) {
        self.expected.counts.push(event);
        self.bad_frames += 1;
        if self.bad_frames == self.limits.bad_frames_max {
            self.expected.counts.push(Event::FramesBad);
            self.expected.close = Some(1008);
        }
    }

    pub(super) fn expect_outcome(&mut self, id: &str, outcome: Outcome) {
        self.expected.outcomes.push((id.to_owned(), outcome));
    }

    /// Everything that time brings about.
    pub(super) fn expect_deadline(&mut self, now: Instant) {
        if self.stage >= Stage::Closing {
            return;
        }
        let reads = self.wants_read();
        self.hold = self.hold.filter(|deadline| *deadline > now);
        if self.held_until.is_some_and(|deadline| deadline <= now) {
            self.held_until = None;
            self.heard(now);
        }
        for index in 0..self.pushes.len() {
            if matches!(self.pushes[index].stage, PushStage::Written(deadline) if deadline <= now) {
                let id = self.pushes[index].push.message_id.to_string();
                self.expect_outcome(
                    &id,
                    Outcome::Failed {
                        reason: FailReason::Timeout,
                        sent: true,
                    },
                );
                self.expected.counts.push(Event::PushTimeout);
            }
        }
        while let Some(index) = self
            .calls
            .iter()
            .position(|call| matches!(call.stage, CallStage::Deferred(_, deadline) if deadline <= now))
        {
            self.remember_deferred(self.calls[index].id.clone());
            self.expected.counts.push(Event::CallDeferredTimeout);
            self.expect_answer(now, index, "4,\"InternalError\",…", false);
        }
        if !reads || self.silence_deadline() > now {
            return;
        }
        if self.pinged {
            self.expected.drop = true;
        } else {
            self.expected.ping = true;
            self.pinged = true;
            self.heard_at = now - self.ping_after;
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.calls
            .iter()
            .filter(|call| call.stage != CallStage::Waiting)
            .count()
    }

    pub(super) fn pushes_in_flight(&self) -> usize {
        self.pushes
            .iter()
            .filter(|pushed| pushed.stage != PushStage::Waiting)
            .count()
    }

    pub(super) fn wants_read(&self) -> bool {
        let waiting = || self.calls.iter().filter(|call| call.stage == CallStage::Waiting);
        let len: usize = waiting().map(|call| call.frame.len()).sum();
        let room = waiting().count() < self.limits.calls_queued && len < self.limits.queued_len_max;
        let undelivered_len: usize = self.undelivered.iter().sum();
        let may_say = self.undelivered.len() < self.limits.posts_queued && undelivered_len < self.limits.queued_len_max;
        self.held_until.is_none()
            && may_say
            && (room || self.in_flight() + self.earlier_calls < self.limits.calls_in_flight && !self.holds_calls)
    }

    /// Whether one push more, of `len` bytes, may wait.
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        let waiting = self.pushes.iter().filter(|pushed| pushed.stage == PushStage::Waiting);
        let (count, waiting_len) = waiting.fold((0, 0), |(count, sum), pushed| {
            (count + 1, sum + pushed.push.payload.len())
        });
        let room = waiting_len == 0 || waiting_len + len <= self.limits.queued_len_max;
        count < self.limits.pushes_queued && room
    }

    fn silence_deadline(&self) -> Instant {
        self.heard_at
            + if self.pinged {
                self.limits.dead_after
            } else {
                self.ping_after
            }
    }

    /// Compares what came out with what was expected, and the session with this ledger. `Ok`: what to do next.
    pub(super) fn settle(&mut self, session: &Session, out: &mut Outputs) -> Result<Vec<Effect>, String> {
        let mut effects = Vec::new();
        let mut over = self.stage >= Stage::Closing;
        for output in out.drain(..) {
            let silent = over && self.stage != Stage::Ended && !matches!(output, Output::Count(_));
            ensure!(!silent, "{output:?} after the close");
            match output {
                Output::Send { frame, push: None } => self.settle_frame(&frame)?,
                Output::Send { frame, push: Some(key) } => effects.push(self.settle_push(key, &frame)?),
                Output::Call {
                    key,
                    text,
                    deadline,
                    arrived: _,
                } => {
                    let (action, message_id) = (text.action(), text.message_id());
                    ensure!(
                        !self.holds_calls || self.calls.len() == 1,
                        "{message_id} is begun although its client is to move"
                    );
                    let next = self.calls.iter_mut().find(|call| call.stage == CallStage::Waiting);
                    let Some(call) = next else {
                        return Err(format!("a request for no Call: {message_id}"));
                    };
                    ensure!(call.id == message_id, "{message_id} overtook {}", call.id);
                    ensure!(call.action == action, "{action} instead of {}", call.action);
                    ensure!(call.payload == text.payload(), "another payload: {text:?}");
                    call.stage = CallStage::AtBackend(key, deadline);
                    effects.push(Effect::Called {
                        key,
                        id: call.id.clone(),
                        deadline,
                    });
                }
                Output::Post {
                    action,
                    message_id,
                    content: PostContent::Outcome(outcome),
                    trace,
                } => {
                    self.check_trace(message_id.as_str(), trace.as_deref())?;
                    let (expected, waiter) = self.settle_outcome(message_id.as_str(), action.as_str())?;
                    ensure!(waiter.is_none(), "{message_id}: posted although somebody waits");
                    ensure!(
                        expected == outcome,
                        "{message_id}: {expected:?} expected, {outcome:?} posted"
                    );
                    if let Outcome::Result(body) | Outcome::Error { body } = outcome {
                        effects.push(self.post(body.len()));
                    }
                }
                Output::Post {
                    action,
                    message_id,
                    content,
                    trace,
                } => {
                    ensure!(trace.is_none(), "{message_id}: no push, and has a trace");
                    let post = (content, action.to_string(), message_id.to_string());
                    take(&mut self.expected.posts, &post)?;
                    let (PostContent::Send(body) | PostContent::ResultError(body)) = post.0 else {
                        unreachable!("outcomes were looked at");
                    };
                    effects.push(self.post(body.len()));
                }
                Output::Outcome {
                    action,
                    message_id,
                    waiter,
                    outcome,
                    trace,
                } => {
                    self.check_trace(message_id.as_str(), trace.as_deref())?;
                    let (expected, waits) = self.settle_outcome(message_id.as_str(), action.as_str())?;
                    ensure!(waits == Some(waiter), "{message_id}: {waiter:?} told, {waits:?} waits");
                    ensure!(
                        expected == outcome,
                        "{message_id}: {expected:?} expected, {outcome:?} told"
                    );
                }
                Output::Ping => ensure!(std::mem::take(&mut self.expected.ping), "an unexpected ping"),
                Output::Drop => {
                    ensure!(std::mem::take(&mut self.expected.drop), "an unexpected drop");
                    over = true;
                }
                Output::Close { code, .. } => {
                    ensure!(self.expected.close.take() == Some(code), "an unexpected close {code}");
                    over = true;
                }
                // A measurement; nothing depends on it.
                Output::PushAnswered { .. } => {}
                Output::Count(event) => take(&mut self.expected.counts, &event)?,
            }
        }
        if over && self.stage < Stage::Closing {
            self.stage = Stage::Closing;
        }
        if !self.pushes.iter().any(|pushed| pushed.stage == PushStage::Waiting) {
            self.hold = None;
        }
        self.check_done()?;
        self.check_session(session)?;
        Ok(effects)
    }

    fn post(&mut self, len: usize) -> Effect {
        self.undelivered.push(len);
        Effect::Posted { len }
    }

    /// The backend has taken one of that length, or it was given up.
    pub(super) fn deliver(&mut self, now: Instant, len: usize) -> Result<(), String> {
        let read_before = self.wants_read();
        take(&mut self.undelivered, &len)?;
        if !read_before {
            self.heard(now);
        }
        Ok(())
    }

    /// It is to move, or not any more.
    pub(super) fn hold_calls(&mut self, now: Instant, is_wanted: bool) {
        let holds_calls = is_wanted && self.stage == Stage::Open;
        if self.stage < Stage::Closing && self.holds_calls != holds_calls {
            let read_before = self.wants_read();
            self.holds_calls = holds_calls;
            if !read_before {
                self.heard(now);
            }
        }
    }

    /// So many of them are left.
    pub(super) fn set_earlier_calls(&mut self, now: Instant, count: usize) {
        let read_before = self.wants_read();
        self.earlier_calls = count;
        if !read_before && self.stage < Stage::Closing {
            self.heard(now);
        }
    }

    fn settle_frame(&mut self, text: &str) -> Result<(), String> {
        let parsed: serde_json::Result<Vec<serde::de::IgnoredAny>> = serde_json::from_str(text);
        ensure!(parsed.is_ok(), "not JSON: {text}");
        let matches = |expected: &String| match expected.strip_suffix('…') {
            Some(prefix) => text.starts_with(prefix),
            None => text == expected,
        };
        // Answers go out in the order in which they were given.
        ensure!(
            self.expected.frames.first().is_some_and(matches),
            "{text} instead of {:?}",
            self.expected.frames
        );
        self.expected.frames.remove(0);
        Ok(())
    }

    fn settle_push(&mut self, key: PushKey, frame: &str) -> Result<Effect, String> {
        let Some(pushed) = self.pushes.iter_mut().find(|pushed| {
            let id = pushed.push.message_id.as_str();
            pushed.stage == PushStage::Waiting && !self.expected.outcomes.iter().any(|(ended, _)| ended == id)
        }) else {
            return Err(format!("a frame for no push: {frame:?}"));
        };
        let Push {
            action,
            message_id,
            payload,
            ..
        } = &pushed.push;
        let expected = format!("[2,{},{},{payload}]", message_id.json(), action.json());
        ensure!(*frame == expected, "{frame:?} instead of {expected}");
        pushed.stage = PushStage::Sent(key);
        Ok(Effect::Pushed {
            key,
            id: message_id.to_string(),
        })
    }

    /// An outcome belongs to the trace that its push belongs to.
    fn check_trace(&self, id: &str, trace: Option<&TraceParent>) -> Result<(), String> {
        let pushed = self.pushes.iter().find(|pushed| pushed.push.message_id.as_str() == id);
        let expected = pushed.and_then(|pushed| pushed.push.trace.as_deref());
        ensure!(trace == expected, "{id}: {expected:?} expected, {trace:?} found");
        Ok(())
    }

    /// Exactly one outcome: the push is over with it.
    fn settle_outcome(&mut self, id: &str, action: &str) -> Result<(Outcome, Option<Waiter>), String> {
        let found = self.expected.outcomes.iter().position(|(expected, _)| expected == id);
        let Some(index) = found else {
            return Err(format!("an outcome of {id} that nothing has brought about"));
        };
        let (_, outcome) = self.expected.outcomes.remove(index);
        let found = self
            .pushes
            .iter()
            .position(|pushed| pushed.push.message_id.as_str() == id);
        let Some(index) = found else {
            return Err(format!("a second outcome of {id}"));
        };
        let push = self.pushes.remove(index).push;
        ensure!(
            push.action.as_str() == action,
            "{id}: {action} instead of {}",
            push.action
        );
        self.outcomes += 1;
        Ok((outcome, push.waiter))
    }

    fn check_done(&self) -> Result<(), String> {
        let Expected {
            frames,
            outcomes,
            posts,
            counts,
            ping,
            drop,
            close,
        } = &self.expected;
        ensure!(frames.is_empty(), "no answer came out: {frames:?}");
        ensure!(outcomes.is_empty(), "no outcome came out: {outcomes:?}");
        ensure!(posts.is_empty(), "no post came out: {posts:?}");
        ensure!(counts.is_empty(), "not counted: {counts:?}");
        ensure!(
            !ping && !drop && close.is_none(),
            "no ping {ping}, drop {drop} or close {close:?}"
        );
        Ok(())
    }

    fn check_session(&self, session: &Session) -> Result<(), String> {
        if self.stage == Stage::Ended {
            ensure!(
                session.pending() == Pending::default(),
                "pending after the end: {:?}",
                session.pending()
            );
        } else {
            let deferred = self
                .calls
                .iter()
                .filter(|call| matches!(call.stage, CallStage::Deferred(..)))
                .count();
            let pending = Pending {
                calls_in_flight: self.in_flight(),
                calls_deferred: deferred,
                calls_queued: self.calls.len() - self.in_flight(),
                pushes_in_flight: self.pushes_in_flight(),
                pushes_queued: self.pushes.len() - self.pushes_in_flight(),
            };
            ensure!(
                session.pending() == pending,
                "{pending:?} expected, {:?} found",
                session.pending()
            );
            let Limits {
                calls_in_flight,
                calls_queued,
                pushes_in_flight,
                pushes_queued,
                ..
            } = self.limits;
            let in_flight = pending.calls_in_flight + self.earlier_calls;
            let within = in_flight <= calls_in_flight
                && pending.calls_queued <= calls_queued
                && pending.pushes_in_flight <= pushes_in_flight
                && pending.pushes_in_flight + pending.pushes_queued <= pushes_in_flight + pushes_queued;
            ensure!(within, "beyond the limits: {pending:?}");
            let undelivered = self.undelivered.len();
            ensure!(
                undelivered <= self.limits.posts_queued,
                "{undelivered} posts of one client"
            );
            if self.stage < Stage::Closing {
                let idle = pending.calls_queued > 0 && in_flight < calls_in_flight && !self.holds_calls
                    || pending.pushes_queued > 0 && pending.pushes_in_flight < pushes_in_flight && self.hold.is_none();
                ensure!(!idle, "something waits although there is room: {pending:?}");
                ensure!(
                    session.wants_read() == self.wants_read(),
                    "wants_read is {}",
                    session.wants_read()
                );
            }
        }
        let deadline = self.next_deadline();
        ensure!(
            session.next_deadline() == deadline,
            "deadline {:?} instead of {deadline:?}",
            session.next_deadline()
        );
        Ok(())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.stage >= Stage::Closing {
            return None;
        }
        let calls = self.calls.iter().filter_map(|call| match call.stage {
            CallStage::Deferred(_, deadline) => Some(deadline),
            _ => None,
        });
        let pushes = self.pushes.iter().filter_map(|pushed| match pushed.stage {
            PushStage::Written(deadline) => Some(deadline),
            _ => None,
        });
        let silence = self.wants_read().then(|| self.silence_deadline());
        let waits = self.hold.into_iter().chain(self.held_until);
        calls.chain(pushes).chain(silence).chain(waits).min()
    }
}

fn take<T: Debug + PartialEq>(expected: &mut Vec<T>, found: &T) -> Result<(), String> {
    let Some(index) = expected.iter().position(|one| one == found) else {
        return Err(format!("unexpected {found:?}; {expected:?} expected"));
    };
    expected.remove(index);
    Ok(())
}
