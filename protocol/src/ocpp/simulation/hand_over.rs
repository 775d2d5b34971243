//! Hands sessions over to another process at any time at which they are quiet: nothing of that may be seen.

use super::ledger::{CallStage, PushStage, Pushed, Stage, ensure};
use super::world::{Checked, World};
use crate::ocpp::{Action, MessageId, Push, Session};
use crate::record::{Fields, Writer};

/// A field of the record that is left out on purpose, in a field of fields or not: the simulation has to notice.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftOut(pub(super) u32, pub(super) Option<u32>);

impl World {
    /// It is to move, or not any more.
    pub(super) fn want_to_move(&mut self, who: usize, is_wanted: bool) -> Checked {
        let ledger = &mut self.clients[who].ledger;
        ledger.hold_calls(self.now, is_wanted);
        if ledger.holds_calls {
            self.happen("is to move");
        }
        self.act(who, |session, now, out| session.handle_move(now, is_wanted, out))
    }

    /// An older connection of a client that has spoken comes from another process, and is replaced at once: what it had not sent goes
    /// before what waits here.
    pub(super) fn adopt_late(&mut self, who: usize) -> Checked {
        let ledger = &self.clients[who].ledger;
        let limits = &ledger.limits;
        let has_room = ledger.pushes.len() < limits.pushes_in_flight + limits.pushes_queued;
        if ledger.stage != Stage::Open || !ledger.has_spoken || !has_room {
            return Ok(());
        }
        self.count += 1;
        let push = Push {
            action: Action::parse("Reset").expect("an Action"),
            message_id: MessageId::parse(&format!("p{}", self.count)).expect("an id"),
            payload: "{}".into(),
            waiter: None,
            trace: None,
        };
        let ledger = &mut self.clients[who].ledger;
        let pushed = Pushed {
            push: push.clone(),
            stage: PushStage::Waiting,
        };
        ledger.pushes.insert(ledger.pushes_in_flight(), pushed);
        self.accepted += 1;
        self.happen("late adoption");
        self.act(who, |session, now, out| session.adopt(now, vec![push], out))
    }

    /// Another process goes on with the session, if that is quiet.
    pub(super) fn hand_over(&mut self, who: usize) -> Checked {
        let connection = &mut self.clients[who];
        // A frame that has not left yet stays with its socket, and the client with both.
        if !connection.session.is_quiet() || !connection.socket.is_empty() {
            return Ok(());
        }
        let ledger = &connection.ledger;
        ensure!(ledger.stage == Stage::Open, "handed over while {:?}", ledger.stage);
        let is_at_backend = |stage| matches!(stage, CallStage::AtBackend(..) | CallStage::AnsweredEarly(_));
        ensure!(
            !ledger.calls.iter().any(|call| is_at_backend(call.stage)),
            "handed over with a Call at the backend"
        );
        let before = connection.session.traffic();
        let mut record = write(&connection.session, self.now);
        if let Some(left_out) = self.left_out {
            record = without(Fields::of_record(&record).expect("just written"), left_out, true);
        }
        let fields = Fields::of_record(&record).expect("just written");
        let mut restored = Session::from_record(fields, self.limits.clone(), self.now)
            .map_err(|error| format!("its own record: {error}"))?;
        ensure!(restored.traffic() == before, "the traffic is another one");
        if self.left_out.is_none() {
            ensure!(
                write(&restored, self.now) == record,
                "read and written again it is another record"
            );
        }
        restored.fault = self.fault;
        connection.ledger.hold_calls(self.now, false);
        let ledger = &connection.ledger;
        connection.session.handle_handed_over();
        ensure!(
            connection.session.next_deadline().is_none() && connection.session.held_len() == 0,
            "something stays behind"
        );
        connection.session = restored;
        for (what, happens) in [
            ("handed over", true),
            ("handed over with a push in flight", !ledger.pushes.is_empty()),
            ("handed over with a deferred call", !ledger.calls.is_empty()),
        ] {
            if happens {
                *self.happened.entry(what).or_default() += 1;
            }
        }
        self.act(who, |session, now, out| session.resume(now, out))
    }
}

fn write(session: &Session, now: std::time::Instant) -> Vec<u8> {
    let mut record = Vec::new();
    session.write_record(now, &mut Writer::new(&mut record));
    record
}

/// The same fields without one of them.
fn without(mut fields: Fields<'_>, LeftOut(number, part): LeftOut, is_record: bool) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut writer = match is_record {
        true => Writer::new(&mut kept),
        false => Writer::fields_only(&mut kept),
    };
    while let Some(field) = fields.next().expect("fields") {
        match part {
            _ if field.number != number => writer.bytes(field.number, field.bytes()),
            None => {}
            Some(part) => writer.bytes(number, &without(field.fields(), LeftOut(part, None), false)),
        }
    }
    kept
}
