//! Writes the HTML report: one file without scripts or anything to load, for light and dark screens and for paper.

use std::fmt::Write;

use crate::amounts::{bytes, duration, grouped};
use crate::options::Mode;
use crate::percentiles::Percentiles;
use crate::plot::{Chart, Scale, Series, escape};
use crate::report::{Report, Second};
use crate::upgrades::Upgrades;

/// Renders the report as one HTML page.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::with_capacity(256 << 10);
    let title = escape(&headline(report));
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style><main>"
    );
    let (class, verdict) = if report.passed() {
        (
            "good",
            "passed: nothing failed, lost, wrong, duplicated or late".to_owned(),
        )
    } else {
        ("bad", format!("failed: {}", report.problems.join("; ")))
    };
    let _ = write!(
        out,
        "<header><p class=\"kicker\">hold120k · {}</p><h1>{title}</h1><p>{}</p><p class=\"verdict {class}\">{}</p></header>",
        utc(report.started_unix),
        escape(&report.scene_line()),
        escape(&verdict)
    );
    tiles(&mut out, report);
    if !report.bottlenecks.is_empty() {
        let text = escape(&report.bottlenecks.join("; "));
        let _ = write!(
            out,
            "<p class=\"warn\"><b>The harness or the machine was the limit:</b> {text}.</p>"
        );
    }
    out.push_str("<section class=\"charts\">");
    for chart in charts(report) {
        out.push_str(&chart.render());
    }
    out.push_str("</section><section class=\"tables\">");
    latency_table(&mut out, report);
    for (heading, rows) in [
        ("Counts", counts(report)),
        ("CPU and memory", costs(report)),
        ("Machine", machine(report)),
    ] {
        table(&mut out, heading, &rows);
    }
    if let Some(upgrades) = &report.upgrades {
        table(&mut out, "Upgrades", &upgrades.rows());
        each_upgrade(&mut out, upgrades);
    }
    out.push_str("</section>");
    if !report.faults.is_empty() {
        let faults: String = report
            .faults
            .iter()
            .map(|fault| format!("<li>{}</li>", escape(fault)))
            .collect();
        let _ = write!(out, "<h2>The first faults</h2><ul class=\"faults\">{faults}</ul>");
    }
    let _ = writeln!(
        out,
        "<footer><p>Latency counts from the moment a message was due, not from when it was sent. Clients, backend and \
         {} shared the machine unless the command says otherwise.</p><pre>{}</pre></footer></main></html>",
        escape(&report.relay),
        escape(&report.command)
    );
    out
}

fn headline(report: &Report) -> String {
    let clients = grouped(report.counts.connected);
    match report.scene.mode {
        Mode::Hold => format!(
            "{clients} clients, {} messages/s",
            grouped(report.rates.messages.round() as u64)
        ),
        Mode::Saturate => format!(
            "{} messages/s, closed loop",
            grouped(report.rates.messages.round() as u64)
        ),
        Mode::Ramp => format!("{} connects/s", grouped(report.rates.connects.round() as u64)),
        Mode::Push => format!("{} pushes/s", grouped(report.rates.pushes.round() as u64)),
        Mode::Idle => format!("{clients} silent clients"),
    }
}

fn tiles(out: &mut String, report: &Report) {
    let (main, what) = main_latency(report);
    let mut tiles = vec![
        (grouped(report.counts.connected), "clients connected".to_owned()),
        (duration(main.p50), format!("{what}: p50")),
        (duration(main.p99), format!("{what}: p99")),
        (duration(main.p999), format!("{what}: p99.9")),
        (
            bytes(report.memory.total),
            format!("RSS {} + its half of the sockets", bytes(report.memory.rss)),
        ),
    ];
    if report.cpu.relay_us_per_message > 0.0 {
        let each = format!("{:.1} µs", report.cpu.relay_us_per_message);
        let text = match report.floor {
            Some(floor) => format!("CPU per {}, {:.2} of the floor", report.unit(), floor.ratio),
            None => format!("CPU per {}", report.unit()),
        };
        tiles.push((each, text));
    } else {
        tiles.push((format!("{:.3}", report.cpu.relay_cores), "cores".to_owned()));
    }
    out.push_str("<section class=\"tiles\">");
    for (value, name) in tiles {
        let _ = write!(
            out,
            "<div><b>{}</b><span>{}</span></div>",
            escape(&value),
            escape(&name)
        );
    }
    out.push_str("</section>");
}

/// The latencies that the mode is about.
fn main_latency(report: &Report) -> (&Percentiles, &'static str) {
    match report.scene.mode {
        Mode::Hold | Mode::Saturate => (&report.latency.calls, "answer"),
        Mode::Push => (&report.latency.pushes, "push"),
        Mode::Ramp | Mode::Idle => (&report.latency.connects, "connect"),
    }
}

