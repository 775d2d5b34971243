mod health;

use std::time::{Duration, Instant};

use super::connecting::CONNECTS_AT_ONCE;
use super::*;
use crate::capacity::{Borrower, Grant};

/// A balance whose connects go as the test says.
struct Scene {
    balance: Balance<u32>,
    now: Instant,
    out: Vec<Output<u32>>,
}

const LIMITS: Limits = Limits {
    connections_max: 4,
    pipeline_max: 1,
    waiters_max: 8,
    retry: Duration::from_secs(5),
};

impl Scene {
    fn new(upstreams: usize, limits: Limits) -> Self {
        Self {
            balance: Balance::new(upstreams, limits),
            now: Instant::now(),
            out: Vec::new(),
        }
    }

    fn job(&self, request: u32) -> Job<u32> {
        Job::new(request, Kind::Call, self.now + Duration::from_secs(25), 100)
    }

    fn take(&mut self) -> Vec<Output<u32>> {
        std::mem::take(&mut self.out)
    }

    fn ask(&mut self, request: u32) -> Vec<Output<u32>> {
        let job = self.job(request);
        self.balance
            .handle_request(self.now, job, &mut self.out)
            .expect("there is room");
        self.take()
    }

    fn connected(&mut self, upstream: usize, is_awaited: bool) -> (LinkId, Vec<Output<u32>>) {
        let link = self
            .balance
            .handle_connected(self.now, upstream, is_awaited, &mut self.out);
        (link, self.take())
    }

    fn refused(&mut self, upstream: usize, is_awaited: bool) -> Vec<Output<u32>> {
        let failure = ConnectFailure::Backend;
        self.balance
            .handle_connect_failed(self.now, upstream, is_awaited, failure, &mut self.out);
        self.take()
    }

    /// The only request on `link` has its answer.
    fn answered(&mut self, link: LinkId) -> Vec<Output<u32>> {
        self.balance.handle_answered(self.now, link);
        self.balance.handle_idle(self.now, link, &mut self.out);
        self.take()
    }

    fn ended(&mut self, link: LinkId) -> Vec<Output<u32>> {
        self.balance.handle_ended(self.now, link, &mut self.out);
        self.take()
    }

    /// A connection to `upstream`, with request 0 answered.
    fn idle_link(&mut self, upstream: usize) -> LinkId {
        loop {
            let out = self.ask(0);
            let [Output::Connect { upstream: asked, .. }] = out[..] else {
                panic!("{out:?}")
            };
            let (link, _) = self.connected(asked, true);
            if asked == upstream {
                self.answered(link);
                return link;
            }
        }
    }
}

fn used(out: &[Output<u32>]) -> Vec<(LinkId, u32)> {
    let uses = out.iter().filter_map(|output| match output {
        Output::Use { link, job } => Some((*link, job.request)),
        _ => None,
    });
    uses.collect()
}

/// The requests that connections get.
fn jobs(out: Vec<Output<u32>>) -> Vec<Job<u32>> {
    let jobs = out.into_iter().filter_map(|output| match output {
        Output::Use { job, .. } => Some(job),
        _ => None,
    });
    jobs.collect()
}

/// To whom, and whether a request waits for it.
fn connects(out: &[Output<u32>]) -> Vec<(usize, bool)> {
    let connects = out.iter().filter_map(|output| match output {
        Output::Connect {
            upstream, is_awaited, ..
        } => Some((*upstream, *is_awaited)),
        _ => None,
    });
    connects.collect()
}

#[test]
fn the_first_request_waits_for_a_connection_and_the_next_uses_it_again() {
    let mut scene = Scene::new(1, LIMITS);
    assert_eq!(connects(&scene.ask(1)), [(0, true)]);
    let (link, out) = scene.connected(0, true);
    assert_eq!(used(&out), [(link, 1)]);
    assert_eq!(scene.answered(link), []);
    assert_eq!(scene.balance.connections_count(), (1, 1));
    assert_eq!(used(&scene.ask(2)), [(link, 2)]);
}

#[test]
fn the_connection_used_last_is_the_first_to_be_used_again() {
    let mut scene = Scene::new(1, LIMITS);
    scene.ask(1);
    scene.ask(2);
    let (first, _) = scene.connected(0, true);
    let (second, _) = scene.connected(0, true);
    scene.answered(second);
    scene.answered(first);
    assert_eq!(used(&scene.ask(3)), [(first, 3)]);
    assert_eq!(used(&scene.ask(4)), [(second, 4)]);
}

