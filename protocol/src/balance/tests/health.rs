//! Whether a backend is down is said by what was heard of it last, and one that nobody asks is probed.

use super::*;

impl Scene {
    fn outage(&self, upstream: usize) -> Option<OutageReason> {
        let health = self.balance.health(self.now, upstream);
        health.outage.map(|outage| outage.reason)
    }

    /// Time passes until the balance wants to be called. What it wants then.
    fn wait(&mut self) -> Vec<Output<u32>> {
        self.now = self.balance.next_deadline().expect("it waits for something");
        self.balance.handle_deadline(self.now, &mut self.out);
        self.take()
    }

    /// The only backend refuses whoever asks, until nobody does.
    fn refuse_all(&mut self) {
        self.ask(1);
        let mut out = self.refused(0, true);
        while self.balance.waiting_count() > 0 {
            out.extend(self.wait());
            for (upstream, is_awaited) in connects(&std::mem::take(&mut out)) {
                out.extend(self.refused(upstream, is_awaited));
            }
        }
    }
}

#[test]
fn a_backend_that_nobody_asks_is_probed_until_it_is_back() {
    let mut scene = Scene::new(1, LIMITS);
    assert_eq!((scene.outage(0), scene.balance.next_deadline()), (None, None));
    scene.refuse_all();
    let since = scene.balance.health(scene.now, 0).outage.unwrap().since;
    let mut pauses = Vec::new();
    for _ in 0..4 {
        assert_eq!(scene.outage(0), Some(OutageReason::Unreachable));
        let before = scene.now;
        assert_eq!(connects(&scene.wait()), [(0, false)]);
        pauses.push(scene.now - before);
        assert_eq!(scene.refused(0, false), []);
    }
    assert!(
        pauses.iter().all(|pause| *pause <= Duration::from_secs(8)),
        "{pauses:?}"
    );
    assert_eq!(scene.balance.health(scene.now, 0).outage.unwrap().since, since);
    assert_eq!(connects(&scene.wait()), [(0, false)]);
    scene.connected(0, false);
    assert_eq!(scene.balance.next_deadline(), None, "it has a connection");
    assert_eq!(scene.outage(0), Some(OutageReason::Unreachable), "is it a forwarder?");
    scene.now += Duration::from_secs(1);
    assert_eq!(scene.outage(0), None);
}

#[test]
fn who_takes_connections_and_ends_them_at_once_is_not_back() {
    let mut scene = Scene::new(1, LIMITS);
    scene.refuse_all();
    for _ in 0..3 {
        assert_eq!(connects(&scene.wait()), [(0, false)]);
        let (link, _) = scene.connected(0, false);
        scene.ended(link);
        scene.now += Duration::from_secs(2);
        assert!(scene.outage(0).is_some());
    }
    scene.wait();
    let (link, _) = scene.connected(0, false);
    scene.now += Duration::from_secs(30);
    scene.ended(link);
    assert_eq!((scene.outage(0), scene.balance.next_deadline()), (None, None));
}

#[test]
fn a_backend_that_takes_requests_and_answers_none_is_down_until_it_answers_one() {
    let mut scene = Scene::new(1, LIMITS);
    let link = scene.idle_link(0);
    let sent = scene.now + Duration::from_secs(1);
    scene.ask(1);
    scene.now += Duration::from_secs(26);
    scene.balance.handle_timed_out(scene.now, link, sent);
    scene.ended(link);
    let outage = scene.balance.health(scene.now, 0).outage.unwrap();
    assert_eq!((outage.reason, outage.evidence), (OutageReason::Silent, sent));
    // Its kernel takes connections, whatever it does: also a probe.
    assert_eq!(connects(&scene.wait()), [(0, false)]);
    let (link, _) = scene.connected(0, false);
    scene.now += Duration::from_secs(20);
    assert_eq!(scene.outage(0), Some(OutageReason::Silent));
    assert_eq!(used(&scene.ask(2)), [(link, 2)]);
    scene.now += Duration::from_secs(20);
    assert_eq!(scene.outage(0), Some(OutageReason::Silent));
    scene.answered(link);
    assert_eq!(scene.outage(0), None);
    assert_eq!(scene.balance.health(scene.now, 0).answered, Some(scene.now));
}

#[test]
fn the_answer_that_a_silent_backend_owes_says_that_it_is_back() {
    let mut scene = Scene::new(1, LIMITS);
    let witness = scene.idle_link(0);
    let sent = scene.now + Duration::from_secs(1);
    scene.ask(1);
    scene.ask(2);
    let (other, _) = scene.connected(0, true);
    scene.now += Duration::from_secs(26);
    scene.balance.handle_timed_out(scene.now, witness, sent);
    scene.balance.handle_timed_out(scene.now, other, sent);
    let kept = [witness, other].map(|link| scene.balance.is_witness(link));
    assert_eq!(kept, [true, false], "one is enough");
    scene.ended(other);
    assert_eq!(
        scene.balance.next_deadline(),
        None,
        "there is a connection that will tell"
    );
    assert_eq!(scene.balance.connections_count(), (1, 0));
    scene.answered(witness);
    assert_eq!((scene.outage(0), scene.balance.is_witness(witness)), (None, false));
    assert_eq!(used(&scene.ask(3)), [(witness, 3)]);
}

#[test]
fn where_there_is_little_room_no_connection_is_kept_for_what_is_owed() {
    let limits = Limits {
        connections_max: 1,
        ..LIMITS
    };
    let mut scene = Scene::new(1, limits);
    let link = scene.idle_link(0);
    let sent = scene.now + Duration::from_secs(1);
    scene.ask(1);
    scene.now += Duration::from_secs(26);
    scene.balance.handle_timed_out(scene.now, link, sent);
    assert!(!scene.balance.is_witness(link));
    scene.ended(link);
    // Its process may end: then nobody can be connected to.
    assert_eq!(connects(&scene.wait()), [(0, false)]);
    scene.refused(0, false);
    assert_eq!(scene.outage(0), Some(OutageReason::Unreachable));
}

#[test]
fn one_worker_that_crashes_is_no_backend_that_is_down() {
    let mut scene = Scene::new(1, LIMITS);
    for number in 1..=3 {
        assert_eq!(scene.outage(0), None, "{number}");
        scene.ask(number);
        let (link, _) = scene.connected(0, true);
        scene.balance.handle_broken(scene.now, link);
        scene.ended(link);
        scene.now += Duration::from_secs(10);
    }
    assert_eq!(scene.outage(0), Some(OutageReason::BreaksOff));
    scene.ask(4);
    let (link, _) = scene.connected(0, true);
    scene.answered(link);
    assert_eq!(scene.outage(0), None);
}

#[test]
fn a_backend_that_refuses_one_connection_more_is_not_down() {
    let mut scene = Scene::new(1, LIMITS);
    scene.idle_link(0);
    scene.ask(1);
    scene.ask(2);
    scene.refused(0, true);
    assert_eq!(scene.outage(0), None);
}

#[test]
fn a_probe_takes_no_connection_that_another_backend_may_need() {
    let limits = Limits {
        connections_max: 1,
        ..LIMITS
    };
    let mut scene = Scene::new(2, limits);
    scene.ask(1);
    scene.refused(0, true);
    let (link, _) = scene.connected(1, true);
    scene.answered(link);
    scene.ended(link);
    assert_eq!(scene.outage(0), Some(OutageReason::Unreachable));
    assert_eq!(scene.balance.next_deadline(), None);
}
