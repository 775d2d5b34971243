//! Writes a report as text for a terminal.

use std::fmt::Write;

use crate::amounts::{bytes, duration, grouped};
use crate::options::Mode;
use crate::percentiles::Percentiles;
use crate::report::Report;

impl Report {
    /// The table on the terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, text: String| {
            let _ = writeln!(out, "  {name:<15} {text}");
        };
        let (counts, cpu, memory) = (&self.counts, &self.cpu, &self.memory);
        row("scene", self.scene_line());
        row(
            "clients",
            format!(
                "{} connected{}, {} failed, {} lost; {:.0}/s",
                grouped(counts.connected),
                match counts.resumed {
                    0 => String::new(),
                    resumed => format!(", {} of them resumed", grouped(resumed)),
                },
                counts.failed_connects,
                counts.lost_connections,
                self.rates.connects
            ),
        );
        row("connect", line(&self.latency.connects));
        if counts.sent > 0 {
            row(
                "messages",
                format!(
                    "{} sent, {} answered, {} lost, {} wrong, {} duplicated, {} late; {}/s",
                    grouped(counts.sent),
                    grouped(counts.answered),
                    counts.lost,
                    counts.wrong,
                    counts.duplicated,
                    counts.late,
                    grouped(self.rates.messages.round() as u64)
                ),
            );
            if self.latency.calls_in_ramp.count > 0 && self.scene.mode == Mode::Hold {
                row("in the ramp", line(&self.latency.calls_in_ramp));
            }
            row("latency", line(&self.latency.calls));
        }
        if counts.pushes > 0 {
            row(
                "pushes",
                format!(
                    "{} sent, {} accepted, {} arrived, {} outcomes, {} twice, {} errors; {}/s",
                    grouped(counts.pushes),
                    grouped(counts.pushes_accepted),
                    grouped(counts.pushes_arrived),
                    grouped(counts.outcomes),
                    counts.outcomes_duplicated,
                    counts.outcomes_failed,
                    grouped(self.rates.pushes.round() as u64)
                ),
            );
            row("to the client", line(&self.latency.pushes));
            row("to the 202", line(&self.latency.accepts));
        }
        row(
            "CPU (cores)",
            format!(
                "{} {:.2} ({:.0} % kernel), backend {:.2}, harness {:.2}, machine {:.2} of {}",
                self.relay,
                cpu.relay_cores,
                cpu.relay_kernel_part * 100.0,
                cpu.backend_cores,
                cpu.harness_cores,
                cpu.machine_cores,
                self.machine.cpus
            ),
        );
        if cpu.relay_us_per_message > 0.0 {
            let floor = self.floor.map_or(String::new(), |floor| {
                format!("; floor {:.1}: {:.2} of the floor", floor.us_per_message, floor.ratio)
            });
            row(
                "CPU each",
                format!("{:.1} µs per {}{floor}", cpu.relay_us_per_message, self.unit()),
            );
        }
        row(
            "memory",
            format!(
                "RSS {} ({} empty, {:.0} B per client), kernel sockets {} (half of {}), together {}; harness {:.0} B per client",
                bytes(memory.rss),
                bytes(memory.rss_empty),
                memory.rss_per_client,
                bytes(memory.kernel_share),
                bytes(memory.kernel_growth),
                bytes(memory.total),
                memory.harness_per_client
            ),
        );
        row("send lag", line(&self.latency.send_lag));
        if let Some(hostile) = &self.hostile {
            row(
                "attack",
                format!(
                    "{} handshakes{}, {} ended by the proxy, {} taken",
                    grouped(hostile.connects),
                    match hostile.answered {
                        0 => String::new(),
                        answered => format!(
                            ", {} of them computed ({:.0}/s)",
                            grouped(answered),
                            hostile.answered_per_second
                        ),
                    },
                    grouped(hostile.ended),
                    bytes(hostile.bytes)
                ),
            );
            row("without it", line(&hostile.quiet_calls));
            row(
                "with it",
                format!(
                    "{:.2} times the p50, {:.2} times the p99",
                    hostile.ratio_p50, hostile.ratio_p99
                ),
            );
        }
        if let Some(upgrades) = &self.upgrades {
            for (name, text) in upgrades.rows() {
                row(name, text);
            }
            row("during one", line(&upgrades.calls));
            row("during none", line(&upgrades.calls_without));
        }
        for bottleneck in &self.bottlenecks {
            row("BOTTLENECK", bottleneck.clone());
        }
        for fault in &self.faults {
            row("fault", fault.clone());
        }
        row(
            "verdict",
            if self.passed() {
                "passed".to_owned()
            } else {
                format!("FAILED: {}", self.problems.join("; "))
            },
        );
        out
    }

    /// What the mode counts one by one.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.scene.mode {
            Mode::Ramp => "connect",
            Mode::Push => "push",
            Mode::Hold | Mode::Saturate | Mode::Idle => "message",
        }
    }

    /// The scene in one line.
    #[must_use]
    pub fn scene_line(&self) -> String {
        let scene = &self.scene;
        let clients = grouped(u64::from(scene.clients));
        let what = match scene.mode {
            Mode::Hold => format!(
                "{clients} clients in {} s, a message of {} B each {} s, held for {} s",
                scene.ramp_seconds, scene.payload_bytes, scene.interval_seconds, scene.hold_seconds
            ),
            Mode::Saturate => {
                format!(
                    "{clients} clients, each one message of {} B in flight, {} s",
                    scene.payload_bytes, scene.hold_seconds
                )
            }
            Mode::Ramp if scene.ramp_seconds > 0.0 => format!("{clients} connects in {} s", scene.ramp_seconds),
            Mode::Ramp => format!("{clients} connects as fast as possible"),
            Mode::Push => format!(
                "{} pushes/s to {clients} clients, {} s",
                scene.pushes_per_second, scene.hold_seconds
            ),
            Mode::Idle => format!("{clients} silent clients, {} s", scene.hold_seconds),
        };
        let shards = match scene.relay_cores.len() {
            0 => String::new(),
            1 => ", 1 shard".to_owned(),
            count => format!(", {count} shards"),
        };
        format!("{}: {what}{shards}, {} load threads", self.relay, scene.load_threads)
    }
}

fn line(percentiles: &Percentiles) -> String {
    if percentiles.count == 0 {
        return "—".to_owned();
    }
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        duration(percentiles.p50),
        duration(percentiles.p90),
        duration(percentiles.p99),
        duration(percentiles.p999),
        duration(percentiles.max)
    )
}
