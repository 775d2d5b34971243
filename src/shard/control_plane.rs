//! What the process wants of all its shards, and what each of them says of itself, as words that stay until they are read.
//!
//! A message can be refused by a full ring, and nobody answers one while a shard is busy. What stands here is neither lost nor
//! waited for: the process writes a word and wakes the shards, and each compares it with the last one that it has seen at the
//! end of every pass. Health and the watchdog read what the shards have written, and ask nobody.
//!
//! Each word has one writer: an ordinary thread (one at a time, by `writing`), or its shard.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use shards::mesh::NodeHandle;

use super::mail::Mail;
use crate::backend::Trust;
use crate::client::tls::Terms;
use crate::config::Config;
use crate::observe::report::Report;
use crate::token::Token;

/// Shared by the ordinary threads and all shards.
#[derive(Debug)]
pub struct ControlPlane {
    epoch: Instant,
    /// Grows with everything that the shards are to look at.
    word: AtomicU64,
    /// Clients are taken.
    opens: AtomicBool,
    drains: AtomicBool,
    /// Who serves newcomers: one of the constants below.
    role: AtomicU8,
    /// It takes no more clients.
    stops_moving: AtomicBool,
    /// The process that was taken over has not ended yet.
    has_predecessor: AtomicBool,
    /// The other process of a takeover can be asked.
    has_other: AtomicBool,
    /// How many of them are gone.
    others_gone: AtomicU64,
    /// The number of the last configuration.
    reloads: AtomicU64,
    /// Held by ordinary threads while they write, and by a shard while it takes a new configuration.
    writing: Mutex<Option<Reload>>,
    shards: Box<[ShardWords]>,
}

/// What one shard says of itself; no other writes to its cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct ShardWords {
    cpu: usize,
    thread: AtomicI32,
    phase: AtomicU8,
    /// The last word that it has looked at.
    seen: AtomicU64,
    /// When the first word was written that it has not looked at, in ms since the epoch: its only word of another's.
    unseen_since_ms: AtomicU64,
    last: OnceLock<Box<Report>>,
}

/// How far a shard's life has got.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// It takes clients.
    Serving,
    /// It accepts no more, since another process does.
    Closed,
    /// Nor has it clients, or opening handshakes under way.
    Empty,
    /// It ends: clients leave.
    Draining,
    /// Nothing of its own is under way. It answers for as long as others need it.
    Drained,
    /// Its thread is at its end.
    Ended,
}

/// The configuration as it was read again. Its number grows with each.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Tells it from those before.
    pub number: u64,
    /// All of it.
    pub config: Arc<Config>,
    /// What was read beside it.
    pub secrets: ShardSecrets,
}

/// What shards need of the files beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct ShardSecrets {
    /// What pushes must carry; `None`: everybody may push.
    pub ingress_token: Option<Token>,
    /// What backends over TLS are verified by and are shown.
    pub trust: Option<Trust>,
    /// What TLS handshakes are begun with.
    pub tls: Option<Terms>,
}

/// Who does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Silent {
    /// Its number.
    pub shard: usize,
    /// Its CPU.
    pub cpu: usize,
    /// The kernel's id of its thread.
    pub thread: i32,
    /// Since when.
    pub lasts: Duration,
}

impl std::fmt::Display for Silent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            shard,
            cpu,
            thread,
            lasts,
        } = self;
        let seconds = lasts.as_secs();
        write!(
            formatter,
            "shard {shard} (CPU {cpu}, thread {thread}) has not answered for {seconds} s"
        )
    }
}

impl ControlPlane {
    /// One for shards on these CPUs, which accept as soon as they can.
    #[must_use]
    pub fn new(cpus: impl IntoIterator<Item = usize>) -> Arc<Self> {
        let shards = cpus.into_iter().map(|cpu| ShardWords {
            cpu,
            thread: AtomicI32::new(0),
            phase: AtomicU8::new(Phase::Serving as u8),
            seen: AtomicU64::new(0),
            unseen_since_ms: AtomicU64::new(0),
            last: OnceLock::new(),
        });
        Arc::new(Self {
            epoch: Instant::now(),
            word: AtomicU64::new(0),
            opens: AtomicBool::new(true),
            drains: AtomicBool::new(false),
            role: AtomicU8::new(SERVES),
            stops_moving: AtomicBool::new(false),
            has_predecessor: AtomicBool::new(false),
            has_other: AtomicBool::new(false),
            others_gone: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            writing: Mutex::new(None),
            shards: shards.collect(),
        })
    }

    /// The shards that are about to start wait for [`open`](Self::open) before they accept. `has_predecessor`: another process is to be
    /// taken over.
    pub fn wait_for_opening(&self, has_predecessor: bool) {
        self.opens.store(false, Ordering::Relaxed);
        self.has_predecessor.store(has_predecessor, Ordering::Relaxed);
    }

