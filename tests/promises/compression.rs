//! Messages travel compressed where the client offers it, by permessage-deflate (RFC 7692): `deflate-1` to
//! `deflate-11`, `deflate-13`.

use support::client::{CONTINUATION, PING, RSV1, TEXT, frame_bytes};
use support::{Backend, Client, Handshake, Message, PAYLOADS, Proxy, Response, Until};

/// What the libraries of Python and Node.js, and browsers, offer.
const OFFER: &str = "permessage-deflate; client_max_window_bits";

fn client(proxy: &Proxy, name: &str) -> Client {
    Handshake::new(name).offer(OFFER).open(proxy.listen)
}

/// Like meter values of a charge point, of `samples` samples.
fn meter_values(number: usize, samples: usize) -> String {
    let samples: Vec<String> = (0..samples)
        .map(|sample| {
            let value = (number * 7919 + sample * 104_729) % 100_003;
            format!(r#"{{"value":"{value}","measurand":"Energy.Active.Import.Register","unit":"Wh"}}"#)
        })
        .collect();
    format!(r#"{{"connectorId":1,"meterValue":[{}]}}"#, samples.join(","))
}

#[test]
fn the_first_offer_that_can_be_kept_is_answered() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).shards(2).start();
    let both = "permessage-deflate; server_max_window_bits=11; client_max_window_bits=11";
    let forgets = "permessage-deflate; server_max_window_bits=11; client_no_context_takeover";
    for (offers, answer) in [
        (&[OFFER][..], Some(both)),
        (&["permessage-deflate"], Some(forgets)),
        (
            &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
            Some(
                "permessage-deflate; server_max_window_bits=11; server_no_context_takeover; \
                 client_no_context_takeover",
            ),
        ),
        (
            &["permessage-deflate; client_max_window_bits=9; server_max_window_bits=10"],
            Some("permessage-deflate; server_max_window_bits=10; client_max_window_bits=9"),
        ),
        (&["permessage-deflate; client_max_window_bits=15"], Some(both)),
        (&["permessage-deflate; server_max_window_bits=8"], None),
        (&["permessage-deflate; client_max_window_bits=8"], None),
        (
            &["permessage-deflate; client_max_window_bits; client_max_window_bits=10"],
            None,
        ),
        (&["permessage-deflate; unknown"], None),
        (&["x-webkit-deflate-frame"], None),
        (&["permessage-deflate; unknown, permessage-deflate"], Some(forgets)),
        (&["permessage-deflate; server_max_window_bits=8", OFFER], Some(both)),
    ] {
        // At its home shard and at the other one.
        for name in ["CP1", "CP2", "CP3", "CP4"] {
            let handshake = offers
                .iter()
                .fold(Handshake::new(name), |handshake, offer| handshake.offer(offer));
            let mut client = handshake.open(proxy.listen);
            assert_eq!(client.extensions(), answer, "{offers:?}");
            client.call(1);
        }
    }
}

#[test]
fn the_window_is_the_configured_one_and_compression_can_be_off() {
    let backend = Backend::start();
    for (window, bits) in [("512B", 9), ("1KiB", 10), ("3KiB", 11), ("32KiB", 15)] {
        let proxy = Proxy::with(&backend).set("deflate_window", window).start();
        let expected = format!("permessage-deflate; server_max_window_bits={bits}; client_max_window_bits={bits}");
        assert_eq!(client(&proxy, "CP1").extensions(), Some(&*expected), "{window}");
    }
    let proxy = Proxy::with(&backend).set("deflate", "false").start();
    assert_eq!(client(&proxy, "CP1").extensions(), None);
}

#[test]
fn clients_whose_stacks_are_broken_are_declined_by_their_user_agent() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("deflate_not_for", "Java-WebSocket/1.5,broken stack")
        .start();
    for (agent, is_declined) in [
        ("Java-WebSocket/1.5.2", true),
        ("firmware 2 (java-websocket/1.5)", true),
        ("a Broken Stack", true),
        ("Java-WebSocket/1.6", false),
        ("", false),
    ] {
        let handshake = Handshake::new("CP1").offer(OFFER).header("User-Agent", agent);
        let mut client = handshake.open(proxy.listen);
        assert_eq!(client.extensions().is_none(), is_declined, "{agent}");
        client.call(1);
    }
    assert!(client(&proxy, "CP2").extensions().is_some(), "without a User-Agent");
}

#[test]
fn payloads_pass_byte_for_byte_both_ways_whatever_was_agreed_on() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend)
        .set("deflate_window", "32KiB")
        .set("deflate_min", "0B")
        .start();
    let large: Vec<String> = [1, 8, 40, 300, 3000].iter().map(|len| meter_values(0, *len)).collect();
    for offer in [
        OFFER,
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=10",
    ] {
        let mut client = Handshake::new("CP1").offer(offer).open(proxy.listen);
        for payload in PAYLOADS.iter().copied().chain(large.iter().map(|payload| &**payload)) {
            client.send_compressed(format!("[2,\"m1\",\"Echo\",{payload}]"));
            client.expect(&format!("[3,\"m1\",{payload}]"));
            assert_eq!(backend.take("/call").text(), payload, "{offer}");
            proxy.push("CP1", "Reset", "p1", payload).expect(202);
            client.expect(&format!("[2,\"p1\",\"Reset\",{payload}]"));
            client.send_compressed(format!("[3,\"p1\",{payload}]"));
            assert_eq!(backend.take("/result").text(), payload, "{offer}");
        }
    }
}

