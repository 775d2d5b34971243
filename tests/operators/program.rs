//! The program, started on free ports with its own demo backend or another one, and what it takes to talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running ws2api. Killed when dropped.
pub struct Program {
    pub child: Child,
    pub listen: String,
    pub ingress: String,
    pub admin: String,
    log: Arc<Mutex<String>>,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// A WebSocket client, as simple as can be: small unfragmented frames only.
pub struct Client {
    stream: TcpStream,
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ws2api"));
    command.args(args);
    command
}

impl Program {
    /// Two shards on the first usable CPU, and the built-in backend.
    pub fn demo(args: &[&str]) -> Self {
        Self::start(command(&["demo", "--cores", &two_shards()]).args(args))
    }

    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        if !line.starts_with("ready ") {
            let mut words = String::new();
            child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
            panic!("not ready: {line:?} {words}");
        }
        // The demo goes on talking; a full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, shared) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                shared.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let value = |key: &str| {
            line.split(key)
                .nth(1)
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .to_owned()
        };
        Self {
            listen: value("listen="),
            ingress: value("ingress="),
            admin: value("admin="),
            log,
            child,
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the log that holds `words`.
    pub fn wait_for_log(&self, words: &str) -> String {
        wait_until(words, || {
            self.log().lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }

    pub fn get(&self, path: &str) -> Answer {
        http(&self.admin, "GET", path, "")
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_until("the program to end", || self.child.try_wait().unwrap())
    }

    /// The directories of the shards' threads in /proc; those of the executors' helpers are left out.
    pub fn shard_threads(&self) -> Vec<PathBuf> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut threads: Vec<(usize, usize, PathBuf)> = tasks
            .filter_map(|task| {
                let path = task.unwrap().path();
                let name = std::fs::read_to_string(path.join("comm")).unwrap();
                let shard = name.trim().strip_prefix("shard-")?.parse().unwrap();
                Some((shard, path.file_name()?.to_str()?.parse().unwrap(), path))
            })
            .collect();
        // A shard's own thread is the oldest of its name.
        threads.sort();
        threads.dedup_by_key(|thread| thread.0);
        threads.into_iter().map(|(_, _, path)| path).collect()
    }

    /// The sum of a metric over the shards and over the members whose line holds `with`.
    pub fn metric(&self, name: &str, with: &str) -> f64 {
        let text = self.get("/metrics").text();
        let values = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(with))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.sum()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// One request on a connection of its own.
pub fn http(address: &str, method: &str, target: &str, headers: &str) -> Answer {
    http_with(address, method, target, headers, "")
}

/// The same with a body; `headers` say its length.
pub fn http_with(address: &str, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut input = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(input.read_line(&mut head).unwrap(), 0, "a head: {head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    // Not everybody closes when asked to.
    let lower = head.to_ascii_lowercase();
    let len = lower
        .split("content-length:")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let mut body = vec![0; len.map_or(0, |len| len.trim().parse().unwrap())];
    input.read_exact(&mut body).unwrap();
    Answer { status, head, body }
}

/// Asks until there is an answer; the test fails after a while.
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// Work beside a test, in a scope: told to end when this is dropped, also by a failed assertion.
#[derive(Default)]
pub struct Until(AtomicBool);

pub struct End<'u>(&'u Until);

impl Until {
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Over with the end of what this returns.
    pub fn end(&self) -> End<'_> {
        End(self)
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The first CPU that this process may use, twice.
pub fn two_shards() -> String {
    let cpu = ws2api::config::usable_cpus()[0];
    format!("{cpu},{cpu}")
}

impl Client {
    pub fn connect(address: &str, id: &str) -> Self {
        Self::try_connect(address, id).expect("a client")
    }

    /// Or the head of the answer that refuses it.
    pub fn try_connect(address: &str, id: &str) -> Result<Self, String> {
        Self::over(TcpStream::connect(address).unwrap(), id)
    }

    /// The same over a connection that there is already.
    pub fn over(mut stream: TcpStream, id: &str) -> Result<Self, String> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /{id} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp2.0.1\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        if head.starts_with(b"HTTP/1.1 101") {
            Ok(Self { stream })
        } else {
            Err(String::from_utf8(head).unwrap())
        }
    }

    pub fn send(&mut self, text: &str) {
        let mut frame = vec![0x81];
        match u8::try_from(text.len()).ok().filter(|len| *len < 126) {
            Some(len) => frame.push(0x80 | len),
            None => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
            }
        }
        // A mask of zeros changes nothing.
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    pub fn receive(&mut self) -> String {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        let mut len = usize::from(head[1]);
        if len == 126 {
            let mut wide = [0; 2];
            self.stream.read_exact(&mut wide).unwrap();
            len = usize::from(u16::from_be_bytes(wide));
        }
        let mut text = vec![0; len];
        self.stream.read_exact(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    pub fn call(&mut self, number: usize) {
        self.send(&format!("[2,\"{number}\",\"Heartbeat\",{{}}]"));
        let answer = self.receive();
        assert!(answer.starts_with(&format!("[3,\"{number}\",")), "{answer}");
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