#[test]
fn requests_beyond_the_connections_wait_in_the_order_of_arrival() {
    let mut scene = Scene::new(1, LIMITS);
    let asked: Vec<_> = (1..=6).map(|number| connects(&scene.ask(number)).len()).collect();
    assert_eq!(asked, [1, 1, 1, 1, 0, 0], "one connect each, up to connections_max");
    let links: Vec<_> = (0..4).map(|_| scene.connected(0, true).0).collect();
    assert_eq!(used(&scene.answered(links[2])), [(links[2], 5)]);
    assert_eq!(used(&scene.answered(links[0])), [(links[0], 6)]);
    assert_eq!(scene.balance.waiting_count(), 0);
}

#[test]
fn one_request_beyond_waiters_max_comes_back() {
    let mut scene = Scene::new(1, LIMITS);
    for number in 0..8 {
        scene.ask(number);
    }
    let job = scene.job(8);
    let taken = scene.balance.handle_request(scene.now, job, &mut scene.out);
    assert_eq!((taken, scene.take()), (Err(8), vec![]));
}

#[test]
fn a_burst_of_requests_is_no_burst_of_connects() {
    let limits = Limits {
        connections_max: 100,
        waiters_max: 100,
        ..LIMITS
    };
    let mut scene = Scene::new(1, limits);
    let asked: usize = (0..100).map(|number| connects(&scene.ask(number)).len()).sum();
    assert_eq!(asked, CONNECTS_AT_ONCE);
    let (_, out) = scene.connected(0, true);
    assert_eq!(connects(&out).len(), 1, "each that is done makes room for another");
}

#[test]
fn the_least_busy_backend_comes_first() {
    let mut scene = Scene::new(2, LIMITS);
    let first = scene.idle_link(0);
    assert_eq!(used(&scene.ask(1)), [(first, 1)]);
    // The other one has nothing to do, but no connection either.
    assert_eq!(connects(&scene.ask(2)), [(1, true)]);
    let (second, out) = scene.connected(1, true);
    assert_eq!(used(&out), [(second, 2)]);
    scene.answered(second);
    assert_eq!(used(&scene.ask(3)), [(second, 3)], "the first still works on 1");
}

#[test]
fn a_less_busy_backend_gets_a_connection_ahead_of_need() {
    let mut scene = Scene::new(2, LIMITS);
    scene.ask(1);
    scene.ask(2);
    let (first, _) = scene.connected(0, true);
    let (second, _) = scene.connected(1, true);
    scene.answered(first);
    scene.answered(second);
    scene.ended(second);
    scene.ask(3);
    // Both are as busy as each other as long as one of them has no connection to be busy on.
    let out = scene.ask(4);
    assert_eq!(connects(&out), [(1, true)]);
}

#[test]
fn a_backend_that_breaks_connections_off_is_left_alone_and_then_gets_one_request() {
    let mut scene = Scene::new(2, LIMITS);
    scene.ask(1);
    scene.ask(2);
    let (bad, _) = scene.connected(0, true);
    let (good, _) = scene.connected(1, true);
    scene.balance.handle_broken(scene.now, bad);
    scene.ended(bad);
    scene.answered(good);
    for number in 3..10 {
        assert_eq!(used(&scene.ask(number)), [(good, number)]);
        scene.answered(good);
    }
    scene.now += FAILING_PAUSE;
    // It is probed by a connection that nobody waits for, and by one request.
    let out = scene.ask(10);
    assert_eq!((used(&out), connects(&out)), (vec![(good, 10)], vec![(0, false)]));
    let (probe, _) = scene.connected(0, false);
    assert_eq!(used(&scene.ask(11)), [(probe, 11)]);
    scene.answered(good);
    assert_eq!(used(&scene.ask(12)), [(good, 12)], "one at a time");
    scene.answered(probe);
    assert_eq!(used(&scene.ask(13)), [(probe, 13)], "it has answered");
}

