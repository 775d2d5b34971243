//! What operators ask: health, readiness, metrics. On ordinary threads; the shards are asked by message.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use shards::mesh::Outside;

use crate::http::{parse_request, write_response};
use crate::mail::{Control, Mail, Report};

/// Serves `listener` on threads of its own until the process ends.
///
/// # Errors
/// When there can be no thread.
pub fn start(listener: TcpListener, outside: Arc<Outside<Mail>>) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (outside, counted) = (outside.clone(), open.clone());
            let spawned = std::thread::Builder::new()
                .name("admin-connection".into())
                .spawn(move || {
                    // A client that goes away is not our concern.
                    let _ = serve(stream, &outside);
                    counted.fetch_sub(1, Ordering::Relaxed);
                });
            if spawned.is_err() {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    })?;
    Ok(())
}

fn serve(mut stream: TcpStream, outside: &Outside<Mail>) -> io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_write_timeout(Some(READ_TIMEOUT))?;
    let mut buffer = Vec::new();
    loop {
        let (response, len, keep_alive) = match parse_request(&buffer, HEAD_LEN_MAX) {
            Ok(None) => {
                let mut piece = [0; 2048];
                let count = stream.read(&mut piece)?;
                if count == 0 {
                    return Ok(());
                }
                buffer.extend_from_slice(&piece[..count]);
                continue;
            }
            Err(error) => (
                Response::text(error.status(), &format!("{error}\n")),
                buffer.len(),
                false,
            ),
            Ok(Some(head)) => {
                let keep_alive = head.keep_alive && head.framing.is_empty();
                let path = head.target.split('?').next().unwrap_or_default();
                let response = match head.method {
                    "GET" => answer(path, outside),
                    _ => Response {
                        allow: true,
                        ..Response::text(405, "only GET\n")
                    },
                };
                (response, head.len, keep_alive)
            }
        };
        buffer.drain(..len);
        let mut bytes = Vec::new();
        let mut headers = vec![("Content-Type", response.content_type), ("Cache-Control", "no-store")];
        if response.allow {
            headers.push(("Allow", "GET"));
        }
        write_response(
            &mut bytes,
            response.status,
            &headers,
            response.body.as_bytes(),
            keep_alive,
        );
        stream.write_all(&bytes)?;
        if !keep_alive {
            return Ok(());
        }
    }
}

struct Response {
    status: u16,
    content_type: &'static str,
    body: String,
    allow: bool,
}

impl Response {
    fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.to_owned(),
            allow: false,
        }
    }
}

fn answer(path: &str, outside: &Outside<Mail>) -> Response {
    match path {
        "/healthz" => match reports(outside) {
            Some(_) => Response::text(200, "ok\n"),
            None => Response::text(503, "a shard does not answer\n"),
        },
        "/readyz" => match reports(outside) {
            Some(reports) if reports.iter().any(|report| report.draining) => Response::text(503, "draining\n"),
            Some(_) => Response::text(200, "ready\n"),
            None => Response::text(503, "a shard does not answer\n"),
        },
        "/metrics" => match reports(outside) {
            Some(reports) => Response {
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                ..Response::text(200, &metrics(&reports))
            },
            None => Response::text(503, "a shard does not answer\n"),
        },
        _ => Response::text(404, "try /healthz, /readyz or /metrics\n"),
    }
}

/// All shards' reports, in their order; `None` when one does not answer in time.
fn reports(outside: &Outside<Mail>) -> Option<Vec<Report>> {
    let (reply, replies) = mpsc::channel();
    for shard in 0..outside.shards_count() {
        outside
            .try_send(shard, Mail::Control(Control::Report(reply.clone())))
            .ok()?;
    }
    drop(reply);
    let deadline = Instant::now() + REPORT_TIMEOUT;
    let mut reports = Vec::with_capacity(outside.shards_count());
    while reports.len() < outside.shards_count() {
        reports.push(
            replies
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .ok()?,
        );
    }
    reports.sort_by_key(|report: &Report| report.shard);
    Some(reports)
}

/// Prometheus text format: every counter and gauge once per shard.
fn metrics(reports: &[Report]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let Some(first) = reports.first() else { return text };
    for (index, (name, help, _)) in first.counters.iter().enumerate() {
        let _ = writeln!(
            text,
            "# HELP ws2api_{name}_total {}\n# TYPE ws2api_{name}_total counter",
            help.trim()
        );
        for report in reports {
            let _ = writeln!(
                text,
                "ws2api_{name}_total{{shard=\"{}\"}} {}",
                report.shard, report.counters[index].2
            );
        }
    }
    for (index, (name, help, _)) in first.gauges.iter().enumerate() {
        let _ = writeln!(text, "# HELP ws2api_{name} {}\n# TYPE ws2api_{name} gauge", help.trim());
        for report in reports {
            let _ = writeln!(
                text,
                "ws2api_{name}{{shard=\"{}\"}} {}",
                report.shard, report.gauges[index].2
            );
        }
    }
    text
}

const CONNECTIONS_MAX: usize = 32;
const HEAD_LEN_MAX: usize = 8192;
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
