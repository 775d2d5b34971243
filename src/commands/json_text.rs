//! Lays JSON out for people: indented, and in colours where there are any. Every value stays as it was written.

use super::screen::{Paint, Screen};

/// The text over several lines. What is no JSON comes out somehow, without what a terminal would obey.
pub(super) fn pretty(screen: &Screen, text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => string_len(rest),
            '{' | '[' | '}' | ']' | ',' | ':' => 1,
            space if space.is_ascii_whitespace() => {
                rest = rest.trim_start();
                continue;
            }
            _ => rest
                .find(['{', '[', '}', ']', ',', ':', '"', ' ', '\n', '\r', '\t'])
                .unwrap_or(rest.len()),
        };
        // One character at least, so that it goes on whatever the text is.
        let len = len.max(first.len_utf8());
        let (token, after) = rest.split_at(len);
        let after = after.trim_start();
        match first {
            '{' | '[' => {
                out.push(first);
                if after.starts_with(['}', ']']) {
                    out.push_str(&after[..1]);
                    rest = &after[1..];
                    continue;
                }
                depth += 1;
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                depth = usize::saturating_sub(depth, 1);
                new_line(&mut out, depth);
                out.push(first);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' if after.starts_with(':') => out.push_str(&screen.paint(Paint::Name, token)),
            '"' => out.push_str(&screen.paint(Paint::Good, token)),
            _ => out.push_str(&screen.paint(Paint::Warn, token)),
        }
        rest = after;
    }
    out
}

/// Bytes of the string at the start, with its quotation marks.
fn string_len(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth.min(DEPTH_SHOWN)));
}

/// What is deeper is indented no further.
const DEPTH_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_were_written() {
        let screen = Screen::new(false);
        for (text, laid_out) in [
            ("{}", "{}"),
            ("[ ]", "[]"),
            ("1.50e3", "1.50e3"),
            (
                r#"{"a":1.0,"b":[{},"x\"y{"]}"#,
                "{\n  \"a\": 1.0,\n  \"b\": [\n    {},\n    \"x\\\"y{\"\n  ]\n}",
            ),
            ("not JSON", "notJSON"),
            ("\"cut off", "\"cut off"),
            ("}}}", "\n}\n}\n}"),
            ("é\u{1b}", "é\\u{1b}"),
        ] {
            assert_eq!(pretty(&screen, text), laid_out, "{text}");
        }
    }
}
