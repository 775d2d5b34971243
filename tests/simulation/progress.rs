//! Plays clients that are slow and do go on: they are neither deaf nor silent. The clock jumps, so that minutes cost nothing.

use std::time::Duration;

use shards::simulation::network::Peer;

use super::ledger::Push;
use super::scene::{Scene, frame};
use super::world::{INGRESS, address};

/// A push to `CP1` at the ingress; its answer's status line.
pub fn push(scene: &mut Scene, id: &str, payload: &str) -> String {
    scene.ledger.pushes.insert(id.to_owned(), Push::default());
    let network = scene.simulation.network();
    let peer = network.connect(address(INGRESS), address("10.0.0.1:40000"));
    let peer = peer.expect("somebody listens");
    let head = format!(
        "POST /call/Big/CP1/{id} HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        payload.len()
    );
    peer.send_whole(format!("{head}{payload}").as_bytes());
    let mut answer = Vec::new();
    scene.until(|| {
        answer.extend(peer.receive());
        answer.windows(4).any(|end| end == b"\r\n\r\n")
    });
    String::from_utf8_lossy(&answer[..12]).into_owned()
}

/// Reads so much once a second until it ends with `last`. How many seconds it took.
fn read_slowly(scene: &mut Scene, peer: &Peer, step: usize, last: &[u8]) -> (Vec<u8>, u32) {
    let (mut received, mut seconds) = (Vec::new(), 0);
    while !received.ends_with(last) {
        assert!(peer.ended().is_none(), "cut off after {} bytes", received.len());
        received.extend(peer.receive_some(step));
        scene.pass(Duration::from_secs(1));
        seconds += 1;
    }
    (received, seconds)
}

#[test]
fn a_client_that_reads_slowly_is_not_cut_off_whatever_waits_for_it() {
    let bounds = [
        ("send_timeout", "5s"),
        ("pushes_in_flight", "4"),
        ("send_queue_bytes", "64KiB"),
        ("push_timeout", "1h"),
        ("ping_after", "1h"),
        ("dead_after", "2h"),
    ];
    let mut scene = Scene::new(&bounds);
    let peer = scene.connect("CP1", "ocpp2.1");
    let large = format!("\"{}\"", "x".repeat(900_000));
    assert_eq!(push(&mut scene, "m1", &large), "HTTP/1.1 202");
    // One that is larger than the queue may wait behind it, and a small one where that is not.
    assert_eq!(push(&mut scene, "m2", "{}"), "HTTP/1.1 202");
    peer.send_whole(&frame(0x89, b"?"));
    let (received, seconds) = read_slowly(&mut scene, &peer, 20_000, b"[2,\"m2\",\"Big\",{}]");
    assert!(
        seconds >= 45 && received.len() >= 900_000,
        "{} bytes in {seconds} s",
        received.len()
    );
    // Who takes nothing for that long is cut off.
    assert_eq!(push(&mut scene, "m3", &large), "HTTP/1.1 202");
    // Without the backend, which would be told.
    let end = scene.simulation.now() + Duration::from_secs(10);
    while scene.simulation.now() < end {
        scene.simulation.run_to_next(end);
    }
    while !peer.receive().is_empty() {}
    assert!(peer.ended().is_some());
}

#[test]
fn a_client_that_sends_slowly_is_not_silent() {
    let mut scene = Scene::new(&[("ping_after", "10s"), ("dead_after", "20s")]);
    let peer = scene.connect("CP1", "ocpp2.1");
    // One frame: no pong can come between.
    let message = frame(
        0x81,
        format!("[3,\"none\",{{\"a\":\"{}\"}}]", "x".repeat(900_000)).as_bytes(),
    );
    for piece in message.chunks(20_000) {
        peer.send_whole(piece);
        scene.pass(Duration::from_secs(1));
        assert!(peer.ended().is_none());
    }
    peer.send_whole(&frame(0x89, b"?"));
    let mut received = Vec::new();
    scene.until(|| {
        received.extend(peer.receive());
        received.ends_with(b"\x8a\x01?")
    });
    assert_eq!(received, b"\x8a\x01?", "it was not even asked");
}
