//! Names every path of the admin address: what is there, and with which methods.

use std::fmt::Write as _;

use super::connection::Response;

/// One path, or all that begin with it where it ends with a slash.
struct Path {
    path: &'static str,
    allow: &'static str,
    /// Method, an example, and what it does.
    uses: &'static [(&'static str, &'static str, &'static str)],
}

/// For a path that is not there, or not for this method.
pub(super) fn refuse(path: &str) -> Response {
    let is = |known: &&Path| {
        let is_folder = known.path.len() > 1 && known.path.ends_with('/');
        path == known.path || is_folder && path.starts_with(known.path)
    };
    match PATHS.iter().find(is) {
        Some(known) => Response::not_allowed(known.allow),
        None => Response::text(404, list()),
    }
}

fn list() -> String {
    let mut text = String::from("there is no such path; there are\n");
    for (method, example, what) in PATHS.iter().flat_map(|path| path.uses) {
        let _ = writeln!(text, "{method:<6} {example:<40} {what}");
    }
    text
}

const GET: &str = "GET, HEAD";
const PATHS: &[Path] = &[
    Path {
        path: "/",
        allow: GET,
        uses: &[("GET", "/", "the status page")],
    },
    Path {
        path: "/status.json",
        allow: GET,
        uses: &[("GET", "/status.json", "its data, which promise nothing")],
    },
    Path {
        path: "/hour.json",
        allow: GET,
        uses: &[("GET", "/hour.json", "the last hour, by half minutes, for it")],
    },
    Path {
        path: "/healthz",
        allow: GET,
        uses: &[("GET", "/healthz", "200 while no shard hangs")],
    },
    Path {
        path: "/readyz",
        allow: GET,
        uses: &[("GET", "/readyz", "200 while clients are taken")],
    },
    Path {
        path: "/metrics",
        allow: GET,
        uses: &[("GET", "/metrics", "for Prometheus")],
    },
    Path {
        path: "/clients/",
        allow: GET,
        uses: &[("GET", "/clients/<ClientId>", "one client, as its shard sees it")],
    },
    Path {
        path: "/refused",
        allow: GET,
        uses: &[
            ("GET", "/refused", "the last who were not let in"),
            ("GET", "/refused?client=ID", "those of one client"),
        ],
    },
    Path {
        path: "/top",
        allow: GET,
        uses: &[
            (
                "GET",
                "/top?by=frames",
                "the clients with the most messages since they came",
            ),
            ("GET", "/top?by=bytes", "with the most bytes"),
            ("GET", "/top?by=bad", "with the most bad frames"),
            ("GET", "/top?by=refused", "who was refused most, of the last"),
        ],
    },
    Path {
        path: "/config",
        allow: GET,
        uses: &[("GET", "/config", "the values in force")],
    },
    Path {
        path: "/rebalance",
        allow: "GET, HEAD, POST",
        uses: &[
            ("GET", "/rebalance", "how the last one goes"),
            (
                "POST",
                "/rebalance?close=0",
                "sends so many clients away, per_second=10; 0 stops it",
            ),
        ],
    },
    Path {
        path: "/reload",
        allow: "POST",
        uses: &[(
            "POST",
            "/reload",
            "reads the configuration again, as SIGHUP does, and says what has changed",
        )],
    },
    Path {
        path: "/upgrade",
        allow: "GET, HEAD, POST",
        uses: &[
            ("GET", "/upgrade", "how the last one went"),
            ("POST", "/upgrade", "starts the program anew, which takes over"),
        ],
    },
    Path {
        path: "/trace",
        allow: "POST, DELETE",
        uses: &[
            (
                "POST",
                "/trace?client=ID",
                "logs the frames of one client, and of no other",
            ),
            ("DELETE", "/trace", "logs no client's frames"),
        ],
    },
    Path {
        path: "/tap",
        allow: GET,
        uses: &[
            ("GET", "/tap", "every frame of every client, one JSON line each, live"),
            ("GET", "/tap?client=ID&action=A&direction=in", "those that fit"),
        ],
    },
    Path {
        path: "/debug/pprof/profile",
        allow: GET,
        uses: &[("GET", "/debug/pprof/profile?seconds=30", "a CPU profile")],
    },
    Path {
        path: "/debug/pprof/heap",
        allow: "GET, HEAD, POST",
        uses: &[
            ("GET", "/debug/pprof/heap", "a heap profile, once it is switched on"),
            (
                "POST",
                "/debug/pprof/heap?active=true",
                "switches it on; active=false, off",
            ),
        ],
    },
    Path {
        path: "/debug/pprof/",
        allow: GET,
        uses: &[("GET", "/debug/pprof/", "how to read them")],
    },
];
