//! Masks any text: no panic; what comes out is JSON again, and has no value but `"***"` under a masked name. The front of any
//! text is read, and any record, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::tap::{Head, Mask, Record, line};
use serde_json::Value;

const NAMES: [&str; 2] = ["idTag", "pin"];

fuzz_target!(|input: &[u8]| {
    let _ = Record::read(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let head = Head::read(text);
    let mask = Mask::new(NAMES.map(str::to_owned));
    let mut out = String::new();
    if mask.write(text, &mut out).is_ok()
        && let Ok(value) = serde_json::from_str::<Value>(&out)
    {
        check(&value);
    }
    let record = Record {
        kind: Some(head.kind),
        message_id: head.message_id.as_deref().unwrap_or_default(),
        action: head.action.as_deref().unwrap_or_default(),
        text: Some(text),
        ..Record::default()
    };
    let mut line = String::new();
    let place = line::Place { at: "", shard: 0 };
    for mask in [mask, Mask::default()] {
        line.clear();
        line::write(&record, place, &mask, &mut String::new(), &mut line);
        assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
        let is_json = serde_json::from_str::<Value>(&line);
        // The oracle takes neither lone surrogates nor more than 128 levels.
        assert!(is_json.is_ok() || line.contains("\\u") || line.matches(['[', '{']).count() > 100, "{line}");
    }
});

fn check(value: &Value) {
    match value {
        Value::Array(values) => values.iter().for_each(check),
        Value::Object(members) => {
            for (name, value) in members {
                if NAMES.iter().any(|masked| name.eq_ignore_ascii_case(masked)) {
                    assert_eq!(value, "***");
                }
                check(value);
            }
        }
        _ => {}
    }
}
