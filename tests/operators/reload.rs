//! At SIGHUP what can change does, what cannot is said, and what is wrong changes nothing.

use std::path::PathBuf;

use rustix::process::Signal;
use support::{Client, Proxy, eventually};

#[test]
fn bounds_and_token_change_while_clients_stay() {
    let (config, token) = (file("reload.toml"), file("token"));
    std::fs::write(&token, "first\n").unwrap();
    let write = |clients_max: u32, extra: &str| {
        let token = token.display();
        let text = format!("ingress_token_file = \"{token}\"\n{extra}\n[defaults]\nclients_max = {clients_max}\n");
        std::fs::write(&config, text).unwrap();
    };
    write(1, "");
    let proxy = Proxy::demo()
        .shards(2)
        .arg("--config")
        .arg(config.to_str().unwrap())
        .start();
    let read_first = of_the_process(&proxy, "config_last_reload_success_timestamp_seconds");
    assert!(read_first > 1.7e9, "{read_first}");
    let mut first = proxy.client_of("ocpp2.0.1", "CP1");
    let list = |token: &str| {
        let header = ("Authorization", &*format!("Bearer {token}"));
        proxy.http().request("GET", "/clients", &[header], "").status
    };
    assert_eq!((list("first"), list("second")), (200, 401));

    write(100, "subprotocols = [\"ocpp2.0.1\"]\n");
    std::fs::write(&token, "second\n").unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "connect_timeout = \"7s\"\n").unwrap();
    proxy.signal(Signal::HUP);
    proxy.wait_log("clients_max (shard 0): 1 is now 100");
    let line = proxy.wait_log("connect_timeout (shard 1)");
    assert!(line.contains("WARN") && line.contains("needs a restart"), "{line}");
    proxy.wait_log("configuration read again");
    let more: Vec<Client> = (2..10)
        .map(|number| proxy.client_of("ocpp2.0.1", &format!("CP{number}")))
        .collect();
    assert_eq!((list("first"), list("second")), (401, 200));
    assert_eq!(proxy.metric("clients_max"), [100.0, 100.0]);

    assert_eq!(of_the_process(&proxy, "config_last_reload_successful"), 1.0);
    let good = std::fs::read(&config).unwrap();
    std::fs::write(&config, "[defaults]\nclients_max = -1\n").unwrap();
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("the configuration stays as it was");
    assert!(line.contains("ERROR") && line.contains("clients_max"), "{line}");
    assert_eq!(of_the_process(&proxy, "config_last_reload_successful"), 0.0);
    std::fs::write(&config, good).unwrap();
    proxy.signal(Signal::HUP);
    eventually("a reload that succeeds", || {
        (of_the_process(&proxy, "config_last_reload_successful") == 1.0).then_some(())
    });
    assert!(of_the_process(&proxy, "config_last_reload_success_timestamp_seconds") >= read_first);
    first.call(1);
    assert_eq!(proxy.metric("clients").iter().sum::<f64>(), 9.0);
    drop(more);
}

/// The old token is good until everybody has the new one.
#[test]
fn a_token_is_replaced_without_a_moment_without_one() {
    let token = file("rotated");
    let write = |text: &str| std::fs::write(&token, text).unwrap();
    write("old\n");
    let proxy = Proxy::demo()
        .shards(2)
        .set("ingress_token_file", token.to_str().unwrap())
        .start();
    let list = |token: &str| {
        let header = ("Authorization", &*format!("Bearer {token}"));
        proxy.http().request("GET", "/clients", &[header], "").status
    };
    // A shard takes the news of it at its next turn.
    let reload = |words: &str, statuses: [u16; 2]| {
        proxy.signal(Signal::HUP);
        proxy.wait_log(words);
        eventually(words, || ([list("old"), list("new")] == statuses).then_some(()));
    };
    reload(
        "configuration read again: 0 values changed, the token is the one before",
        [200, 401],
    );
    write("old\nnew\n");
    reload("0 values changed, the token has changed: there are two", [200, 200]);
    write("new\n");
    proxy.signal(Signal::HUP);
    eventually("the old token to be refused", || {
        ([list("old"), list("new")] == [401, 200]).then_some(())
    });
    let told = proxy
        .stderr()
        .lines()
        .filter(|line| line.contains("the token has changed"))
        .count();
    assert_eq!(told, 2, "{}", proxy.stderr());
    // What cannot be read changes nothing.
    write("a\nb\nc\n");
    reload("more than two lines", [401, 200]);
}

/// A metric without labels.
fn of_the_process(proxy: &Proxy, name: &str) -> f64 {
    let text = proxy.get("/metrics").expect(200).body;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("ws2api_{name} ")));
    line.expect("the metric").parse().expect("a number")
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}
