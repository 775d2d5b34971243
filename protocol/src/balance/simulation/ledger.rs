//! Keeps what must be true of a balance, apart from it: requests, connections, who has failed.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::balance::{Job, Kind, Limits, LinkId};

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}
pub(super) use ensure;

pub(super) type Checked = Result<(), String>;

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) upstream: usize,
    /// In flight, in order.
    pub(super) jobs: VecDeque<Job<u32>>,
    /// When they were.
    pub(super) sent: Instant,
    /// Nothing of them was sent yet.
    pub(super) gathers: bool,
    /// It has been told to close, or has died: its end will be heard of.
    pub(super) closing: bool,
    /// It has died, and the balance does not know yet.
    pub(super) dead: bool,
    /// It is kept for an answer that nobody waits for.
    pub(super) owes: bool,
}

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) request: u32,
    pub(super) kind: Kind,
    pub(super) deadline: Instant,
    /// When it was last told to wait.
    pub(super) since: Instant,
}

/// A connect under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connect {
    pub(super) upstream: usize,
    pub(super) is_awaited: bool,
    pub(super) is_slow: bool,
}

/// How many connections to a backend may have requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) count: usize,
    /// When that was said.
    pub(super) since: Instant,
}

impl Places {
    pub(super) fn unlimited(now: Instant) -> Self {
        Self {
            count: usize::MAX,
            since: now,
        }
    }
}

/// What is known of a backend.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) is_gone: bool,
    heard: Option<Instant>,
    failures: u32,
    until: Option<(Instant, Reason)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reason {
    Unreachable,
    Broken,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) limits: Limits,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) connects: Vec<Connect>,
    pub(super) records: Vec<Record>,
    /// By backend.
    pub(super) places: Vec<Places>,
    /// In the order of their numbers: of arrival. Those of one kind have to be served so.
    pub(super) waiting: VecDeque<Waiting>,
    /// Those that were turned away wait for their next try.
    pub(super) later: BTreeMap<u32, Waiting>,
    /// Their connection turned out to be dead: those that were handed out with them are not held up by that.
    pub(super) returned: Vec<u32>,
    /// Nobody could be connected to since then.
    pub(super) down_since: Option<Instant>,
    /// Connects failed for want of room, and nothing has changed since.
    pub(super) no_room: bool,
    pub(super) taken: usize,
    pub(super) ended: usize,
}

impl Ledger {
    pub(super) fn new(limits: Limits, upstreams: usize) -> Self {
        Self {
            limits,
            links: BTreeMap::new(),
            connects: Vec::new(),
            records: (0..upstreams).map(|_| Record::default()).collect(),
            places: vec![Places::unlimited(Instant::now()); upstreams],
            waiting: VecDeque::new(),
            later: BTreeMap::new(),
            returned: Vec::new(),
            down_since: None,
            no_room: false,
            taken: 0,
            ended: 0,
        }
    }