#[test]
fn a_thousand_messages_each_way_are_understood_also_over_another_connection() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let until = Until::default();
    std::thread::scope(|scope| {
        let _end = until.end();
        // Others use the same inflater and deflater meanwhile.
        for name in ["other1", "other2"] {
            let (proxy, until) = (&proxy, &until);
            scope.spawn(move || {
                let mut client = client(proxy, name);
                for number in 0.. {
                    if until.is_over() {
                        break;
                    }
                    let payload = meter_values(number, number % 60);
                    client.send_compressed(format!("[2,\"{number}\",\"Echo\",{payload}]"));
                    client.expect(&format!("[3,\"{number}\",{payload}]"));
                }
            });
        }
        for _ in 0..2 {
            let mut client = client(&proxy, "CP1");
            for number in 0..1000 {
                let payload = meter_values(number, number % 40);
                let call = format!("[2,\"{number}\",\"Echo\",{payload}]");
                match number % 5 {
                    // Not everything is compressed, and what is not leaves the window as it is.
                    0 => client.send(call),
                    1 => {
                        let bytes = client.compression().deflate(call.as_bytes());
                        let (first, last) = bytes.split_at(bytes.len() / 2);
                        client.send_frame(false, RSV1 | TEXT, first);
                        client.send_frame(true, PING, "between");
                        client.send_frame(false, CONTINUATION, "");
                        client.send_frame(true, CONTINUATION, last);
                        assert_eq!(client.message(), Message::Pong(b"between".to_vec()));
                    }
                    _ => {
                        client.send_compressed(call);
                    }
                }
                client.expect(&format!("[3,\"{number}\",{payload}]"));
            }
        }
    });
}

#[test]
fn what_is_shorter_than_deflate_min_or_would_not_get_shorter_is_sent_as_it_is() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("deflate_min", "100B").start();
    let mut client = client(&proxy, "CP1");
    let mut answer = |payload: &str| {
        client.send_call("m1", "Echo", payload);
        let (_, opcode, bytes) = client.frame().expect("an answer");
        let is_compressed = opcode & RSV1 != 0;
        let text = match is_compressed {
            true => client.compression().inflate(&bytes),
            false => bytes.clone(),
        };
        assert_eq!(String::from_utf8(text).unwrap(), format!("[3,\"m1\",{payload}]"));
        (is_compressed, bytes.len())
    };
    let of_len = |len: usize| format!("{{\"x\":\"{}\"}}", "x".repeat(len - r#"[3,"m1",{"x":""}]"#.len()));
    assert!(!answer(&of_len(99)).0, "one byte below");
    assert!(answer(&of_len(100)).0, "at the bound");
    // Hexadecimal digits of a hash have half a byte each; what has eight bits a byte is not JSON.
    let noise: String = (0..60)
        .map(|n: u32| char::from_u32(0x4e00 + n.wrapping_mul(2_654_435_761) % 20_000).unwrap())
        .collect();
    let (is_compressed, len) = answer(&format!("{{\"x\":\"{noise}\"}}"));
    assert!(!is_compressed || len < noise.len(), "never longer than it is");
}

#[test]
fn what_was_said_before_makes_messages_short_unless_somebody_asked_to_forget_it() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let payload = meter_values(1, 8);
    let lens = |offer: &str| {
        let mut client = Handshake::new("CP1").offer(offer).open(proxy.listen);
        let mut exchange = || {
            let sent = client.send_compressed(format!("[2,\"m1\",\"Echo\",{payload}]"));
            let (_, opcode, answer) = client.frame().expect("an answer");
            assert_eq!(opcode, RSV1 | TEXT);
            client.compression().inflate(&answer);
            (sent, answer.len())
        };
        (exchange(), exchange())
    };
    let (first, second) = lens(OFFER);
    assert!(second.0 * 4 < first.0 && second.1 * 4 < first.1, "{first:?} {second:?}");
    let (first, second) = lens("permessage-deflate; server_no_context_takeover");
    assert_eq!(first, second, "both forget");
}

