//! Says what another node may ask: what the backend may at the ingress, and no more; and what it may answer.

use crate::mapping::routes::{CLOSE_REASON_LEN_MAX, is_close_code};
use crate::ocpp::json;
use crate::question::{About, Question, Told};

/// How much a question may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a payload, or of a body.
    pub payload_len_max: usize,
    /// Arrays and objects inside each other.
    pub json_depth_max: usize,
}

/// Whether the question is one. Its names were checked when it was read; whoever answers a deferred Call looks at the body.
#[must_use]
pub fn check(question: &Question, bounds: Bounds) -> bool {
    match &question.about {
        About::Push(push) => {
            let payload = push.payload.as_str();
            payload.len() <= bounds.payload_len_max
                && json::trim(payload).len() == payload.len()
                && json::check_text(payload, bounds.json_depth_max).is_ok()
        }
        About::Answer { body, .. } => body.len() <= bounds.payload_len_max,
        About::Close { code, reason } => is_close_code(*code) && reason.len() <= CLOSE_REASON_LEN_MAX,
        About::EndWait { .. } | About::ForgetWait { .. } | About::Describe => true,
        // That is between the two processes of one node.
        About::Replace { .. } => false,
    }
}

/// Whether another node may answer that. What an answer holds for the backend is JSON, as the ingress writes it.
#[must_use]
pub fn check_told(told: &Told, bounds: Bounds) -> bool {
    match told {
        Told::Described(text) => {
            text.len() <= bounds.payload_len_max && json::check_text(text, bounds.json_depth_max).is_ok()
        }
        Told::Listed(page) => {
            let is_json = |text: &str| json::check_text(text, bounds.json_depth_max).is_ok();
            let len: usize = page.clients.iter().map(|(_, text)| text.len()).sum();
            len <= bounds.payload_len_max
                && page.clients.iter().all(|(_, text)| is_json(text))
                && page.moving.is_empty()
        }
        Told::Replaced(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::ConnectionId;
    use crate::ocpp::{Action, ClientId, MessageId, Push};
    use crate::question::Page;
    use bytes::Bytes;

    const BOUNDS: Bounds = Bounds {
        payload_len_max: 10,
        json_depth_max: 2,
    };

    fn about(about: About) -> bool {
        let question = Question {
            client: ClientId::parse("CP 1").unwrap(),
            about,
        };
        check(&question, BOUNDS)
    }

    #[test]
    fn another_node_answers_json_within_bounds() {
        for (text, is_fine) in [("{}", true), ("{", false), ("[[[]]]", false), ("\"123456789\"", false)] {
            assert_eq!(check_told(&Told::Described(text.into()), BOUNDS), is_fine, "{text}");
        }
        assert!(check_told(&Told::NotConnected, BOUNDS) && check_told(&Told::Closed, BOUNDS));
        assert!(!check_told(&Told::Replaced(Box::default()), BOUNDS));
        let client = ClientId::parse("CP 1").unwrap();
        for (texts, moving, is_fine) in [
            (&["{}", "[1]"][..], None, true),
            (&["{"], None, false),
            (&["[[[]]]"], None, false),
            (&["\"12345\"", "\"12\""], None, false),
            (&["{}"], Some(client.clone()), false),
        ] {
            let page = Page {
                clients: texts.iter().map(|text| (client.clone(), (*text).to_owned())).collect(),
                moving: moving.into_iter().collect(),
                is_last: true,
            };
            assert_eq!(check_told(&Told::Listed(page.into()), BOUNDS), is_fine, "{texts:?}");
        }
    }

    #[test]
    fn another_node_may_ask_what_the_backend_may_and_no_more() {
        let push = |payload: &str| {
            about(About::Push(Push {
                action: Action::parse("Reset").unwrap(),
                message_id: MessageId::parse("m").unwrap(),
                payload: payload.to_owned().into(),
                waiter: None,
                trace: None,
            }))
        };
        for (payload, is_fine) in [
            ("{}", true),
            ("12345", true),
            ("[[1]]", true),
            ("[[[1]]]", false),
            ("{", false),
            ("{}{}", false),
            (" {}", false),
            ("{}\n", false),
            ("\"12345678\"", true),
            ("\"123456789\"", false),
        ] {
            assert_eq!(push(payload), is_fine, "{payload:?}");
        }
        let close = |code, len| {
            about(About::Close {
                code,
                reason: "x".repeat(len),
            })
        };
        assert!(close(1000, 123) && close(4999, 0));
        assert!(!close(1000, 124) && !close(1005, 0) && !close(0, 0));
        let answer = |len| {
            about(About::Answer {
                action: Action::parse("A").unwrap(),
                message_id: MessageId::parse("m").unwrap(),
                is_error: false,
                body: Bytes::from(vec![b'1'; len]),
            })
        };
        assert!(answer(10) && !answer(11));
        assert!(about(About::Describe));
        assert!(!about(About::Replace {
            by: ConnectionId::new(1, 2, 3)
        }));
    }
}
