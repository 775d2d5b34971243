//! Plays both sides against each other in a virtual time: whatever is said arrives late, and either process may hang, fail
//! or be killed between any two steps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Hello, Listener, ListenerName, Message, New, NewOutput, Old, OldOutput, Secret, TicketKeys};
use crate::random::Random;

/// A rule that is broken on purpose, so that the ledger can be shown to notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Broken {
    LetsGoWhenReady,
    WaitsForEver,
    ServesWhenReady,
    ForgetsTicketKeys,
}

const TIMEOUT: Duration = Duration::from_secs(60);
const LISTENERS: u32 = 3;

struct World {
    now: Instant,
    random: Random,
    old: Old,
    new: New,
    to_old: VecDeque<Message>,
    to_new: VecDeque<Message>,
    old_lives: bool,
    new_lives: bool,
    new_hangs: bool,
    new_prepares: bool,
    /// Somebody has killed the one or the other.
    is_disturbed: bool,
    old_accepts: bool,
    new_accepts: bool,
    /// What the new process said that it can't.
    new_failed: bool,
    /// Those of the old one, at the new one.
    has_ticket_keys: bool,
    said_go: bool,
    has_let_go: bool,
    undone: Option<String>,
}

impl World {
    fn new(seed: u64, broken: Option<Broken>) -> Self {
        let now = Instant::now();
        let mut out = Vec::new();
        let mut random = Random::new(seed);
        let mut own = Hello::own("old", LISTENERS, 4);
        let mut other = Hello::own("new", 0, 0);
        if random.percent(10) {
            (own.oldest, own.protocol, other.oldest, other.protocol) = (1, 1, 2, 3);
        }
        let mut old = Old::new(own, now, TIMEOUT, &mut out);
        let mut new = New::begin(other);
        (old.broken, new.broken) = (broken, broken);
        let mut world = Self {
            now,
            random,
            old,
            new,
            to_old: VecDeque::new(),
            to_new: VecDeque::new(),
            old_lives: true,
            new_lives: true,
            new_hangs: false,
            new_prepares: false,
            is_disturbed: false,
            old_accepts: true,
            new_accepts: false,
            new_failed: false,
            has_ticket_keys: false,
            said_go: false,
            has_let_go: false,
            undone: None,
        };
        world.act_old(out);
        world
    }

    fn act_old(&mut self, out: Vec<OldOutput>) {
        for output in out {
            assert!(
                self.undone.is_none() && (!self.has_let_go),
                "the last word is the last: {output:?}"
            );
            match output {
                OldOutput::Send(message) => {
                    self.said_go |= message == Message::Go;
                    self.to_new.push_back(message);
                }
                OldOutput::SendListeners => {
                    for _ in 0..LISTENERS {
                        self.to_new.push_back(Message::Listener(Listener {
                            name: ListenerName::Listen,
                            configured: "127.0.0.1:4000".parse().unwrap(),
                            is_kept: false,
                        }));
                    }
                }
                OldOutput::SendTicketKeys if self.old.broken == Some(Broken::ForgetsTicketKeys) => {}
                OldOutput::SendTicketKeys => self.to_new.push_back(Message::TicketKeys(TicketKeys {
                    age_ms: 1,
                    current: Secret::new(b"key"),
                    before: None,
                })),
                OldOutput::LetGo => {
                    self.has_let_go = true;
                    self.old_accepts = false;
                }
                OldOutput::Undo(words) => {
                    assert!(!words.is_empty());
                    self.undone = Some(words);
                    self.end_new();
                }
            }
        }
    }

    fn act_new(&mut self, out: Vec<NewOutput>) {
        for output in out {
            match output {
                NewOutput::Send(message) => {
                    self.new_failed |= matches!(message, Message::Failed(_));
                    self.to_old.push_back(message);
                }
                NewOutput::Prepare => self.new_prepares = true,
                NewOutput::Serve => self.new_accepts = true,
                NewOutput::End(_) => self.end_new(),
            }
        }
    }

    fn end_new(&mut self) {
        (self.new_lives, self.new_accepts) = (false, false);
    }

    fn end_old(&mut self) {
        (self.old_lives, self.old_accepts) = (false, false);
    }

