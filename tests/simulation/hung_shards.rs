//! Lets shards hang while others ask them: what was answered with 503 is not carried out later.

use std::time::Duration;

use shards::simulation::network::Peer;

use super::scene::Scene;
use super::world::{INGRESS, address};

struct Push {
    id: String,
    peer: Peer,
    answer: Vec<u8>,
}

impl Push {
    fn send(scene: &Scene, client: &str, id: String) -> Self {
        let peer = scene
            .simulation
            .network()
            .connect(address(INGRESS), address("10.0.0.1:40000"));
        let peer = peer.expect("somebody listens");
        let request = format!(
            "POST /call/Do/{client}/{id} HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        peer.send_whole(request.as_bytes());
        Self {
            id,
            peer,
            answer: Vec::new(),
        }
    }

    /// Its answer, if there is one.
    fn status(&mut self) -> Option<u16> {
        self.answer.extend(self.peer.receive());
        let status = self.answer.get(9..12)?;
        str::from_utf8(status).ok()?.parse().ok()
    }
}

fn two_shards() -> (Scene, Vec<(String, Peer)>) {
    let bounds = [
        ("pushes_in_flight", "64"),
        ("pushes_queued", "64"),
        ("handshake_timeout", "5m"),
        ("push_timeout", "5m"),
    ];
    let mut scene = Scene::of_shards(2, &bounds);
    let names = (0..8).map(|number| format!("CP{number}"));
    let clients = names
        .map(|name| (name.clone(), scene.connect(&name, "ocpp2.1")))
        .collect();
    (scene, clients)
}

fn push_to_all(scene: &Scene, clients: &[(String, Peer)]) -> Vec<Push> {
    let rounds = (0..4).flat_map(|round| clients.iter().map(move |(name, _)| (round, name)));
    rounds
        .map(|(round, name)| Push::send(scene, name, format!("{name}-{round}")))
        .collect()
}

/// The ids of the pushes that clients have got.
fn seen(clients: &[(String, Peer)], pushes: &[Push]) -> Vec<bool> {
    let received: Vec<u8> = clients.iter().flat_map(|(_, peer)| peer.receive()).collect();
    let received = String::from_utf8_lossy(&received);
    let is_seen = |push: &Push| received.matches(&format!("\"{}\"", push.id)).count() == 1;
    pushes.iter().map(is_seen).collect()
}

#[test]
fn a_question_whose_asker_has_given_up_is_not_carried_out_by_a_shard_that_hung() {
    let (mut scene, clients) = two_shards();
    scene.simulation.freeze(1);
    let mut pushes = push_to_all(&scene, &clients);
    scene.pass(Duration::from_secs(35));
    let given_up = pushes
        .iter_mut()
        .map(Push::status)
        .filter(|status| *status == Some(503))
        .count();
    assert!(given_up > 0, "some went from shard 0 to shard 1");
    scene.simulation.thaw(1);
    scene.pass(Duration::from_secs(5));
    let seen = seen(&clients, &pushes);
    for (push, seen) in pushes.iter_mut().zip(seen) {
        let status = push.status();
        assert!(matches!(status, Some(202 | 503)), "{}: {status:?}", push.id);
        assert_eq!(seen, status == Some(202), "{}: {status:?}", push.id);
    }
}

#[test]
fn a_reply_that_was_there_before_the_asker_hung_is_taken() {
    let (mut scene, clients) = two_shards();
    scene.simulation.freeze(1);
    let mut pushes = push_to_all(&scene, &clients);
    scene.pass(Duration::from_secs(1));
    // The questions wait at shard 1, which answers now; shard 0 learns of it much later.
    scene.simulation.freeze(0);
    scene.simulation.thaw(1);
    scene.pass(Duration::from_secs(40));
    scene.simulation.thaw(0);
    scene.pass(Duration::from_secs(5));
    let seen = seen(&clients, &pushes);
    for (push, seen) in pushes.iter_mut().zip(seen) {
        let status = push.status();
        assert_eq!(seen, status == Some(202), "{}: {status:?}", push.id);
    }
    let accepted = pushes
        .iter_mut()
        .map(Push::status)
        .filter(|status| *status == Some(202))
        .count();
    assert!(accepted > pushes.len() / 2, "{accepted}");
}
