//! Runs a real nats-server, where it is installed, and plays one, byte by byte.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{DEADLINE, eventually};

/// A nats-server of the test's own. It ends with it.
pub struct Nats {
    folder: PathBuf,
    config: String,
    child: Child,
    address: SocketAddr,
}

impl Nats {
    /// Starts one with these lines in its configuration. `None`, and a line that says so, where none is installed.
    #[track_caller]
    pub fn start(config: &str) -> Option<Self> {
        let is_there = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status();
        if is_there.is_err() {
            eprintln!("nats-server is not installed: not checked");
            return None;
        }
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ws2api-nats-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let child = spawn(&folder, config, -1);
        let address = address(&folder, &child);
        Some(Self {
            folder,
            config: config.to_owned(),
            child,
            address,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where other servers reach it, if its configuration has a `cluster`.
    #[track_caller]
    pub fn route(&self) -> String {
        told(&self.folder, &self.child, "cluster")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where files of the test may be.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it at once, without a word to anybody.
    #[track_caller]
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Starts it again, where it was.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.kill();
        self.child = spawn(&self.folder, &self.config, i32::from(self.address.port()));
        self.address = address(&self.folder, &self.child);
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[track_caller]
fn spawn(folder: &Path, config: &str, port: i32) -> Child {
    let file = folder.join("nats.conf");
    let lines = format!(
        "listen: \"127.0.0.1:{port}\"\nports_file_dir: \"{}\"\n{config}\n",
        folder.display()
    );
    fs::write(&file, lines).unwrap();
    let log = fs::File::create(folder.join("log")).unwrap();
    Command::new(PROGRAM)
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Where it listens, once it does.
#[track_caller]
fn address(folder: &Path, child: &Child) -> SocketAddr {
    let url = told(folder, child, "nats");
    let (_, address) = url.split_once("://").unwrap();
    address.parse().unwrap()
}

/// The first of its URLs of a kind.
#[track_caller]
fn told(folder: &Path, child: &Child, kind: &str) -> String {
    let file = folder.join(format!("nats-server_{}.ports", child.id()));
    eventually("nats-server to listen", || {
        let ports: super::Value = serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()?;
        Some(ports[kind][0].as_str()?.to_owned())
    })
}

/// A server that says what the test has it say.
pub struct PlayedNats(TcpListener);

impl PlayedNats {
    #[expect(clippy::new_without_default, reason = "it takes a port")]
    pub fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// The next connection.
    #[track_caller]
    pub fn accept(&self) -> NatsPeer {
        self.0.set_nonblocking(true).unwrap();
        let (socket, _) = eventually("a connection to NATS", || self.0.accept().ok());
        socket.set_nonblocking(false).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        NatsPeer {
            reader: BufReader::new(socket),
        }
    }

    /// The next connection, once it has been let in.
    #[track_caller]
    pub fn greet(&self) -> NatsPeer {
        let mut peer = self.accept();
        peer.say(INFO);
        assert!(peer.line().starts_with("CONNECT {"));
        assert_eq!(peer.line(), "PING");
        peer.say("PONG\r\n");
        peer
    }
}

/// One connection to it.
pub struct NatsPeer {
    reader: BufReader<TcpStream>,
}

impl NatsPeer {
    #[track_caller]
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The next line, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n")
            .unwrap_or_else(|| panic!("no line: {line:?}"))
            .to_owned()
    }

    /// The next bytes.
    #[track_caller]
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// All that comes until the other side ends.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).unwrap();
        rest
    }

    /// Ends it.
    pub fn close(self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

/// What a played server says of itself.
pub const INFO: &str = "INFO {\"server_id\":\"PLAYED\",\"server_name\":\"played\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576}\r\n";
const PROGRAM: &str = "nats-server";
