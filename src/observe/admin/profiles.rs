//! Serves `/debug/pprof/…`: profiles of the running server, under the names that Go programs use.

use std::time::Duration;

use super::connection::{Query, Response};
use crate::observe::profile::{self, CpuProfile};

pub(super) const PREFIX: &str = "/debug/pprof/";

pub(super) fn answer(query: &Query<'_>) -> Response {
    let name = query.path.strip_prefix(PREFIX).unwrap_or_default();
    match (query.method, name) {
        ("GET", "") => Response::text(200, INDEX),
        // Whoever asks for the head alone is not made to wait for a profile, nor anybody else for the profiler.
        ("GET", "profile") if query.is_head => Response::new(200, PPROF, Vec::new()),
        ("GET", "profile") => cpu(query),
        ("GET", "heap") if profile::is_heap_active() => match profile::dump_heap() {
            Ok(profile) => Response::new(200, PPROF, profile),
            Err(error) => Response::text(500, format!("{error}\n")),
        },
        ("GET", "heap") => Response::text(409, HEAP_IS_OFF),
        ("POST", "heap") => switch_heap(query),
        (_, "heap") => Response::not_allowed("GET, POST"),
        ("GET", _) => Response::text(404, INDEX),
        _ => Response::not_allowed("GET"),
    }
}

fn cpu(query: &Query<'_>) -> Response {
    let seconds = query
        .parameter("seconds")
        .map_or(Ok(SECONDS_DEFAULT), |text| text.parse());
    let Some(seconds) = seconds.ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds)) else {
        return Response::text(400, format!("seconds is a whole number from 1 to {SECONDS_MAX}\n"));
    };
    match CpuProfile::start() {
        Ok(profile) => {
            // This thread serves nobody else.
            std::thread::sleep(Duration::from_secs(seconds));
            Response::new(200, PPROF, profile.encode())
        }
        Err(error) => Response::text(409, format!("{error}\n")),
    }
}

fn switch_heap(query: &Query<'_>) -> Response {
    let switched = match query.parameter("active").as_deref() {
        Some("true") => profile::activate_heap().map(|()| "sampling allocations\n"),
        Some("false") => profile::deactivate_heap().map(|()| "not sampling; what was sampled is forgotten\n"),
        _ => return Response::text(400, "active=true or active=false\n"),
    };
    match switched {
        Ok(words) => Response::text(200, words),
        Err(error) => Response::text(500, format!("{error}\n")),
    }
}

const PPROF: &str = "application/octet-stream";
const SECONDS_DEFAULT: u64 = 30;
const SECONDS_MAX: u64 = 300;
const HEAP_IS_OFF: &str = "\
allocations are not sampled: start with -memprofile FILE, or switch it on with
  curl -X POST 'http://ADMIN/debug/pprof/heap?active=true'
";
const INDEX: &str = "\
go tool pprof http://ADMIN/debug/pprof/profile?seconds=30   where CPU time goes
go tool pprof http://ADMIN/debug/pprof/heap                 who holds memory (once switched on: POST …/heap?active=true)
";