    /// A request goes to a connection. Returns how.
    pub(super) fn use_link(
        &mut self,
        now: Instant,
        id: LinkId,
        job: Job<u32>,
        is_new: bool,
    ) -> Result<&'static str, String> {
        let request = job.request;
        let Some(link) = self.links.get(&id) else {
            return Err(format!("{request} goes to {id:?}, which is not open"));
        };
        ensure!(!link.closing, "{request} goes to {id:?}, which is not open any more");
        let Limits { pipeline_max, .. } = self.limits;
        let is_shared = !link.jobs.is_empty();
        ensure!(
            !is_shared || (link.gathers && link.jobs.len() < pipeline_max),
            "{request} goes to {id:?}, which is busy with {}",
            link.jobs.len()
        );
        let position = self.waiting.iter().position(|waiting| waiting.request == request);
        ensure!(
            position.is_some() || self.later.contains_key(&request),
            "{request} does not wait"
        );
        let earlier = self.waiting.iter().take(position.unwrap_or(0));
        let earlier = earlier.filter(|earlier| earlier.kind == job.kind);
        let overtaken = earlier
            .map(|earlier| earlier.request)
            .find(|earlier| !self.returned.contains(earlier));
        if let Some(overtaken) = overtaken {
            ensure!(is_new && is_shared, "{request} overtook {overtaken}");
        }
        let upstream = link.upstream;
        if !is_shared {
            let Places { count, since } = self.places[upstream];
            // One whose keeper is silent sends one at a time.
            let is_alone = count == 0 && now >= since + Duration::from_secs(1);
            let busy = self.with_requests(upstream);
            ensure!(
                busy < count.max(usize::from(is_alone)),
                "{request} is one more than the {count} places at {upstream}"
            );
        }
        ensure!(
            !self.records[upstream].is_gone,
            "{request} goes to {upstream}, which is gone"
        );
        let others = link.jobs.iter().map(|other| other.kind);
        ensure!(
            others.into_iter().all(|kind| kind == job.kind),
            "{request} shares {id:?} with another kind"
        );
        if is_new && is_shared {
            let mut good = (0..self.records.len()).filter(|other| self.records[*other].is_good());
            let idle = good.find_map(|good| self.idle(good).find(|idle| !self.links[idle].dead));
            ensure!(
                idle.is_none_or(|idle| self.is_limited(self.links[&idle].upstream)),
                "{request} shares {id:?} while {idle:?} is idle"
            );
        }
        if is_new && !is_shared {
            self.check_choice(now, upstream)?;
        }
        self.take(request);
        let link = self.links.get_mut(&id).expect("it is open");
        link.jobs.push_back(job);
        link.gathers = true;
        Ok(match (is_shared, is_new) {
            (true, _) => "use of a shared connection",
            (false, true) => "use of an idle connection",
            (false, false) => "use after waiting",
        })
    }

    /// A request that did not wait: its backend was a good choice.
    fn check_choice(&self, now: Instant, upstream: usize) -> Checked {
        let may_connect = self.count() < self.limits.connections_max;
        let is_other_good = self.records.iter().any(Record::is_good);
        let record = &self.records[upstream];
        ensure!(
            !record.is_left_alone(now) || !is_other_good || !may_connect,
            "backend {upstream} is asked, which should be left alone"
        );
        let busy = |upstream| self.busy_count(upstream);
        if record.failures > 0 && is_other_good && may_connect {
            ensure!(
                busy(upstream) == 0,
                "backend {upstream} should be left alone but for one request"
            );
        }
        for (other, record) in self.records.iter().enumerate() {
            let has_idle = self.idle(other).next().is_some();
            if record.is_good() && has_idle && !self.is_limited(other) {
                ensure!(
                    busy(upstream) <= busy(other),
                    "backend {upstream} is busier than {other}"
                );
            }
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, upstream: usize, is_awaited: bool) -> Checked {
        ensure!(
            !self.records[upstream].is_gone,
            "backend {upstream} is connected to, which is gone"
        );
        ensure!(
            !is_awaited || self.records[upstream].is_good() || !self.records.iter().any(Record::is_good),
            "backend {upstream} is connected to, which should be left alone"
        );
        self.connects.push(Connect {
            upstream,
            is_awaited,
            is_slow: false,
        });
        let count = self.count();
        ensure!(count <= self.limits.connections_max, "{count} connections");
        // Beside those, one for each backend that nobody waits for.
        let at_once = 16 + self.records.len();
        ensure!(
            self.connects.len() <= at_once,
            "{} connects at once",
            self.connects.len()
        );
        Ok(())
    }

    pub(super) fn refuse(&mut self, now: Instant, request: u32) -> Checked {
        ensure!(self.links.is_empty(), "{request} is refused though a connection works");
        let Some(waiting) = self.take(request) else {
            return Err(format!("{request} does not wait"));
        };
        let tried_since = self.down_since.map(|since| since.max(waiting.since));
        ensure!(
            tried_since.is_some_and(|since| now >= since + self.limits.retry),
            "{request} is refused and was not tried again for long enough"
        );
        self.ended += 1;
        Ok(())
    }

    pub(super) fn expire(&mut self, now: Instant, request: u32) -> Checked {
        let Some(waiting) = self.take(request) else {
            return Err(format!("{request} does not wait"));
        };
        ensure!(waiting.deadline <= now, "{request} is refused before its deadline");
        self.ended += 1;
        Ok(())
    }

    /// One that had a connection waits again.
    pub(super) fn wait_again(&mut self, waiting: Waiting) {
        let place = self
            .waiting
            .partition_point(|earlier| earlier.request < waiting.request);
        self.waiting.insert(place, waiting);
    }

    /// Takes one out of those that wait.
    pub(super) fn take(&mut self, request: u32) -> Option<Waiting> {
        let position = self.waiting.iter().position(|waiting| waiting.request == request);
        match position {
            Some(position) => self.waiting.remove(position),
            None => self.later.remove(&request),
        }
    }

    /// A connect has failed, or time has passed.
    pub(super) fn note_down(&mut self, now: Instant, has_failed: bool) {
        let is_down = self.links.is_empty() && !self.records.iter().any(Record::is_good);
        if !is_down {
            self.down_since = None;
        } else if has_failed {
            self.down_since.get_or_insert(now);
        }
    }

    /// What holds between events.
    pub(super) fn check(&self) -> Checked {
        let awaited = self.connects.iter().filter(|connect| connect.is_awaited).count();
        let is_full = self.count() >= self.limits.connections_max || self.connects.len() >= 16;
        // One connect at a time.
        let is_down = self.down_since.is_some() && !self.connects.is_empty();
        let is_limited = (0..self.records.len()).any(|upstream| self.is_limited(upstream));
        ensure!(
            is_limited || self.waiting.is_empty() || awaited > 0 || is_full || is_down || self.no_room,
            "{} wait and nothing is done for them",
            self.waiting.len()
        );
        if self.records.len() == 1 && !self.waiting.is_empty() && self.has_place(0) {
            let idle = self.idle(0).next();
            ensure!(
                idle.is_none(),
                "{} wait beside {idle:?}, which is idle",
                self.waiting.len()
            );
        }
        Ok(())
    }

    /// Whether a backend's requests are bounded by places.
    pub(super) fn is_limited(&self, upstream: usize) -> bool {
        self.places[upstream].count < usize::MAX
    }

    /// Connections to a backend that have requests.
    pub(super) fn with_requests(&self, upstream: usize) -> usize {
        let links = self.links.values().filter(|link| link.upstream == upstream);
        links.filter(|link| !link.jobs.is_empty()).count()
    }

    /// One more may have some. (One that is about to end counts as if it had.)
    fn has_place(&self, upstream: usize) -> bool {
        let links = self.links.values().filter(|link| link.upstream == upstream);
        let used = links.filter(|link| !link.jobs.is_empty() || link.closing).count();
        used < self.places[upstream].count
    }

    pub(super) fn waiting_count(&self, kind: Kind) -> usize {
        self.waiting.iter().filter(|waiting| waiting.kind == kind).count()
    }

    pub(super) fn count(&self) -> usize {
        self.links.len() + self.connects.len()
    }

    pub(super) fn idle(&self, upstream: usize) -> impl Iterator<Item = LinkId> {
        let idle = self
            .links
            .iter()
            .filter(move |(_, link)| link.upstream == upstream && link.jobs.is_empty() && !link.closing && !link.owes);
        idle.map(|(id, _)| *id)
    }

    fn busy_count(&self, upstream: usize) -> usize {
        let links = self.links.values();
        let links = links.filter(|link| link.upstream == upstream && !link.owes).count();
        let connects = self.connects.iter().filter(|connect| connect.upstream == upstream);
        links + connects.count() - self.idle(upstream).count()
    }
}

impl Record {
    /// What fails together counts once.
    pub(super) fn fail(&mut self, now: Instant, reason: Reason) {
        if self.until.is_some_and(|(until, last)| now < until && last == reason) {
            return;
        }
        let pause = Duration::from_secs([1, 2, 4, 8][self.failures.min(3) as usize]);
        self.failures += 1;
        self.until = Some((now + pause, reason));
    }

    pub(super) fn connected(&mut self) {
        if matches!(self.until, Some((_, Reason::Unreachable))) {
            self.until = None;
        }
    }

    pub(super) fn answered(&mut self, now: Instant) {
        *self = Self {
            is_gone: self.is_gone,
            heard: Some(now),
            ..Self::default()
        };
    }

    /// A request that was sent then has no answer in time.
    pub(super) fn timed_out(&mut self, now: Instant, sent: Instant) {
        if self.heard.is_none_or(|heard| heard < sent) {
            self.fail(now, Reason::Broken);
        }
    }

    fn is_good(&self) -> bool {
        self.failures == 0 && !self.is_gone
    }

    fn is_left_alone(&self, now: Instant) -> bool {
        self.until.is_some_and(|(until, _)| now < until)
    }
}
