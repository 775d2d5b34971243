//! Runs the `ws2api` program: arguments → config → run → exit code. Every fatal error ends here.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use ws2api::cli::manual;
use ws2api::cli::{self, Command, ServeArgs};
use ws2api::commands;
use ws2api::config::{self, Config};
use ws2api::demo;
use ws2api::observe::log::{self, Format, Log};
use ws2api::observe::profile::Profiles;
use ws2api::observe::reloads;
use ws2api::server::cpu_features;
use ws2api::server::host;
use ws2api::server::inherited_sockets::InheritedSockets;
use ws2api::server::listeners::Origin;
use ws2api::server::reload::Source;
use ws2api::server::run_mark::RunMark;
use ws2api::server::runtime::Runtime;
use ws2api::server::sd_notify;
use ws2api::server::takeover::new::Predecessor;
use ws2api::server::takeover::program::Program;
use ws2api::server::{self, Remote, Server, Start};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// jemalloc reads this before anything is allocated. Heap profiles are compiled in and off; each thread that allocates
// pays 13 ns per pair of calls for that. No huge pages: they cost a seventh less CPU with 100,000 clients, but twice
// the memory when many hold half a message each. Whoever wants them sets MALLOC_CONF=thp:always (docs/performance.md).
#[allow(unsafe_code)]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: &[u8] = b"prof:true,prof_active:false,lg_prof_sample:19\0";

fn main() -> ExitCode {
    if let Err(error) = cpu_features::check() {
        eprintln!("ws2api: {error}");
        return ExitCode::FAILURE;
    }
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("ws2api: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Command::Operate(args) = &command {
        return commands::run(args);
    }
    let format = match &command {
        Command::Serve(args) | Command::Demo(args) => args.log,
        _ => Format::Text,
    };
    let result = match command {
        Command::Help => print(&cli::help()),
        Command::Man => print(&manual::man()),
        Command::Completions(shell) => print(&manual::completions(shell).expect("a shell that is known")),
        Command::Version => print(&format!("{}\n", cli::version())),
        Command::Check(args) => load(&args).and_then(|config| check(&config, &args)),
        Command::Serve(args) => begin(&args),
        Command::Demo(args) => demonstrate(args),
        Command::Operate(_) => unreachable!("it has its own exit codes"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::last_words(format, &error);
            ExitCode::FAILURE
        }
    }
}

fn load(args: &ServeArgs) -> Result<Config, String> {
    // Before any thread is pinned: a pinned one sees one CPU.
    let loaded = config::load(args.config.as_deref(), &args.overrides, &host::usable_cpus());
    let mut config = loaded.map_err(|error| error.to_string())?;
    if !args.overrides.elsewhere {
        host::fit(&mut config, &host::Limits::read());
    }
    Ok(config)
}

fn check(config: &Config, args: &ServeArgs) -> Result<(), String> {
    print(&config.render())?;
    let rows = server::check::admission_rows(config).join("\n");
    print(&format!("\n# Who gets in\n{rows}\n"))?;
    let certificates = server::check::certificate_rows(config).join("\n");
    if !certificates.is_empty() && !args.overrides.elsewhere {
        print(&format!("\n# The certificates of listen_tls\n{certificates}\n"))?;
    }
    let warnings = if args.overrides.elsewhere {
        config::warnings(config)
    } else {
        server::check::check(config).map_err(|error| error.to_string())?;
        let runtime = Runtime::choose(config).map_err(|error| error.to_string())?;
        print(&format!("\n# What the shards run on\n{}\n", runtime.rows().join("\n")))?;
        let limits = host::Limits::read();
        let rows = host::memory_rows(config, &limits).join("\n");
        print(&format!("\n# What its bounds come to in memory\n{rows}\n"))?;
        if let Some(clients) = host::clients_carried(config, &limits) {
            eprintln!(
                "note: clients_max is the default. This machine carries about {clients} clients; set clients_max to what \
                 you expect, and check says what it takes"
            );
        }
        let (rows, mut backends) = server::backend_check::backends(config);
        if !rows.is_empty() {
            print(&format!("\n# Backends over TLS\n{}\n", rows.join("\n")))?;
        }
        let (rows, mut servers) = server::cluster_check::servers(config);
        if !rows.is_empty() {
            print(&format!("\n# NATS\n{}\n", rows.join("\n")))?;
        }
        let mut warnings = server::check::warnings(config, &limits);
        warnings.append(&mut backends);
        warnings.append(&mut servers);
        warnings
    };
    for warning in &warnings {
        eprintln!("{warning}");
    }
    match warnings.len() {
        0 => Ok(()),
        1 if args.strict => Err("a warning, which --strict does not allow".to_owned()),
        count if args.strict => Err(format!("{count} warnings, which --strict does not allow")),
        _ => Ok(()),
    }
}

