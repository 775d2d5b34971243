//! Reads what a tap has written, into what each client said and what it was answered.

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Duration;

use serde_json::Value;

use crate::commands::tap::raw_message;
use protocol::tap::Kind;

/// All clients of a file.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) clients: Vec<Client>,
    /// Lines that the tap itself has missed.
    pub(super) lost: u64,
    /// Messages of clients that are not in their lines.
    pub(super) omitted: u64,
}

/// One client and its connections, in their order.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) connections: Vec<Recorded>,
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    id: String,
    pub(super) subprotocol: Option<String>,
    /// From the first line of the file to the first of the connection.
    pub(super) begins: Duration,
    pub(super) ends: Duration,
    /// The code with which it ended, if the client or the server said one.
    pub(super) code: u16,
    pub(super) said: Vec<Said>,
    pub(super) pushed: Vec<Pushed>,
    /// Answers that had come so far.
    answers: usize,
}

/// A message of the client that is no answer.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) at: Duration,
    pub(super) text: String,
    /// Of a Call: its MessageId and Action.
    pub(super) call: Option<(String, String)>,
    /// What it was answered.
    pub(super) answer: Option<String>,
    /// So many answers had come before it was said.
    pub(super) after_answers: usize,
}

/// A message for the client that is no answer.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) id: String,
    pub(super) action: String,
    pub(super) text: String,
    /// What the client answered.
    pub(super) answer: Option<String>,
}

impl Recording {
    /// Reads all lines.
    ///
    /// # Errors
    /// In words: the file can't be read, or a line is none of a tap's.
    pub(super) fn read(file: impl BufRead) -> Result<Self, String> {
        let mut recording = Self::default();
        let mut places = HashMap::new();
        let mut first = None;
        for (index, line) in file.lines().enumerate() {
            let line = line.map_err(|error| error.to_string())?;
            if line.trim().is_empty() {
                continue;
            }
            let wrong = || format!("line {} is no line of ws2api tap", index + 1);
            let object: Value = serde_json::from_str(&line).map_err(|_| wrong())?;
            if let Some(lost) = object["lost"].as_u64() {
                recording.lost += lost;
                continue;
            }
            let text = |name: &str| object[name].as_str().unwrap_or_default();
            let kind = Kind::parse(text("type")).ok_or_else(wrong)?;
            let at = humantime::parse_rfc3339(text("at")).map_err(|_| wrong())?;
            let at = at.duration_since(*first.get_or_insert(at)).unwrap_or_default();
            if text("clientId").is_empty() || kind == Kind::Refused {
                continue;
            }
            let clients = &mut recording.clients;
            let place = *places.entry(text("clientId").to_owned()).or_insert_with(|| {
                clients.push(Client {
                    id: text("clientId").to_owned(),
                    connections: Vec::new(),
                });
                clients.len() - 1
            });
            let connection = clients[place].connection(text("connectionId"), at);
            let message = raw_message(&line).or(object["text"].as_str());
            if kind.is_text() && message.is_none() {
                recording.omitted += u64::from(text("direction") == "in");
                continue;
            }
            connection.take(kind, at, &object, message.unwrap_or_default());
        }
        let has_said = |client: &Client| client.connections.iter().any(|connection| !connection.said.is_empty());
        recording.clients.retain(has_said);
        Ok(recording)
    }
}

impl Client {
    fn connection(&mut self, id: &str, at: Duration) -> &mut Recorded {
        // It is nearly always the last one.
        let index = self.connections.iter().rposition(|connection| connection.id == id);
        let index = index.unwrap_or_else(|| {
            self.connections.push(Recorded {
                id: id.to_owned(),
                begins: at,
                ..Recorded::default()
            });
            self.connections.len() - 1
        });
        &mut self.connections[index]
    }
}

