//! The log: for people or for programs, troubles once, and one client's frames on demand.

use serde_json::Value;

use crate::program::{Client, Program, http, wait_until};

#[test]
fn the_frames_of_one_client_are_logged_and_of_no_other() {
    let program = Program::demo(&["--log", "json", "--trace-client", "CP1"]);
    let mut traced = Client::connect(&program.listen, "CP1");
    let mut other = Client::connect(&program.listen, "CP2");
    other.call(1);
    traced.call(2);
    let line = program.wait_for_log("\"direction\":\"out\"");
    let line: Value = serde_json::from_str(&line).expect("a JSON object per line");
    assert_eq!(
        (&line["client"], &line["level"]),
        (&Value::from("CP1"), &Value::from("INFO"))
    );
    assert!(line["frame"].as_str().unwrap().starts_with("[3,\"2\","), "{line}");
    assert!(!program.log().contains("[2,\\\"1\\\""));
    // Switched over, and off. A shard takes the word of it at its next round, so each is tried until it is so.
    let mut number = 100;
    let mut is_logged = |client: &mut Client, other: &mut Client| {
        number += 2;
        client.call(number);
        other.call(number + 1);
        let log = program.log();
        [number, number + 1].map(|number| log.contains(&format!("[3,\\\"{number}\\\",")))
    };
    let mut switch = |method: &str, target: &str, wanted: [bool; 2]| {
        assert_eq!(http(&program.admin, method, target, "").status, 200);
        wait_until(target, || (is_logged(&mut traced, &mut other) == wanted).then_some(()));
    };
    switch("POST", "/trace?client=CP2", [false, true]);
    switch("DELETE", "/trace", [false, false]);
    switch("POST", "/trace?client=CP1", [true, false]);
    drop(traced);
    program.wait_for_log("\"direction\":\"end\"");
    assert_eq!(http(&program.admin, "POST", "/trace", "").status, 400);
    assert_eq!(http(&program.admin, "POST", "/trace?client=a%2Fb", "").status, 400);
    assert_eq!(http(&program.admin, "GET", "/trace", "").status, 405);
}

#[test]
fn a_trouble_is_logged_once_and_not_per_message() {
    let program = Program::demo(&["--set", "clients_max=1"]);
    let mut clients = Vec::new();
    let mut refused = 0;
    for number in 0..20 {
        match Client::try_connect(&program.listen, &format!("CP{number}")) {
            Ok(client) => clients.push(client),
            Err(_) => refused += 1,
        }
    }
    assert_eq!((clients.len(), refused), (2, 18));
    for client in &mut clients {
        (0..50).for_each(|number| client.call(number));
    }
    let line = program.wait_for_log("clients_max is reached");
    assert!(
        line.contains("ERROR") && !line.contains('\u{1b}'),
        "no colours but on a terminal: {line}"
    );
    program.wait_for_log("clients_max was exceeded");
    let log = program.log();
    assert!(log.lines().count() < 12, "{log}");
}