/// No thread takes these signals but the one that waits for them: a handler could run on any shard, with its own table.
/// Threads inherit this, so it comes before the first of them.
fn block_signals() -> Result<SigSet, String> {
    let signals: SigSet = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ]
    .into_iter()
    .collect();
    match signals.thread_block() {
        Ok(()) => Ok(signals),
        Err(error) => Err(format!("signals can't be blocked: {error}")),
    }
}

/// What was there before this process's configuration was read.
struct Before {
    /// Asked first: later another file may be at its path.
    program: Option<Program>,
    predecessor: Option<Predecessor>,
    origin: Origin,
    signals: SigSet,
}

impl Before {
    fn look() -> Result<Self, String> {
        // Signals wait until somebody is there for them: one that comes early would end a process that is to take over.
        let signals = block_signals()?;
        let program = Program::remember().ok();
        let mut predecessor = Predecessor::meet(cli::version().trim_end())?;
        let origin = match &mut predecessor {
            Some(predecessor) => Origin::Predecessor(predecessor.take_listeners()),
            None => Origin::ServiceManager(InheritedSockets::take().map_err(|error| error.to_string())?),
        };
        Ok(Self {
            program,
            predecessor,
            origin,
            signals,
        })
    }
}

fn begin(args: &ServeArgs) -> Result<(), String> {
    run(|before| serve(&load(args)?, args, before, |_| String::new()))
}

fn demonstrate(mut args: ServeArgs) -> Result<(), String> {
    run(|before| {
        let backend = demo::start_backend().map_err(|error| format!("the demo's backend: {error}"))?;
        let mut overrides = config::Overrides::default();
        for key in ["listen", "ingress", "admin"] {
            overrides.set(key, "127.0.0.1:0");
        }
        overrides.set("backend", format!("http://{backend}"));
        let certificate = match args.tls {
            true => Some(demo::make_certificate().map_err(|error| format!("the demo's certificate: {error}"))?),
            false => None,
        };
        if let Some(certificate) = &certificate {
            overrides.set("listen_tls", "127.0.0.1:0");
            overrides.set("tls_certificates", certificate);
        }
        // What the command line says comes later and wins.
        overrides.set.append(&mut args.overrides.set);
        overrides.cores = args.overrides.cores.take();
        args.overrides = overrides;
        serve(&load(&args)?, &args, before, |addresses| {
            demo::guide(addresses, certificate.as_ref())
        })
    })
}

/// Whatever keeps this process from taking over, the one that runs hears of it.
fn run(serve: impl FnOnce(&mut Before) -> Result<(), String>) -> Result<(), String> {
    let mut before = Before::look()?;
    let result = serve(&mut before);
    if let (Err(words), Some(predecessor)) = (&result, &mut before.predecessor) {
        predecessor.fail(words);
    }
    result
}

