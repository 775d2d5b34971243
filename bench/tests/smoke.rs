//! Runs the three programs together, on free ports: the load finds nothing wrong with the floor, and finds what is
//! wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bench::report::Report;

#[test]
fn the_floor_loses_nothing_and_every_push_has_one_outcome() {
    let (output, report) = hold120k(
        "messages",
        "--smoke --clients 500 --ramp 500ms --hold 1s --interval 500ms --proxy-shards 2",
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let counts = report.counts;
    assert_eq!(
        (counts.connected, counts.lost, counts.wrong, counts.duplicated),
        (500, 0, 0, 0)
    );
    assert!(counts.sent >= 1_000, "{counts:?}");
    assert_eq!(
        (counts.pushes, counts.pushes_accepted, counts.outcomes),
        (200, 200, 200)
    );
    assert_eq!(
        report.latency.calls.count + report.latency.calls_in_ramp.count,
        counts.answered
    );
}

#[test]
fn the_closed_loop_answers_all_that_it_sends() {
    let (output, report) = hold120k(
        "saturate",
        "--mode saturate --clients 20 --ramp 0 --hold 1s --payload 2000 --threads 2",
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((report.counts.connected, report.counts.lost), (20, 0));
    assert!(report.cpu.relay_us_per_message > 0.0);
}

/// `cargo test --workspace` has built it before; whoever tests this package alone may have none.
#[test]
fn three_upgrades_are_noticed_by_nobody() {
    let Ok(ws2api) = bench::launch::sibling("ws2api") else {
        eprintln!("ws2api is not built: no upgrade of it is tried");
        return;
    };
    let arguments = "--smoke --clients 300 --ramp 500ms --hold 2s --proxy-shards 2 --upgrades 3 --threads 2";
    let (output, report) = run("upgrades", &ws2api, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let upgrades = report.upgrades.unwrap();
    let mut processes: Vec<u32> = upgrades.done.iter().map(|upgrade| upgrade.pid).collect();
    processes.dedup();
    assert_eq!(processes.len(), 3, "{upgrades:?}");
    assert!(
        upgrades
            .done
            .iter()
            .all(|upgrade| upgrade.over >= upgrade.serving && upgrade.rss_peak > 0)
    );
    assert!(upgrades.calls.count > 0);
    assert_eq!(
        upgrades.calls.count + upgrades.calls_without.count,
        report.latency.calls.count
    );
    assert_eq!(report.counts.outcomes, report.counts.pushes);
    for process in processes {
        assert!(bench::sample::Process::read(process).is_none(), "{process} runs");
    }
}

/// As above.
#[test]
fn with_tls_nothing_is_lost_over_an_upgrade_either() {
    let Ok(ws2api) = bench::launch::sibling("ws2api") else {
        eprintln!("ws2api is not built: no TLS of it is tried");
        return;
    };
    let arguments = "--tls --smoke --clients 200 --ramp 1s --hold 2s --proxy-shards 2 --upgrades 1";
    let (output, report) = run("tls", &ws2api, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((report.counts.connected, report.counts.lost), (200, 0));
    assert_eq!(report.counts.outcomes, report.counts.pushes);
}

/// As above.
#[test]
fn strangers_at_its_tls_cost_nobody_an_answer_and_sessions_are_resumed() {
    let Ok(ws2api) = bench::launch::sibling("ws2api") else {
        eprintln!("ws2api is not built: no TLS of it is attacked");
        return;
    };
    let arguments = "--tls --resume --hostile --smoke --hold 2s --proxy-shards 2";
    let (output, report) = run("strangers", &ws2api, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let (counts, hostile) = (report.counts, report.hostile.unwrap());
    assert_eq!((counts.connected, counts.lost), (200, 0));
    assert!(
        counts.resumed > 0 && hostile.answered > 0 && hostile.ended > 0,
        "{counts:?} {hostile:?}"
    );
}

#[test]
fn an_upgrade_that_is_none_fails_the_run() {
    let arguments = "--smoke --clients 20 --ramp 100ms --hold 500ms --upgrades 1";
    let (output, report) = hold120k("no-upgrade", arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let upgrades = report.upgrades.unwrap();
    assert_eq!((upgrades.done.len(), upgrades.failed.len()), (0, 1));
    assert!(
        report.problems[0].starts_with("an upgrade: POST /upgrade"),
        "{:?}",
        report.problems
    );
}

#[test]
fn a_target_that_refuses_fails_the_run() {
    // Bound and not listening: nobody can be there.
    let (_reserved, address) = bench::net::reserve_port(std::net::Ipv4Addr::LOCALHOST).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hold120k"))
        .args([
            "--quiet",
            "--clients",
            "5",
            "--ramp",
            "0",
            "--hold",
            "100ms",
            "--interval",
            "50ms",
            "--target",
        ])
        .arg(address.to_string())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("5 connects failed"));
}

#[test]
fn a_bad_flag_is_one_line_and_exit_code_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_hold120k"))
        .arg("--clients=none")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.lines().count() == 1 && text.contains("`none` is not a number"),
        "{text}"
    );
}

/// Not after the run: an hour's figures would be lost.
#[test]
fn a_report_that_cannot_be_written_is_said_before_the_run() {
    for flag in ["--json", "--html"] {
        // Nobody listens there, which a run would notice first.
        let output = Command::new(env!("CARGO_BIN_EXE_hold120k"))
            .args(["--quiet", "--target", "127.0.0.1:1", flag, "/nonexistent/report"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("/nonexistent/report: No such file"), "{said}");
    }
}

fn hold120k(name: &str, arguments: &str) -> (Output, Report) {
    run(name, env!("CARGO_BIN_EXE_floor").as_ref(), arguments)
}

fn run(name: &str, proxy: &Path, arguments: &str) -> (Output, Report) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (json, html) = (folder.join(format!("{name}.json")), folder.join(format!("{name}.html")));
    let output = Command::new(env!("CARGO_BIN_EXE_hold120k"))
        .args(["--quiet", "--proxy"])
        .arg(proxy)
        .args(arguments.split_ascii_whitespace())
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .output()
        .unwrap();
    assert!(output.status.code() != Some(2), "{output:?}");
    let report: Report = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains(&report.relay), "the page names what was measured");
    (output, report)
}
