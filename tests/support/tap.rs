//! Reads a tap, line by line.

use std::net::{Shutdown, SocketAddr};

use super::http::{Connection, Stream, request_bytes};
use super::{Value, parse};
use std::io::Write as _;

/// An open `GET /tap`.
#[derive(Debug)]
pub struct Tap {
    connection: Connection,
    /// Lines, the last one perhaps in part.
    text: Vec<u8>,
    is_over: bool,
}

impl Tap {
    /// Once this is back, the tap sees everything. `query` begins with a question mark, or is empty.
    #[track_caller]
    pub fn open(admin: SocketAddr, query: &str) -> Self {
        let mut stream = Stream::connect(admin).unwrap();
        let target = format!("/tap{query}");
        stream.write_all(&request_bytes("GET", &target, &[], b"")).unwrap();
        let mut connection = Connection::new(stream);
        let head = connection.head().unwrap().expect("an answer");
        assert!(head.start.starts_with("HTTP/1.1 200"), "{head:?}");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        assert_eq!(head.header("content-type"), Some("application/x-ndjson"));
        Tap {
            connection,
            text: Vec::new(),
            is_over: false,
        }
    }

    /// The next line, as it came; `None` at the end of the tap.
    #[track_caller]
    pub fn raw_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let rest = self.text.split_off(end + 1);
                let line = std::mem::replace(&mut self.text, rest);
                return Some(String::from_utf8(line[..end].to_vec()).expect("UTF-8"));
            }
            if self.is_over {
                assert!(self.text.is_empty(), "a line in part");
                return None;
            }
            match self.connection.chunk().expect("a chunk") {
                Some(chunk) => self.text.extend(chunk),
                None => self.is_over = true,
            }
        }
    }

    /// The next line, which has to be JSON.
    #[track_caller]
    pub fn line(&mut self) -> Value {
        parse(&self.raw_line().expect("a line more"))
    }

    /// All lines up to the first for which that is true, which is the last of them.
    #[track_caller]
    pub fn lines_until(&mut self, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut lines = Vec::new();
        loop {
            lines.push(self.line());
            if lines.last().is_some_and(&is_last) {
                return lines;
            }
        }
    }

    /// All lines to the end of the tap.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.raw_line())
            .map(|line| parse(&line))
            .collect()
    }

    /// Goes away.
    pub fn close(self) {
        self.connection.stream.shutdown(Shutdown::Both);
    }
}
