//! The program as its users run it: a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Backend, Client, DEADLINE, Handshake, Http, Reply};

/// How the program is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    shards: usize,
    cores: bool,
    open_files: Option<usize>,
    /// None: it has its own, the demo's.
    backends: Vec<String>,
    args: Vec<String>,
}

impl Builder {
    pub fn shards(self, shards: usize) -> Self {
        Builder { shards, ..self }
    }

    /// `--set key=value`
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.args.extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    /// Any argument.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// One more `--backend`.
    pub fn backend(mut self, backend: &Backend) -> Self {
        self.backends.push(backend.url());
        self
    }

    /// That many shards will come of the test's own `--cores` or config.
    pub fn expect_shards(self, shards: usize) -> Self {
        Builder {
            shards,
            cores: false,
            ..self
        }
    }

    /// It may open no more files than that.
    pub fn open_files(self, limit: usize) -> Self {
        Builder {
            open_files: Some(limit),
            ..self
        }
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_ws2api");
        let mut command = match self.open_files {
            None => Command::new(program),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), program]);
                shell
            }
        };
        if self.backends.is_empty() {
            command.arg("demo");
        } else {
            for name in ["--listen", "--ingress", "--admin"] {
                command.args([name, "127.0.0.1:0"]);
            }
        }
        for url in &self.backends {
            command.args(["--backend", url]);
        }
        if self.cores {
            let cpus = usable_cpus();
            let cores: Vec<_> = (0..self.shards)
                .map(|shard| cpus[shard % cpus.len()].to_string())
                .collect();
            command.args(["--cores", &cores.join(",")]);
        }
        // A test that ends does not wait for its clients.
        command.args(["--set", "drain_spread=0s", "--set", "drain_timeout=200ms"]);
        command.args(&self.args);
        command
    }

    /// Runs it until it serves.
    #[track_caller]
    pub fn start(&self) -> Proxy {
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = capture(child.stderr.take().unwrap());
        let (lines, stdout) = mpsc::channel();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut line = String::new();
            while matches!(reader.read_line(&mut line), Ok(1..)) {
                let _ = lines.send(std::mem::take(&mut line));
            }
        });
        let ready = stdout.recv_timeout(DEADLINE);
        let mut proxy = Proxy {
            child,
            stderr,
            stdout,
            exited: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ingress: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let ready = ready.unwrap_or_else(|_| panic!("it did not get ready: {}", proxy.stderr()));
        let fields: Vec<_> = ready.trim_end().split(' ').collect();
        let field = |index: usize, name: &str| -> &str {
            let value = fields.get(index).and_then(|field| field.strip_prefix(name));
            value.unwrap_or_else(|| panic!("no {name} in {ready:?}"))
        };
        assert_eq!((fields[0], fields.len()), ("ready", 5), "{ready:?}");
        proxy.listen = field(1, "listen=").parse().unwrap();
        proxy.ingress = field(2, "ingress=").parse().unwrap();
        proxy.admin = field(3, "admin=").parse().unwrap();
        assert_eq!(field(4, "shards="), self.shards.to_string());
        proxy
    }
}

/// A running ws2api. At the end of a test it is told to end, and has to end well, unless the test has seen to that.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    stderr: Arc<Mutex<Vec<u8>>>,
    stdout: mpsc::Receiver<String>,
    exited: Option<ExitStatus>,
    pub listen: SocketAddr,
    pub ingress: SocketAddr,
    pub admin: SocketAddr,
}

impl Proxy {
    /// One shard, and defaults but for a short drain.
    #[track_caller]
    pub fn start(backend: &Backend) -> Self {
        Self::with(backend).start()
    }

    pub fn with(backend: &Backend) -> Builder {
        Self::with_url(backend.url())
    }

    /// With a backend that is none of ours.
    pub fn with_url(url: String) -> Builder {
        Builder {
            shards: 1,
            cores: true,
            open_files: None,
            backends: vec![url],
            args: Vec::new(),
        }
    }

    /// `ws2api demo`
    pub fn demo() -> Builder {
        Builder {
            shards: 1,
            cores: true,
            open_files: None,
            backends: Vec::new(),
            args: Vec::new(),
        }
    }

    /// A client without subprotocol.
    #[track_caller]
    pub fn client(&self, client_id: &str) -> Client {
        Handshake::new(client_id).open(self.listen)
    }

    /// A client of that subprotocol.
    #[track_caller]
    pub fn client_of(&self, subprotocol: &str, client_id: &str) -> Client {
        let client = Handshake::new(client_id).subprotocols(subprotocol).open(self.listen);
        assert_eq!(client.subprotocol(), Some(subprotocol));
        client
    }

    /// A new connection to the ingress.
    #[track_caller]
    pub fn http(&self) -> Http {
        Http::connect(self.ingress)
    }

    /// A push over a connection of its own.
    #[track_caller]
    pub fn push(&self, client: &str, action: &str, message_id: &str, payload: &str) -> Reply {
        self.http().push(client, action, message_id, payload)
    }

