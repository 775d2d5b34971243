//! Writes the log: lines on standard error, for people or as JSON, by a thread of its own.
//!
//! Whoever logs formats its line and leaves it in a bounded queue; when that is full the line is lost and counted. So a
//! terminal that has stopped, or a full disk behind it, stops nobody else. Nothing here is called once per message, but
//! for the one client that is traced.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, SystemTime};

use protocol::ocpp::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// An object per line.
    Json,
}

/// The log, for as long as the program runs.
#[derive(Debug)]
pub struct Log {
    queue: SyncSender<Entry>,
}

enum Entry {
    Line(Vec<u8>),
    /// Everything before it is written.
    Mark(SyncSender<()>),
}

impl Format {
    /// The form that `--log` names: `text` or `json`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl Log {
    /// Starts the log of this process. What is logged follows RUST_LOG; without it, everything but debugging.
    ///
    /// # Errors
    /// When there can be no thread, or a log was started before.
    pub fn start(format: Format) -> io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(LINES_QUEUED_MAX);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write(&entries, format, &mut io::stderr()))?;
        let writer = Queue(queue.clone());
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        // Whoever traces a client has asked for it, however little is wanted otherwise.
        let filter = filter.add_directive(TRACE.parse().map_err(io::Error::other)?);
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_target(false)
            .with_writer(writer);
        let started = match format {
            Format::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
            Format::Json => builder.json().flatten_event(true).try_init(),
        };
        started.map_err(io::Error::other)?;
        Ok(Self { queue })
    }

    /// OutcomeWaits until what was logged is written, but not for ever.
    pub fn flush(&self) {
        let (mark, written) = mpsc::sync_channel(1);
        if self.queue.try_send(Entry::Mark(mark)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// What was logged last is mostly why it ends.
impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Says why the program ends, in the form of the log, but whether or not there is a log.
pub fn last_words(format: Format, why: &str) {
    match format {
        Format::Text => eprintln!("ws2api: {why}"),
        Format::Json => eprintln!("{}", object("ERROR", why)),
    }
}

/// A line as the log's own are.
fn object(level: &str, message: &str) -> String {
    let now = humantime::format_rfc3339_micros(SystemTime::now());
    format!(
        r#"{{"timestamp":"{now}","level":"{level}","message":{}}}"#,
        json::string(message)
    )
}

/// Where the log's lines are, in words.
#[must_use]
pub fn whereabouts() -> String {
    let process = std::process::id();
    // What systemd sets for a process whose standard error is the journal (systemd.exec(5)).
    let journal = std::env::var_os("JOURNAL_STREAM").map_or_else(String::new, |_| {
        format!("; under systemd: journalctl -f _PID={process}")
    });
    format!("standard error of process {process}{journal}")
}

/// Lines that found the queue full, since the start.
#[must_use]
pub fn lines_lost() -> u64 {
    LINES_LOST.load(Ordering::Relaxed)
}

#[derive(Clone)]
struct Queue(SyncSender<Entry>);

/// One event's line: the formatter writes it in one piece, or in several.
struct Line<'q> {
    queue: &'q SyncSender<Entry>,
    bytes: Vec<u8>,
}

impl<'q> MakeWriter<'q> for Queue {
    type Writer = Line<'q>;

    fn make_writer(&'q self) -> Line<'q> {
        Line {
            queue: &self.0,
            bytes: Vec::new(),
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = Entry::Line(std::mem::take(&mut self.bytes));
        if self.queue.try_send(line).is_err() {
            LINES_LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(entries: &Receiver<Entry>, format: Format, out: &mut impl Write) {
    let mut said_lost = 0;
    while let Ok(entry) = entries.recv() {
        // A log that can't be written must not end the server.
        match entry {
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Mark(mark) => drop(mark.send(())),
        }
        let lost = lines_lost();
        if lost > said_lost {
            let words = format!("{} log lines were lost: they came too fast", lost - said_lost);
            let _ = match format {
                Format::Text => writeln!(out, "ws2api: {words}"),
                Format::Json => writeln!(out, "{}", object("WARN", &words)),
            };
            said_lost = lost;
        }
    }
}

/// The lines of src/client/trace.rs.
const TRACE: &str = "ws2api::client::trace=info";
static LINES_LOST: AtomicU64 = AtomicU64::new(0);
const LINES_QUEUED_MAX: usize = 4096;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_the_line_and_counts_it() {
        let (queue, entries) = mpsc::sync_channel(1);
        let queue = Queue(queue);
        let before = lines_lost();
        for text in ["one\n", "two\n"] {
            queue.make_writer().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(lines_lost() - before, 1);
        drop(queue);
        let mut out = Vec::new();
        write(&entries, Format::Text, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("one\nws2api: ") && text.ends_with("log lines were lost: they came too fast\n"));

        // As JSON, this is an object as well.
        let (queue, entries) = mpsc::sync_channel(1);
        queue.send(Entry::Line(b"{}\n".to_vec())).unwrap();
        drop(queue);
        let mut out = Vec::new();
        write(&entries, Format::Json, &mut out);
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect(line);
            assert!(line.is_object());
        }
        assert!(
            text.contains(r#""level":"WARN","message":"1 log lines were lost: they came too fast"}"#),
            "{text}"
        );
    }
}
