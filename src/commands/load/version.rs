//! Puts what a charger says into the words of its OCPP version.

use std::io::Write as _;

use super::say::{Action, Facts, Say};
use super::{ocpp16, ocpp201};
use protocol::ocpp::frame::Reading;
use protocol::ocpp::json;
use protocol::ocpp::subprotocol::Subprotocol;

/// An OCPP version that chargers speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    V16,
    V201,
}

impl Version {
    /// As `--ocpp` has it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "1.6" => Some(Self::V16),
            "2.0.1" => Some(Self::V201),
            _ => None,
        }
    }

    pub(super) fn number(self) -> &'static str {
        match self {
            Self::V16 => "1.6",
            Self::V201 => "2.0.1",
        }
    }

    pub(super) fn subprotocol(self) -> &'static str {
        match self {
            Self::V16 => "ocpp1.6",
            Self::V201 => "ocpp2.0.1",
        }
    }

    /// How what comes is read.
    pub(super) fn reading(self) -> Reading {
        Reading {
            subprotocol: match self {
                Self::V16 => Subprotocol::Ocpp16,
                Self::V201 => Subprotocol::Ocpp201,
            },
            depth_max: json::DEPTH_MAX,
            number_ids: false,
        }
    }

    pub(super) fn action(self, say: Say) -> Action {
        match self {
            Self::V16 => ocpp16::action(say),
            Self::V201 => ocpp201::action(say),
        }
    }

    /// Appends the Call number `call` of a charger.
    pub(super) fn write_call(self, say: Say, call: u32, facts: &Facts<'_>, out: &mut Vec<u8>) {
        // A vector takes what is written.
        let _ = write!(out, r#"[2,"{}.{call}","{}","#, facts.run, self.action(say).name());
        match self {
            Self::V16 => ocpp16::write_payload(say, facts, out),
            Self::V201 => ocpp201::write_payload(say, facts, out),
        }
        out.push(b']');
    }

    /// The answer to a Call of the central system; `None`: the Action is not known.
    pub(super) fn answer(self, action: &str, payload: &str) -> Option<String> {
        match self {
            Self::V16 => ocpp16::answer(action, payload),
            Self::V201 => ocpp201::answer(action, payload),
        }
    }
}

/// The number of the Call that a MessageId of ours names.
pub(super) fn call_number(message_id: &str, run: &str) -> Option<u32> {
    message_id.strip_prefix(run)?.strip_prefix('.')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ocpp::frame::{Frame, split};

    const FACTS: Facts<'_> = Facts {
        now: "2026-12-01T00:00:00Z",
        run: "r1",
        transaction: 7,
        energy: 1200,
    };

    #[test]
    fn every_call_is_a_frame_of_its_version_and_names_its_number() {
        let says = [Say::Boot, Say::Heartbeat, Say::Start, Say::Meter(1), Say::Stop];
        for version in [Version::V16, Version::V201] {
            for say in says {
                let mut text = Vec::new();
                version.write_call(say, 3, &FACTS, &mut text);
                let text = String::from_utf8(text).unwrap();
                let Ok(Frame::Call {
                    message_id,
                    action,
                    payload,
                    ..
                }) = split(&text, &version.reading())
                else {
                    panic!("no Call: {text}");
                };
                assert_eq!(action, version.action(say).name());
                assert_eq!(call_number(&message_id, FACTS.run), Some(3));
                assert!(serde_json::from_str::<serde_json::Value>(payload).unwrap().is_object());
            }
        }
        assert_eq!(call_number("r1.x", "r1"), None);
        assert_eq!(call_number("r2.3", "r1"), None);
    }
}
