//! Reads what comes to a charger: answers to its Calls, and Calls of the server.

use loadgen::poller::now_ns;
use serde_json::Value;

use super::{Fleet, OWN_INTERVAL_S, go_on, micros};
use crate::commands::load::ocpp16;
use crate::commands::load::say::Say;
use crate::commands::load::tally::Live;
use crate::commands::load::version::{Version, call_number};
use protocol::ocpp::frame::{self, Frame};

pub(super) fn handle_text(fleet: &mut Fleet, slot: usize, text: &[u8]) {
    let version = fleet.script.version(fleet.number(slot));
    let read = str::from_utf8(text)
        .ok()
        .map(|text| frame::split(text, &version.reading()));
    match read {
        Some(Ok(Frame::CallResult { message_id, payload })) => {
            handle_answer(fleet, slot, &message_id, Some(payload), text);
        }
        Some(Ok(Frame::CallError { message_id, .. })) => handle_answer(fleet, slot, &message_id, None, text),
        Some(Ok(Frame::Call {
            raw_id,
            action,
            payload,
            ..
        })) => {
            let answer = version.answer(&action, payload);
            fleet.script.tally.count_request(&action, answer.is_some());
            fleet.text.clear();
            let parts = match &answer {
                Some(answer) => ["[3,", raw_id, ",", answer, "]"],
                None => ["[4,", raw_id, ",\"NotImplemented\",\"\",", "{}", "]"],
            };
            parts
                .iter()
                .for_each(|part| fleet.text.extend_from_slice(part.as_bytes()));
            fleet.send(slot);
        }
        _ => handle_bad_message(fleet, slot, text),
    }
}

/// A CallResult with its payload, or a CallError.
fn handle_answer(fleet: &mut Fleet, slot: usize, message_id: &str, payload: Option<&str>, text: &[u8]) {
    let now = now_ns();
    let number = call_number(message_id, &fleet.script.plan.run);
    let charger = fleet.client(slot);
    let open = charger.open.take_if(|_| number == Some(charger.calls));
    let Some(open) = open else {
        if number.is_some_and(|number| number <= charger.calls && number > 0) {
            fleet.script.tally.late += 1;
            return;
        }
        return handle_bad_message(fleet, slot, text);
    };
    let number = fleet.number(slot);
    let version = fleet.script.version(number);
    let script = &mut fleet.script;
    script.open_calls -= 1;
    let calls = &mut script.tally.calls[version.action(open.say) as usize];
    calls.latency.saturating_record(micros(open.due_ns, now));
    match payload {
        Some(_) => {
            calls.answered += 1;
            Live::add(&script.live.answered);
        }
        None => {
            calls.errors += 1;
            Live::add(&script.live.faults);
            let id = script.id(number);
            script.tally.note(|| format!("{id}: {}", shown(text)));
        }
    }
    match open.say {
        Say::Boot => handle_boot(fleet, slot, payload.unwrap_or_default(), now),
        say => {
            let interval_ns = fleet.script.plan.interval_ns;
            let charger = fleet.client(slot);
            let is_answered = match (say, version, payload) {
                (Say::Start, Version::V16, Some(payload)) => {
                    let given = ocpp16::transaction(payload);
                    charger.transaction = given.unwrap_or_default();
                    given.is_some()
                }
                (_, _, payload) => payload.is_some(),
            };
            charger.handle_over(open, is_answered, interval_ns, now);
        }
    }
    go_on(fleet, slot, now);
}

fn handle_boot(fleet: &mut Fleet, slot: usize, payload: &str, now: u64) {
    let answer: Value = serde_json::from_str(payload).unwrap_or_default();
    let accepted = answer["status"] == "Accepted";
    // 0: as the charger likes.
    let interval_s = answer["interval"].as_u64().filter(|seconds| *seconds > 0);
    let first_step_ns = fleet.script.first_step_ns(fleet.number(slot));
    if !accepted && !payload.is_empty() {
        fleet.script.tally.not_accepted += 1;
        Live::add(&fleet.script.live.faults);
    }
    fleet
        .client(slot)
        .handle_boot(accepted, interval_s.unwrap_or(OWN_INTERVAL_S), first_step_ns, now);
}

fn handle_bad_message(fleet: &mut Fleet, slot: usize, text: &[u8]) {
    let id = fleet.script.id(fleet.number(slot));
    let script = &mut fleet.script;
    script.tally.bad_messages += 1;
    script.tally.note(|| format!("{id}: {}", shown(text)));
    Live::add(&script.live.faults);
}

fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(SHOWN_LEN).collect()
}

const SHOWN_LEN: usize = 200;