fn serve(
    config: &Config,
    args: &ServeArgs,
    before: &mut Before,
    guide: impl Fn(&server::Addresses) -> String,
) -> Result<(), String> {
    abort_on_panic(args.log);
    // Before any thread is pinned: a pinned one sees one CPU.
    let usable_cpus = host::usable_cpus();
    Profiles::prepare(args.cpuprofile.as_ref(), args.memprofile.as_ref()).map_err(|error| error.to_string())?;
    let _ = shards::fd_table::raise_limit();
    let _log = Log::start(args.log).map_err(|error| format!("the log: {error}"))?;
    let limits = host::Limits::read();
    tracing::info!("{}", first_line(config, args, &limits));
    for warning in server::check::warnings(config, &limits) {
        tracing::warn!(fix = warning.fix, "{}", warning.what);
    }
    let start = Start {
        origin: std::mem::take(&mut before.origin),
        generation: before.predecessor.as_ref().map_or(0, Predecessor::generation),
        line: before.predecessor.as_ref().and_then(Predecessor::line),
        program: before.program.take(),
        version: cli::version().trim_end().to_owned(),
        traced: args.trace_client.clone(),
    };
    let mut server = Server::start(config, start).map_err(|error| error.to_string())?;
    if let Some(predecessor) = &mut before.predecessor {
        predecessor.wait_for_go()?;
        if let Some(keys) = predecessor.take_ticket_keys() {
            server.inherit_ticket_keys(&keys);
        }
    }
    server.open().map_err(|error| error.to_string())?;
    if let (Some(predecessor), Some((way, dispatcher))) = (before.predecessor.take(), server.take_moving_in()) {
        predecessor.serve(server.control(), way, dispatcher);
    }
    reloads::succeeded();
    let (mark, unclean) = RunMark::leave();
    if let Some(words) = unclean {
        tracing::warn!("{words}");
    }
    let profiles = Profiles::start(args.cpuprofile.clone(), args.memprofile.clone());
    let profiles = Arc::new(profiles.map_err(|error| error.to_string())?);
    print(&format!("ready {} shards={}\n", server.addresses, config.cores.len()))?;
    // Whoever wanted only the first lines has them; its clients stay.
    let _ = print(&guide(&server.addresses));
    sd_notify::ready();
    let (remote, control) = (server.remote(), server.control());
    let source = Source {
        config: config.clone(),
        args: args.clone(),
        usable_cpus,
        secrets: server.secrets.clone(),
    };
    // Signals and operators take turns.
    let source = Arc::new(Mutex::new(source));
    server.reload_with({
        let (source, remote) = (source.clone(), remote.clone());
        move || locked(&source).read_again(&remote)
    });
    let signals = before.signals;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn({
            let profiles = profiles.clone();
            move || watch(signals, &remote, &profiles, &source)
        })
        .map_err(|error| error.to_string())?;
    let ended = server.join().map_err(|error| error.to_string());
    write_profiles(&profiles);
    let drained = ended?;
    tracing::info!("{drained}");
    if !control.is_taken_over() {
        mark.wipe();
    }
    Ok(())
}

/// What runs, from what, and how far the machine lets it go.
fn first_line(config: &Config, args: &ServeArgs, limits: &host::Limits) -> String {
    let file = args
        .config
        .as_ref()
        .map_or_else(|| "no configuration file".to_owned(), |file| file.display().to_string());
    let cpus: Vec<usize> = config.cores.iter().map(|core| core.cpu).collect();
    let clients: usize = config.cores.iter().map(|core| core.clients_max).sum();
    let limit = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let carried = host::clients_carried(config, limits).map_or_else(String::new, |clients| {
        format!(" by default, of which this machine carries about {clients}")
    });
    format!(
        "{}: {file}; shards: {} on CPUs {}; clients_max together: {clients}{carried}; files per shard: {}; memory: {} MiB",
        cli::version().trim_end(),
        cpus.len(),
        config::cpu_ranges(&cpus),
        limit(limits.open_files),
        limit(limits.memory.map(|bytes| bytes >> 20)),
    )
}

fn write_profiles(profiles: &Profiles) {
    match profiles.write() {
        Ok(files) => {
            for file in files {
                tracing::info!("profile written to {}", file.display());
            }
        }
        Err(error) => tracing::error!("{error}"),
    }
}

/// The first signal drains, the second ends.
fn watch(signals: SigSet, remote: &Remote, profiles: &Profiles, source: &Mutex<Source>) {
    let mut draining = false;
    while let Ok(signal) = signals.wait() {
        match signal {
            Signal::SIGUSR1 => write_profiles(profiles),
            // What came of it is in the log.
            Signal::SIGHUP => drop(locked(source).read_again(remote)),
            Signal::SIGUSR2 => {
                let timeout = locked(source).config.node.upgrade_timeout;
                // Its end is in the log, whatever it is.
                if let Err(error) = remote.upgrades.begin(timeout) {
                    tracing::error!("no upgrade: {error}");
                }
            }
            _ if draining => std::process::exit(EXIT_SECOND_SIGNAL),
            _ => {
                tracing::info!("{signal}: draining; once more ends at once");
                sd_notify::stopping(locked(source).config.node.drain_timeout);
                remote.drain();
                draining = true;
            }
        }
    }
}

fn locked(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A shard that broke can't be trusted with its clients: the process ends, and whoever watches it starts a new one.
fn abort_on_panic(format: Format) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        match format {
            Format::Text => report(panic),
            Format::Json => log::last_words(format, &panic.to_string()),
        }
        std::process::abort();
    }));
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("standard output: {error}"))
}

const EXIT_USAGE: u8 = 2;
const EXIT_SECOND_SIGNAL: i32 = 130;
