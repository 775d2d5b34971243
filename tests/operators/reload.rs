//! SIGHUP: what can change does, what cannot is said, and what is wrong changes nothing.

use std::path::PathBuf;

use crate::program::{Client, Program, http};

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
    let program = Program::demo(&["--config", config.to_str().unwrap()]);
    let mut first = Client::connect(&program.listen, "CP1");
    let list = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        http(&program.ingress, "GET", "/clients", &header).status
    };
    assert_eq!((list("first"), list("second")), (200, 401));

    write(100, "subprotocols = [\"ocpp2.0.1\"]\n");
    std::fs::write(&token, "second\n").unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "connect_timeout = \"7s\"\n").unwrap();
    program.signal("HUP");
    program.wait_for_log("clients_max (shard 0): 1 is now 100");
    let line = program.wait_for_log("connect_timeout (shard 1)");
    assert!(line.contains("WARN") && line.contains("needs a restart"), "{line}");
    program.wait_for_log("configuration read again");
    let more: Vec<Client> = (2..10)
        .map(|number| Client::connect(&program.listen, &format!("CP{number}")))
        .collect();
    assert_eq!((list("first"), list("second")), (401, 200));
    assert_eq!(program.metric("ws2api_clients_max", ""), 200.0);

    std::fs::write(&config, "[defaults]\nclients_max = -1\n").unwrap();
    program.signal("HUP");
    let line = program.wait_for_log("the configuration stays as it was");
    assert!(line.contains("ERROR") && line.contains("clients_max"), "{line}");
    first.call(1);
    assert_eq!(program.metric("ws2api_clients", ""), 9.0);
    drop(more);
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}