#[test]
fn a_backend_is_left_alone_for_longer_each_time() {
    let mut upstream = Upstream::default();
    let mut now = Instant::now();
    for seconds in [1, 2, 4, 8, 8] {
        upstream.fail(now, true);
        now += Duration::from_secs(seconds);
        assert!(upstream.is_failing(now - Duration::from_nanos(1)), "{seconds}");
        assert!(!upstream.is_failing(now), "{seconds}");
    }
    upstream.handle_answered(now, LinkId::default());
    upstream.fail(now, true);
    assert!(!upstream.is_failing(now + FAILING_PAUSE), "from the beginning again");
}

#[test]
fn what_fails_together_is_one_failure() {
    let mut upstream = Upstream::default();
    let now = Instant::now();
    for _ in 0..5 {
        upstream.fail(now, false);
    }
    assert!(!upstream.is_failing(now + FAILING_PAUSE));
}

#[test]
fn a_refused_connect_is_tried_again_after_pauses_until_backend_retry_has_passed() {
    let mut scene = Scene::new(1, LIMITS);
    scene.ask(1);
    scene.now += Duration::from_secs(10);
    let begun = scene.now;
    let mut pauses = Vec::new();
    while scene.now < begun + LIMITS.retry - Duration::from_secs(1) {
        let out = scene.refused(0, true);
        let [
            Output::Retry(Retry::Refused),
            Output::Connect {
                is_awaited: true,
                pause: Some(pause),
                ..
            },
        ] = out[..]
        else {
            panic!("{out:?}")
        };
        assert!(scene.balance.health(scene.now, 0).outage.is_some());
        pauses.push(pause);
        scene.now += pause;
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert_eq!(pauses[0], Duration::from_millis(100));
    assert!(pauses.len() < 25, "{pauses:?}");
    // Its wait before the backend went down does not count.
    assert_eq!(scene.balance.next_deadline(), Some(begun + LIMITS.retry));
    scene.now = begun + LIMITS.retry - Duration::from_millis(1);
    assert_eq!(connects(&scene.refused(0, true)).len(), 1);
    scene.now = begun + LIMITS.retry;
    scene.balance.handle_deadline(scene.now, &mut scene.out);
    assert_eq!(scene.take(), [Output::Refuse(1, Refusal::Refused)]);
    assert_eq!(scene.refused(0, true), []);
    assert_eq!(scene.balance.connections_count(), (0, 0));
}

#[test]
fn a_backend_that_is_back_in_time_serves_all_that_wait() {
    let mut scene = Scene::new(1, LIMITS);
    for number in 1..=4 {
        scene.ask(number);
    }
    for _ in 0..4 {
        scene.refused(0, true);
    }
    assert_eq!(scene.balance.connections_count().0, 1, "it is tried by one at a time");
    scene.now += LIMITS.retry / 2;
    let (link, out) = scene.connected(0, true);
    assert_eq!((used(&out), connects(&out).len()), (vec![(link, 1)], 3));
    for number in 2..=4 {
        assert_eq!(used(&scene.answered(link)), [(link, number)]);
    }
}

#[test]
fn a_request_that_was_turned_away_is_tried_again_after_pauses() {
    let mut scene = Scene::new(1, LIMITS);
    let link = scene.idle_link(0);
    let begun = scene.now;
    let mut job = match scene.ask(1).pop() {
        Some(Output::Use { job, .. }) => job,
        other => panic!("{other:?}"),
    };
    let mut tries = 1;
    loop {
        scene.answered(link);
        let kept = scene.balance.handle_turned_away(scene.now, job, &mut scene.out);
        let Ok(()) = kept else { break };
        assert_eq!(scene.take(), [Output::Retry(Retry::NoWorkers)]);
        assert_eq!(scene.balance.waiting_count(), 1);
        let due = scene.balance.next_deadline().expect("it is tried again");
        scene
            .balance
            .handle_deadline(due - Duration::from_millis(1), &mut scene.out);
        assert_eq!(scene.take(), [], "not yet");
        scene.now = due;
        scene.balance.handle_deadline(scene.now, &mut scene.out);
        tries += 1;
        job = match scene.take().pop() {
            Some(Output::Use { job, .. }) => job,
            other => panic!("{other:?}"),
        };
    }
    // 50, 100, 200, 400, then 800 ms.
    assert_eq!(tries, 10);
    assert!(scene.now - begun <= LIMITS.retry);
}

#[test]
fn each_kind_has_its_share_and_its_own_places() {
    let limits = Limits {
        connections_max: 1,
        waiters_max: 100,
        ..LIMITS
    };
    let mut scene = Scene::new(1, limits);
    let link = scene.idle_link(0);
    scene.ask(0);
    let kinds = [Kind::Disconnect, Kind::Send, Kind::Connect, Kind::Outcome, Kind::Call];
    let ask = |scene: &mut Scene, kind: Kind| {
        let job = Job::new(kind as u32, kind, scene.now + Duration::from_secs(25), 100);
        scene.balance.handle_request(scene.now, job, &mut scene.out)
    };
    for kind in kinds {
        for _ in 0..100 {
            ask(&mut scene, kind).unwrap();
        }
        assert_eq!(ask(&mut scene, kind), Err(kind as u32), "{kind:?} is full");
    }
    scene.take();
    let mut served = [0; 5];
    for _ in 0..160 {
        let used = used(&scene.answered(link));
        served[used[0].1 as usize] += 1;
    }
    assert_eq!(
        served,
        [80, 40, 20, 10, 10],
        "Calls, outcomes, /connect, SENDs, /disconnect"
    );
}

#[test]
fn large_requests_cost_more() {
    let mut queue = queue::Queue::default();
    let deadline = Instant::now();
    for number in 0..100 {
        queue.push_back(Job::new(number, Kind::Send, deadline, 1024 * 1024));
        queue.push_back(Job::new(number, Kind::Disconnect, deadline, 100));
    }
    let popped = (0..60).filter_map(|_| queue.pop());
    let large = popped.filter(|job| job.kind == Kind::Send).count();
    assert!(large <= 1, "{large}");
}

#[test]
fn a_refused_connect_costs_nothing_while_another_connection_works() {
    let mut scene = Scene::new(1, LIMITS);
    let link = scene.idle_link(0);
    scene.ask(1);
    scene.ask(2);
    for _ in 0..5 {
        assert_eq!(connects(&scene.refused(0, true)), [(0, true)]);
    }
    assert_eq!(used(&scene.answered(link)), [(link, 2)]);
}

#[test]
fn a_refused_connect_goes_to_another_backend() {
    let mut scene = Scene::new(2, LIMITS);
    scene.ask(1);
    let out = scene.refused(0, true);
    assert_eq!(out[0], Output::Retry(Retry::Refused));
    assert_eq!(connects(&out), [(1, true)]);
    let (link, out) = scene.connected(1, true);
    assert_eq!(used(&out), [(link, 1)]);
    assert!(scene.balance.health(scene.now, 1).outage.is_none());
}

#[test]
fn for_want_of_room_nobody_is_blamed() {
    let mut scene = Scene::new(1, LIMITS);
    let link = scene.idle_link(0);
    scene.ask(1);
    scene.ask(2);
    let failure = ConnectFailure::NoRoom;
    scene
        .balance
        .handle_connect_failed(scene.now, 0, true, failure, &mut scene.out);
    assert_eq!(scene.take(), []);
    assert_eq!(used(&scene.answered(link)), [(link, 2)]);
}

#[test]
fn nobody_depends_on_a_slow_connect_where_another_backend_works() {
    for (upstreams, is_awaited, others) in [(1, true, &[][..]), (2, false, &[(1, true)])] {
        let mut scene = Scene::new(upstreams, LIMITS);
        scene.ask(1);
        let still = scene.balance.handle_slow_connect(scene.now, 0, &mut scene.out);
        assert_eq!((still, &*connects(&scene.take())), (is_awaited, others));
    }
}

#[test]
fn who_waits_too_long_is_refused_and_nobody_else() {
    let mut scene = Scene::new(1, LIMITS);
    let begun = scene.now;
    for (request, seconds) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
        let job = Job::new(request, Kind::Call, begun + Duration::from_secs(seconds), 1);
        scene.balance.handle_request(begun, job, &mut scene.out).unwrap();
    }
    scene.take();
    let late = |request| Output::Refuse(request, Refusal::Deadline);
    for (seconds, refused, next) in [
        (9, vec![], Some(10)),
        (10, vec![late(2), late(4)], Some(20)),
        (29, vec![late(3)], Some(30)),
        (30, vec![late(1)], None),
    ] {
        let now = begun + Duration::from_secs(seconds);
        scene.balance.handle_deadline(now, &mut scene.out);
        assert_eq!(scene.take(), refused, "after {seconds} s");
        let next = next.map(|seconds| begun + Duration::from_secs(seconds));
        assert_eq!(scene.balance.next_deadline(), next, "after {seconds} s");
    }
}

