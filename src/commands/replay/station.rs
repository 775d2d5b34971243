//! Plays one client: its connections one after another.

use std::time::{Duration, Instant};

use super::connection::{Connection, Received};
use super::recording::{Client, Pushed, Recorded};
use super::tally::{ANSWERS, PUSHES, Tally};
use crate::commands::target::Target;
use protocol::ocpp::json;
use protocol::tap::{Head, Kind};

/// When what is said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As fast as the server answers.
    Fast,
    /// As it was recorded, so many times as fast.
    Times(f64),
}

/// A client that is played.
pub(super) struct Station<'r> {
    client: &'r Client,
    target: &'r Target,
    pace: Pace,
    started: Instant,
    tally: Tally,
}

/// How far a connection has got.
struct Progress<'r> {
    recorded: &'r Recorded,
    /// Messages that were said.
    said: usize,
    /// By message: whether its answer has come.
    answered: Vec<bool>,
    /// Answers that had been recorded, and have come or are waited for no longer.
    answers: usize,
    /// By push: whether it has come.
    came: Vec<bool>,
    /// When something was said or heard last.
    last: Instant,
}

impl<'r> Station<'r> {
    pub(super) fn new(client: &'r Client, target: &'r Target, pace: Pace, started: Instant) -> Self {
        Self {
            client,
            target,
            pace,
            started,
            tally: Tally::default(),
        }
    }

    /// Plays it all, and says how it went.
    pub(super) fn play(mut self) -> Tally {
        let client = self.client;
        for recorded in &client.connections {
            for said in &recorded.said {
                if let Some((_, action)) = said.call.as_ref().filter(|_| said.answer.is_some()) {
                    self.tally.row(ANSWERS, action).count += 1;
                }
            }
            for push in &recorded.pushed {
                self.tally.row(PUSHES, &push.action).count += 1;
            }
            std::thread::sleep(self.until(recorded.begins));
            match Connection::open(self.target, &self.client.id, recorded.subprotocol.as_deref()) {
                Ok(Some(connection)) => self.play_connection(connection, recorded),
                Ok(None) | Err(_) => {
                    self.tally.refused += 1;
                    self.count_missing(&Progress::new(recorded));
                }
            }
        }
        self.tally
    }

    fn play_connection(&mut self, mut connection: Connection, recorded: &Recorded) {
        let mut progress = Progress::new(recorded);
        loop {
            while let Some(said) = progress.next_due(self.until(progress.next_at())) {
                progress.last = Instant::now();
                if !connection.send(&said.text) {
                    return self.handle_closed(&progress);
                }
            }
            if progress.is_over() && self.until(recorded.ends).is_zero() {
                break;
            }
            let wait = match progress.is_over() || progress.may_speak() {
                true => self.until(progress.next_at()).min(STEP),
                false => STEP,
            };
            match connection.receive(wait) {
                Received::Text(text) => {
                    progress.last = Instant::now();
                    let Some(answer) = self.handle_text(&mut progress, &text) else {
                        continue;
                    };
                    if !connection.send(&answer) {
                        return self.handle_closed(&progress);
                    }
                }
                Received::Nothing => progress.give_up(),
                Received::Closed => return self.handle_closed(&progress),
            }
        }
        self.count_missing(&progress);
        connection.close(recorded.code);
    }

    /// What the server says; what is to be answered.
    fn handle_text(&mut self, progress: &mut Progress<'_>, text: &str) -> Option<String> {
        let head = Head::read(text);
        let id = head.message_id.as_deref().unwrap_or_default();
        let action = head.action.as_deref().unwrap_or_default();
        match head.kind {
            Kind::Call | Kind::Send => {
                let Some(push) = progress.find_push(id, action) else {
                    self.tally.row(PUSHES, action).unexpected += 1;
                    let refusal = format!(
                        "[4,{},\"NotImplemented\",\"not in the recording\",{{}}]",
                        json::string(id)
                    );
                    return (head.kind == Kind::Call).then_some(refusal);
                };
                // Another id is no difference: the backend chooses it.
                let now = with_id(text, &push.id);
                self.tally.compare(PUSHES, action, &push.text, &now);
                push.answer.as_ref().map(|answer| with_id(answer, id))
            }
            _ => {
                if let Some((recorded, action)) = progress.find_call(id) {
                    self.tally.compare(ANSWERS, action, recorded, text);
                } else {
                    self.tally.row(ANSWERS, progress.action(id)).unexpected += 1;
                }
                None
            }
        }
    }

    fn handle_closed(&mut self, progress: &Progress<'_>) {
        // With the recording it may end, as it did there.
        if !progress.is_over() {
            self.tally.closed += 1;
        }
        self.count_missing(progress);
    }

