//! Relays Calls and pushes with the least that any relay of this shape can do: the floor of the comparison.
//!
//! A client's frame in, a request of the same size out over a kept connection, its answer in, a frame out: four socket
//! calls per message. Nothing is parsed but where a frame and an answer end; the handshake is answered without
//! checks. Connects and pushes take the same four pairs of socket calls as in the proxy. It has no limits, deadlines
//! or retries and is good for nothing but to compare with.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};

use bench::flags::{self, fail};
use bench::floor::{Mail, Registry, Shard};

const HELP: &str = "\
floor: the least that a relay between WebSocket clients and an HTTP backend can do

  --listen ADDR     clients (127.0.0.1:4000)
  --ingress ADDR    pushes (127.0.0.1:4001)
  --backend ADDR    where requests go (127.0.0.1:5000)
  --cores LIST      one shard per CPU named, also for one named twice (0)";

fn main() -> ExitCode {
    let options = match parse_options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail("floor", &error),
    };
    let _ = flags::raise_open_files();
    let mail = match (0..options.cores.len())
        .map(|_| Mail::new())
        .collect::<Result<Vec<_>, _>>()
    {
        Ok(mail) => Arc::from(mail),
        Err(error) => return fail("floor", &error),
    };
    let registry = Arc::new(Registry::default());
    // No thread opens a socket before all have their own table: else one would hold copies of another's sockets.
    let unshared = Barrier::new(options.cores.len());
    std::thread::scope(|scope| {
        for (index, cpu) in options.cores.iter().enumerate() {
            let (mail, registry, unshared, options) = (Arc::clone(&mail), registry.clone(), &unshared, &options);
            scope.spawn(move || {
                let mut cpus = rustix::thread::CpuSet::new();
                cpus.set(*cpu);
                let private = rustix::thread::sched_setaffinity(None, &cpus)
                    .map_err(Into::into)
                    .and_then(|()| bench::sys::unshare_descriptors());
                unshared.wait();
                let addresses = [options.listen, options.ingress, options.backend];
                let served = private.and_then(|()| Shard::new(addresses, index, mail, registry)?.run());
                let Err(error) = served;
                fail("floor", &format!("shard {index} on CPU {cpu}: {error}"));
                std::process::exit(2);
            });
        }
    });
    ExitCode::SUCCESS
}

struct Options {
    listen: SocketAddr,
    ingress: SocketAddr,
    backend: SocketAddr,
    cores: Vec<usize>,
}

fn parse_options() -> Result<Option<Options>, String> {
    use lexopt::prelude::{Long, Short};
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut options = Options {
        listen: local(4000),
        ingress: local(4001),
        backend: local(5000),
        cores: vec![0],
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let flag = match argument {
            Long("help") | Short('h') => return Ok(None),
            Long(flag @ ("listen" | "ingress" | "admin" | "backend" | "cores")) => flag.to_owned(),
            other => return Err(format!("{}; see --help", other.unexpected())),
        };
        let value = parser.value().map_err(|error| error.to_string())?;
        let value = value.to_str().ok_or_else(|| format!("--{flag}: not UTF-8"))?;
        match flag.as_str() {
            "listen" => options.listen = flags::parse_address(value)?,
            "ingress" => options.ingress = flags::parse_address(value)?,
            "backend" => options.backend = flags::parse_address(value)?,
            "cores" => options.cores = flags::parse_cores(value)?,
            // There is no admin listener; the flag is taken so that the proxy's command line fits.
            _ => {}
        }
    }
    Ok(Some(options))
}
