//! Plays what happens to connections: slow writes, time, shutdown, loss, replacement.

use std::time::Duration;

use super::ledger::{CallStage, PushStage, Pushed, Stage, ensure};
use super::world::{CLIENTS, Checked, World};
use crate::ocpp::{Event, FailReason, Outcome, Push, PushKey};

impl World {
    pub(super) fn socket_writes(&mut self, who: usize) -> Checked {
        let client = &mut self.clients[who];
        let Some((key, id)) = client.socket.front().cloned() else {
            return Ok(());
        };
        client.seen.push(id.clone());
        if client.seen.len() > 6 {
            client.seen.remove(0);
        }
        if self.random.percent(20) {
            self.happen("seen before it was reported written");
            return Ok(());
        }
        self.written(who, key, &id)
    }

    pub(super) fn written(&mut self, who: usize, key: PushKey, id: &str) -> Checked {
        self.clients[who].socket.pop_front();
        let ledger = &mut self.clients[who].ledger;
        if ledger.stage < Stage::Closing {
            let is =
                |pushed: &&mut Pushed| pushed.stage == PushStage::Sent(key) && pushed.push.message_id.as_str() == id;
            if let Some(pushed) = ledger.pushes.iter_mut().find(is) {
                pushed.stage = PushStage::Written(self.now + ledger.limits.push_timeout);
            }
        }
        self.act(who, |session, now, out| session.handle_push_written(now, key, out))
    }

    pub(super) fn time_passes(&mut self) -> Checked {
        let next = self
            .clients
            .iter()
            .filter_map(|client| client.ledger.next_deadline())
            .min();
        self.now += match next {
            Some(next) if self.random.percent(30) => next.saturating_duration_since(self.now),
            _ if self.random.percent(8) => Duration::from_secs(130),
            _ => Duration::from_millis(self.random.below(9_000) as u64),
        };
        while let Some(late) = self.requests.iter().position(|request| request.deadline <= self.now) {
            self.happen("request deadline");
            self.backend_answers_request(late, 0)?;
        }
        for who in 0..CLIENTS {
            // A deadline that comes too early changes nothing.
            let due = self.clients[who]
                .ledger
                .next_deadline()
                .is_some_and(|deadline| deadline <= self.now);
            if due || self.random.percent(10) {
                self.clients[who].ledger.expect_deadline(self.now);
                let expected = &self.clients[who].ledger.expected;
                let timeouts = (
                    expected.outcomes.len(),
                    expected.frames.len(),
                    expected.ping,
                    expected.drop,
                );
                for (what, happens) in [
                    ("push timeout", timeouts.0 > 0),
                    ("deferral timeout", timeouts.1 > 0),
                    ("ping", timeouts.2),
                    ("dead peer", timeouts.3),
                ] {
                    if happens {
                        self.happen(what);
                    }
                }
                self.act(who, |session, now, out| session.handle_deadline(now, out))?;
            }
        }
        Ok(())
    }

    pub(super) fn shut_down(&mut self, who: usize) -> Checked {
        let ledger = &mut self.clients[who].ledger;
        ledger.hold_calls(self.now, false);
        if ledger.stage == Stage::Open {
            ledger.stage = Stage::Draining;
            for index in 0..ledger.pushes.len() {
                if ledger.pushes[index].stage == PushStage::Waiting {
                    let id = ledger.pushes[index].push.message_id.to_string();
                    ledger.expect_outcome(
                        &id,
                        Outcome::Failed {
                            reason: FailReason::Shutdown,
                            sent: false,
                        },
                    );
                }
            }
            self.happen("shutdown");
        }
        self.act(who, |session, now, out| session.handle_shutdown(now, out))
    }

    /// Its turn to leave: what has not begun does not begin.
    pub(super) fn leave(&mut self, who: usize) -> Checked {
        self.shut_down(who)?;
        let ledger = &mut self.clients[who].ledger;
        if ledger.stage == Stage::Draining {
            let read_before = ledger.wants_read();
            ledger.stage = Stage::Leaving;
            let count = ledger.calls.len();
            ledger.calls.retain(|call| call.stage != CallStage::Waiting);
            for _ in ledger.calls.len()..count {
                ledger.expected.counts.push(Event::CallDropped);
            }
            if !read_before {
                ledger.heard(self.now);
            }
            self.happen("leave");
        }
        self.act(who, |session, now, out| session.handle_leave(now, out))
    }

    /// The connection ends, another one begins.
    pub(super) fn end(&mut self, who: usize) -> Checked {
        let reasons = [
            FailReason::Disconnected,
            FailReason::Replaced,
            FailReason::Replaced,
            FailReason::Shutdown,
        ];
        let reason = reasons[self.random.below(reasons.len())];
        self.happen(if reason == FailReason::Replaced {
            "replacement"
        } else {
            "loss"
        });
        let unsent = self.end_for(who, reason)?;
        let connection = self.connect(who)?;
        let ended = std::mem::replace(&mut self.clients[who], connection);
        if self.requests.iter().any(|request| request.connection == ended.number) {
            self.ended.push(ended);
        }
        self.tell_earlier_calls(who)?;
        if self.random.percent(20) {
            self.backend_pushes(who)?;
        }
        let ledger = &mut self.clients[who].ledger;
        let in_flight = ledger.pushes_in_flight();
        for (index, push) in unsent.iter().cloned().enumerate() {
            ledger.pushes.insert(
                in_flight + index,
                Pushed {
                    push,
                    stage: PushStage::Waiting,
                },
            );
        }
        if !unsent.is_empty() {
            ledger.hold(self.now);
            self.happen("adoption");
        }
        self.act(who, |session, now, out| session.adopt(now, unsent, out))
    }

    /// How many Calls of this client's earlier connections are at the backend.
    pub(super) fn tell_earlier_calls(&mut self, who: usize) -> Checked {
        let earlier = self.ended.iter().filter(|ended| ended.who == who);
        let numbers: Vec<_> = earlier.map(|ended| ended.number).collect();
        let requests = self.requests.iter();
        let count = requests.filter(|request| numbers.contains(&request.connection)).count();
        self.clients[who].ledger.set_earlier_calls(self.now, count);
        if count > 0 {
            self.happen("calls of an earlier connection");
        }
        self.act(who, |session, now, out| session.handle_earlier_calls(now, count, out))
    }

    pub(super) fn end_for(&mut self, who: usize, reason: FailReason) -> Result<Vec<Push>, String> {
        let ledger = &mut self.clients[who].ledger;
        ledger.stage = Stage::Ended;
        for _ in ledger.in_flight()..ledger.calls.len() {
            ledger.expected.counts.push(Event::CallDropped);
        }
        let mut unsent = Vec::new();
        for index in 0..ledger.pushes.len() {
            let Pushed { push, stage } = &ledger.pushes[index];
            let (push, sent) = (push.clone(), *stage != PushStage::Waiting);
            if !sent && reason == FailReason::Replaced {
                unsent.push(push);
            } else {
                ledger.expect_outcome(push.message_id.as_str(), Outcome::Failed { reason, sent });
            }
        }
        let mut returned = Vec::new();
        self.act(who, |session, now, out| returned = session.handle_end(now, reason, out))?;
        let ids = |pushes: &[Push]| {
            pushes
                .iter()
                .map(|push| push.message_id.to_string())
                .collect::<Vec<_>>()
        };
        ensure!(
            ids(&returned) == ids(&unsent),
            "{:?} handed over instead of {:?}",
            ids(&returned),
            ids(&unsent)
        );
        Ok(returned)
    }
}
