//! Plays one thread's chargers: connects them, says what is due, and lets them go at the end.
//!
//! Latency counts from when a Call was due, so a server that stalls shows it in all that was due meanwhile. A charger waits for
//! its answer before it says the next.

mod messages;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use data_encoding::BASE64;
use loadgen::engine::{self, End, Engine, Script, State, Tls};
use loadgen::poller::now_ns;
use loadgen::websocket::{self, Header};

use self::messages::handle_text;
use super::charger::{Charger, Open};
use super::ids::Ids;
use super::say::{Facts, Say};
use super::tally::{Live, Tally};
use super::trust;
use super::version::Version;
use protocol::ocpp::ids::ClientId;

/// What all threads do alike. Times are those of [`now_ns`].
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Tls>,
    pub(super) host: String,
    pub(super) prefix: String,
    pub(super) password: Option<String>,
    pub(super) chargers: u32,
    pub(super) versions: Vec<Version>,
    pub(super) ids: Ids,
    /// Marks what is this run's.
    pub(super) run: String,
    pub(super) start_ns: u64,
    pub(super) ramp_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) interval_ns: u64,
    pub(super) storm_ns: Option<u64>,
    pub(super) timeout_ns: u64,
}

/// Plays the chargers of thread `thread` of `threads`.
///
/// # Errors
/// What epoll says; what happens to single chargers is in the tally.
pub(super) fn play(
    plan: Arc<Plan>,
    (thread, threads): (u32, u32),
    live: Arc<Live>,
    stop: Arc<AtomicBool>,
) -> io::Result<Tally> {
    let chargers = engine::share(plan.chargers, thread, threads);
    let end_ns = plan.start_ns + plan.ramp_ns + plan.duration_ns;
    let tls = plan.tls.as_ref().map(trust::of_thread);
    let script = Chargers {
        next_storm_ns: plan
            .storm_ns
            .map_or(u64::MAX, |storm_ns| plan.start_ns + plan.ramp_ns + storm_ns),
        plan,
        live,
        stop,
        tally: Tally::default(),
        timers: BinaryHeap::new(),
        next_connect: 0,
        storming_since_ns: None,
        end_ns,
        phase: Phase::Playing,
        connected: 0,
        open_calls: 0,
        next_second_ns: 0,
        timestamp: String::new(),
    };
    let mut fleet = Engine::new(script, thread, threads, chargers)?;
    fleet.tls = tls;
    fleet.run()?;
    Ok(fleet.finish().tally)
}

/// Memory that a charger takes here, beside its socket: that of the kernel, and bytes that came in part.
pub(super) const CHARGER_BYTES: usize = size_of::<engine::Client<Charger>>() + size_of::<Timer>();

/// When, and which slot.
type Timer = Reverse<(u64, u32)>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Playing,
    /// Nothing more is said; what was asked may still be answered.
    Waiting {
        until_ns: u64,
    },
    /// From the first slot on they say that they close.
    Closing {
        next: usize,
        until_ns: u64,
    },
    Over,
}

struct Chargers {
    plan: Arc<Plan>,
    live: Arc<Live>,
    stop: Arc<AtomicBool>,
    tally: Tally,
    /// Each charger that is connected and has no Call open has one that counts ([`Charger::armed_ns`]).
    timers: BinaryHeap<Timer>,
    next_connect: usize,
    /// In a storm, when it began: all connects are due then.
    storming_since_ns: Option<u64>,
    next_storm_ns: u64,
    end_ns: u64,
    phase: Phase,
    connected: u32,
    open_calls: u32,
    next_second_ns: u64,
    /// The time of day, for payloads.
    timestamp: String,
}

type Fleet = Engine<Chargers>;

impl Script for Chargers {
    type Client = Charger;

    fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn advance(fleet: &mut Fleet, now: u64) -> u64 {
        if now >= fleet.script.next_second_ns {
            fleet.script.next_second_ns = now + SECOND_NS;
            fleet.script.timestamp = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            give_up(fleet, now);
        }
        let due = match fleet.script.phase {
            Phase::Playing => advance_playing(fleet, now),
            Phase::Waiting { until_ns } => {
                if (fleet.script.open_calls == 0 && fleet.handshaking() == 0) || now >= until_ns {
                    fleet.script.phase = Phase::Closing {
                        next: 0,
                        until_ns: now + CLOSE_TIMEOUT_NS,
                    };
                    now
                } else {
                    until_ns
                }
            }
            Phase::Closing { next, until_ns } => advance_closing(fleet, next, until_ns, now),
            Phase::Over => now,
        };
        due.min(fleet.script.next_second_ns)
    }

    fn write_request(&self, number: u32, out: &mut Vec<u8>) {
        let id = self.id(number);
        let path = ClientId::parse(&id).map_or_else(|_| id.clone(), |id| id.encoded().into_owned());
        let Plan { host, prefix, .. } = &*self.plan;
        for part in ["GET ", prefix, &path, " HTTP/1.1\r\nHost: ", host, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some(password) = &self.plan.password {
            let credentials = BASE64.encode(format!("{id}:{password}").as_bytes());
            out.extend_from_slice(format!("Authorization: Basic {credentials}\r\n").as_bytes());
        }
    }

    fn subprotocol(&self, number: u32) -> Option<&str> {
        Some(self.version(number).subprotocol())
    }

    fn handle_open(fleet: &mut Fleet, slot: usize) {
        let now = now_ns();
        let is_resumed = fleet.is_resumed(slot);
        let script = &mut fleet.script;
        script.tally.connects += 1;
        script.tally.resumed += u64::from(is_resumed);
        script.connected += 1;
        Live::add(&script.live.connected);
        let charger = fleet.client(slot);
        let (due, is_known) = (charger.step_ns, std::mem::replace(&mut charger.known, true));
        charger.begin(now);
        let tally = &mut fleet.script.tally;
        tally.connected += u64::from(!is_known);
        tally.connect_latency.saturating_record(micros(due, now));
        if fleet.script.phase == Phase::Playing {
            speak(fleet, slot);
        }
    }

    fn handle_data(fleet: &mut Fleet, slot: usize, header: Header, payload: &[u8]) {
        if fleet.state(slot) != State::Open {
            // It has said goodbye.
            return;
        }
        let fragments = &mut fleet.client(slot).fragments;
        match (header.opcode, fragments.take()) {
            (websocket::TEXT, None) if header.fin => handle_text(fleet, slot, payload),
            (websocket::TEXT, None) => *fragments = Some(payload.to_vec()),
            (CONTINUATION, Some(mut so_far)) => {
                if so_far.len() + payload.len() > websocket::PAYLOAD_LEN_MAX {
                    return fleet.end(slot, &End::Broken("a message that is too long"));
                }
                so_far.extend_from_slice(payload);
                if header.fin {
                    handle_text(fleet, slot, &so_far);
                } else {
                    *fragments = Some(so_far);
                }
            }
            _ => fleet.end(slot, &End::Broken("a frame that does not belong there")),
        }
    }

    fn handle_ping(&mut self) {}

    fn handle_end(fleet: &mut Fleet, slot: usize, was: State, end: &End<'_>) {
        lose_call(fleet, slot);
        fleet.client(slot).armed_ns = 0;
        let id = fleet.script.id(fleet.number(slot));
        let script = &mut fleet.script;
        if was != State::Handshaking {
            script.connected -= 1;
            Live::subtract(&script.live.connected);
        }
        let tally = &mut script.tally;
        match (was, end) {
            // It was asked for.
            (State::Closing, _) => return,
            (State::Handshaking, End::Refused(status)) => *tally.refused.entry(*status).or_default() += 1,
            (State::Handshaking, End::Misunderstood(_)) => tally.misunderstood += 1,
            (State::Handshaking, End::Cut) => tally.count_failed("closed without an answer"),
            (State::Handshaking, End::Failed(error)) => tally.count_failed(&words(error)),
            (State::Handshaking, End::NoTls(error)) => tally.count_failed(&trust::words(error)),
            (State::Handshaking, _) => tally.count_failed(&end.to_string()),
            (_, End::Closed(code)) => *tally.closed.entry(*code).or_default() += 1,
            (_, End::Broken(_)) => tally.broken += 1,
            _ => tally.cut += 1,
        }
        tally.note(|| format!("{id}: {end}"));
        Live::add(&script.live.faults);
    }
}

impl Chargers {
    fn id(&self, number: u32) -> String {
        self.plan.ids.text(number + 1)
    }