    /// From now on clients are taken.
    pub fn open(&self, outside: &NodeHandle<Mail>) {
        let writing = self.write();
        self.opens.store(true, Ordering::Relaxed);
        self.publish(&writing, outside);
    }

    /// True once clients are taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opens.load(Ordering::Relaxed)
    }

    /// The process that was taken over has ended.
    pub fn forget_predecessor(&self) {
        self.has_predecessor.store(false, Ordering::Relaxed);
    }

    /// True while the process that was taken over is still there, and may have clients.
    #[must_use]
    pub fn has_predecessor(&self) -> bool {
        self.has_predecessor.load(Ordering::Relaxed)
    }

    /// The other process of a takeover can be asked about clients.
    pub fn meet_other_process(&self) {
        self.has_other.store(true, Ordering::Relaxed);
    }

    /// It can't be any more: what it was asked has no answer.
    pub fn lose_other_process(&self, outside: &NodeHandle<Mail>) {
        let writing = self.write();
        self.has_other.store(false, Ordering::Relaxed);
        self.others_gone.fetch_add(1, Ordering::Relaxed);
        self.publish(&writing, outside);
    }

    /// True while the other process of a takeover can be asked.
    #[must_use]
    pub fn has_other_process(&self) -> bool {
        self.has_other.load(Ordering::Relaxed)
    }

    /// How many there were that can't be asked any more.
    #[must_use]
    pub fn other_processes_gone(&self) -> u64 {
        self.others_gone.load(Ordering::Relaxed)
    }

    /// Begins the end, since another process accepts from the same listeners: each shard accepts no more, finishes the handshakes
    /// that are under way, and drains when its clients have moved.
    pub fn hand_over(&self, outside: &NodeHandle<Mail>) {
        let writing = self.write();
        self.stops_moving.store(false, Ordering::Relaxed);
        self.role.store(IS_TAKEN_OVER, Ordering::Release);
        self.publish(&writing, outside);
    }

    /// The other process has ended: this one serves again, unless a shard has begun to leave. True: it does.
    pub fn take_back(&self, outside: &NodeHandle<Mail>) -> bool {
        let writing = self.write();
        let (order, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let taken_back = self
            .role
            .compare_exchange(IS_TAKEN_OVER, SERVES, order, failure)
            .is_ok();
        self.stops_moving.store(true, Ordering::Relaxed);
        self.publish(&writing, outside);
        taken_back
    }

    /// A shard's clients have moved, or had their time: it leaves. False: this process serves again.
    pub fn begin_leaving(&self) -> bool {
        let (order, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let left = self.role.compare_exchange(IS_TAKEN_OVER, LEAVES, order, failure);
        left.is_ok() || left == Err(LEAVES)
    }

    /// True once another process has taken over.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.role.load(Ordering::Acquire) != SERVES
    }

    /// The process that has taken over takes no clients, or no more: those that are here leave.
    pub fn stop_moving(&self, outside: &NodeHandle<Mail>) {
        let writing = self.write();
        self.stops_moving.store(true, Ordering::Relaxed);
        self.publish(&writing, outside);
    }

    /// True once no client moves any more.
    #[must_use]
    pub fn has_stopped_moving(&self) -> bool {
        self.stops_moving.load(Ordering::Relaxed)
    }

    /// Whether every shard has got so far.
    #[must_use]
    pub fn have_all_reached(&self, phase: Phase) -> bool {
        (0..self.shards.len()).all(|shard| self.phase(shard) >= phase)
    }

    /// Asks every shard for a sign of life.
    pub fn ask(&self, outside: &NodeHandle<Mail>) {
        self.publish(&self.write(), outside);
    }

    /// Begins the end: no new clients, and those that there are leave.
    pub fn drain(&self, outside: &NodeHandle<Mail>) {
        let writing = self.write();
        self.drains.store(true, Ordering::Relaxed);
        self.publish(&writing, outside);
    }

    /// Gives every shard a configuration that was read again. One that has not taken the last one yet takes this one alone.
    pub fn reload(&self, outside: &NodeHandle<Mail>, config: Config, secrets: ShardSecrets) {
        let mut writing = self.write();
        let number = self.reloads.load(Ordering::Relaxed) + 1;
        self.reloads.store(number, Ordering::Relaxed);
        *writing = Some(Reload {
            number,
            config: Arc::new(config),
            secrets,
        });
        self.publish(&writing, outside);
    }

    /// True once the end has begun, for whatever reason.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.is_draining() || self.is_taken_over()
    }

    /// True once every shard is to drain, at once.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drains.load(Ordering::Relaxed)
    }

    /// True when no shard has anything under way.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.have_all_reached(Phase::Drained)
    }

    /// How far shard `shard` has got.
    #[must_use]
    pub fn phase(&self, shard: usize) -> Phase {
        let phase = self.shards[shard].phase.load(Ordering::Acquire);
        let known = [
            Phase::Serving,
            Phase::Closed,
            Phase::Empty,
            Phase::Draining,
            Phase::Drained,
            Phase::Ended,
        ];
        known[usize::from(phase)]
    }

    /// Whether shard `shard` has not looked up for `bound`.
    #[must_use]
    pub fn is_silent(&self, shard: usize, bound: Duration) -> Option<Silent> {
        let words = &self.shards[shard];
        let is_behind = words.seen.load(Ordering::Acquire) < self.word.load(Ordering::Acquire);
        if !is_behind || self.phase(shard) == Phase::Ended {
            return None;
        }
        let since = Duration::from_millis(words.unseen_since_ms.load(Ordering::Acquire));
        let lasts = self.epoch.elapsed().saturating_sub(since);
        (lasts >= bound).then(|| self.silent(shard, lasts))
    }

    /// The first shard that has not looked up for so long that it is taken for stuck.
    #[must_use]
    pub fn first_silent(&self) -> Option<Silent> {
        (0..self.shards.len()).find_map(|shard| self.is_silent(shard, SILENT_AFTER))
    }

    /// Whose report did not come, after that time.
    #[must_use]
    pub fn silent(&self, shard: usize, lasts: Duration) -> Silent {
        let words = &self.shards[shard];
        Silent {
            shard,
            cpu: words.cpu,
            thread: words.thread.load(Ordering::Relaxed),
            lasts,
        }
    }

    /// What a shard that has ended said last.
    #[must_use]
    pub fn last_report(&self, shard: usize) -> Option<Report> {
        self.shards[shard].last.get().map(|report| Report::clone(report))
    }

    fn write(&self) -> MutexGuard<'_, Option<Reload>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever was written is there to be seen.
    fn publish(&self, _writing: &MutexGuard<'_, Option<Reload>>, outside: &NodeHandle<Mail>) {
        let word = self.word.load(Ordering::Relaxed);
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        for words in &self.shards {
            if words.seen.load(Ordering::Relaxed) == word {
                words.unseen_since_ms.store(now, Ordering::Release);
            }
        }
        self.word.store(word + 1, Ordering::Release);
        for shard in 0..self.shards.len() {
            outside.wake(shard);
        }
    }
}

