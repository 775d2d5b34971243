//! Shows that the harness finds what is wrong: a scripted relay misbehaves in one way per test, and the report names
//! it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bench::options::Options;
use bench::report::Report;
use bench::websocket::{self, Header};
use bench::{http, rpc, run};

const CLIENTS: u32 = 4;

/// What the relay does with the Call number `index` of a connection; the frames it sends back.
type Script = fn(index: u32, id: &str, payload: &str) -> Vec<(u8, String)>;

#[test]
fn a_right_relay_passes_also_with_white_space_and_pings() {
    let report = run_against(|_, id, payload| {
        vec![
            (websocket::PING, "are you there".into()),
            (websocket::TEXT, format!(" [3 , \"{id}\" , {payload} ] ")),
        ]
    });
    assert!(report.passed(), "{:?} {:?}", report.problems, report.faults);
    assert!(report.counts.answered >= u64::from(CLIENTS) * 3);
    assert_eq!(report.counts.pings, report.counts.answered);
}

#[test]
fn a_missing_answer_is_lost() {
    let report = run_against(|index, id, payload| if index == 1 { Vec::new() } else { right(id, payload) });
    assert_eq!(report.counts.lost, u64::from(CLIENTS), "{:?}", report.problems);
    assert_eq!((report.counts.wrong, report.counts.duplicated), (0, 0));
}

#[test]
fn a_second_answer_is_a_duplicate() {
    let report = run_against(|index, id, payload| {
        let mut frames = right(id, payload);
        if index == 1 {
            frames.extend(right(id, payload));
        }
        frames
    });
    assert_eq!(
        (report.counts.duplicated, report.counts.lost),
        (u64::from(CLIENTS), 0),
        "{:?}",
        report.problems
    );
}

#[test]
fn another_payload_another_id_and_an_error_are_wrong() {
    let scripts: [Script; 4] = [
        |_, id, payload| vec![(websocket::TEXT, format!("[3,\"{id}\",{}]", payload.replace('x', "y")))],
        |_, id, payload| vec![(websocket::TEXT, format!("[3,\"{id}0\",{payload}]"))],
        |_, id, _| vec![(websocket::TEXT, format!("[4,\"{id}\",\"InternalError\",\"\",{{}}]"))],
        |_, _, _| vec![(websocket::TEXT, "[3,".to_owned())],
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        let report = run_against(script);
        assert!(
            report.counts.wrong >= u64::from(CLIENTS),
            "script {index}: {:?}",
            report.problems
        );
        assert_eq!(report.counts.answered, 0, "script {index}");
        assert!(!report.faults.is_empty(), "script {index}");
    }
}

#[test]
fn a_closed_connection_is_lost_and_its_further_calls_are_missed() {
    let report = run_against(|_, _, _| vec![(websocket::CLOSE, "\u{3}\u{e9}".to_owned())]);
    assert_eq!(
        report.counts.lost_connections,
        u64::from(CLIENTS),
        "{:?}",
        report.problems
    );
    assert!(report.counts.missed > 0);
}

#[test]
fn a_frame_that_is_none_ends_the_connection() {
    // A reserved bit: opcode 0x41 is text with RSV1 set.
    let report = run_against(|_, _, _| vec![(0x41, "{}".to_owned())]);
    assert_eq!(
        report.counts.lost_connections,
        u64::from(CLIENTS),
        "{:?}",
        report.problems
    );
}

fn right(id: &str, payload: &str) -> Vec<(u8, String)> {
    vec![(websocket::TEXT, format!("[3,\"{id}\",{payload}]"))]
}

fn run_against(script: Script) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream, script));
        }
    });
    run::run(&options(address)).unwrap()
}

fn options(target: SocketAddr) -> Options {
    Options {
        clients: CLIENTS,
        ramp: Duration::ZERO,
        interval: Duration::from_millis(100),
        hold: Duration::from_millis(500),
        late: Duration::from_millis(500),
        target: vec![target],
        quiet: true,
        ..Options::default()
    }
}

/// Upgrades whoever comes and follows the script; ends with the connection.
fn serve(mut stream: TcpStream, script: Script) -> Option<()> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        read_more(&mut stream, &mut bytes)?;
    }
    let accept = websocket::accept_key(http::find_header(&bytes, "sec-websocket-key")?);
    let accept = str::from_utf8(&accept).ok()?;
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n"
    )
    .ok()?;
    bytes.clear();
    let mut index = 0;
    loop {
        let header = match Header::parse(&bytes).ok()? {
            Some(header) if bytes.len() >= header.frame_len() => header,
            _ => {
                read_more(&mut stream, &mut bytes)?;
                continue;
            }
        };
        let mut payload = bytes[header.header_len..header.frame_len()].to_vec();
        bytes.drain(..header.frame_len());
        websocket::apply_mask(&mut payload, header.mask.expect("a client masks"));
        let Some(rpc::Message::Call { id, payload, .. }) = rpc::split(&payload) else {
            continue;
        };
        let mut out = Vec::new();
        for (opcode, text) in script(index, id, str::from_utf8(payload).ok()?) {
            // A close code is two bytes, which the script writes as two characters.
            let text: Vec<u8> = text.chars().map(|character| character as u8).collect();
            websocket::write_server_frame(&mut out, opcode, &text);
        }
        index += 1;
        stream.write_all(&out).ok()?;
    }
}

fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk) {
        Ok(len) if len > 0 => {
            bytes.extend_from_slice(&chunk[..len]);
            Some(())
        }
        _ => None,
    }
}
