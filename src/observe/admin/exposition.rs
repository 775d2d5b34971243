//! Writes the metrics as text: OpenMetrics, by prometheus-client, and Prometheus' own older format, made from it.

mod cluster;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use shards::pass::PASS_BOUNDS_US;

use super::process::Process;
use super::snapshot::Seen;
use crate::observe::backends::{BackendReport, Places, RESULTS};
use crate::observe::certificates;
use crate::observe::counters::{FAMILIES, SHED};
use crate::observe::latency::{BOUNDS_US, LatencyCopy};
use crate::observe::reloads;
use crate::observe::report::{GAUGES, Report};

pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics in OpenMetrics format.
pub(super) fn openmetrics(seen: Seen, process: Process) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { seen, process }));
    let mut out = String::with_capacity(TEXT_LEN);
    text::encode(&mut out, &registry).expect("a string takes everything");
    out
}

/// OpenMetrics text → Prometheus text 0.0.4, where a counter's name has its `_total` in the comments too.
pub(super) fn classic(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len() + openmetrics.len() / 32);
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        let (Some(help), Some(kind)) = (line.strip_prefix("# HELP "), lines.peek()) else {
            if !line.starts_with("# EOF") {
                out.push_str(line);
                out.push('\n');
            }
            continue;
        };
        let (name, help) = help.split_once(' ').unwrap_or((help, ""));
        let kind = kind.rsplit(' ').next().unwrap_or_default();
        let suffix = if kind == "counter" { "_total" } else { "" };
        out.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
        lines.next();
    }
    out
}

#[derive(Debug)]
struct Exposition {
    seen: Seen,
    process: Process,
}

type Which = fn(&Report) -> &LatencyCopy;

struct Labels<'l>(&'l [(&'l str, &'l str)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.counters(encoder)?;
        self.shed(encoder)?;
        for (name, help, value) in GAUGES {
            self.gauge(encoder, name, help, |report| Some(value(&report.gauges)))?;
        }
        let of_shard = |report: &Report| self.process.open_files_of(report.shard).map(|count| count as f64);
        self.gauge(
            encoder,
            "open_fds",
            "Descriptors open in the shard's own table.",
            of_shard,
        )?;
        let busy = |report: &Report| Some(report.busy.as_secs_f64());
        self.seconds(encoder, "loop_busy_seconds", "Time that the shard spent working.", busy)?;
        let kinds: [(&str, &str, Which); 3] = [
            (
                "call_round_trip_seconds",
                "From a Call's arrival to its answer.",
                |report| &report.calls,
            ),
            (
                "backend_round_trip_seconds",
                "From a request to the backend to its answer.",
                |report| &report.backend,
            ),
            (
                "push_round_trip_seconds",
                "From a push's frame to the client's answer.",
                |report| &report.pushes,
            ),
        ];
        for (name, help, latency) in kinds {
            self.latency(encoder, name, help, latency)?;
        }
        self.passes(encoder)?;
        self.backends(encoder)?;
        self.shards(encoder)?;
        cluster::encode(encoder)?;
        self.process(encoder)
    }
}

