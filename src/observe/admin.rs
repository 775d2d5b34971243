//! Answers operators: health, readiness, metrics, a status page. It runs on ordinary threads; the shards are asked by
//! message, and never wait for anything here. Health and readiness ask nobody: they read
//! what the shards have written.

mod alert_log;
mod alerts;
mod connection;
mod connections;
mod exposition;
mod gate;
mod monitor;
mod paths;
mod process;
mod profiles;
mod rebalance;
mod refused;
mod reload;
mod running;
mod snapshot;
mod status;
mod tap;
mod top;
mod trace;
mod upgrade;

pub use running::{Reloaded, Running};
pub use tap::OpenTaps;

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use shards::mesh::NodeHandle;

use crate::env::home::{IdHasher, home_of};
use crate::observe::backends;
use crate::observe::report::Report;
use crate::server::rebalance::Rebalance;
use crate::server::sd_notify;
use crate::server::stop_word::StopWord;
use crate::server::takeover::old::Upgrades;
use crate::shard::control_plane::{ControlPlane, Phase, SILENT_AFTER};
use crate::shard::mail::{Control, Mail};
use alert_log::Line;
use connection::{Query, Response};
use connections::{Connections, SlowAnswers};
use monitor::Monitor;
use protocol::ocpp::ClientId;
use snapshot::{Seen, Takeover};

/// The way from the ordinary threads to the shards.
#[derive(Clone, Debug)]
pub struct Admin {
    outside: Arc<NodeHandle<Mail>>,
    control: Arc<ControlPlane>,
    hasher: IdHasher,
    running: Running,
    rebalance: Rebalance,
    upgrades: Upgrades,
    monitor: Monitor,
    peaks: Arc<Mutex<Vec<Peaks>>>,
    slow_answers: SlowAnswers,
    taps: OpenTaps,
    /// When the process started: shards count from then on.
    started: Instant,
}

/// What each report resets, kept for the next scrape.
#[derive(Clone, Copy, Debug, Default)]
struct Peaks {
    mesh_depth: f64,
    longest_pass: f64,
}

impl Admin {
    /// For the shards behind `outside`, which find a client's home with `hasher`, and count from `started` on. `running` says who
    /// may ask.
    #[must_use]
    pub fn new(
        outside: Arc<NodeHandle<Mail>>,
        control: Arc<ControlPlane>,
        hasher: IdHasher,
        running: Running,
        started: Instant,
        upgrades: Upgrades,
    ) -> Self {
        let peaks = vec![Peaks::default(); outside.shards_count()];
        Self {
            rebalance: Rebalance::new(outside.clone(), control.clone()),
            outside,
            control,
            hasher,
            running,
            upgrades,
            monitor: Monitor::default(),
            peaks: Arc::new(Mutex::new(peaks)),
            slow_answers: SlowAnswers::new(SLOW_ANSWERS_MAX),
            taps: OpenTaps::default(),
            started,
        }
    }

    /// The taps that are open.
    #[must_use]
    pub fn taps(&self) -> OpenTaps {
        self.taps.clone()
    }

