//! config/nats.conf lets nodes say and hear what they have to, and nothing else; against the real nats-server, where there is one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::cluster::{NodeId, Subject};
use protocol::ocpp::ClientId;
use support::{DEADLINE, Value, eventually, parse, program};
use ws2api::config::{self, Overrides};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/nats.conf");
const PASSWORD: &str = "a-password-of-the-test";
const NAME: &str = "ws2api";

#[test]
fn the_sample_lets_a_node_speak_and_hear_as_it_has_to() {
    let Some(server) = Server::start() else { return };
    let (mut node, mut other) = (server.connect(PASSWORD), server.connect(PASSWORD));
    let own = NodeId::new(7);
    let client = Subject::Client(client("CP 1")).text(NAME);
    for (sid, subject) in [
        (1, Subject::all_to(NAME, own)),
        (2, Subject::Nodes.text(NAME)),
        (16, format!("{client} node")),
        (17, Subject::Took(self::client("CP 1")).text(NAME)),
    ] {
        assert_eq!(node.ask(&format!("SUB {subject} {sid}")), "+OK", "{subject}");
    }
    for subject in [
        Subject::Client(self::client("CP 1")),
        Subject::Took(self::client("CP 1")),
        Subject::Node(own, 5),
        Subject::Nodes,
    ] {
        let subject = subject.text(NAME);
        assert_eq!(other.ask(&format!("PUB {subject} 2\r\nhi")), "+OK", "{subject}");
        let head = node.line();
        assert!(
            head.starts_with(&format!("MSG {subject} ")) && head.ends_with(" 2"),
            "{head}"
        );
        assert_eq!(node.line(), "hi");
    }
    // What is said to nobody comes back to where the answer was to go.
    let (nobody, reply) = (
        Subject::Client(self::client("nobody")).text(NAME),
        Subject::Node(own, 9).text(NAME),
    );
    node.send(&format!("PUB {nobody} {reply} 2\r\nhi"));
    let told = [node.line(), node.line(), node.line()];
    assert!(told.contains(&"+OK".to_owned()), "{told:?}");
    assert!(
        told.iter().any(|line| line.starts_with(&format!("HMSG {reply} 1 "))),
        "{told:?}"
    );
    assert!(told.contains(&"NATS/1.0 503".to_owned()), "{told:?}");
}

#[test]
fn the_sample_refuses_every_other_subject_and_whoever_has_no_password() {
    let Some(server) = Server::start() else { return };
    let client = Subject::Client(client("CP 1")).text(NAME);
    let other_cluster = Subject::Client(self::client("CP 1")).text("ws2api2");
    let subscriptions = [
        ">",
        "*",
        "ws2api.>",
        "ws2api.*",
        "ws2api.node.>",
        "_INBOX.1",
        "$SYS.>",
        "$JS.API.>",
        "nodes",
        // Whoever would listen to questions without answering them.
        &client,
        &format!("{client} listeners"),
        &format!("{other_cluster} node"),
        "ws2api.client.a.b node",
    ];
    for subject in subscriptions {
        let answer = server.connect(PASSWORD).ask(&format!("SUB {subject} 1"));
        assert!(
            answer.contains("Permissions Violation for Subscription"),
            "{subject}: {answer}"
        );
    }
    let publications = [
        "ws2api",
        "ws2api.node.1",
        "ws2api.node.1.2.3",
        "ws2api.client.a.b",
        "ws2api.nodes.1",
        "ws2api.other",
        "_INBOX.1",
        "$SYS.REQ.SERVER.PING",
        "$JS.API.INFO",
        &other_cluster,
    ];
    for subject in publications {
        let mut connection = server.connect(PASSWORD);
        connection.send(&format!("PUB {subject} 2\r\nhi"));
        let told = [connection.line(), connection.ask("PING")];
        assert!(
            told.iter()
                .any(|line| line.contains("Permissions Violation for Publish")),
            "{subject}: {told:?}"
        );
    }
    let answer = server.try_connect("another-password");
    assert!(answer.contains("Authorization Violation"), "{answer}");
}

#[test]
fn the_sample_takes_a_message_of_the_default_size_with_its_names() {
    let Some(server) = Server::start() else { return };
    let defaults = config::resolve(None, &Overrides::default(), &[0]).unwrap();
    let message_max = defaults.cores[0].message_max;
    let max_payload = server.info["max_payload"].as_u64().unwrap();
    assert!(
        max_payload >= message_max as u64 + 64 * 1024,
        "{max_payload} for {message_max}"
    );
}

/// A real one with the sample, on a free port.
struct Server {
    process: Child,
    folder: PathBuf,
    address: String,
    info: Value,
}

impl Server {
    /// `None` where there is no program of that name.
    fn start() -> Option<Self> {
        let is_there = Command::new("nats-server").arg("--version").output().is_ok();
        if !is_there {
            eprintln!("not checked: there is no nats-server (Debian has a package of that name)");
            return None;
        }
        let command = || {
            let mut command = Command::new("nats-server");
            command.args(["-c", SAMPLE]).env("WS2API_NATS_PASSWORD", PASSWORD);
            command
        };
        let (code, _, said) = program::finish(command().arg("-t"));
        assert_eq!(code, 0, "{said}");
        let (code, _, said) = program::finish(command().arg("-t").env_remove("WS2API_NATS_PASSWORD"));
        assert_ne!(code, 0, "without a password nobody is to start it: {said}");
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("nats-{}-{}", std::process::id(), number()));
        std::fs::create_dir_all(&folder).unwrap();
        let process = command()
            .args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = folder.join(format!("nats-server_{}.ports", process.id()));
        let mut server = Self {
            process,
            folder,
            address: String::new(),
            info: Value::Null,
        };
        server.address = eventually("the server's port", || {
            let ports = std::fs::read_to_string(&file).ok()?;
            // It may be in the middle of writing it.
            let ports = ports.trim_end().ends_with('}').then(|| parse(&ports))?;
            Some(ports["nats"][0].as_str()?.strip_prefix("nats://")?.to_owned())
        });
        server.info = server.connect(PASSWORD).info;
        Some(server)
    }

    /// Who got in.
    fn connect(&self, password: &str) -> Connection {
        let mut connection = self.open();
        assert_eq!(connection.ask(&hello(password)), "+OK");
        connection
    }

    /// What it says to somebody with that password.
    fn try_connect(&self, password: &str) -> String {
        self.open().ask(&hello(password))
    }

    fn open(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut connection = Connection {
            reader: BufReader::new(stream),
            info: Value::Null,
        };
        let line = connection.line();
        connection.info = parse(line.strip_prefix("INFO ").unwrap());
        connection
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One that no other server of this process has.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn hello(password: &str) -> String {
    format!(
        r#"CONNECT {{"user":"ws2api","pass":"{password}","verbose":true,"headers":true,"no_responders":true,"echo":true}}"#
    )
}

struct Connection {
    reader: BufReader<TcpStream>,
    info: Value,
}

impl Connection {
    fn send(&mut self, line: &str) {
        self.reader
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .unwrap();
    }

    /// The next line of any words.
    fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).unwrap() > 0, "it has closed");
            let line = line.trim_end();
            if !line.is_empty() {
                return line.to_owned();
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.line()
    }
}

fn client(name: &str) -> ClientId {
    ClientId::parse(name).unwrap()
}