fn charts(report: &Report) -> Vec<Chart> {
    let line = |name, class, filled, value: fn(&Second) -> f64| Series {
        name,
        class,
        filled,
        points: report
            .seconds
            .iter()
            .map(|second| (second.second as f64 + 1.0, value(second)))
            .collect(),
    };
    let over_time = |title, note: String, scale, y_text: fn(f64) -> String, series| Chart {
        title,
        note,
        series,
        scale,
        y_text,
        x_text: |seconds| format!("{seconds:.0} s"),
        x_ticks: Vec::new(),
        mark: (report.scene.ramp_seconds >= 1.0).then_some((report.scene.ramp_seconds, "all due")),
    };
    let count: fn(f64) -> String = |value| grouped(value.round() as u64);
    let size: fn(f64) -> String = |value| bytes(value.round() as u64);
    let time: fn(f64) -> String = |micros| duration(micros.round() as u64);
    let mut rates = vec![line("messages", "a", true, |second| second.messages as f64)];
    if report.counts.pushes > 0 {
        rates.push(line("pushes", "b", false, |second| second.pushes as f64));
    }
    let percentiles = vec![
        line("p50", "a", false, |second| second.p50 as f64),
        line("p99", "b", false, |second| second.p99 as f64),
        line("p99.9", "c", false, |second| second.p999 as f64),
    ];
    let first = report.memory.kernel_before;
    let half = report.seconds.iter();
    let half = half.map(|second| {
        (
            second.second as f64 + 1.0,
            second.kernel.memory().saturating_sub(first) as f64 / 2.0,
        )
    });
    let memory = vec![
        line("RSS", "a", true, |second| second.relay.rss as f64),
        Series {
            name: "half of the kernel's growth",
            class: "b",
            filled: false,
            points: half.collect(),
        },
    ];
    let (main, what) = main_latency(report);
    let tail = |percentile: f64| -(1.0 - percentile / 100.0).max(1e-9).log10();
    let curve = Chart {
        title: "Percentile curve",
        note: format!("{what} latency, {} samples", grouped(main.count)),
        series: vec![Series {
            name: "latency",
            class: "a",
            points: report
                .curve
                .iter()
                .map(|point| (tail(point.percentile), point.micros as f64))
                .collect(),
            filled: true,
        }],
        scale: Scale::Logarithmic,
        y_text: time,
        x_text: |nines| {
            let percentile = 100.0 * (1.0 - 10_f64.powf(-nines));
            let digits = (nines.ceil() as usize).saturating_sub(2);
            format!("{percentile:.digits$} %")
        },
        x_ticks: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        mark: None,
    };
    vec![
        over_time(
            "Connections",
            format!(
                "{:.0} connects/s, p99 {}",
                report.rates.connects,
                duration(report.latency.connects.p99)
            ),
            Scale::Linear,
            count,
            vec![line("open", "a", true, |second| second.connections as f64)],
        ),
        over_time(
            "Per second",
            format!("{} answered", grouped(report.counts.answered)),
            Scale::Linear,
            count,
            rates,
        ),
        over_time(
            "Latency",
            "from due, per second of the run".to_owned(),
            Scale::Logarithmic,
            time,
            percentiles,
        ),
        curve,
        over_time("Memory", format!("of {}", report.relay), Scale::Linear, size, memory),
        over_time(
            "CPU",
            format!("cores that {} took", report.relay),
            Scale::Linear,
            |cores| format!("{cores:.2}"),
            vec![line("cores", "a", true, |second| second.relay_cores)],
        ),
    ]
}