    /// One thing that may happen next. False when nothing can any more.
    fn step(&mut self) -> bool {
        let mut out = Vec::new();
        let mut new_out = Vec::new();
        let can_new = self.new_lives && !self.new_hangs;
        // One that hangs is not killed by anybody else: the old one has to.
        let may_disturb = !self.new_hangs && (!self.is_disturbed || self.random.percent(5));
        match self.random.below(100) {
            0 if may_disturb && self.new_lives => {
                self.is_disturbed = true;
                self.end_new();
            }
            1 if may_disturb && self.old_lives => {
                self.is_disturbed = true;
                self.end_old();
            }
            2 if may_disturb && can_new => {
                self.is_disturbed = true;
                self.new_hangs = true;
            }
            3..30 if can_new && self.new_prepares => {
                self.new_prepares = false;
                if self.random.percent(20) {
                    self.new.handle_failed("no".into(), &mut new_out);
                    self.act_new(new_out);
                    self.end_new();
                    return true;
                }
                self.new.handle_ready(&mut new_out);
            }
            30..60 if can_new => match self.to_new.pop_front() {
                Some(message) => {
                    self.has_ticket_keys |= matches!(message, Message::TicketKeys(_));
                    self.new.handle_message(message, &mut new_out);
                }
                None if !self.old_lives => self.new.handle_end(&mut new_out),
                None => {}
            },
            60..90 if self.old_lives => match self.to_old.pop_front() {
                Some(message) => self.old.handle_message(message, self.now, &mut out),
                None if !self.new_lives => self.old.handle_end("it has ended".into(), &mut out),
                None => {}
            },
            90..100 => {
                self.now += Duration::from_millis(self.random.below(3000) as u64);
                if self.old_lives {
                    self.old.handle_deadline(self.now, &mut out);
                }
            }
            _ => {}
        }
        self.act_old(out);
        self.act_new(new_out);
        let old_waits = self.old_lives && !self.old.is_over();
        let new_waits = self.new_lives && !self.new_hangs && !self.new_accepts;
        old_waits || new_waits
    }

    /// At every moment.
    fn check(&self) -> Result<(), &'static str> {
        if self.new_accepts && self.old_lives && !self.is_disturbed && self.undone.is_some() {
            return Err("both serve for ever");
        }
        if self.has_let_go && self.new_accepts && !self.has_ticket_keys {
            return Err("the new one serves without the old one's keys");
        }
        if self.has_let_go && !self.new_accepts && !self.is_disturbed {
            return Err("nobody accepts");
        }
        if self.new_accepts && self.old_lives && self.old.deadline().is_some() && !self.said_go {
            return Err("the new one accepts while the old one may still undo it");
        }
        Ok(())
    }

    /// When nothing more can happen.
    fn check_end(&self) -> Result<(), &'static str> {
        if self.old_lives && !self.old.is_over() {
            return Err("the old one waits for ever");
        }
        if self.old_lives && self.undone.is_some() && (!self.old_accepts || self.new_lives) {
            return Err("what was undone is not as before");
        }
        if self.old_lives && self.new_lives && self.old_accepts == self.new_accepts && !self.new_hangs {
            return Err("one of both serves, and one alone");
        }
        let is_taken_over = self.new_accepts && !self.old_accepts;
        let has_a_reason = self.is_disturbed || self.new_failed || self.undone.is_some();
        if !is_taken_over && !has_a_reason {
            return Err("nothing went wrong, and it is not done");
        }
        Ok(())
    }
}

fn run(seed: u64, broken: Option<Broken>) -> (Result<(), String>, World) {
    let mut world = World::new(seed, broken);
    let mut steps = 0;
    let result = loop {
        if let Err(error) = world.check() {
            break Err(error);
        }
        if !world.step() {
            break world.check().and_then(|()| world.check_end());
        }
        steps += 1;
        if steps == 20_000 {
            break world.check_end();
        }
    };
    (
        result.map_err(|error| format!("seed {seed}, step {steps}: {error}")),
        world,
    )
}

#[test]
fn one_of_both_serves_whatever_happens_and_until_the_new_one_does_nothing_has_changed() {
    let first = Random::seed() >> 16;
    let (mut done, mut undone, mut failed, mut alone) = (0, 0, 0, 0);
    for seed in first..first + 20_000 {
        let (result, world) = run(seed, None);
        result.unwrap();
        done += usize::from(world.has_let_go);
        undone += usize::from(world.undone.is_some());
        failed += usize::from(world.new_failed);
        alone += usize::from(!world.old_lives && world.new_accepts && !world.has_let_go);
    }
    for (what, count) in [("done", done), ("undone", undone), ("failed", failed), ("alone", alone)] {
        assert!(count > 500, "{what}: {count}");
    }
}

#[test]
fn a_broken_rule_is_noticed() {
    for broken in [
        Broken::LetsGoWhenReady,
        Broken::WaitsForEver,
        Broken::ServesWhenReady,
        Broken::ForgetsTicketKeys,
    ] {
        let caught = (0..5_000).find(|seed| run(*seed, Some(broken)).0.is_err());
        assert!(caught.is_some(), "{broken:?}");
    }
}
