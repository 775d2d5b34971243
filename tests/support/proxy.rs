//! Holds the running program as its users see it: what it serves, says and uses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Backend, Builder, Client, DEADLINE, Handshake, Http, Reply, Successor, Tap};

/// A running ws2api. At the end of a test it is told to end, and has to end well, unless the test has seen to that.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    stderr: Arc<Mutex<Vec<u8>>>,
    stdout: Mutex<mpsc::Receiver<String>>,
    exited: Option<ExitStatus>,
    pub listen: SocketAddr,
    /// If it is configured.
    pub listen_tls: Option<SocketAddr>,
    pub ingress: SocketAddr,
    pub admin: SocketAddr,
}

impl Proxy {
    /// Its addresses are not known yet.
    pub(crate) fn new(child: Child, stderr: Arc<Mutex<Vec<u8>>>, stdout: mpsc::Receiver<String>) -> Self {
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        Proxy {
            child,
            stderr,
            stdout: Mutex::new(stdout),
            exited: None,
            listen: unknown,
            listen_tls: None,
            ingress: unknown,
            admin: unknown,
        }
    }

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
        Builder::new(vec![url])
    }

    /// `ws2api demo`
    pub fn demo() -> Builder {
        Builder::new(Vec::new())
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

    /// A GET at the admin address, over a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Reply {
        Http::connect(self.admin).get(target)
    }

    /// A tap that sees everything from now on.
    #[track_caller]
    pub fn tap(&self, query: &str) -> Tap {
        Tap::open(self.admin, query)
    }

    /// A metric without further labels, shard by shard; `clients` is a gauge, `clients_opened_total` a counter.
    #[track_caller]
    pub fn metric(&self, name: &str) -> Vec<f64> {
        self.metric_where(name, "")
    }

    /// The members of a metric whose line has `label` in it.
    #[track_caller]
    pub fn metric_where(&self, name: &str, label: &str) -> Vec<f64> {
        let text = self.get("/metrics").expect(200).body;
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

    /// A counter of the process, without labels.
    #[track_caller]
    pub fn count_sum(&self, name: &str) -> u64 {
        let text = self.get("/metrics").expect(200).body;
        let prefix = format!("ws2api_{name}_total ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_else(|| panic!("no {prefix}")).parse().unwrap()
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

    /// Waits until the members of a counter with that label have got so far.
    #[track_caller]
    pub fn wait_count_where(&self, name: &str, label: &str, count: u64) {
        super::eventually(label, || (self.count_where(name, label) >= count).then_some(()));
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// Waits for a line of its log that holds `words`.
    #[track_caller]
    pub fn wait_log(&self, words: &str) -> String {
        super::eventually(words, || {
            self.stderr()
                .lines()
                .find(|line| line.contains(words))
                .map(str::to_owned)
        })
    }

    /// What it has printed after its first line.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().try_iter().collect()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The directories of the shards' threads in /proc; those of the executors' helpers are left out.
    pub fn shard_threads(&self) -> Vec<PathBuf> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
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

    /// A new process takes over; it has the same addresses, and writes to the same outputs.
    #[track_caller]
    pub fn upgrade(&self) -> Successor {
        let answer = Http::connect(self.admin).post("/upgrade", "").expect(200).json();
        Successor::new(answer["pid"].as_i64().unwrap())
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