impl Exposition {
    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut first = 0;
        for family in FAMILIES {
            let name = format!("ws2api_{}", family.name);
            let mut metric = encoder.encode_descriptor(&name, family.help, None, MetricType::Counter)?;
            for report in &self.seen.reports {
                let shard = report.shard.to_string();
                for (member, value) in family.members.iter().zip(&report.counters[first..]) {
                    let mut labels = vec![("shard", &*shard)];
                    labels.extend(family.labels.iter().copied().zip(member.iter().copied()));
                    let labels = Labels(&labels);
                    metric
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, u64, f64>(value, None)?;
                }
            }
            first += family.members.len();
        }
        Ok(())
    }

    fn shed(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Work refused because a bound was reached.";
        let mut metric = encoder.encode_descriptor("ws2api_shed", help, None, MetricType::Counter)?;
        for report in &self.seen.reports {
            let shard = report.shard.to_string();
            for ((bound, _), value) in SHED.iter().zip(&report.shed) {
                let labels = Labels(&[("shard", &*shard), ("bound", bound)]);
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, u64, f64>(value, None)?;
            }
        }
        Ok(())
    }

    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&Report) -> Option<f64>,
    ) -> fmt::Result {
        let name = format!("ws2api_{name}");
        let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        for report in &self.seen.reports {
            if let Some(value) = value(report) {
                let labels = Labels(&[("shard", &report.shard.to_string())]);
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn seconds(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&Report) -> Option<f64>,
    ) -> fmt::Result {
        let name = format!("ws2api_{name}");
        let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for report in &self.seen.reports {
            if let Some(value) = value(report) {
                let labels = Labels(&[("shard", &report.shard.to_string())]);
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, f64, f64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn latency(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        latency: impl Fn(&Report) -> &LatencyCopy,
    ) -> fmt::Result {
        let name = format!("ws2api_{name}");
        let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Histogram)?;
        for report in &self.seen.reports {
            let copy = latency(report);
            let buckets = buckets(&BOUNDS_US, &copy.buckets);
            let labels = Labels(&[("shard", &report.shard.to_string())]);
            let (sum, count) = (copy.sum.as_secs_f64(), copy.count());
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn passes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Rounds of the shard's loop: what waits in one is delayed by that much.";
        let mut metric = encoder.encode_descriptor("ws2api_loop_pass_seconds", help, None, MetricType::Histogram)?;
        for report in &self.seen.reports {
            let buckets = buckets(&PASS_BOUNDS_US, &report.passes);
            let labels = Labels(&[("shard", &report.shard.to_string())]);
            let (sum, count) = (report.busy.as_secs_f64(), report.passes.iter().sum());
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn backends(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "What became of the requests to each backend.";
        let mut metric = encoder.encode_descriptor("ws2api_backend_results", help, None, MetricType::Counter)?;
        self.for_each_backend(|shard, name, backend| {
            for (result, count) in RESULTS.iter().zip(&backend.results) {
                let labels = Labels(&[("shard", shard), ("backend", name), ("result", result.label())]);
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, u64, f64>(count, None)?;
            }
            Ok(())
        })?;
        let help = "0 while the last that was heard of this backend is bad.";
        let mut metric = encoder.encode_descriptor("ws2api_backend_server_up", help, None, MetricType::Gauge)?;
        self.for_each_backend(|shard, name, backend| {
            let labels = Labels(&[("shard", shard), ("backend", name)]);
            let is_up = backend.outage().is_none();
            metric.encode_family(&labels)?.encode_gauge(&i64::from(is_up))
        })?;
        for (name, help, value) in PLACES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            self.for_each_backend(|shard, backend, report| {
                for address in &report.addresses {
                    let labels = Labels(&[
                        ("shard", shard),
                        ("backend", backend),
                        ("address", &escaped(&address.address)),
                    ]);
                    if let Some(value) = value(&address.places) {
                        metric.encode_family(&labels)?.encode_gauge(&value)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn for_each_backend(&self, mut tell: impl FnMut(&str, &str, &BackendReport) -> fmt::Result) -> fmt::Result {
        for report in &self.seen.reports {
            let shard = report.shard.to_string();
            for backend in &report.backends {
                tell(&shard, &escaped(&backend.name), backend)?;
            }
        }
        Ok(())
    }

    fn shards(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric =
            encoder.encode_descriptor("ws2api_shard_cpu", "The CPU of each shard.", None, MetricType::Gauge)?;
        for report in &self.seen.reports {
            let labels = Labels(&[("shard", &report.shard.to_string())]);
            metric.encode_family(&labels)?.encode_gauge(&(report.cpu as i64))?;
        }
        let help = "0 while the shard does not answer: then its other metrics are missing.";
        let mut metric = encoder.encode_descriptor("ws2api_shard_up", help, None, MetricType::Gauge)?;
        let up = self.seen.reports.iter().map(|report| (report.shard, 1));
        let down = self.seen.silent.iter().map(|silent| (silent.shard, 0));
        for (shard, is_up) in up.chain(down) {
            let labels = Labels(&[("shard", &shard.to_string())]);
            metric.encode_family(&labels)?.encode_gauge(&i64::from(is_up))?;
        }
        let help = "Clients that a rebalance is still to send away.";
        encoder
            .encode_descriptor("ws2api_rebalance_left", help, None, MetricType::Gauge)?
            .encode_gauge(&(self.seen.rebalance_left as i64))?;
        let takeover = self.seen.takeover;
        let help = "What of an upgrade is under way: starting, a new process that does not serve yet; predecessor, the process before, which \
            still has clients; taken_over, this one does, and another one serves.";
        let mut metric = encoder.encode_descriptor("ws2api_upgrade_phase", help, None, MetricType::Gauge)?;
        for (phase, lasts) in [
            ("starting", takeover.is_upgrading),
            ("predecessor", takeover.has_predecessor),
            ("taken_over", takeover.is_taken_over),
        ] {
            let labels = Labels(&[("phase", phase)]);
            metric.encode_family(&labels)?.encode_gauge(&i64::from(lasts))?;
        }
        let help = "Upgrades that were undone: the process went on.";
        encoder
            .encode_descriptor("ws2api_upgrades_failed", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&takeover.failed, None)?;
        let help = "Lines of the log that were lost because they came too fast.";
        encoder
            .encode_descriptor("ws2api_log_lines_lost", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&crate::observe::log::lines_lost(), None)?;
        let help = "1 if the configuration that was read last is what runs; 0 after a SIGHUP that found it wrong.";
        encoder
            .encode_descriptor("ws2api_config_last_reload_successful", help, None, MetricType::Gauge)?
            .encode_gauge(&i64::from(reloads::is_successful()))?;
        let help = "When the configuration that runs was read, in seconds since 1970.";
        encoder
            .encode_descriptor(
                "ws2api_config_last_reload_success_timestamp_seconds",
                help,
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&(reloads::last_success() as i64))?;
        let help = "When a certificate of listen_tls, or one that it hangs on, expires, in seconds since 1970.";
        let name = "ws2api_tls_certificate_not_after_timestamp_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for seen in certificates::current().iter() {
            let labels = Labels(&[("file", &escaped(&seen.file)), ("kind", &seen.kind)]);
            metric.encode_family(&labels)?.encode_gauge(&seen.not_after)?;
        }
        let mut metric =
            encoder.encode_descriptor("ws2api_build_info", "The version, as a label.", None, MetricType::Gauge)?;
        let labels = Labels(&[("version", env!("CARGO_PKG_VERSION"))]);
        metric.encode_family(&labels)?.encode_gauge(&1_i64)
    }

    /// Under the names that every program has.
    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let process = &self.process;
        let count = |count: Option<u64>| count.map(|count| count as f64);
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Memory in RAM.",
                count(process.resident_bytes),
            ),
            (
                "process_virtual_memory_bytes",
                "Memory reserved.",
                count(process.virtual_bytes),
            ),
            (
                "process_start_time_seconds",
                "Start, since 1970.",
                process.start_seconds,
            ),
            ("process_threads", "Threads.", count(process.threads)),
            (
                "process_open_fds",
                "Descriptors open in the table of the ordinary threads.",
                count(process.open_files),
            ),
            (
                "process_max_fds",
                "Descriptors that each table may hold: the shards' tables and that of the ordinary threads.",
                count(process.open_files_max),
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                encoder
                    .encode_descriptor(name, help, None, MetricType::Gauge)?
                    .encode_gauge(&value)?;
            }
        }
        if let Some(seconds) = process.cpu_seconds {
            let help = "CPU time, user and system.";
            let mut metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        Ok(())
    }
}

/// A label's value as both formats want it; the encoder leaves that to us.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Upper bounds in seconds, each with its count; the last has no bound.
fn buckets(bounds_us: &[u64], counts: &[u64]) -> Vec<(f64, u64)> {
    let bounds = bounds_us.iter().map(|bound| *bound as f64 / 1e6).chain([f64::MAX]);
    bounds.zip(counts.iter().copied()).collect()
}

const TEXT_LEN: usize = 64 * 1024;

/// What of a backend's places is shown, of an address by each shard; the last five by the one that lends them.
type PlacesGauge = (&'static str, &'static str, fn(&Places) -> Option<f64>);

const PLACES: [PlacesGauge; 7] = [
    (
        "ws2api_backend_places",
        "Requests that the shard may have at this address at once.",
        |places| Some(places.count as f64),
    ),
    (
        "ws2api_backend_places_in_use",
        "Requests that the shard has at this address.",
        |places| Some(places.in_use as f64),
    ),
    (
        "ws2api_backend_limit",
        "Requests that all shards together may have at this address at once.",
        |places| Some(places.lent?.usage.limit as f64),
    ),
    (
        "ws2api_backend_limit_lent",
        "How many of them are lent to shards.",
        |places| Some(places.lent?.usage.lent as f64),
    ),
    (
        "ws2api_backend_limit_in_use",
        "Requests at this address, as far as shards have reported them: they do while any waits.",
        |places| Some(places.lent?.usage.in_use as f64),
    ),
    (
        "ws2api_backend_limit_waiting",
        "Requests that wait for a place, as far as shards have reported them.",
        |places| Some(places.lent?.usage.waiting as f64),
    ),
    (
        "ws2api_backend_latency_floor_seconds",
        "How long the faster half of the answers takes when nothing waits inside the backend, once that was found out.",
        |places| Some(places.lent?.floor?.as_secs_f64()),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_holds_whatever_a_path_does() {
        assert_eq!(escaped("unix:/a\"b\\c\nd"), r#"unix:/a\"b\\c\nd"#);
    }

    #[test]
    fn the_older_format_names_counters_in_full() {
        let text = "# HELP a Counts.\n# TYPE a counter\na_total{x=\"1\"} 5\n# HELP b Is.\n# TYPE b gauge\nb 1\n# EOF\n";
        let expected =
            "# HELP a_total Counts.\n# TYPE a_total counter\na_total{x=\"1\"} 5\n# HELP b Is.\n# TYPE b gauge\nb 1\n";
        assert_eq!(classic(text), expected);
    }
}
