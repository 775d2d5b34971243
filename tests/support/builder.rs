//! Builds the command line of the program, and runs it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use super::program::{capture, finish, path, usable_cpus};
use super::{Backend, DEADLINE, Proxy};

/// How the program is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    shards: usize,
    cores: bool,
    addresses: bool,
    /// What starts the program in its turn, with its own arguments.
    under: Vec<String>,
    environment: Vec<(String, OsString)>,
    program: OsString,
    /// None: it has its own, the demo's.
    backends: Vec<String>,
    args: Vec<String>,
}

impl Builder {
    /// One shard, and defaults but for a short drain. Without backend it is `ws2api demo`.
    pub(crate) fn new(backends: Vec<String>) -> Self {
        Builder {
            shards: 1,
            cores: true,
            addresses: true,
            under: under_all(),
            environment: Vec::new(),
            program: path(),
            backends,
            args: Vec::new(),
        }
    }

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

    /// Its addresses come of the test's own config.
    pub fn addresses_of_its_own(self) -> Self {
        Builder {
            addresses: false,
            ..self
        }
    }

    /// It may open no more files than that.
    pub fn open_files(self, limit: usize) -> Self {
        self.under(&["sh", "-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")])
    }

    /// These words start it, and not those of `WS2API_UNDER`: the path of the program and its arguments are put behind them.
    pub fn under(self, words: &[&str]) -> Self {
        Builder {
            under: words.iter().map(|word| (*word).to_owned()).collect(),
            ..self
        }
    }

    /// One more variable of its environment.
    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// A copy of the program, or a link to it.
    pub fn program(self, path: impl AsRef<OsStr>) -> Self {
        Builder {
            program: path.as_ref().to_owned(),
            ..self
        }
    }

    fn command(&self) -> Command {
        let mut command = match &self.under[..] {
            [] => Command::new(&self.program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.backends.is_empty() {
            command.arg("demo");
        } else if self.addresses {
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

    /// Runs it to its end, which has to come by itself: exit code, standard output, standard error.
    #[track_caller]
    pub fn run(&self) -> (i32, String, String) {
        finish(&mut self.command())
    }

    /// Runs it until it serves.
    #[track_caller]
    pub fn start(&self) -> Proxy {
        self.start_with(Stdio::null())
    }

    /// The same, with this as its standard input.
    #[track_caller]
    pub fn start_with(&self, stdin: impl Into<Stdio>) -> Proxy {
        let mut child = self
            .command()
            .stdin(stdin)
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
        let mut proxy = Proxy::new(child, stderr, stdout);
        let ready = ready.unwrap_or_else(|_| panic!("it did not get ready: {}", proxy.stderr()));
        let fields: Vec<_> = ready.trim_end().split(' ').collect();
        let named = |name: &str| fields.iter().find_map(|field| field.strip_prefix(name));
        let field = |name: &str| named(name).unwrap_or_else(|| panic!("no {name} in {ready:?}"));
        assert_eq!(fields[0], "ready", "{ready:?}");
        proxy.listen_tls = named("listen_tls=").map(|address| address.parse().unwrap());
        if let Some(listen) = named("listen=") {
            proxy.listen = listen.parse().unwrap();
        }
        proxy.ingress = field("ingress=").parse().unwrap();
        proxy.admin = field("admin=").parse().unwrap();
        assert_eq!(field("shards="), self.shards.to_string());
        proxy
    }
}

/// The words that start every program of a run: `WS2API_UNDER=scripts/confined cargo test --test promises`.
fn under_all() -> Vec<String> {
    let words = std::env::var("WS2API_UNDER").unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}