impl Recorded {
    fn take(&mut self, kind: Kind, at: Duration, object: &Value, message: &str) {
        let text = |name: &str| object[name].as_str().unwrap_or_default();
        self.ends = at;
        let id = text("messageId");
        let is_answer = matches!(kind, Kind::CallResult | Kind::CallError);
        match (kind, text("direction")) {
            (Kind::Connect, _) => {
                self.subprotocol = Some(text("subprotocol").to_owned()).filter(|name| !name.is_empty());
            }
            (Kind::Disconnect, _) => self.code = object["code"].as_u64().unwrap_or_default() as u16,
            (_, "in") if is_answer => {
                let open = self
                    .pushed
                    .iter_mut()
                    .rev()
                    .find(|push| push.id == id && push.answer.is_none());
                if let Some(push) = open {
                    push.answer = Some(message.to_owned());
                }
            }
            (_, "out") if is_answer => {
                let open =
                    |said: &&mut Said| said.answer.is_none() && said.call.as_ref().is_some_and(|(own, _)| own == id);
                if let Some(said) = self.said.iter_mut().rev().find(open) {
                    said.answer = Some(message.to_owned());
                    self.answers += 1;
                }
            }
            (kind, "in") if kind.is_text() => self.said.push(Said {
                at,
                text: message.to_owned(),
                call: (kind == Kind::Call).then(|| (id.to_owned(), text("action").to_owned())),
                answer: None,
                after_answers: self.answers,
            }),
            (Kind::Call | Kind::Send, "out") => self.pushed.push(Pushed {
                id: id.to_owned(),
                action: text("action").to_owned(),
                text: message.to_owned(),
                answer: None,
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_put_together_with_what_was_answered() {
        let line = |at: u32, rest: &str| format!("{{\"at\":\"2026-01-01T00:00:{at:02}.5Z\",\"shard\":0,{rest}}}\n");
        let of = |id: &str, rest: &str| format!("\"clientId\":\"CP1\",\"connectionId\":\"{id}\",{rest}");
        let file = [
            line(1, r#""clientId":"CP2","type":"refused","status":403"#),
            line(1, &of("a", r#""type":"connect","subprotocol":"ocpp1.6""#)),
            line(
                2,
                &of(
                    "a",
                    r#""direction":"in","type":"call","messageId":"1","action":"A","message":[2,"1","A", {}]"#,
                ),
            ),
            "{\"lost\":3}\n".to_owned(),
            line(
                2,
                &of(
                    "a",
                    r#""direction":"out","type":"call","messageId":"p","action":"R","message":[2,"p","R",{}]"#,
                ),
            ),
            line(
                3,
                &of(
                    "a",
                    r#""direction":"in","type":"callresult","messageId":"p","message":[3,"p",{}]"#,
                ),
            ),
            line(
                3,
                &of(
                    "a",
                    r#""direction":"out","type":"callresult","messageId":"1","message":[3,"1",{}]"#,
                ),
            ),
            line(4, &of("a", r#""direction":"in","type":"other","text":"x\ny""#)),
            line(
                4,
                &of(
                    "a",
                    r#""direction":"in","type":"call","messageId":"2","omitted":"too long""#,
                ),
            ),
            line(5, &of("a", r#""type":"disconnect","code":1000"#)),
            line(
                7,
                &of(
                    "b",
                    r#""direction":"in","type":"call","messageId":"1","action":"A","message":[2,"1","A",{}]"#,
                ),
            ),
        ]
        .concat();
        let recording = Recording::read(file.as_bytes()).unwrap();
        assert_eq!((recording.lost, recording.omitted, recording.clients.len()), (3, 1, 1));
        let [first, second] = &recording.clients[0].connections[..] else {
            panic!()
        };
        assert_eq!(
            (first.subprotocol.as_deref(), first.code, second.subprotocol.as_deref()),
            (Some("ocpp1.6"), 1000, None)
        );
        assert_eq!(
            (first.begins.as_secs(), first.ends.as_secs(), second.begins.as_secs()),
            (0, 4, 6)
        );
        let said: Vec<_> = first
            .said
            .iter()
            .map(|said| (&*said.text, said.answer.as_deref(), said.after_answers))
            .collect();
        assert_eq!(
            said,
            [(r#"[2,"1","A", {}]"#, Some(r#"[3,"1",{}]"#), 0), ("x\ny", None, 1)]
        );
        assert_eq!(first.pushed[0].answer.as_deref(), Some(r#"[3,"p",{}]"#));
        assert_eq!(second.said.len(), 1);
        for bad in [
            "x",
            "{}",
            "[]",
            r#"{"at":"now","type":"call"}"#,
            r#"{"at":"2026-01-01T00:00:00Z","type":"x"}"#,
        ] {
            assert_eq!(
                Recording::read(bad.as_bytes()).unwrap_err(),
                "line 1 is no line of ws2api tap",
                "{bad}"
            );
        }
    }
}