    fn count_missing(&mut self, progress: &Progress<'_>) {
        for (said, answered) in progress.recorded.said.iter().zip(&progress.answered) {
            if let Some((_, action)) = said.call.as_ref().filter(|_| said.answer.is_some() && !answered) {
                self.tally.row(ANSWERS, action).missing += 1;
            }
        }
        for (push, came) in progress.recorded.pushed.iter().zip(&progress.came) {
            self.tally.row(PUSHES, &push.action).missing += u64::from(!came);
        }
    }

    /// How long it is until what was recorded then is due.
    fn until(&self, at: Duration) -> Duration {
        match self.pace {
            Pace::Fast => Duration::ZERO,
            Pace::Times(factor) => at.div_f64(factor).saturating_sub(self.started.elapsed()),
        }
    }
}

impl<'r> Progress<'r> {
    fn new(recorded: &'r Recorded) -> Self {
        Self {
            recorded,
            said: 0,
            answered: vec![false; recorded.said.len()],
            answers: 0,
            came: vec![false; recorded.pushed.len()],
            last: Instant::now(),
        }
    }

    /// When what comes next was said, or the end.
    fn next_at(&self) -> Duration {
        self.recorded
            .said
            .get(self.said)
            .map_or(self.recorded.ends, |said| said.at)
    }

    /// Whether what had been answered before the next message is answered.
    fn may_speak(&self) -> bool {
        let next = self.recorded.said.get(self.said);
        next.is_some_and(|next| next.after_answers <= self.answers)
    }

    fn next_due(&mut self, until: Duration) -> Option<&'r super::recording::Said> {
        if !self.may_speak() || !until.is_zero() {
            return None;
        }
        self.said += 1;
        self.recorded.said.get(self.said - 1)
    }

    /// The recorded answer to that Call, and its Action.
    fn find_call(&mut self, id: &str) -> Option<(&'r str, &'r str)> {
        let recorded: &'r Recorded = self.recorded;
        for (said, answered) in recorded.said.iter().zip(&mut self.answered).take(self.said) {
            if let (Some((own, action)), Some(answer), false) = (&said.call, &said.answer, *answered)
                && own == id
            {
                *answered = true;
                self.answers += 1;
                return Some((answer, action));
            }
        }
        None
    }

    /// The Action of a Call that was said.
    fn action(&self, id: &str) -> &'r str {
        let said = &self.recorded.said[..self.said];
        let own = said
            .iter()
            .rev()
            .filter_map(|said| said.call.as_ref())
            .find(|(own, _)| own == id);
        own.map_or("", |(_, action)| action)
    }

    /// The recorded push that this is: the one of that id, or the first of that Action.
    fn find_push(&mut self, id: &str, action: &str) -> Option<&'r Pushed> {
        let recorded: &'r Recorded = self.recorded;
        let open = |index: &usize| !self.came[*index] && recorded.pushed[*index].action == action;
        let mut all = 0..recorded.pushed.len();
        let same = all.clone().filter(open).find(|index| recorded.pushed[*index].id == id);
        let index = same.or_else(|| all.find(open))?;
        self.came[index] = true;
        recorded.pushed.get(index)
    }

    /// All is said, and all has come that had come.
    fn is_over(&self) -> bool {
        let has_all = self.came.iter().all(|came| *came) || self.last.elapsed() >= PUSH_TIMEOUT;
        let answers = self.recorded.said.iter().filter(|said| said.answer.is_some()).count();
        self.said == self.recorded.said.len() && self.answers >= answers && has_all
    }

    /// What has not come for so long is not waited for.
    fn give_up(&mut self) {
        if self.last.elapsed() >= ANSWER_TIMEOUT {
            let said = &self.recorded.said[..self.said];
            self.answers = said.iter().filter(|said| said.answer.is_some()).count();
        }
    }
}

/// The message with another MessageId.
fn with_id(message: &str, id: &str) -> String {
    let elements = json::split_array(message, json::DEPTH_MAX);
    match elements.as_slice() {
        [_, own, ..] => {
            let start = own.as_ptr() as usize - message.as_ptr() as usize;
            let (before, behind) = (&message[..start], &message[start + own.len()..]);
            [before, &json::string(id), behind].concat()
        }
        _ => message.to_owned(),
    }
}

/// How long is looked for news before the clock is looked at again.
const STEP: Duration = Duration::from_millis(100);
/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a push is waited for that was recorded, when nothing else is to come.
const PUSH_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gets_the_id_of_what_it_answers_and_stays_as_it_was() {
        assert_eq!(
            with_id(r#"[3, "old" ,{"a":1.0}]"#, "n\"ew"),
            r#"[3, "n\"ew" ,{"a":1.0}]"#
        );
        assert_eq!(with_id("x", "1"), "x");
    }
}