    /// A metric without further labels, shard by shard; `clients` is a gauge, `clients_opened_total` a counter.
    #[track_caller]
    pub fn metric(&self, name: &str) -> Vec<f64> {
        self.metric_where(name, "")
    }

    /// The members of a metric whose line has `label` in it.
    #[track_caller]
    pub fn metric_where(&self, name: &str, label: &str) -> Vec<f64> {
        let text = Http::connect(self.admin).get("/metrics").expect(200).body;
        let prefix = format!("ws2api_{name}{{");
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&prefix) && line.contains(label));
        let values: Vec<f64> = lines
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        let all: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert!(!values.is_empty(), "there is no metric {name} {label} among {all:#?}");
        values
    }

    /// The sum of a counter over all shards and labels.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        self.metric(&format!("{name}_total")).iter().sum::<f64>() as u64
    }

    /// The same for the members that have the label value `label`.
    #[track_caller]
    pub fn count_where(&self, name: &str, label: &str) -> u64 {
        let values = self.metric_where(&format!("{name}_total"), &format!("\"{label}\""));
        values.iter().sum::<f64>() as u64
    }

    /// Waits until a counter has got so far.
    #[track_caller]
    pub fn wait_count(&self, name: &str, count: u64) {
        super::eventually(name, || (self.count(name) >= count).then_some(()));
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// What it has printed after its first line.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.try_iter().collect()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors each shard has open, in the order of the shards. A shard's thread has a table of its own,
    /// with an epoll in it; the threads beside it that block for it share that of the process.
    pub fn descriptors(&self) -> Vec<usize> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let mut shards: Vec<_> = tasks
            .filter_map(|task| {
                let task = task.ok()?.path();
                let name = std::fs::read_to_string(task.join("comm")).ok()?;
                let open: Vec<_> = std::fs::read_dir(task.join("fd"))
                    .ok()?
                    .filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok())
                    .collect();
                let has_table = open.iter().any(|target| target.as_os_str() == "anon_inode:[eventpoll]");
                (name.starts_with("shard-") && has_table).then_some((name, open.len()))
            })
            .collect();
        shards.sort();
        assert!(!shards.is_empty(), "shards are threads");
        shards.into_iter().map(|(_, count)| count).collect()
    }

    /// How many descriptors the process has open outside its shards, those of the admin port's connections among them.
    pub fn shared_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Memory that it has in RAM, in bytes.
    pub fn resident(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most that it had in RAM since [`Proxy::forget_peak`], in bytes.
    pub fn peak(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// What it has in RAM now is the peak from now on (proc(5), `clear_refs`).
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Processor time that it has used.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // utime and stime, in hundredths of a second; the state is field 3.
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Stops all of its threads, and waits until they have stopped: what comes now, it sees at once when it wakes up.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let is_stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
        };
        super::eventually("all threads to stop", || {
            let mut tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
            tasks.all(|task| is_stopped(task.unwrap())).then_some(())
        });
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().unwrap();
        }
        self.exited
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        super::eventually("the program's end", || self.try_wait())
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let waited = self.exited.is_some();
        if self.try_wait().is_none() {
            self.signal(Signal::TERM);
            let started = Instant::now();
            while self.try_wait().is_none() && started.elapsed() < DEADLINE / 3 && !thread::panicking() {
                thread::sleep(Duration::from_millis(3));
            }
            if self.exited.is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        let stderr = self.stderr();
        if thread::panicking() {
            eprintln!("---- standard error of ws2api ----\n{stderr}");
            return;
        }
        assert!(!stderr.contains("panicked"), "it panicked:\n{stderr}");
        match self.exited {
            _ if waited => {}
            Some(status) => assert!(status.success(), "it ended with {status}:\n{stderr}"),
            None => panic!("it did not end after SIGTERM:\n{stderr}"),
        }
    }
}

/// Collects a stream in the background.
fn capture(mut stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let captured = Arc::new(Mutex::new(Vec::new()));
    let target = captured.clone();
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut chunk) {
            target.lock().unwrap().extend_from_slice(&chunk[..len]);
        }
    });
    captured
}

/// The CPUs that this process may use.
pub fn usable_cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

/// The program run to its end with these arguments: exit code, standard output, standard error.
#[track_caller]
pub fn run(args: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ws2api"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stdout, stderr) = (
        capture(child.stdout.take().unwrap()),
        capture(child.stderr.take().unwrap()),
    );
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("it still runs");
        }
        thread::sleep(Duration::from_millis(3));
    };
    let text = |captured: Arc<Mutex<Vec<u8>>>| {
        // The reading thread has the other copy until it has seen the end.
        super::eventually("the end of its output", || {
            (Arc::strong_count(&captured) == 1).then_some(())
        });
        String::from_utf8(captured.lock().unwrap().clone()).unwrap()
    };
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}
