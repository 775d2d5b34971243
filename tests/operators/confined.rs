//! Runs the program as container engines run one: no io_uring, no unshare, nobody, little locked memory (scripts/confined).

use std::collections::BTreeMap;
use std::process::Command;

use support::{Backend, Proxy};

/// What starts the program; `None` where that can't be had.
fn confined(option: &[&'static str]) -> Option<Vec<&'static str>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/confined");
    let words = [&[script][..], option].concat();
    let tried = Command::new(words[0]).args(&words[1..]).arg("true").output();
    match tried {
        Ok(output) if output.status.success() => Some(words),
        Ok(output) => {
            eprintln!("not checked: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            eprintln!("not checked: {error}");
            None
        }
    }
}

/// Clients of both shards, Calls, pushes by whichever shard takes them, and an end in time.
fn serves(under: &[&str], tables: &str) {
    let backend = Backend::start();
    let mut proxy = Proxy::with(&backend).under(under).shards(2).start();
    proxy.wait_log("executor: plain (auto)");
    proxy.wait_log(tables);
    let mut clients: BTreeMap<String, _> = (0..40)
        .map(|number| format!("CP{number}"))
        .map(|id| (id.clone(), proxy.client(&id)))
        .collect();
    assert!(
        proxy.count_where("handovers", "sent") > 0,
        "some went to the other shard"
    );
    assert_eq!(proxy.count_where("handovers", "lost"), 0);
    for (id, client) in &mut clients {
        client.send_call("m1", "Echo", &format!("{{\"id\":\"{id}\"}}"));
        client.expect(&format!("[3,\"m1\",{{\"id\":\"{id}\"}}]"));
        proxy.push(id, "Reset", "p1", "{}").expect(202);
        client.expect("[2,\"p1\",\"Reset\",{}]");
        client.send_result("p1", "{}");
    }
    backend.wait_seen("/result", 40);
    drop(clients);
    proxy.signal(rustix::process::Signal::TERM);
    assert!(proxy.wait().success());
}

#[test]
fn under_the_engines_default_profile_it_serves() {
    let Some(under) = confined(&[]) else { return };
    serves(
        &under,
        "descriptors: all shards share one table, since unshare(CLONE_FILES) is refused: Operation not permitted",
    );
}

#[test]
fn where_unshare_is_allowed_each_shard_has_its_own_table() {
    let Some(under) = confined(&["--podman"]) else { return };
    serves(&under, "descriptors: each shard has a table of its own");
}
