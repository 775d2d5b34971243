//! What operators ask: health, readiness, metrics, a status page. On ordinary threads; the shards are asked by message,
//! and never wait for anything here.

mod connection;
mod exposition;
mod process;
mod profiles;

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use shards::mesh::Outside;

use crate::mail::{Control, Mail};
use crate::report::Report;
use connection::{Query, Response};

/// The way from the ordinary threads to the shards.
#[derive(Clone, Debug)]
pub struct Admin {
    outside: Arc<Outside<Mail>>,
}

impl Admin {
    /// For the shards behind `outside`.
    #[must_use]
    pub fn new(outside: Arc<Outside<Mail>>) -> Self {
        Self { outside }
    }

    /// Serves `listener` on threads of its own until the process ends.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(self, listener: TcpListener) -> io::Result<()> {
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
        Some(reports)
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
            ("GET", "/metrics") => self.with_reports(|reports| {
                let process = process::Process::read(&reports);
                let text = exposition::openmetrics(reports, process);
                if query.accepts("application/openmetrics-text") {
                    Response::new(200, exposition::OPENMETRICS, text)
                } else {
                    Response::new(200, exposition::PROMETHEUS, exposition::classic(&text))
                }
            }),
            (_, path) if path.starts_with(profiles::PREFIX) => profiles::answer(query),
            ("GET", _) => Response::text(404, "try /, /healthz, /readyz or /metrics\n"),
            _ => Response::not_allowed("GET"),
        }
    }

    fn with_reports(&self, answer: impl FnOnce(Vec<Report>) -> Response) -> Response {
        match self.reports() {
            Some(reports) => answer(reports),
            None => Response::text(503, "a shard does not answer\n"),
        }
    }
}

const CONNECTIONS_MAX: usize = 32;
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
