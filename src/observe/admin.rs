//! Answers operators: health, readiness, metrics, a status page. It runs on ordinary threads; the shards are asked by
//! message, and never wait for anything here.

mod alert_log;
mod alerts;
mod connection;
mod exposition;
mod monitor;
mod process;
mod profiles;
mod status;

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use shards::mesh::NodeHandle;

use crate::env::home::{IdHasher, home_of};
use crate::observe::report::Report;
use crate::server::sd_notify;
use crate::shard::mail::{Control, Mail};
use alert_log::{AlertLog, Line};
use connection::{Query, Response};
use monitor::Monitor;
use protocol::ocpp::ClientId;

/// The way from the ordinary threads to the shards.
#[derive(Clone, Debug)]
pub struct Admin {
    outside: Arc<NodeHandle<Mail>>,
    hasher: IdHasher,
    monitor: Monitor,
    peaks: Arc<Mutex<Vec<Peaks>>>,
}

/// What each report resets, kept for the next scrape.
#[derive(Clone, Copy, Debug, Default)]
struct Peaks {
    mesh_depth: f64,
    longest_pass: f64,
}

impl Admin {
    /// For the shards behind `outside`, which find a client's home with `hasher`.
    #[must_use]
    pub fn new(outside: Arc<NodeHandle<Mail>>, hasher: IdHasher) -> Self {
        let peaks = vec![Peaks::default(); outside.shards_count()];
        Self {
            outside,
            hasher,
            monitor: Monitor::default(),
            peaks: Arc::new(Mutex::new(peaks)),
        }
    }