#[test]
fn a_compressed_message_that_was_not_agreed_on_closes_with_1002() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let offers = ["permessage-deflate; unknown", "permessage-bzip2"];
    for handshake in [Handshake::new("CP1")]
        .into_iter()
        .chain(offers.map(|offer| Handshake::new("CP1").offer(offer)))
    {
        let mut client = handshake.open(proxy.listen);
        assert_eq!(client.extensions(), None);
        client.send_frame(true, RSV1 | TEXT, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        client.expect_close(1002);
    }
    // A control frame, and a fragment that is not the first, are never marked as compressed.
    for frames in [
        vec![frame_bytes(true, RSV1 | PING, b"")],
        vec![
            frame_bytes(false, RSV1 | TEXT, &[0xf2, 0x48]),
            frame_bytes(true, RSV1 | CONTINUATION, &[0xcd, 0xc9, 0xc9, 0x07, 0x00]),
        ],
    ] {
        let mut client = client(&proxy, "CP2");
        client.send_raw(frames.concat());
        client.expect_close(1002);
    }
}

#[test]
fn what_cannot_be_inflated_or_is_no_text_then_closes_with_1007() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    for broken in [
        // A block of a kind that there is none of, and a distance to before the beginning.
        &[0xff, 0xff, 0xff][..],
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
    ] {
        let mut client = client(&proxy, "CP1");
        client.send_frame(true, RSV1 | TEXT, broken);
        client.expect_close(1007);
    }
    let mut client = client(&proxy, "CP1");
    client.send_compressed(b"[2,\"m1\",\"Echo\",{\"x\":\"\xff\"}]");
    client.expect_close(1007);
}

#[test]
fn inflated_messages_keep_to_the_size_limit_and_bombs_close_with_1009() {
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("message_max", "100KiB").start();
    let message = |len: usize| {
        let frame = "[2,\"m1\",\"Big\",\"\"]".len();
        format!("[2,\"m1\",\"Big\",\"{}\"]", "x".repeat(len - frame))
    };
    let client_of = |name: &str| client(&proxy, name);
    let mut client = client_of("CP1");
    client.send_compressed(message(100 * 1024));
    assert!(client.text().starts_with("[3,"));
    client.send_compressed(message(100 * 1024 + 1));
    client.expect_close(1009);
    // A thousand times as long as it is, and empty blocks that each say they are the last one.
    let mut client = client_of("CP2");
    let len = client.send_compressed(vec![b' '; 10_000_000]);
    assert!(len * 1000 < 10_000_000, "{len}");
    client.expect_close(1009);
    let mut client = client_of("CP3");
    client.send_frame(true, RSV1 | TEXT, [0x03, 0x00].repeat(40_000));
    client.expect_close(1009);
    // Empty blocks alone come to an empty message.
    let mut client = client_of("CP4");
    client.send_frame(true, RSV1 | TEXT, [0, 0, 0, 0xff, 0xff].repeat(20_000));
    client.call(1);
}

#[test]
fn who_reads_late_gets_all_compressed_messages_in_their_order() {
    let backend = Backend::start();
    let noise = |number: usize| {
        // Of which no more than a half is left.
        let hash = |n: usize| format!("{:016x}", (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let digits: String = (0..4000).map(|n| hash(number * 4000 + n)).collect();
        format!("{{\"n\":{number},\"x\":\"{digits}\"}}")
    };
    backend.on("/call", move |request| {
        Response::json(noise(request.segment(3).parse().unwrap()))
    });
    let proxy = Proxy::with(&backend)
        .set("send_queue_bytes", "64MiB")
        .set("calls_queued", "1000")
        .start();
    let mut client = client(&proxy, "CP1");
    // More than what the sockets take.
    for number in 0..300 {
        client.send_call(&number.to_string(), "Noise", "{}");
    }
    proxy.wait_count("calls", 300);
    for number in 0..300 {
        client.expect(&format!("[3,\"{number}\",{}]", noise(number)));
    }
}

#[test]
fn what_compression_saves_is_counted() {
    let backend = Backend::start();
    let proxy = Proxy::start(&backend);
    let mut client = client(&proxy, "CP1");
    let payload = meter_values(1, 8);
    let call = format!("[2,\"m1\",\"Echo\",{payload}]");
    let (mut sent, mut received) = (0, 0);
    for _ in 0..10 {
        sent += client.send_compressed(&call);
        let (_, _, answer) = client.frame().expect("an answer");
        received += answer.len();
        client.compression().inflate(&answer);
    }
    client.send_call("m2", "Echo", "{}");
    client.expect("[3,\"m2\",{}]");
    let count = |name: &str, label: &str| proxy.metric_where(&format!("{name}_total"), label)[0] as usize;
    assert_eq!(count("deflate_messages", "direction=\"in\""), 10);
    assert_eq!(count("deflate_messages", "direction=\"out\""), 10);
    for (label, bytes) in [
        ("direction=\"in\",form=\"compressed\"", sent),
        ("direction=\"in\",form=\"plain\"", 10 * call.len()),
        ("direction=\"out\",form=\"compressed\"", received),
        (
            "direction=\"out\",form=\"plain\"",
            10 * format!("[3,\"m1\",{payload}]").len(),
        ),
    ] {
        assert_eq!(count("deflate_bytes", label), bytes, "{label}");
    }
}
