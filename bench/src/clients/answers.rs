//! Checks what comes back to a client.

use loadgen::engine::{End, State};

use super::{Generator, Traffic, send_call};
use crate::counters::{Count, micros};
use crate::poller::now_ns;
use crate::rpc::{self, Message};
use crate::websocket::{self, Header};

/// Sends what has become due meanwhile.
pub(super) fn handle_open(generator: &mut Generator, slot: usize) {
    let now = now_ns();
    let since = generator.client(slot).since_ns;
    let is_resumed = generator.is_resumed(slot);
    let echo = &mut generator.script;
    echo.counts.bump(Count::Opened);
    if is_resumed {
        echo.counts.bump(Count::Resumed);
    }
    echo.counters.latencies.connects.saturating_record(micros(since, now));
    let end = echo.control.window_end();
    let traffic = echo.load.traffic;
    if traffic == Traffic::OpenLoop {
        loop {
            let round = generator.client(slot).next_round;
            let due = generator.script.load.schedule.message_due(slot as u32, round);
            if due > now || due >= end || generator.state(slot) != State::Open {
                break;
            }
            send_call(generator, slot);
        }
    } else if generator.script.kicked && traffic == Traffic::ClosedLoop && now < end {
        send_call(generator, slot);
    }
}

pub(super) fn handle_data(generator: &mut Generator, slot: usize, header: Header, payload: &[u8]) {
    if header.opcode != websocket::TEXT || !header.fin {
        return generator.end(slot, &End::Broken("a frame that no server of ours sends"));
    }
    let compact = rpc::compact_result(payload).map(|(id, payload)| Message::Result { id, payload });
    match compact.or_else(|| rpc::split(payload)) {
        Some(Message::Result { id, payload: found }) => {
            handle_result(generator, slot, id, found.trim_ascii(), payload);
        }
        Some(Message::Call { id, action, payload }) => handle_push(generator, slot, id, action, payload),
        Some(Message::Error { .. }) | None => wrong(generator, slot, payload),
    }
}

fn handle_result(generator: &mut Generator, slot: usize, id: &str, payload: &[u8], text: &[u8]) {
    let number = generator.number(slot);
    let said = generator.client(slot);
    let Some((_, round)) =
        rpc::parse_call_id(id).filter(|(client_named, round)| *client_named == number && *round < said.next_round)
    else {
        return wrong(generator, slot, text);
    };
    let bit = 1_u64.checked_shl(said.next_round - 1 - round).unwrap_or(0);
    if said.unanswered & bit == 0 {
        return generator.script.counts.bump(Count::Duplicated);
    }
    said.unanswered &= !bit;
    let is_reordered = said.unanswered > bit;
    let since = said.since_ns;
    generator.text.clear();
    generator
        .script
        .load
        .shape
        .write_payload(&mut generator.text, number, round);
    if payload != generator.text {
        return wrong(generator, slot, text);
    }
    let echo = &mut generator.script;
    echo.counts.bump(Count::Answered);
    if is_reordered {
        echo.counts.bump(Count::Reordered);
    }
    let now = now_ns();
    let closed_loop = echo.load.traffic == Traffic::ClosedLoop;
    let due = if closed_loop {
        since
    } else {
        echo.load.schedule.message_due(slot as u32, round)
    };
    if now.saturating_sub(due) > echo.load.late_ns {
        echo.counts.bump(Count::Late);
    }
    let micros = micros(due, now);
    let latencies = &mut echo.counters.latencies;
    let (start, end) = (echo.control.window_start(), echo.control.window_end());
    if due < start {
        latencies.calls_in_ramp.saturating_record(micros);
    } else {
        latencies.calls.saturating_record(micros);
        if echo.control.was_in_upgrade(due, now) {
            latencies.calls_in_upgrades.saturating_record(micros);
        }
    }
    echo.slice_calls.saturating_record(micros);
    if closed_loop && now < end {
        send_call(generator, slot);
    }
}

fn handle_push(generator: &mut Generator, slot: usize, id: &str, action: &str, payload: &[u8]) {
    let number = generator.number(slot);
    let named = rpc::parse_push_payload(payload);
    generator.text.clear();
    rpc::write_client_id(&mut generator.text, number);
    let echo = &mut generator.script;
    match named {
        Some((to, push, due)) if to.as_bytes() == generator.text && rpc::parse_push_id(id) == Some(push) => {
            let micros = micros(due, now_ns());
            if action != rpc::PUSH_ACTION {
                return echo.counts.bump(Count::PushedWrong);
            }
            echo.counts.bump(Count::Pushed);
            echo.counters.latencies.pushes.saturating_record(micros);
            echo.slice_pushes.saturating_record(micros);
        }
        _ => {
            echo.counts.bump(Count::PushedWrong);
            echo.counters.note(|| {
                format!(
                    "client c{number} got the push {id} {:?}",
                    String::from_utf8_lossy(payload)
                )
            });
        }
    }
    generator.text.clear();
    generator.text.extend_from_slice(b"[3,\"");
    generator.text.extend_from_slice(id.as_bytes());
    generator.text.extend_from_slice(b"\",{}]");
    generator.send(slot);
}

fn wrong(generator: &mut Generator, slot: usize, text: &[u8]) {
    let number = generator.number(slot);
    let echo = &mut generator.script;
    echo.counts.bump(Count::Wrong);
    echo.counters.note(|| {
        format!(
            "client c{number} got {:?}",
            String::from_utf8_lossy(&text[..text.len().min(200)])
        )
    });
    // In a closed loop a wrong answer must not silence the client.
    if echo.load.traffic == Traffic::ClosedLoop && now_ns() < echo.control.window_end() {
        send_call(generator, slot);
    }
}
