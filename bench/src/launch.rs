//! Starts the programs beside us: the backend stub and what is measured, on free loopback ports, and ends them.

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::net::reserve_port;
use crate::sys;
use crate::tls::Certificate;

/// A program of ours that runs; ended when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens at `address`.
    fn wait_for(&mut self, address: SocketAddr) -> Result<(), String> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if TcpStream::connect_timeout(&address, POLL).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended at its start: {status}", self.name));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "{} does not listen at {address} after {START_TIMEOUT:?}",
                    self.name
                ));
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a relay serves.
#[derive(Clone, Copy, Debug)]
pub struct Relay {
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// The address that pushes go to.
    pub ingress: SocketAddr,
    /// The address that operators ask.
    pub admin: SocketAddr,
}

/// Starts the backend stub.
///
/// # Errors
/// In words: not found, or it does not listen.
pub fn start_stub(threads: u32, delay: Duration) -> Result<(Running, SocketAddr), String> {
    let (reserved, address) = reserve()?;
    let mut command = Command::new(sibling("stub_backend")?);
    command.args(["--listen", &address.to_string(), "--threads", &threads.to_string()]);
    command.args(["--delay", &format!("{}us", delay.as_micros())]);
    let mut running = spawn(command, "stub_backend")?;
    running.wait_for(address)?;
    drop(reserved);
    Ok((running, address))
}

/// Starts a relay (the proxy, the floor, a peer) with one shard per entry of `cores` in front of `backend`. With a
/// certificate clients connect with TLS.
///
/// # Errors
/// In words: not found, or it does not listen.
pub fn start_relay(
    program: &Path,
    cores: &[usize],
    backend: SocketAddr,
    extra: &[String],
    certificate: Option<&Certificate>,
) -> Result<(Running, Relay), String> {
    let reserved = [reserve()?, reserve()?, reserve()?, reserve()?];
    let [(_, listen), (_, ingress), (_, admin), (_, listen_tls)] = &reserved;
    let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
    let name = program
        .file_name()
        .map_or_else(|| program.display().to_string(), |name| name.display().to_string());
    // As in the tests: these words start it.
    let under = env::var("WS2API_UNDER").unwrap_or_default();
    let mut words = under.split_whitespace().map(Path::new).chain([program]);
    let mut command = Command::new(words.next().unwrap_or(program));
    command.args(words);
    command.args(["--listen", &listen.to_string(), "--ingress", &ingress.to_string()]);
    command.args(["--admin", &admin.to_string(), "--backend", &format!("http://{backend}")]);
    command.args(["--cores", &cores.join(",")]).args(extra);
    let listen = match certificate {
        Some(certificate) => {
            command.args([
                "--set",
                &format!("listen_tls={listen_tls}"),
                "--set",
                &certificate.setting(),
            ]);
            listen_tls
        }
        None => listen,
    };
    let mut running = spawn(command, &name)?;
    running.wait_for(*listen)?;
    running.wait_for(*ingress)?;
    let relay = Relay {
        listen: *listen,
        ingress: *ingress,
        admin: *admin,
    };
    drop(reserved);
    Ok((running, relay))
}

/// The program `name` beside our own executable.
///
/// # Errors
/// In words: it is not there, and how to build it.
pub fn sibling(name: &str) -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|error| format!("where is our own executable? {error}"))?;
    // A test's executable is one folder below the programs.
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        format!(
            "{name} is not beside {}: build it with `cargo build --release --workspace`",
            own.display()
        )
    })
}

fn reserve() -> Result<(socket2::Socket, SocketAddr), String> {
    reserve_port(Ipv4Addr::LOCALHOST).map_err(|error| format!("no free port: {error}"))
}

fn spawn(mut command: Command, name: &str) -> Result<Running, String> {
    sys::end_with_us(&mut command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error: io::Error| format!("{}: {error}", command.get_program().display()))?;
    Ok(Running {
        child,
        name: name.to_owned(),
    })
}

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