    /// Serves `listener`, which does not block, on threads of its own until the process ends; told to `stop`, not while another
    /// process has taken over.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(self, listener: TcpListener, stop: Arc<StopWord>) -> io::Result<()> {
        let admin = self.clone();
        std::thread::Builder::new()
            .name("monitor".into())
            .spawn(move || admin.tell())?;
        let connections = Connections::new(CONNECTIONS_MAX);
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            loop {
                if !stop.wait_for(&listener) {
                    while self.control.is_taken_over() {
                        std::thread::sleep(TAKEN_OVER_LOOK);
                    }
                    stop.take_back();
                    continue;
                }
                // Another process may have taken it.
                let Ok((stream, _)) = listener.accept() else {
                    continue;
                };
                let Some(place) = connections.enter(&stream) else {
                    continue;
                };
                let admin = self.clone();
                // Refused for want of threads, it is closed; its place is free again.
                let _ = std::thread::Builder::new().name(place.thread_name()).spawn(move || {
                    // A client that goes away is not our concern.
                    let answer = |query: &Query<'_>| place.while_answering(|| admin.answer(query));
                    let hold = |lasting: &mut dyn FnMut() -> io::Result<()>| place.while_answering(lasting);
                    // Whoever asks again asks the process that has taken over.
                    let _ = connection::serve(stream, answer, hold, || admin.control.is_taken_over());
                });
            }
        })?;
        Ok(())
    }

    /// What the shards say of themselves, in their order, and who does not answer. One that has ended is as it was last.
    fn reports(&self) -> Seen {
        let count = self.outside.shards_count();
        let (reply, replies) = mpsc::channel();
        let mut seen = Seen::default();
        let mut asked = 0;
        for shard in 0..count {
            if let Some(last) = self.control.last_report(shard) {
                seen.reports.push(last);
                continue;
            }
            let ask = Mail::from(Control::Report(reply.clone()));
            // Who is known to be stuck gets no more mail: its ring would fill.
            let is_silent = self.control.is_silent(shard, REPORT_TIMEOUT).is_some();
            if !is_silent && self.outside.try_send(shard, ask).is_ok() {
                asked += 1;
            }
        }
        drop(reply);
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        for _ in 0..asked {
            let Ok(report) = replies.recv_timeout(left()) else {
                break;
            };
            seen.reports.push(*report);
        }
        seen.reports.sort_by_key(|report: &Report| report.shard);
        backends::settle(&mut seen.reports);
        seen.rebalance_left = self.rebalance.progress().1;
        seen.takeover = self.takeover();
        let mut peaks = self.peaks();
        for report in &seen.reports {
            let peak = &mut peaks[report.shard];
            peak.mesh_depth = peak.mesh_depth.max(report.gauges.mesh_queue_depth_max);
            peak.longest_pass = peak.longest_pass.max(report.gauges.loop_longest_pass_seconds);
        }
        drop(peaks);
        let is_missing = |shard: &usize| seen.reports.iter().all(|report| report.shard != *shard);
        let missing: Vec<usize> = (0..count).filter(is_missing).collect();
        seen.silent = missing
            .into_iter()
            // It may have ended while it was asked.
            .filter(|shard| self.control.phase(*shard) != Phase::Ended)
            .map(|shard| {
                let known = self.control.is_silent(shard, Duration::ZERO);
                known.unwrap_or_else(|| self.control.silent(shard, REPORT_TIMEOUT))
            })
            .collect();
        seen
    }

    fn peaks(&self) -> MutexGuard<'_, Vec<Peaks>> {
        self.peaks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `/metrics`: what was highest since the last time, whoever looked in between.
    fn take_peaks(&self, reports: &mut [Report]) {
        let mut peaks = self.peaks();
        for report in reports {
            let peak = std::mem::take(&mut peaks[report.shard]);
            report.gauges.mesh_queue_depth_max = peak.mesh_depth;
            report.gauges.loop_longest_pass_seconds = peak.longest_pass;
        }
    }

    /// Queries a client's home shard for it.
    fn client(&self, segment: &str) -> Response {
        let Ok(client) = ClientId::from_percent_encoded(segment) else {
            return Response::text(400, "this is no ClientId\n");
        };
        let home = home_of(&self.hasher, &client, self.outside.shards_count());
        if let Some(silent) = self.control.is_silent(home, REPORT_TIMEOUT) {
            return Response::text(503, format!("{silent}\n"));
        }
        let (reply, replies) = mpsc::channel();
        let ask = Mail::from(Control::Describe { client, reply });
        if self.outside.try_send(home, ask).is_err() {
            return Response::text(503, format!("shard {home} is overloaded\n"));
        }
        match replies.recv_timeout(REPORT_TIMEOUT) {
            Ok(Some(description)) => {
                let text = format!(r#"{{"shard":{home},"client":{}}}"#, description.json());
                Response::new(200, "application/json", text)
            }
            Ok(None) => Response::new(404, "application/json", format!(r#"{{"shard":{home}}}"#)),
            Err(_) => Response::text(503, format!("{}\n", self.control.silent(home, REPORT_TIMEOUT))),
        }
    }

    fn takeover(&self) -> Takeover {
        Takeover::read(&self.upgrades, &self.control)
    }

    fn upgrade_timeout(&self) -> Duration {
        self.running.current().config.node.upgrade_timeout
    }

    /// Looks at the shards for ever and tells the log and the service manager.
    fn tell(&self) {
        let see = || {
            self.control.ask(&self.outside);
            self.reports()
        };
        self.monitor.watch(see, |lines, lasting| {
            for line in lines {
                match line {
                    Line::Error(message) => tracing::error!("{message}"),
                    Line::Warning(message) => tracing::warn!("{message}"),
                    Line::Over(message) => tracing::info!("{message}"),
                }
            }
            let message = lasting.first().map_or("all well", |lasting| &lasting.alert.message);
            if self.control.first_silent().is_none() {
                sd_notify::alive(message);
            }
        });
    }

    fn answer(&self, query: &Query<'_>) -> Response {
        if let Err(refusal) = gate::check(&self.running.current(), query.head, query.path) {
            return refusal;
        }
        match (query.method, query.path) {
            ("GET", "/healthz") => match self.control.first_silent() {
                Some(silent) => Response::text(503, format!("{silent}\n")),
                None => Response::text(200, "ok\n"),
            },
            ("GET", "/readyz") => match self.control.first_silent() {
                _ if self.control.is_draining() => Response::text(503, "draining\n"),
                Some(silent) if !self.control.is_taken_over() => Response::text(503, format!("{silent}\n")),
                _ => ready(self.takeover()),
            },
            _ => match self.slow_answers.begin() {
                Some(_begun) => self.answer_slowly(query),
                None => Response::text(503, "too many questions at once\n").with("Retry-After", "1"),
            },
        }
    }

    /// What may have to wait for a shard.
    fn answer_slowly(&self, query: &Query<'_>) -> Response {
        match (query.method, query.path) {
            ("GET", "/") => status::page(),
            ("GET", "/status.json") => {
                let after = query.parameter("after").and_then(|number| number.parse().ok());
                status::json(&self.monitor.history(), after)
            }
            ("GET", "/hour.json") => {
                let after = query.parameter("after").and_then(|number| number.parse().ok());
                status::hour(&self.monitor.history(), after)
            }
            ("GET", path) if path.starts_with(CLIENTS) => self.client(&path[CLIENTS.len()..]),
            ("GET", "/metrics") => {
                let mut seen = self.reports();
                self.take_peaks(&mut seen.reports);
                let process = process::Process::read(&seen.reports);
                let text = exposition::openmetrics(seen, process);
                if query.accepts("application/openmetrics-text") {
                    Response::new(200, exposition::OPENMETRICS, text)
                } else {
                    Response::new(200, exposition::PROMETHEUS, exposition::classic(&text))
                }
            }
            (_, "/rebalance") => rebalance::answer(&self.rebalance, query, &self.reports().reports),
            (_, "/reload") => reload::answer(&self.running, query),
            (_, "/upgrade") => upgrade::answer(&self.upgrades, &self.control, query, self.upgrade_timeout()),
            (_, "/trace") => self.trace(query),
            ("GET", "/tap") => self.tap(query),
            ("GET", "/refused") => refused::answer(query, &self.reports().reports),
            ("GET", "/top") => self.top(query),
            ("GET", "/config") => Response::text(200, self.running.current().config.render()),
            (_, path) if path.starts_with(profiles::PREFIX) => profiles::answer(query),
            (_, path) => paths::refuse(path),
        }
    }
}

fn ready(takeover: Takeover) -> Response {
    let (status, word) = match takeover.is_taken_over {
        true => (503, "taken over"),
        false => (200, "ready"),
    };
    let words = takeover
        .words()
        .map(|words| format!("; an upgrade is under way: {words}"));
    Response::text(status, format!("{word}{}\n", words.unwrap_or_default()))
}

const CLIENTS: &str = "/clients/";
const CONNECTIONS_MAX: usize = 32;
/// How often it is looked whether operators are this process's again.
const TAKEN_OVER_LOOK: Duration = Duration::from_millis(100);
/// The other places are for health checks.
const SLOW_ANSWERS_MAX: usize = 24;
/// A shard that takes longer is left out: far longer than one that lives needs.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
const _: () = assert!(REPORT_TIMEOUT.as_secs() < SILENT_AFTER.as_secs());
