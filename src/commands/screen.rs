//! Writes what a command has found: for people on a terminal, aligned and in colours, or as one JSON object per line.
//!
//! What came over the network can't do anything to the terminal: control characters are shown and not sent.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

/// Standard output.
pub(super) struct Screen {
    out: BufWriter<Stdout>,
    is_terminal: bool,
    has_colours: bool,
    json: bool,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Paint {
    Plain,
    Strong,
    Soft,
    Good,
    Warn,
    Bad,
    Name,
}

/// Text with its colour.
pub(super) type Cell = (Paint, String);

impl Screen {
    /// Colours are for terminals, and for nobody who has set `NO_COLOR` (no-color.org).
    pub(super) fn new(json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: BufWriter::new(io::stdout()),
            is_terminal,
            has_colours: is_terminal && !is_set("NO_COLOR") && !is_dumb,
            json,
        }
    }

    /// Whether `--json` was asked for.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// One line, as it is.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// One line of cells with a space between them.
    pub(super) fn cells(&mut self, cells: &[Cell]) -> io::Result<()> {
        let cells: Vec<String> = cells.iter().map(|(paint, text)| self.paint(*paint, text)).collect();
        self.line(&cells.join(" "))
    }

    /// Rows of names and values.
    pub(super) fn pairs(&mut self, rows: &[(&str, Cell)]) -> io::Result<()> {
        let rows: Vec<Vec<Cell>> = rows
            .iter()
            .map(|(name, value)| vec![(Paint::Soft, (*name).to_owned()), value.clone()])
            .collect();
        self.table(&[Column::text(""), Column::text("")], &rows)
    }

    /// Rows under their heads, if there is one that is not empty.
    pub(super) fn table(&mut self, columns: &[Column], rows: &[Vec<Cell>]) -> io::Result<()> {
        let mut widths: Vec<usize> = columns
            .iter()
            .map(|column| column.width_min.max(width(column.head)))
            .collect();
        for row in rows {
            for (known, (_, text)) in widths.iter_mut().zip(row) {
                *known = (*known).max(width(&shown(text)));
            }
        }
        if columns.iter().any(|column| !column.head.is_empty()) {
            let heads: Vec<Cell> = columns
                .iter()
                .map(|column| (Paint::Soft, column.head.to_owned()))
                .collect();
            self.row(columns, &widths, &heads)?;
        }
        rows.iter().try_for_each(|row| self.row(columns, &widths, row))
    }

    fn row(&mut self, columns: &[Column], widths: &[usize], row: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        let last = row.len().saturating_sub(1);
        for (index, ((paint, text), (column, wide))) in row.iter().zip(columns.iter().zip(widths)).enumerate() {
            let text = shown(text);
            let gap = " ".repeat(wide.saturating_sub(width(&text)));
            let painted = self.paint(*paint, &text);
            let between = if index == last { "" } else { "  " };
            let _ = match (column.right, index == last) {
                (true, _) => write!(line, "{gap}{painted}{between}"),
                (false, true) => write!(line, "{painted}"),
                (false, false) => write!(line, "{painted}{gap}{between}"),
            };
        }
        self.line(line.trim_end())
    }

    /// The text in its colour, if there are any.
    pub(super) fn paint(&self, paint: Paint, text: &str) -> String {
        let text = shown(text);
        let code = match paint {
            Paint::Plain => return text.into_owned(),
            _ if !self.has_colours => return text.into_owned(),
            Paint::Strong => "1",
            Paint::Soft => "2",
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "31",
            Paint::Name => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    head: &'static str,
    /// Numbers end where numbers end.
    right: bool,
    width_min: usize,
}

impl Column {
    pub(super) const fn text(head: &'static str) -> Self {
        Self {
            head,
            right: false,
            width_min: 0,
        }
    }

    pub(super) const fn number(head: &'static str) -> Self {
        Self {
            right: true,
            ..Self::text(head)
        }
    }

    /// At least so wide, for tables that come in parts.
    pub(super) const fn at_least(self, width_min: usize) -> Self {
        Self { width_min, ..self }
    }
}

/// Without what would do something to a terminal.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            let _ = write!(safe, "\\u{{{:x}}}", char as u32);
        } else {
            safe.push(char);
        }
    }
    Cow::Owned(safe)
}

/// How many columns it takes; of scripts with wide characters it is a guess.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// A number for people: `12`, `1,234`, `1.2 M`.
pub(super) fn count(number: f64) -> String {
    if number >= 1e6 {
        return format!("{:.2} M", number / 1e6);
    }
    if number < 10.0 && number.fract() != 0.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    match digits.len() {
        0..=3 => digits,
        len => format!("{},{}", &digits[..len - 3], &digits[len - 3..]),
    }
}

/// A span of time for people.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_for_people() {
        for (number, text) in [
            (0.0, "0"),
            (1.25, "1.2"),
            (12.6, "13"),
            (999.0, "999"),
            (1234.0, "1,234"),
            (120_000.0, "120,000"),
            (2_500_000.0, "2.50 M"),
        ] {
            assert_eq!(count(number), text);
        }
        for (seconds, text) in [
            (-1.0, "0 s"),
            (59.9, "59 s"),
            (61.0, "1 min"),
            (3660.0, "1 h 1 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(shown("a\x1b[2Jb\u{9b}c"), "a\\u{1b}[2Jb\\u{9b}c");
        assert!(matches!(shown("plain é"), Cow::Borrowed(_)));
    }
}
