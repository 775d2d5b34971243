//! Whatever nodes say is read or refused, without a panic; what is read is written again as it was understood. And a node to which
//! anything is said, in any order, keeps its bounds and answers whoever asks once.
#![no_main]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use protocol::cluster::{Asker, Bounds, Limits, Member, Message, NodeId, Now, Output, Own, Subject, check, check_told};
use protocol::mapping::ConnectionId;
use protocol::ocpp::ClientId;
use protocol::question::{About, Page, PageQuestion, Question, Told};

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = Message::read(input) {
        let written = message.to_bytes();
        assert_eq!(Message::read(&written).as_ref(), Ok(&message));
        assert!(written.len() <= input.len() + 64);
    }
    if let Ok(text) = str::from_utf8(input)
        && let Some(subject) = Subject::parse("ws2api", text)
    {
        assert_eq!(Subject::parse("ws2api", &subject.text("ws2api")), Some(subject));
    }
    talk(&mut Choices(input));
    believe_nothing(input);
});

/// What another node may ask and answer has its bounds, and is written again as it was read.
fn believe_nothing(input: &[u8]) {
    let bounds = Bounds {
        payload_len_max: 32,
        json_depth_max: 4,
    };
    if let Ok(question) = Question::read(input)
        && check(&question, bounds)
    {
        if let About::Push(push) = &question.about {
            assert!(push.payload.len() <= 32 && serde_json::from_str::<serde_json::Value>(&push.payload).is_ok());
        }
        let written = question.to_bytes();
        assert_eq!(Question::read(&written).expect("its own").to_bytes(), written);
    }
    if let Ok(question) = PageQuestion::read(input) {
        assert_eq!(PageQuestion::read(&question.to_bytes()), Ok(question));
    }
    if let Ok(told) = Told::read(input) {
        let written = told.to_bytes();
        assert_eq!(Told::read(&written).expect("its own").to_bytes(), written);
        assert!(
            written.len() <= 4 * input.len() + 256,
            "{} of {}",
            written.len(),
            input.len()
        );
        believe_nothing_told(&told, bounds);
    }
}

fn believe_nothing_told(told: &Told, bounds: Bounds) {
    let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
    let is_fine = check_told(told, bounds);
    match told {
        Told::Described(text) => assert!(!is_fine || is_json(text)),
        Told::Listed(page) => {
            assert!(!is_fine || page.clients.iter().all(|(_, text)| is_json(text)));
            // Whoever merges it with others has it in order, each client once.
            let question = PageQuestion::new(page.moving.first().cloned(), 3);
            let merged = Page::merge([Page::clone(page), Page::clone(page)], &question);
            assert!(merged.clients.len() <= 3 && merged.clients.is_sorted_by(|one, other| one.0 < other.0));
            assert!(merged.is_answer_to(&question) || !page.is_answer_to(&question));
        }
        _ => {}
    }
}

fn talk(input: &mut Choices<'_>) {
    let start = Instant::now();
    let mut passed = Duration::ZERO;
    let own = Own {
        id: NodeId::new(1),
        name: "n1".to_owned(),
        version: "0".to_owned(),
        since_ms: 0,
    };
    let limits = Limits {
        shards: 2,
        asked_max: 2,
        len_max: 64,
        served_max: 3,
    };
    let mut member = Member::new(own, limits, start);
    let clients = ["a", "b", "CP 1"].map(|id| ClientId::parse(id).expect("an id"));
    let connections = [0, 1, 2].map(|number| ConnectionId::new(1, 0, number));
    let mut open = BTreeSet::new();
    let mut served = Vec::new();
    let mut out = Vec::new();
    let mut token = 0;
    while !input.0.is_empty() {
        let now = Now {
            instant: start + passed,
            unix_ms: 1000 + passed.as_millis() as u64,
        };
        let client = clients[input.below(3)].clone();
        let connection = connections[input.below(3)];
        match input.below(12) {
            0 if member.is_connected() => member.handle_lost(&mut out),
            0 => member.handle_connected(now, &mut out),
            1 => member.handle_client(client, connection, input.below(2) as u16, now, &mut out),
            2 => member.handle_gone(&client, &connection, &mut out),
            3 => {
                token += 1;
                open.insert(token);
                let asker = Asker {
                    shard: input.below(2) as u16,
                    token,
                };
                let question = vec![0; input.below(40)];
                member.handle_ask(asker, client, question, now, &mut out);
            }
            4 => member.handle_nobody(input.below(256) as u64, now, &mut out),
            5 => passed += Duration::from_millis([1, 900, 7_000, 700_000][input.below(4)]),
            6 => member.handle_deadline(now, &mut out),
            7 => member.set_room(input.below(2) == 0),
            8 => {
                if let Some(number) = served.pop() {
                    let answer = [None, Some(&b"answer"[..])][input.below(2)];
                    member.handle_answer(number, answer, &mut out);
                }
            }
            9 => {
                let node = NodeId::new(input.below(3) as u64);
                let outcome = vec![1; input.below(90)];
                member.handle_outcome((node, input.below(2) == 0), outcome, now, &mut out);
            }
            _ => {
                let subject = match input.below(4) {
                    0 => Subject::Client(client),
                    1 => Subject::Took(client),
                    2 => Subject::Node(NodeId::new(1), input.below(256) as u64),
                    _ => Subject::Nodes,
                };
                let len = input.below(256);
                member.handle_message(subject, input.take(len), now, &mut out);
            }
        }
        for output in out.drain(..) {
            match output {
                Output::Answer { asker, .. } => assert!(open.remove(&asker.token), "answered once"),
                Output::Question { number, .. } => served.push(number),
                Output::Publish { bytes, .. } => {
                    assert!(member.is_connected());
                    assert!(Message::read(&bytes).is_ok(), "its own word");
                }
                _ => {}
            }
        }
        assert!(member.asked_count() <= limits.shards * limits.asked_max);
        assert_eq!(member.asked_count(), open.len());
        assert!(member.clients_count() <= clients.len());
    }
}

struct Choices<'i>(&'i [u8]);

impl<'i> Choices<'i> {
    fn below(&mut self, limit: usize) -> usize {
        self.0.split_off_first().map_or(0, |byte| usize::from(*byte) % limit)
    }

    fn take(&mut self, len: usize) -> &'i [u8] {
        self.0.split_off(..len.min(self.0.len())).unwrap_or_default()
    }
}
