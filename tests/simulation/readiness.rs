//! Shows that what a socket's events tell is neither lost nor waited for again: an end that comes with the last bytes, bytes that come
//! while something waits to be sent.

use std::time::Duration;

use super::progress::push;
use super::scene::{Scene, frame};
use super::world::{INGRESS, LISTEN, address};

#[test]
fn an_end_that_comes_with_the_last_bytes_is_noticed_at_once() {
    for (place, request) in [
        (LISTEN, "GET /CP1 HTTP/1.1\r\nHost: sim\r\n"),
        (INGRESS, "POST /call/A/CP1/1 HTTP/1.1\r\nHost: sim\r\n"),
    ] {
        let mut scene = Scene::new(&[("handshake_timeout", "5m")]);
        scene.pass(Duration::from_secs(1));
        let before = scene.simulation.sockets_count();
        let network = scene.simulation.network();
        let peer = network.connect(address(place), address("192.0.2.1:40000"));
        let peer = peer.expect("somebody listens");
        scene.pass(Duration::from_secs(1));
        assert_eq!(scene.simulation.sockets_count(), before + 1);
        peer.send_whole(request.as_bytes());
        peer.finish();
        scene.pass(Duration::from_secs(3));
        assert_eq!(scene.simulation.sockets_count(), before, "{place}");
    }
}

#[test]
fn what_a_client_says_is_read_while_something_waits_to_be_sent_to_it() {
    let mut scene = Scene::new(&[("send_timeout", "5m"), ("push_timeout", "5m")]);
    let peer = scene.connect("CP1", "ocpp2.1");
    let large = format!("\"{}\"", "x".repeat(900_000));
    assert_eq!(push(&mut scene, "m1", &large), "HTTP/1.1 202");
    scene.pass(Duration::from_secs(1));
    // It reads nothing, and goes.
    peer.send_whole(&frame(0x88, &[3, 0xE8]));
    scene.pass(Duration::from_secs(1));
    assert_eq!(push(&mut scene, "m2", "{}"), "HTTP/1.1 404");
}