/// A shard's own view of the [`ControlPlane`].
#[derive(Debug)]
pub struct ShardControl {
    plane: Arc<ControlPlane>,
    index: usize,
    seen: std::cell::Cell<u64>,
    reloaded: std::cell::Cell<u64>,
}

impl ShardControl {
    /// Shard `index`'s, whose thread this is.
    #[must_use]
    pub fn new(plane: Arc<ControlPlane>, index: usize) -> Self {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        plane.shards[index].thread.store(thread, Ordering::Relaxed);
        Self {
            plane,
            index,
            seen: std::cell::Cell::new(0),
            reloaded: std::cell::Cell::new(0),
        }
    }

    /// Whether anything was written since this was last asked. From then on the shard counts as alive. Cheap: one load.
    pub fn has_news(&self) -> bool {
        let word = self.plane.word.load(Ordering::Acquire);
        if word == self.seen.get() {
            return false;
        }
        self.seen.set(word);
        self.plane.shards[self.index].seen.store(word, Ordering::Release);
        true
    }

    /// A configuration that this shard has not taken yet.
    pub fn take_reload(&self) -> Option<Reload> {
        if self.plane.reloads.load(Ordering::Relaxed) == self.reloaded.get() {
            return None;
        }
        let reload = self.plane.write().clone()?;
        (self.reloaded.replace(reload.number) < reload.number).then_some(reload)
    }

    /// The whole.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Says how far this shard has got.
    pub fn set_phase(&self, phase: Phase) {
        let own = &self.plane.shards[self.index].phase;
        own.store(phase as u8, Ordering::Release);
    }

    /// The shard's last words.
    pub fn end(&self, report: Report) {
        let own = &self.plane.shards[self.index];
        let _ = own.last.set(Box::new(report));
        self.set_phase(Phase::Ended);
    }
}

/// This process serves newcomers.
const SERVES: u8 = 0;
/// Another one does, and the clients move there.
const IS_TAKEN_OVER: u8 = 1;
/// A shard has begun to leave: there is no way back.
const LEAVES: u8 = 2;

/// A shard that has not looked up for so long is taken for stuck.
pub const SILENT_AFTER: Duration = Duration::from_secs(5);
