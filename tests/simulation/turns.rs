//! Counts the turns that tasks have: whoever brings much work at once does it in many, and others have theirs between.

use super::scene::{Scene, frame};
use super::world::{INGRESS, address};

#[test]
fn what_a_client_brings_at_once_is_done_in_many_turns_and_others_have_theirs_between() {
    let continued = |payload: &[u8], count| [frame(0x01, b"["), frame(0x00, payload).repeat(count)].concat();
    // Each with the turns that it takes at least.
    let attacks = [
        ("empty continuations", "ocpp2.1", continued(b"", 8000), 25),
        ("one byte per frame", "ocpp2.1", continued(b" ", 8000), 25),
        ("pings", "ocpp2.1", frame(0x89, b"?").repeat(2000), 25),
        ("idle messages", "ocpp2.1", frame(0x81, b"").repeat(1000), 25),
        ("a message of 1 MiB", "ocpp2.1", frame(0x81, &vec![b' '; 1 << 20]), 16),
        (
            "frames behind a refused subprotocol",
            "soap",
            frame(0x81, &[b' '; 100]).repeat(8000),
            12,
        ),
    ];
    for (what, subprotocol, bytes, turns_min) in attacks {
        let mut scene = Scene::new(&[]);
        let other = scene.connect("CP1", "ocpp2.1");
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|number| scene.connect(&format!("X{number}"), subprotocol))
            .collect();
        scene.until(|| true);
        let before = scene.simulation.turns();
        for attacker in &attackers {
            attacker.send_whole(&bytes);
        }
        other.send_whole(&frame(0x89, b"!"));
        scene.until(|| !other.receive().is_empty());
        let answered_after = other.answered_in() - before;
        assert!(
            answered_after <= 3 * ATTACKERS,
            "{what}: another one is answered after {answered_after} turns"
        );
        let mut rest = 20;
        scene.until(|| {
            rest -= 1;
            rest == 0
        });
        let turns = scene.simulation.turns() - before;
        assert!(turns >= ATTACKERS * turns_min, "{what}: done in {turns} turns");
    }
}

#[test]
fn a_body_in_chunks_of_one_byte_is_read_in_many_turns() {
    let mut scene = Scene::new(&[]);
    let network = scene.simulation.network();
    let peer = network.connect(address(INGRESS), address("10.0.0.1:40000"));
    let peer = peer.expect("somebody listens");
    let head = "POST /call/A/CP1/1 HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = "1\r\n \r\n".repeat(100_000);
    let before = scene.simulation.turns();
    peer.send_whole([head, &chunks, "2\r\n{}\r\n0\r\n\r\n"].concat().as_bytes());
    scene.until(|| peer.receive().starts_with(b"HTTP/1.1 404"));
    let turns = scene.simulation.turns() - before;
    assert!(turns >= 9, "done in {turns} turns");
}

const ATTACKERS: u64 = 4;