fn latency_table(out: &mut String, report: &Report) {
    out.push_str(
        "<div class=\"wide\"><h2>Latency from due</h2><table><tr><th></th><th>count</th><th>mean</th><th>p50</th>\
         <th>p90</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th></tr>",
    );
    let latency = &report.latency;
    let rows = [
        ("Calls, measured", &latency.calls),
        ("Calls, in the ramp", &latency.calls_in_ramp),
        ("Connects", &latency.connects),
        ("Pushes, to the client", &latency.pushes),
        ("Pushes, to the 202", &latency.accepts),
        ("Harness: sent late by", &latency.send_lag),
    ];
    for (name, row) in rows.iter().filter(|(_, row)| row.count > 0) {
        let _ = write!(
            out,
            "<tr><th>{name}</th><td>{}</td><td>{}</td>",
            grouped(row.count),
            duration(row.mean as u64)
        );
        for micros in [row.p50, row.p90, row.p99, row.p999, row.p9999, row.max] {
            let _ = write!(out, "<td>{}</td>", duration(micros));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

fn each_upgrade(out: &mut String, upgrades: &Upgrades) {
    out.push_str(
        "<div class=\"wide\"><h2>Each upgrade</h2><table><tr><th></th><th>asked at</th><th>serves after</th><th>old one gone</th>\
         <th>RSS before</th><th>both at most</th></tr>",
    );
    for (index, upgrade) in upgrades.done.iter().enumerate() {
        let _ = write!(
            out,
            "<tr><th>{}: {}</th><td>{:.1} s</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            index + 1,
            escape(&upgrade.version),
            upgrade.at_seconds,
            duration(upgrade.serving),
            duration(upgrade.over),
            bytes(upgrade.rss_before),
            bytes(upgrade.rss_peak)
        );
    }
    out.push_str("</table></div>");
}

fn table(out: &mut String, heading: &str, rows: &[(&str, String)]) {
    let _ = write!(out, "<div><h2>{heading}</h2><table>");
    for (name, value) in rows {
        let _ = write!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(value));
    }
    out.push_str("</table></div>");
}

fn counts(report: &Report) -> Vec<(&'static str, String)> {
    let counts = &report.counts;
    let mut rows = vec![
        ("connected", grouped(counts.connected)),
        ("connects failed", grouped(counts.failed_connects)),
        ("connections lost", grouped(counts.lost_connections)),
        ("Calls sent", grouped(counts.sent)),
        ("answered right", grouped(counts.answered)),
        ("lost", grouped(counts.lost)),
        ("wrong", grouped(counts.wrong)),
        ("duplicated", grouped(counts.duplicated)),
        ("late", grouped(counts.late)),
    ];
    if counts.pushes > 0 {
        rows.extend([
            (
                "pushes accepted",
                format!("{} of {}", grouped(counts.pushes_accepted), grouped(counts.pushes)),
            ),
            ("pushes arrived", grouped(counts.pushes_arrived)),
            ("pushes with one outcome", grouped(counts.outcomes)),
            ("second outcomes", grouped(counts.outcomes_duplicated)),
            ("outcomes that are errors", grouped(counts.outcomes_failed)),
        ]);
    }
    rows
}

fn costs(report: &Report) -> Vec<(&'static str, String)> {
    let (cpu, memory) = (&report.cpu, &report.memory);
    let mut rows = vec![
        (
            "relay, cores",
            format!(
                "{:.3} ({:.0} % in the kernel)",
                cpu.relay_cores,
                cpu.relay_kernel_part * 100.0
            ),
        ),
        ("backend, cores", format!("{:.3}", cpu.backend_cores)),
        ("clients, cores", format!("{:.3}", cpu.harness_cores)),
        (
            "machine, cores",
            format!("{:.3} of {}", cpu.machine_cores, report.machine.cpus),
        ),
        (
            "CPU each",
            format!("{:.1} µs per {}", cpu.relay_us_per_message, report.unit()),
        ),
    ];
    if let Some(floor) = report.floor {
        rows.push((
            "the floor",
            format!("{:.1} µs; we are {:.2} of it", floor.us_per_message, floor.ratio),
        ));
    }
    rows.extend([
        (
            "RSS",
            format!("{} ({} empty)", bytes(memory.rss), bytes(memory.rss_empty)),
        ),
        ("RSS per client", format!("{:.0} B", memory.rss_per_client)),
        (
            "kernel sockets",
            format!(
                "{}, half of {}",
                bytes(memory.kernel_share),
                bytes(memory.kernel_growth)
            ),
        ),
        ("together", bytes(memory.total)),
        ("threads", grouped(memory.threads)),
    ]);
    rows
}

fn machine(report: &Report) -> Vec<(&'static str, String)> {
    let (machine, scene) = (&report.machine, &report.scene);
    let cores: Vec<String> = scene.relay_cores.iter().map(ToString::to_string).collect();
    vec![
        ("CPU", format!("{} × {}", machine.cpus, machine.cpu)),
        ("memory", bytes(machine.memory)),
        ("kernel", machine.kernel.clone()),
        ("open files", format!("{} per table", grouped(machine.open_files))),
        (
            "shards on CPUs",
            if cores.is_empty() {
                "not started by us".to_owned()
            } else {
                cores.join(" ")
            },
        ),
        ("load threads", grouped(u64::from(scene.load_threads))),
        (
            "subprotocol",
            scene.subprotocol.clone().unwrap_or_else(|| "none".to_owned()),
        ),
    ]
}

/// Seconds since 1970 as `2025-01-31 12:34 UTC` (days to a date after Howard Hinnant's `civil_from_days`).
fn utc(unix: u64) -> String {
    let (days, seconds) = ((unix / 86_400) as i64 + 719_468, unix % 86_400);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02} UTC",
        seconds / 3_600,
        seconds / 60 % 60
    )
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_becomes_its_date() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59 UTC");
    }

    #[test]
    fn a_page_is_complete_in_itself() {
        let mut report = Report {
            relay: "ws2api".to_owned(),
            ..Report::default()
        };
        report.faults.push("got <script>".to_owned());
        let page = render(&report);
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        let outside = ["<script", "http://", "https://", "src=", "@import", "url("];
        for word in outside {
            assert!(!page.contains(word), "{word}");
        }
    }
}
