//! `/metrics` counts what happens and what is documented (`admin-2`), and Prometheus' own tool takes it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Http, Proxy, eventually};

#[test]
fn a_conversation_is_counted() {
    let proxy = Proxy::demo().shards(2).start();
    let mut client = proxy.client("CP1");
    for number in 0..3 {
        client.call(number);
    }
    client.send("nonsense");
    assert!(client.text().starts_with("[4,\"-1\","));
    proxy.http().push("CP2", "Reset", "p1", "").expect(400);
    for (name, with, value) in [
        ("clients", "", 1.0),
        ("clients_opened_total", "", 1.0),
        ("frames_total", "type=\"call\"", 3.0),
        ("frames_total", "type=\"callresult\"", 3.0),
        ("frames_bad_total", "kind=\"unreadable\"", 1.0),
        ("calls_total", "outcome=\"result\"", 3.0),
        ("call_round_trip_seconds_count", "", 3.0),
        ("backend_round_trip_seconds_count", "", 4.0),
        ("backend_answers_total", "class=\"2xx\"", 4.0),
        ("ingress_bad_total", "", 1.0),
        ("backend_up", "", 2.0),
        ("shed_total", "", 0.0),
    ] {
        let sum: f64 = proxy.metric_where(name, with).iter().sum();
        assert_eq!(sum, value, "{name} {with}");
    }
    let text = proxy.get("/metrics").body;
    let resident = text
        .lines()
        .find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    assert!(resident.unwrap().parse::<f64>().unwrap() > 1e6);
    assert!(proxy.metric("open_fds").iter().sum::<f64>() > 10.0);
    drop(client);
    eventually("the client's end", || {
        (proxy.count_where("clients_closed", "lost") == 1).then_some(())
    });
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let proxy = Proxy::demo().shards(2).start();
    let text = proxy.get("/metrics").body;
    let exposed = described(&text);
    assert!(exposed.len() > 40, "{exposed:?}");
    let documented: BTreeMap<String, String> = include_str!("../../docs/metrics.md")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let name = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), line.to_owned()))
        })
        .collect();
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&documented), names(&exposed));
    for (name, line) in &documented {
        assert!(
            line.contains(&format!("| {} |", exposed[name])),
            "the type of {name}: {line}"
        );
    }
    for family in ws2api::observe::counters::FAMILIES {
        let line = &documented[&format!("ws2api_{}_total", family.name)];
        let words = family.labels.iter().chain(family.members.iter().copied().flatten());
        for word in words {
            assert!(line.contains(&format!("`{word}`")), "{word} is missing in {line}");
        }
    }
}

/// ARCHITECTURE.md, "Bounds": the counter of each bound.
#[test]
fn every_counter_of_the_table_of_bounds_exists() {
    let (_, bounds) = include_str!("../../ARCHITECTURE.md")
        .split_once("\n## Bounds\n")
        .unwrap();
    let table = bounds.split("\n## ").next().unwrap();
    let mut counters_count = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for name in cell.split('`').skip(1).step_by(2) {
            if cell.starts_with("gauge ") {
                continue;
            }
            let (family, member) = name.split_once('{').unwrap_or((name, ""));
            let family = ws2api::observe::counters::FAMILIES
                .iter()
                .find(|own| own.name == family);
            let family = family.unwrap_or_else(|| panic!("{name} in {row}"));
            let member = member.trim_end_matches('}');
            let exists = member.is_empty() || family.members.iter().any(|own| own.contains(&member));
            assert!(exists, "{name} in {row}");
            counters_count += 1;
        }
    }
    assert!(counters_count > 20, "{counters_count}");
}

/// CPU time of each shard's thread, as the kernel counts it, over many scrapes of a node that does nothing else. What the
/// shard says itself (`ws2api_report_seconds`) is the same without waking and answering.
#[test]
fn a_scrape_costs_no_shard_a_millisecond() {
    let cpu = ws2api::server::host::usable_cpus()[0];
    let cores = [cpu.to_string().as_str(); 16].join(",");
    let proxy = Proxy::demo().expect_shards(16).arg("--cores").arg(&cores).start();
    let threads = proxy.shard_threads();
    assert_eq!(threads.len(), 16);
    let spent = || -> Vec<Duration> { threads.iter().map(|thread| cpu_time(thread)).collect() };
    let lines = proxy.get("/metrics").body.lines().count();
    let before = spent();
    for _ in 0..SCRAPES {
        proxy.get("/metrics").expect(200);
    }
    let costs = before
        .iter()
        .zip(spent())
        .map(|(before, after)| (after - *before) / SCRAPES);
    let most = costs.max().unwrap();
    eprintln!("{lines} lines; at most {most:?} of CPU per scrape and shard");
    assert!(most < Duration::from_millis(1), "{most:?}");
}

/// Its first number is nanoseconds on a CPU (Documentation/scheduler/sched-stats).
fn cpu_time(thread: &Path) -> Duration {
    let stat = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

const SCRAPES: u32 = 50;

#[test]
fn the_other_format_holds_the_same_and_ends_as_it_must() {
    let proxy = Proxy::demo().shards(2).start();
    let accept = ("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    let answer = Http::connect(proxy.admin).request("GET", "/metrics", &[accept], "");
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.body;
    assert!(text.ends_with("# EOF\n"));
    let counters = described(&proxy.get("/metrics").body);
    for (name, kind) in described(&text) {
        let suffix = if kind == "counter" { "_total" } else { "" };
        assert_eq!(counters.get(&format!("{name}{suffix}")), Some(&kind));
    }
}

/// Prometheus' own opinion, where promtool is installed.
#[test]
fn promtool_has_nothing_to_say() {
    let Ok(mut tool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        eprintln!("promtool is not installed: not checked");
        return;
    };
    let proxy = Proxy::demo().shards(2).start();
    let text = proxy.get("/metrics").body;
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Name → type.
fn described(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}
