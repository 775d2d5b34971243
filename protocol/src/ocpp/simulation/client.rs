//! Plays the clients, which send Calls, answers and nonsense.

use super::ledger::{Call, CallStage, PushStage, Pushed, Stage};
use super::world::{Checked, World};
use crate::ocpp::{Event, FailReason, Outcome, PostContent, Subprotocol, Text};

impl World {
    pub(super) fn client_calls(&mut self, who: usize) -> Checked {
        self.count += 1;
        let count = self.count;
        let open = &self.clients[who].ledger.calls;
        let repeated = !open.is_empty() && self.random.percent(25);
        let id = match repeated {
            true => open[self.random.below(open.len())].id.clone(),
            false => format!("c{count}"),
        };
        let raw_id = if self.random.percent(20) {
            format!("\"\\u0063{}\"", &id[1..])
        } else {
            format!("\"{id}\"")
        };
        let (action, raw_action) = *[("Heartbeat", "\"Heartbeat\""), ("A b", "\"A\\u0020b\"")]
            .get(self.random.below(2))
            .expect("one of two");
        let payload = format!(
            "{{\"n\": {count},\"s\":\"{}\"}}",
            self.random.pick(&["", "\\ud800", "ü", "[{\\\""])
        );
        let mut frame = Text::from(format!("[2, {raw_id},{raw_action} ,{payload}]"));
        let client = &mut self.clients[who];
        let ledger = &mut client.ledger;
        if ledger.stage < Stage::Closing {
            if !ledger.wants_read() {
                return Ok(());
            }
            ledger.heard(self.now);
            ledger.said(self.now);
            ledger.bad_frames = 0;
            let again = ledger.open_call(&id).map(|call| call.frame.clone());
            if again.is_none() && self.clients[who].ledger.stage == Stage::Leaving {
                self.happen("call of who leaves");
                self.clients[who].ledger.expected.counts.push(Event::CallDropped);
            } else if again.is_none() {
                self.happen("call");
                let call = Call {
                    id,
                    raw_id,
                    action: action.to_owned(),
                    payload,
                    frame: frame.clone(),
                    stage: CallStage::Waiting,
                };
                self.clients[who].ledger.calls.push(call);
            } else if let Some(again) = again.filter(|_| self.random.percent(50)) {
                self.happen("call coalesced");
                // The same bytes, in another message.
                frame = again.as_str().to_owned().into();
                self.clients[who].ledger.expected.counts.push(Event::CallCoalesced);
            } else {
                self.happen("call with an open id");
                let ledger = &mut self.clients[who].ledger;
                let code = if ledger.subprotocol == Subprotocol::Ocpp16 {
                    "GenericError"
                } else {
                    "RpcFrameworkError"
                };
                ledger.expected.frames.push(format!("[4,{raw_id},\"{code}\",…"));
                ledger.expected.counts.push(Event::CallRepeatedId);
            }
        }
        self.client_says(who, &frame)
    }

    pub(super) fn client_answers(&mut self, who: usize) -> Checked {
        let seen = &self.clients[who].seen;
        let id = match seen.len() {
            0 => "p0".to_owned(),
            len => seen[self.random.below(len)].clone(),
        };
        self.count += 1;
        let kind = *["call result", "call result", "call error", "bad answer"]
            .get(self.random.below(4))
            .expect("one of four");
        let (text, outcome) = match kind {
            "bad answer" => (
                [format!("[3,\"{id}\",{{"), format!("[4,\"{id}\",5]")][self.random.below(2)].clone(),
                Outcome::Failed {
                    reason: FailReason::BadAnswer,
                    sent: true,
                },
            ),
            "call error" => (
                format!("[4,\"{id}\",\"X\", \"d{}\"]", self.count),
                Outcome::Error {
                    body: format!(
                        "{{\"code\":\"X\",\"description\":\"d{}\",\"details\":{{}}}}",
                        self.count
                    )
                    .into(),
                },
            ),
            _ => (
                format!("[3 ,\"\\u0070{}\",{{\"n\": {}}} ]", &id[1..], self.count),
                Outcome::Result(format!("{{\"n\": {}}}", self.count).into()),
            ),
        };
        let ledger = &mut self.clients[who].ledger;
        if ledger.stage < Stage::Closing {
            if !ledger.wants_read() {
                return Ok(());
            }
            ledger.heard(self.now);
            let is_bad = kind == "bad answer";
            if is_bad {
                ledger.expect_bad_frame(Event::AnswerMalformed);
            } else {
                ledger.bad_frames = 0;
            }
            let sent = |pushed: &Pushed| pushed.stage != PushStage::Waiting && pushed.push.message_id.as_str() == id;
            if ledger.pushes.iter().any(sent) {
                ledger.expect_outcome(&id, outcome);
                self.happen(kind);
            } else if !is_bad {
                ledger.expected.counts.push(Event::AnswerUnmatched);
                self.happen("late answer");
            }
        }
        self.client_says(who, &text.into())
    }

