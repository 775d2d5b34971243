//! Carries what the processes of a world say to each other, as packets, late or not at all.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};

use protocol::takeover::{Assembly, Message, packets};
use shards::mesh::NodeHandle;
use ws2api::env::home::{IdHasher, home_of};
use ws2api::shard::carrier::PROCESS_SHIFT;
use ws2api::shard::control_plane::{ControlPlane, Phase};
use ws2api::shard::mail::{Control, Mail};
use ws2api::shard::other_process::{mail_of, said_by};
use ws2api::shard::takeover::read_on_way_number;

use super::ledger::Ledger;

/// What one process says.
pub struct Line {
    pub said: mpsc::Receiver<Message>,
    pub control: Arc<ControlPlane>,
    pub hasher: IdHasher,
    on_way: VecDeque<Message>,
    /// It has ended, and the other one knows.
    is_over: bool,
}

impl Line {
    pub fn new(said: mpsc::Receiver<Message>, control: Arc<ControlPlane>, hasher: IdHasher) -> Self {
        Self {
            said,
            control,
            hasher,
            on_way: VecDeque::new(),
            is_over: false,
        }
    }
}

/// Carries what has been said. Of one or two processes.
pub fn carry(lines: &mut [Line], outsides: &[NodeHandle<Mail>], ledger: &mut Ledger) {
    let mut heard = true;
    while std::mem::take(&mut heard) {
        for from in 0..lines.len() {
            let messages: Vec<_> = lines[from].said.try_iter().collect();
            lines[from].on_way.extend(messages);
            while let Some(message) = lines[from].on_way.pop_front() {
                if !deliver(lines, outsides, from, message.clone(), ledger) {
                    // Its ring is full, or it hangs.
                    lines[from].on_way.push_front(message);
                    break;
                }
                heard = true;
            }
        }
    }
    for process in 0..lines.len() {
        let has_ended = lines[process].control.have_all_reached(Phase::Ended);
        if lines.len() > 1 && has_ended && !std::mem::replace(&mut lines[process].is_over, true) {
            let other = 1 - process;
            lines[other].control.lose_other_process(&outsides[other]);
        }
    }
}

fn deliver(lines: &[Line], outsides: &[NodeHandle<Mail>], from: usize, message: Message, ledger: &mut Ledger) -> bool {
    if let Message::Taken { number, is_taken } = message {
        assert!(is_taken, "it was just written");
        let origin = (number >> PROCESS_SHIFT) as usize;
        let (shard, number) = read_on_way_number(number & ((1 << PROCESS_SHIFT) - 1));
        return outsides[origin]
            .try_send(shard, Control::Settled(vec![number]).into())
            .is_ok();
    }
    let to = 1 - from;
    if lines[to].is_over {
        let shard = said_by(&message).unwrap_or(0);
        return outsides[from]
            .try_send(shard, Control::Unsaid(Box::new(message)).into())
            .is_ok();
    }
    let what = match &message {
        Message::Question { .. } => "question of another process",
        Message::Told { .. } => "reply of another process",
        Message::Outcome { .. } => "outcome for another process",
        Message::Post { .. } => "post of another process",
        _ => "word of another process",
    };
    let message = through_packets(&message);
    let count = outsides[to].shards_count();
    let mail = mail_of(message, count, |client| home_of(&lines[to].hasher, client, count));
    let (shard, mail) = mail.expect("it is read");
    let is_sent = outsides[to].try_send(shard, mail).is_ok();
    if is_sent {
        ledger.happen(what);
    }
    is_sent
}

fn through_packets(message: &Message) -> Message {
    let mut assembly = Assembly::default();
    let mut whole = None;
    let sent = packets(message, |packet, _| -> Result<(), ()> {
        whole = assembly.add(packet).expect("it was just written");
        Ok(())
    });
    assert_eq!(sent, Ok(()));
    whole.expect("it is complete")
}