    fn version(&self, number: u32) -> Version {
        let versions = &self.plan.versions;
        versions[number as usize % versions.len()]
    }

    /// When the first step of a charger's first transaction is due after its boot: somewhere in the interval, not all at once.
    fn first_step_ns(&self, number: u32) -> u64 {
        let place = number.wrapping_mul(0x9e37_79b9) >> 16;
        ((u128::from(self.plan.interval_ns) * u128::from(place)) >> 16) as u64
    }
}

fn advance_playing(fleet: &mut Fleet, now: u64) -> u64 {
    let script = &mut fleet.script;
    if now >= script.end_ns || script.stop.load(Ordering::Relaxed) {
        script.phase = Phase::Waiting {
            // So that what is not answered in time is counted as that.
            until_ns: now + script.plan.timeout_ns + 2 * SECOND_NS,
        };
        return now;
    }
    if now >= script.next_storm_ns {
        storm(fleet, now);
    }
    let due = connect_due(fleet, now).min(speak_due(fleet, now));
    due.min(fleet.script.end_ns).min(fleet.script.next_storm_ns)
}

/// Says a few goodbyes more, and notices when all have gone.
fn advance_closing(fleet: &mut Fleet, mut next: usize, until_ns: u64, now: u64) -> u64 {
    let last = (next + CLOSES_PER_PASS).min(fleet.len());
    for slot in next..last {
        fleet.close(slot, NORMAL_CLOSURE);
    }
    next = last;
    let is_said = next == fleet.len();
    fleet.script.phase = match is_said && (fleet.script.connected == 0 || now >= until_ns) {
        true => Phase::Over,
        false => Phase::Closing { next, until_ns },
    };
    if is_said { until_ns } else { now }
}

/// All lose their connections at once, and come again at once.
fn storm(fleet: &mut Fleet, now: u64) {
    for slot in 0..fleet.len() {
        let was = fleet.state(slot);
        lose_call(fleet, slot);
        fleet.cut(slot);
        if was == State::Open {
            fleet.script.connected -= 1;
            Live::subtract(&fleet.script.live.connected);
        }
    }
    let script = &mut fleet.script;
    script.timers.clear();
    script.tally.storms += 1;
    script.next_connect = 0;
    script.storming_since_ns = Some(now);
    script.next_storm_ns = now + script.plan.storm_ns.unwrap_or(u64::MAX >> 1);
}

/// Begins what connects are due, and says when the next is.
fn connect_due(fleet: &mut Fleet, now: u64) -> u64 {
    for _ in 0..CONNECTS_PER_PASS {
        let slot = fleet.script.next_connect;
        if slot == fleet.len() {
            return u64::MAX;
        }
        let plan = &fleet.script.plan;
        let ramp = u128::from(plan.ramp_ns) * u128::from(fleet.number(slot)) / u128::from(plan.chargers);
        let due = fleet.script.storming_since_ns.unwrap_or(plan.start_ns + ramp as u64);
        if due > now {
            return due;
        }
        let address = plan.address;
        fleet.script.next_connect += 1;
        fleet.client(slot).begin(due);
        fleet.connect(slot, address);
    }
    now
}

/// Says what is due, and when the next is.
fn speak_due(fleet: &mut Fleet, now: u64) -> u64 {
    for _ in 0..CALLS_PER_PASS {
        let Some(Reverse((due, slot))) = fleet.script.timers.peek().copied() else {
            return u64::MAX;
        };
        if due > now {
            return due;
        }
        fleet.script.timers.pop();
        let charger = fleet.client(slot as usize);
        // It may be that of a connection that is over.
        if charger.armed_ns == due {
            charger.armed_ns = 0;
            speak(fleet, slot as usize);
        }
    }
    now
}

/// A charger sends its next Call.
fn speak(fleet: &mut Fleet, slot: usize) {
    let number = fleet.number(slot);
    let version = fleet.script.version(number);
    let charger = fleet.client(slot);
    let (say, due_ns) = charger.next();
    charger.calls = charger.calls.wrapping_add(1);
    match say {
        Say::Start => charger.transaction = own_transaction(number, charger.calls),
        Say::Meter(_) => charger.energy += ENERGY_STEP_WH,
        _ => {}
    }
    let sent_ns = now_ns();
    charger.open = Some(Open { say, due_ns, sent_ns });
    let (call, transaction, energy) = (charger.calls, charger.transaction, charger.energy);
    let script = &mut fleet.script;
    let facts = Facts {
        now: &script.timestamp,
        run: &script.plan.run,
        transaction,
        energy,
    };
    fleet.text.clear();
    version.write_call(say, call, &facts, &mut fleet.text);
    script.open_calls += 1;
    script.tally.calls[version.action(say) as usize].sent += 1;
    fleet.send(slot);
}

/// A charger whose Call is over goes on: at once, or when the next is due.
fn go_on(fleet: &mut Fleet, slot: usize, now: u64) {
    if fleet.script.phase != Phase::Playing || fleet.state(slot) != State::Open {
        return;
    }
    let (_, due) = fleet.client(slot).next();
    if due <= now {
        return speak(fleet, slot);
    }
    fleet.client(slot).armed_ns = due;
    fleet.script.timers.push(Reverse((due, slot as u32)));
}

/// Once a second: who was not answered in time is not waited for any longer.
fn give_up(fleet: &mut Fleet, now: u64) {
    let timeout_ns = fleet.script.plan.timeout_ns;
    let is_over = |since: u64| now.saturating_sub(since) > timeout_ns;
    for slot in 0..fleet.len() {
        match fleet.state(slot) {
            State::Handshaking if is_over(fleet.client(slot).step_ns) => fleet.end(slot, &End::TimedOut),
            State::Open => {
                let charger = fleet.client(slot);
                let Some(open) = charger.open.take_if(|open| is_over(open.sent_ns)) else {
                    continue;
                };
                let number = fleet.number(slot);
                let (version, id) = (fleet.script.version(number), fleet.script.id(number));
                let script = &mut fleet.script;
                let action = version.action(open.say);
                script.open_calls -= 1;
                script.tally.calls[action as usize].timed_out += 1;
                script.tally.note(|| format!("{id}: no answer to {}", action.name()));
                Live::add(&script.live.faults);
                let interval_ns = script.plan.interval_ns;
                let charger = fleet.client(slot);
                if open.say == Say::Boot {
                    charger.handle_boot(false, OWN_INTERVAL_S, 0, now);
                } else {
                    charger.handle_over(open, false, interval_ns, now);
                }
                go_on(fleet, slot, now);
            }
            _ => {}
        }
    }
}

/// The connection is over, and with it the Call that waits on it.
fn lose_call(fleet: &mut Fleet, slot: usize) {
    if let Some(open) = fleet.client(slot).open.take() {
        let action = fleet.script.version(fleet.number(slot)).action(open.say);
        fleet.script.tally.calls[action as usize].lost += 1;
        fleet.script.open_calls -= 1;
    }
}

/// No other charger of the run has this one, and this one has it once.
fn own_transaction(number: u32, calls: u32) -> i64 {
    i64::from(number) << 32 | i64::from(calls)
}

/// What the network says, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The time from `due_ns` to `now_ns` in whole microseconds.
fn micros(due_ns: u64, now_ns: u64) -> u64 {
    now_ns.saturating_sub(due_ns) / 1000
}

const SECOND_NS: u64 = 1_000_000_000;
/// The server may take so long to say goodbye.
const CLOSE_TIMEOUT_NS: u64 = 10 * SECOND_NS;
const CONNECTS_PER_PASS: usize = 16;
const CALLS_PER_PASS: usize = 32;
const CLOSES_PER_PASS: usize = 64;
const CONTINUATION: u8 = 0;
const NORMAL_CLOSURE: u16 = 1000;
/// Heartbeats of a charger that may choose, in seconds.
const OWN_INTERVAL_S: u64 = 300;
const ENERGY_STEP_WH: u64 = 100;

// 100,000 chargers are a few MB.
const _: () = assert!(CHARGER_BYTES <= 256);