#[test]
fn requests_that_were_not_sent_come_first_and_in_order() {
    let limits = Limits {
        pipeline_max: 2,
        ..LIMITS
    };
    let mut scene = Scene::new(1, limits);
    for number in 1..=5 {
        scene.ask(number);
    }
    let (first, out) = scene.connected(0, true);
    assert_eq!(used(&out), [(first, 1), (first, 2)]);
    let unsent = jobs(out).into_iter();
    scene.balance.handle_unsent(scene.now, first, unsent, &mut scene.out);
    scene.take();
    scene.ended(first);
    let (link, out) = scene.connected(0, true);
    assert_eq!(used(&out), [(link, 1), (link, 2)]);
    scene.balance.handle_sent();
    assert_eq!(used(&scene.answered(link)), [(link, 3), (link, 4)]);
}

#[test]
fn requests_that_come_back_one_by_one_keep_their_order() {
    let mut scene = Scene::new(1, LIMITS);
    scene.balance.limit(0, Borrower::new(2, 0, 1));
    scene.ask(1);
    scene.ask(2);
    let links = [0, 1].map(|_| scene.connected(0, true).0);
    for link in links {
        scene.answered(link);
    }
    let mut number = 0;
    let mut grant = |scene: &mut Scene, places| {
        number += 1;
        let grant = Grant {
            number,
            places,
            is_watched: false,
        };
        scene.balance.handle_grant(scene.now, 0, grant, &mut scene.out);
        scene.take()
    };
    grant(&mut scene, 0);
    assert_eq!(used(&scene.ask(3)), []);
    assert_eq!(used(&scene.ask(4)), []);
    let out = grant(&mut scene, 2);
    let given = used(&out);
    assert_eq!(given.len(), 2);
    // Each of the connections turns out to have ended.
    for ((link, _), job) in given.into_iter().zip(jobs(out)) {
        scene
            .balance
            .handle_unsent(scene.now, link, std::iter::once(job), &mut scene.out);
        assert_eq!(used(&scene.take()), []);
    }
    for link in links {
        scene.ended(link);
    }
    for number in [3, 4] {
        let (link, out) = scene.connected(0, true);
        assert_eq!(used(&out), [(link, number)]);
    }
}

