//! Names the subjects on which nodes speak.

use std::fmt::{self, Write as _};

use data_encoding::BASE64URL_NOPAD;

use super::nodes::NodeId;
use crate::ocpp::{CLIENT_ID_LEN_MAX, ClientId};

/// Where something is published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// `<name>.client.<ClientId>`: one of the nodes that have the client is asked about it.
    Client(ClientId),
    /// `<name>.took.<ClientId>`: all nodes that have the client hear that another one has it now.
    Took(ClientId),
    /// `<name>.node.<node>.<number>`: that node is told something about what it has asked or said.
    Node(NodeId, u64),
    /// `<name>.nodes`: all nodes hear which nodes there are.
    Nodes,
}

impl Subject {
    /// The subject, of the cluster of that name. ClientIds are base64url: they may have dots, spaces and wildcards.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        let mut text = String::with_capacity(name.len() + ROOM);
        text.push_str(name);
        let _ = match self {
            Self::Client(client) => write!(text, ".{CLIENT}.{}", Encoded(client)),
            Self::Took(client) => write!(text, ".{TOOK}.{}", Encoded(client)),
            Self::Node(node, number) => write!(text, ".{NODE}.{node}.{number:x}"),
            Self::Nodes => write!(text, ".{NODES}"),
        };
        text
    }

    /// What a node subscribes to for all that is told to it alone.
    #[must_use]
    pub fn all_to(name: &str, node: NodeId) -> String {
        format!("{name}.{NODE}.{node}.*")
    }

    /// Reads a subject of the cluster of that name. `None`: it is none.
    #[must_use]
    pub fn parse(name: &str, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(name)?.strip_prefix('.')?;
        let (kind, rest) = rest.split_once('.').unwrap_or((rest, ""));
        match kind {
            CLIENT => client(rest).map(Self::Client),
            TOOK => client(rest).map(Self::Took),
            NODE => {
                let (node, number) = rest.split_once('.')?;
                Some(Self::Node(NodeId::parse(node)?, hexadecimal(number)?))
            }
            NODES if rest.is_empty() => Some(Self::Nodes),
            _ => None,
        }
    }
}

/// Whether clusters may be called that: 1 to 32 letters, digits, `-` and `_`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_fine)
}

/// A number as this writes it: no sign, no capitals.
pub(super) fn hexadecimal(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let number = u64::from_str_radix(text, 16).ok()?;
    text.bytes().all(is_digit).then_some(number)
}

fn client(text: &str) -> Option<ClientId> {
    if text.len() > ENCODED_LEN_MAX {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    ClientId::parse(str::from_utf8(&bytes).ok()?).ok()
}

struct Encoded<'c>(&'c ClientId);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        BASE64URL_NOPAD.encode_write(self.0.as_str().as_bytes(), formatter)
    }
}

const CLIENT: &str = "client";
const TOOK: &str = "took";
const NODE: &str = "node";
const NODES: &str = "nodes";
const NAME_LEN_MAX: usize = 32;
const ENCODED_LEN_MAX: usize = CLIENT_ID_LEN_MAX.div_ceil(3) * 4;
/// Behind the name, for most.
const ROOM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read_as_they_are_written() {
        let node = NodeId::new(0xdead_beef);
        for client in ["CP 1", "a.b*>", "ü", "x", &"é".repeat(64)] {
            let client = ClientId::parse(client).unwrap();
            for subject in [Subject::Client(client.clone()), Subject::Took(client.clone())] {
                let text = subject.text("ws2api");
                assert!(
                    text.bytes()
                        .all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'>'),
                    "{text}"
                );
                assert_eq!(text.matches('.').count(), 2, "{text}");
                assert_eq!(Subject::parse("ws2api", &text), Some(subject));
            }
        }
        let one = Subject::Client(ClientId::parse("CP 1").unwrap());
        assert_eq!(one.text("ws2api"), "ws2api.client.Q1AgMQ");
        for subject in [Subject::Node(node, 0), Subject::Node(node, u64::MAX), Subject::Nodes] {
            assert_eq!(Subject::parse("east", &subject.text("east")), Some(subject));
        }
        assert_eq!(Subject::all_to("east", node), "east.node.00000000deadbeef.*");
    }

    #[test]
    fn other_subjects_are_none_of_the_clusters() {
        for text in [
            "",
            "ws2api",
            "ws2api.",
            "ws2api.client",
            "ws2api.client.",
            "ws2api.client.Q1AgMQ==",
            "ws2api.client.Q1AgMR",
            "ws2api.client.Lw",
            "ws2api.client._w",
            "ws2api.client.Q1AgMQ.x",
            "ws2api.took",
            "ws2api.other.Q1AgMQ",
            "ws2api2.client.Q1AgMQ",
            "ws2api.node.1.2",
            "ws2api.node.00000000deadbeef",
            "ws2api.node.00000000deadbeef.",
            "ws2api.node.00000000deadbeef.+1",
            "ws2api.node.00000000DEADBEEF.1",
            "ws2api.node.00000000deadbeef.10000000000000000",
            "ws2api.nodes.x",
        ] {
            assert_eq!(Subject::parse("ws2api", text), None, "{text}");
        }
        let longest = format!("ws2api.client.{}", "A".repeat(ENCODED_LEN_MAX + 1));
        assert_eq!(Subject::parse("ws2api", &longest), None);
    }

    #[test]
    fn a_cluster_has_a_name_that_is_one_token() {
        for name in ["ws2api", "A-1_b", &"x".repeat(32)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a.b", "a b", "*", ">", "ü", &"x".repeat(33)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