    /// Serves `listener` on threads of its own until the process ends.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(self, listener: TcpListener) -> io::Result<()> {
        let admin = self.clone();
        std::thread::Builder::new()
            .name("monitor".into())
            .spawn(move || admin.tell())?;
        let open = Arc::new(AtomicUsize::new(0));
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                    open.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (admin, counted) = (self.clone(), open.clone());
                let spawned = std::thread::Builder::new()
                    .name("admin-connection".into())
                    .spawn(move || {
                        // A client that goes away is not our concern.
                        let _ = connection::serve(stream, |query| admin.answer(query));
                        counted.fetch_sub(1, Ordering::Relaxed);
                    });
                if spawned.is_err() {
                    open.fetch_sub(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(())
    }

    /// All shards' reports, in their order; `None` when one does not answer in time.
    #[must_use]
    pub fn reports(&self) -> Option<Vec<Report>> {
        let count = self.outside.shards_count();
        let (reply, replies) = mpsc::channel();
        for shard in 0..count {
            let ask = Mail::Control(Control::Report(reply.clone()));
            self.outside.try_send(shard, ask).ok()?;
        }
        drop(reply);
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut reports = Vec::with_capacity(count);
        while reports.len() < count {
            reports.push(*replies.recv_timeout(left()).ok()?);
        }
        reports.sort_by_key(|report: &Report| report.shard);
        for (peak, report) in self.peaks().iter_mut().zip(&reports) {
            peak.mesh_depth = peak.mesh_depth.max(report.gauges.mesh_queue_depth_max);
            peak.longest_pass = peak.longest_pass.max(report.gauges.loop_longest_pass_seconds);
        }
        Some(reports)
    }

    fn peaks(&self) -> MutexGuard<'_, Vec<Peaks>> {
        self.peaks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `/metrics`: what was highest since the last time, whoever looked in between.
    fn take_peaks(&self, reports: &mut [Report]) {
        for (peak, report) in self.peaks().iter_mut().zip(reports) {
            let peak = std::mem::take(peak);
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
        let (reply, replies) = mpsc::channel();
        let ask = Mail::Control(Control::Describe { client, reply });
        let asked = self.outside.try_send(home, ask).is_ok();
        match replies.recv_timeout(REPORT_TIMEOUT) {
            Ok(Some(description)) => {
                let text = format!(r#"{{"shard":{home},"client":{}}}"#, description.json());
                Response::new(200, "application/json", text)
            }
            Ok(None) => Response::new(404, "application/json", format!(r#"{{"shard":{home}}}"#)),
            Err(_) => Response::text(503, if asked { SILENT } else { "the shard is overloaded\n" }),
        }
    }

    /// Looks at the shards for ever and tells the log and the service manager.
    fn tell(&self) {
        let mut alert_log = AlertLog::default();
        let mut silent = false;
        self.monitor.watch(
            || self.reports(),
            |alerts| {
                let Some(alerts) = alerts else {
                    // One that has drained has ended: that is no fault.
                    if !silent && !self.monitor.history().is_draining() {
                        tracing::error!("a shard does not answer");
                    }
                    silent = true;
                    return;
                };
                silent = false;
                for line in alert_log.take(Instant::now(), alerts) {
                    match line {
                        Line::Grave(words) => tracing::error!("{words}"),
                        Line::Warning(words) => tracing::warn!("{words}"),
                        Line::Over(words) => tracing::info!("{words}"),
                    }
                }
                let words = alerts.first().map_or("all well", |alert| &alert.words);
                sd_notify::alive(words);
            },
        );
    }

    /// Who is traced, or from now on whose frames are in the log.
    fn trace(&self, query: &Query<'_>) -> Response {
        let client = match (query.method, query.parameter("client")) {
            ("DELETE", _) => None,
            ("POST", Some(id)) => match ClientId::parse(&id) {
                Ok(client) => Some(client),
                Err(_) => return Response::text(400, "this is no ClientId\n"),
            },
            ("POST", None) => return Response::text(400, "POST /trace?client=ID begins, DELETE /trace ends\n"),
            _ => return Response::not_allowed("POST, DELETE"),
        };
        for shard in 0..self.outside.shards_count() {
            let mail = Mail::Control(Control::Trace(client.clone()));
            if self.outside.try_send(shard, mail).is_err() {
                return Response::text(503, "a shard is overloaded: try again\n");
            }
        }
        Response::text(
            200,
            if client.is_some() {
                "the log shows it\n"
            } else {
                "the log shows no client's frames\n"
            },
        )
    }

    fn answer(&self, query: &Query<'_>) -> Response {
        match (query.method, query.path) {
            ("GET", "/healthz") => self.with_reports(|_| Response::text(200, "ok\n")),
            ("GET", "/readyz") => self.with_reports(|reports| {
                if reports.iter().any(|report| report.draining) {
                    Response::text(503, "draining\n")
                } else {
                    Response::text(200, "ready\n")
                }
            }),
            ("GET", "/") => status::page(),
            ("GET", "/status.json") => {
                let after = query.parameter("after").and_then(|number| number.parse().ok());
                status::json(&self.monitor.history(), after)
            }
            ("GET", path) if path.starts_with(CLIENTS) => self.client(&path[CLIENTS.len()..]),
            ("GET", "/metrics") => self.with_reports(|mut reports| {
                self.take_peaks(&mut reports);
                let process = process::Process::read(&reports);
                let text = exposition::openmetrics(reports, process);
                if query.accepts("application/openmetrics-text") {
                    Response::new(200, exposition::OPENMETRICS, text)
                } else {
                    Response::new(200, exposition::PROMETHEUS, exposition::classic(&text))
                }
            }),
            (_, "/trace") => self.trace(query),
            (_, path) if path.starts_with(profiles::PREFIX) => profiles::answer(query),
            ("GET", _) => Response::text(404, "try /, /healthz, /readyz or /metrics\n"),
            _ => Response::not_allowed("GET"),
        }
    }

    fn with_reports(&self, answer: impl FnOnce(Vec<Report>) -> Response) -> Response {
        match self.reports() {
            Some(reports) => answer(reports),
            None => Response::text(503, SILENT),
        }
    }
}

const CLIENTS: &str = "/clients/";
const SILENT: &str = "a shard does not answer\n";
const CONNECTIONS_MAX: usize = 32;
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
