//! Reads any bytes as a path segment, a name and an offer of subprotocols: what is accepted is safe in a path and a
//! header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::ocpp::{Action, ClientId, MessageId, Negotiated, Subprotocol, subprotocol};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(id) = ClientId::from_percent_encoded(text) {
        check(id.as_str(), &id.encoded(), &id.json(), 128);
        assert_eq!(ClientId::from_percent_encoded(&id.encoded()), Ok(id.clone()));
        assert_eq!(ClientId::parse(id.as_str()), Ok(id));
    }
    if let Ok(id) = MessageId::parse(text) {
        assert_eq!(id.as_str(), text);
        check(text, &id.encoded(), &id.json(), 255);
        assert_eq!(id.fits(Subprotocol::Ocpp16), text.chars().count() <= 36);
    }
    if let Ok(action) = Action::parse(text) {
        assert_eq!(action.as_str(), text);
        check(text, &action.encoded(), &action.json(), 128);
    }
    let configured = ["ocpp2.1", "ocpp2.0.1", "ocpp1.6", "other"];
    match subprotocol::negotiate([text], &configured, false) {
        Negotiated::Chosen { name, .. } => assert!(text.contains(name)),
        Negotiated::NoneInCommon => assert!(!text.is_empty()),
        Negotiated::NoneOffered => assert!(text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b','))),
        Negotiated::Required => panic!("none is required"),
    }
});

fn check(text: &str, encoded: &str, json: &str, len_max: usize) {
    assert!(!text.is_empty() && text.len() <= len_max);
    assert!(text != "." && text != "..");
    assert!(!text.contains(['/', '\\']) && !text.chars().any(char::is_control));
    assert!(
        encoded
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte))
    );
    assert_eq!(serde_json::from_str::<String>(json).expect("a JSON string"), text);
}