    pub(super) fn client_errs(&mut self, who: usize) -> Checked {
        let (text, event) = BAD_FRAMES[self.random.below(BAD_FRAMES.len())];
        let ledger = &mut self.clients[who].ledger;
        if ledger.stage < Stage::Closing {
            if !ledger.wants_read() {
                return Ok(());
            }
            ledger.heard(self.now);
            let ocpp16 = ledger.subprotocol == Subprotocol::Ocpp16;
            match event {
                Event::FrameUnreadable if !ocpp16 => {
                    ledger
                        .expected
                        .frames
                        .push("[4,\"-1\",\"RpcFrameworkError\",…".to_owned());
                }
                Event::CallMalformed => {
                    let code = if ocpp16 {
                        "FormationViolation"
                    } else {
                        "FormatViolation"
                    };
                    ledger.expected.frames.push(format!("[4,\"bad\",\"{code}\",…"));
                }
                _ => {}
            }
            match event {
                Event::FrameIgnored | Event::FrameEmpty | Event::FramePingText => ledger.expected.counts.push(event),
                _ => ledger.expect_bad_frame(event),
            }
            if ledger.expected.close.is_some() {
                self.happen("closed for bad frames");
            }
            self.happen("bad frame");
        }
        // Several in a row, now and then.
        self.client_says(who, &Text::from_static(text))?;
        if self.random.percent(60) {
            self.client_errs(who)
        } else {
            Ok(())
        }
    }

    /// SEND and CallResultError, which only OCPP 2.1 has; a binary message, rarely.
    pub(super) fn client_sends(&mut self, who: usize) -> Checked {
        self.count += 1;
        let count = self.count;
        let ledger = &mut self.clients[who].ledger;
        if ledger.stage < Stage::Closing && !ledger.wants_read() {
            return Ok(());
        }
        let open = ledger.stage < Stage::Closing;
        if self.random.percent(3) {
            if open {
                ledger.expected.counts.push(Event::FrameBinary);
                ledger.expected.close = Some(1003);
                self.happen("binary message");
            }
            return self.act(who, |session, _, out| session.handle_binary(out));
        }
        let result_error = self.random.percent(50);
        let id = match ledger.last_results.len() {
            len if len > 0 && self.random.percent(80) => ledger.last_results[self.random.below(len)].0.clone(),
            _ => format!("c{count}"),
        };
        let text = match result_error {
            true => format!("[5,\"{id}\",\"X\",\"\",{{\"n\":{count}}}]"),
            false => format!("[6,\"s{count}\",\"Notify\",{{\"n\":{count}}}]"),
        };
        if open {
            ledger.heard(self.now);
            if ledger.subprotocol != Subprotocol::Ocpp21 {
                ledger.expected.counts.push(Event::FrameIgnored);
            } else if !result_error {
                ledger.bad_frames = 0;
                ledger.said(self.now);
                let post = (
                    PostContent::Send(format!("{{\"n\":{count}}}").into()),
                    "Notify".to_owned(),
                    format!("s{count}"),
                );
                ledger.expected.posts.push(post);
                self.happen("send");
            } else {
                ledger.bad_frames = 0;
                match ledger.last_results.iter().rposition(|(last, _)| *last == id) {
                    Some(index) => {
                        let (id, action) = ledger.last_results.remove(index);
                        let body = format!("{{\"code\":\"X\",\"description\":\"\",\"details\":{{\"n\":{count}}}}}");
                        let content = PostContent::ResultError(body.into());
                        ledger.expected.posts.push((content, action, id));
                        self.happen("call result error");
                    }
                    None => ledger.expected.counts.push(Event::AnswerUnmatched),
                }
            }
        }
        self.client_says(who, &text.into())
    }

    /// A client that sends without end, as far as it is read.
    pub(super) fn client_floods(&mut self, who: usize) -> Checked {
        for _ in 0..FLOOD {
            let ledger = &self.clients[who].ledger;
            if ledger.stage >= Stage::Closing || ledger.subprotocol != Subprotocol::Ocpp21 {
                return Ok(());
            }
            if !ledger.wants_read() {
                if ledger.is_held() {
                    self.happen("held to its pace");
                }
                self.happen("flood held up");
                return Ok(());
            }
            self.count += 1;
            let body = format!("{{\"n\":{}}}", self.count);
            let id = format!("s{}", self.count);
            let text = format!("[6,\"{id}\",\"Notify\",{body}]");
            let ledger = &mut self.clients[who].ledger;
            ledger.heard(self.now);
            ledger.said(self.now);
            ledger.bad_frames = 0;
            let post = (PostContent::Send(body.into()), "Notify".to_owned(), id);
            ledger.expected.posts.push(post);
            self.client_says(who, &text.into())?;
        }
        Err("a client is read without end".to_owned())
    }

    pub(super) fn client_is_heard(&mut self, who: usize) -> Checked {
        self.clients[who].ledger.heard(self.now);
        self.act(who, |session, now, _| session.handle_heard(now))
    }

    pub(super) fn client_says(&mut self, who: usize, frame: &Text) -> Checked {
        let ledger = &mut self.clients[who].ledger;
        if ledger.stage < Stage::Closing {
            if ledger.hold.is_some() {
                self.happen("held pushes are sent");
            }
            self.clients[who].ledger.speaks();
        }
        self.act(who, |session, now, out| session.handle_text(now, frame, out))
    }
}

/// More than any client may have waiting.
const FLOOD: usize = 20;

const BAD_FRAMES: &[(&str, Event)] = &[
    ("x", Event::FrameUnreadable),
    ("{}", Event::FrameUnreadable),
    ("[2]", Event::FrameUnreadable),
    ("[2,5,\"A\",{}]", Event::FrameUnreadable),
    ("[2,\"bad\"", Event::CallMalformed),
    ("[2,\"bad\",\"A\",{},5]", Event::CallMalformed),
    ("[2,\"bad\",7,{}]", Event::CallMalformed),
    ("[2,\"bad\",\"A\",{},[[[[[[[[[[[[[[[[[[[[", Event::CallMalformed),
    ("[3]", Event::AnswerMalformed),
    ("[4,5,\"X\"]", Event::AnswerMalformed),
    ("[9,\"bad\"]", Event::FrameIgnored),
    ("", Event::FrameEmpty),
    (" \r\n", Event::FrameEmpty),
    ("ping", Event::FramePingText),
];