#[test]
fn requests_share_a_connection_until_it_is_sent_or_full() {
    let limits = Limits {
        connections_max: 1,
        pipeline_max: 3,
        ..LIMITS
    };
    let mut scene = Scene::new(1, limits);
    let link = scene.idle_link(0);
    scene.balance.handle_sent();
    let shared = |scene: &mut Scene, first: u32| -> usize {
        (first..first + 4).map(|number| used(&scene.ask(number)).len()).sum()
    };
    assert_eq!(shared(&mut scene, 1), 3);
    assert_eq!(used(&scene.answered(link)), [(link, 4)]);
    scene.balance.handle_sent();
    assert_eq!(used(&scene.ask(5)), []);
    assert_eq!(used(&scene.answered(link)), [(link, 5)]);
    // By its bytes.
    scene.balance.handle_sent();
    scene.answered(link);
    let mut job = scene.job(6);
    job.len = SHARED_LEN_MAX;
    scene.balance.handle_request(scene.now, job, &mut scene.out).unwrap();
    assert_eq!(used(&scene.take()), [(link, 6)]);
    assert_eq!(used(&scene.ask(7)), []);
}

#[test]
fn a_request_takes_an_idle_connection_before_it_shares_one() {
    let limits = Limits {
        connections_max: 2,
        pipeline_max: 8,
        ..LIMITS
    };
    let mut scene = Scene::new(1, limits);
    scene.ask(1);
    scene.ask(2);
    let (first, second) = (scene.connected(0, true).0, scene.connected(0, true).0);
    scene.balance.handle_sent();
    // Both requests were the first one's.
    scene.answered(first);
    let links: Vec<_> = (3..7).flat_map(|number| used(&scene.ask(number))).collect();
    assert_eq!(links, [(first, 3), (second, 4), (second, 5), (second, 6)]);
}

#[test]
fn requests_of_different_kinds_share_no_connection() {
    let limits = Limits {
        connections_max: 1,
        pipeline_max: 8,
        ..LIMITS
    };
    let mut scene = Scene::new(1, limits);
    let link = scene.idle_link(0);
    scene.balance.handle_sent();
    let kinds = [Kind::Call, Kind::Call, Kind::Connect, Kind::Call];
    for (number, kind) in (1..).zip(kinds) {
        let job = Job::new(number, kind, scene.now + Duration::from_secs(25), 1);
        scene.balance.handle_request(scene.now, job, &mut scene.out).unwrap();
    }
    let at_once = scene.take();
    assert_eq!(used(&at_once), [(link, 1), (link, 2), (link, 4)]);
    scene.balance.handle_sent();
    assert_eq!(used(&scene.answered(link)), [(link, 3)]);
}

#[test]
fn a_request_that_is_late_blames_a_backend_that_has_answered_nothing_meanwhile() {
    let sent = Instant::now() + Duration::from_secs(60);
    let now = sent + Duration::from_secs(25);
    for (answered, is_blamed) in [
        (None, true),
        (Some(sent - Duration::from_millis(1)), true),
        (Some(sent), false),
        (Some(now), false),
    ] {
        let mut upstream = Upstream::default();
        if let Some(answered) = answered {
            upstream.handle_answered(answered, LinkId::default());
        }
        upstream.handle_timed_out(now, sent);
        assert_eq!(upstream.is_failing(now), is_blamed, "{answered:?}");
    }
}

#[test]
fn an_address_that_is_gone_is_left_and_a_new_one_is_used() {
    let mut scene = Scene::new(1, LIMITS);
    scene.ask(1);
    scene.ask(2);
    let (idle, busy) = (scene.connected(0, true).0, scene.connected(0, true).0);
    scene.answered(idle);
    assert_eq!(scene.balance.handle_upstream(), 1);
    scene.balance.handle_upstream_gone(scene.now, 0, &mut scene.out);
    assert_eq!(scene.take(), [Output::Close(idle)]);
    assert_eq!(connects(&scene.ask(3)), [(1, true)]);
    assert_eq!(scene.answered(busy), [Output::Close(busy)]);
    scene.ended(idle);
    scene.ended(busy);
    let (link, out) = scene.connected(1, true);
    assert_eq!(used(&out), [(link, 3)]);
    assert_eq!(scene.balance.handle_upstream(), 0, "its name is free again");
}

#[test]
fn a_connect_to_an_address_that_is_gone_leads_nowhere() {
    let mut scene = Scene::new(2, LIMITS);
    scene.ask(1);
    scene.balance.handle_upstream_gone(scene.now, 0, &mut scene.out);
    let (link, out) = scene.connected(0, true);
    assert_eq!((used(&out), connects(&out)), (vec![], vec![(1, true)]));
    assert_eq!(out[0], Output::Close(link));
}

#[test]
fn a_backend_that_comes_back_is_given_a_connection_of_the_one_that_has_all() {
    let mut scene = Scene::new(2, LIMITS);
    scene.ask(1);
    scene.refused(0, true);
    let mut links = vec![scene.connected(1, true).0];
    for number in 2..=6 {
        scene.ask(number);
    }
    for _ in 0..3 {
        links.push(scene.connected(1, true).0);
    }
    assert_eq!(scene.balance.connections_count(), (4, 0));
    scene.now += FAILING_PAUSE;
    assert_eq!(scene.answered(links[0]), [Output::Close(links[0])]);
    assert_eq!(used(&scene.answered(links[1])), [(links[1], 5)], "one at a time");
    assert_eq!(connects(&scene.ended(links[0])), [(0, false)]);
}

#[test]
fn who_is_given_up_is_withdrawn() {
    let mut scene = Scene::new(1, LIMITS);
    for number in 1..=5 {
        scene.ask(number);
    }
    assert_eq!(scene.balance.withdraw(|request| request % 2 == 0), [2, 4]);
    assert_eq!(scene.balance.waiting_count(), 3);
}

const FAILING_PAUSE: Duration = Duration::from_secs(1);
