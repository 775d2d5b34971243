//! Takes serde_json as the oracle: what it takes, we take; what it refuses, we refuse; slices are the same bytes.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::*;
use crate::random::Random;

const DEPTH: usize = 128;

/// Valid by RFC 8259, each for a reason.
const VALID: &[&str] = &[
    "0",
    "-0",
    "1e999",
    "-1E-999",
    "1.5e+3",
    "0.1",
    "10",
    "\"\"",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    " \t\r\n1 \t\r\n",
    "[1,2]",
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    r#""\ud83d\ude00""#,
    r#""\u0000""#,
    r#""\"\\\/\b\f\n\r\t""#,
    r#"{"a":1,"a":2}"#,
    r#"{"":{}}"#,
    r#"{"\ud800":1}"#,
    "\"\u{7f}\"",
    "\"\u{2028}\"",
    "\"😀\"",
    "9999999999999999999999999999999999999999999999999999999999999999",
    "0.0000000000000000000000000000000000000000000000000000000000000001",
    "1234567890123456789012345678901.5e3",
    "12345678901234567890123456789012.5",
    "123456789012345678901234567890123.5E-1",
    "[ 1 , [ ] , { } , { \"a\" : [ { } ] } ]",
];

/// Not valid by RFC 8259, each for a reason.
const INVALID: &[&str] = &[
    "",
    " ",
    "01",
    "-",
    "-a",
    "+1",
    ".5",
    "1.",
    "1.e1",
    "1e",
    "1e+",
    "0x1",
    "00",
    "-01",
    "1 2",
    "1,",
    "NaN",
    "Infinity",
    "tru",
    "truee",
    "nul",
    "True",
    "'a'",
    "\"",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u\"",
    "\"\\u12\"",
    "\"\\u123\"",
    "\"\\uZZZZ\"",
    "\"\\u 123\"",
    "\"\\u+123\"",
    "\"\\u00\u{e4}\"",
    "\"a\nb\"",
    "\"\t\"",
    "\"\0\"",
    "\"\u{1f}\"",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[,]",
    "[1 2]",
    "[1}",
    "{",
    "}",
    "{]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{1:1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\",1}",
    "{,}",
    "[]]",
    "{}{}",
    "[] []",
    "\u{feff}1",
    "\u{a0}1",
    "1\u{b}",
    "1\0",
    "//\n1",
    "[1]x",
    "\"a\"b",
    "\"\\u\"abcd\"",
    "[\"\\u\",1,\"]\"]",
    "1234567890123456789012345678901.",
    "12345678901234567890123456789012.e",
    "123456789012345678901234567890123e",
    "1.5.5",
    "0.123456789012345678901234567890123.5",
];

fn oracle_takes(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

#[test]
fn what_rfc_8259_allows_passes_and_what_it_forbids_does_not() {
    assert!(VALID.len() > 20 && INVALID.len() > 40);
    for text in VALID {
        assert_eq!(check_text(text, DEPTH), Ok(()), "{text:?}");
        assert!(oracle_takes(text.as_bytes()), "the oracle disagrees: {text:?}");
        // The same behind and before so many bytes that every vector width is passed.
        for padding in 0..70 {
            let text = format!("{}[{text}{}]", " ".repeat(padding), " ".repeat(70 - padding));
            assert_eq!(check_text(&text, DEPTH), Ok(()), "{text:?}");
        }
    }
    for text in INVALID {
        assert!(check_value(text.as_bytes(), DEPTH).is_err(), "{text:?}");
        assert!(!oracle_takes(text.as_bytes()), "the oracle disagrees: {text:?}");
        for padding in 0..70 {
            let text = format!("{}{text}{}", " ".repeat(padding), " ".repeat(70 - padding));
            assert!(check_value(text.as_bytes(), DEPTH).is_err(), "{text:?}");
            let inside = format!("[1,{text}]");
            assert_eq!(
                split_array(&inside, DEPTH).end.is_ok(),
                oracle_takes(inside.as_bytes()),
                "{inside:?}"
            );
        }
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_with_their_place() {
    assert_eq!(check_value(b"\"a\xff\"", DEPTH), Err(JsonError::NotUtf8 { at: 2 }));
    assert_eq!(
        check_value(b"\"\xed\xa0\x80\"", DEPTH),
        Err(JsonError::NotUtf8 { at: 1 })
    );
    assert_eq!(check_value(b"\"\xe2\x82\"", DEPTH), Err(JsonError::NotUtf8 { at: 1 }));
}

#[test]
fn random_texts_are_judged_as_the_oracle_judges_them() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let (mut valid, mut invalid) = (0, 0);
    for round in 0..20_000 {
        let mut text = String::new();
        random.json(5, &mut text);
        if round % 3 > 0 {
            random.mutate(&mut text);
        }
        let taken = oracle_takes(text.as_bytes());
        *(if taken { &mut valid } else { &mut invalid }) += 1;
        let checked = check_value(text.as_bytes(), DEPTH);
        assert_eq!(
            checked.is_ok(),
            taken,
            "seed {seed}, round {round}: {text:?}: {checked:?}"
        );
        check_split(&text, &format!("seed {seed}, round {round}"));
        check_members(&text);
    }
    assert!(valid > 5_000 && invalid > 5_000, "{valid} valid, {invalid} invalid");
}

fn check_split(text: &str, context: &str) {
    let split = split_array(text, DEPTH);
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(values) => {
            assert_eq!(split.end, Ok(()), "{context}: {text:?}");
            let expected: Vec<_> = values.iter().take(ELEMENTS_MAX).map(|value| value.get()).collect();
            assert_eq!(split.as_slice(), expected, "{context}: {text:?}");
        }
        Err(_) => assert!(split.end.is_err(), "{context}: {text:?}"),
    }
    for element in split.as_slice() {
        assert!(oracle_takes(element.as_bytes()), "{context}: {element:?} of {text:?}");
        let found = text
            .as_bytes()
            .windows(element.len())
            .any(|window| window.as_ptr() == element.as_ptr());
        assert!(found, "{context}: a copy, not a slice");
    }
}

fn check_members(text: &str) {
    if let Ok(object) = serde_json::from_str::<HashMap<String, &RawValue>>(text) {
        let names = ["code", "a", "", "b\n"];
        let found = members(text, names).expect("an object");
        assert_eq!(
            found,
            names.map(|name| object.get(name).map(|value| value.get())),
            "{text:?}"
        );
    } else if serde_json::from_str::<Vec<&RawValue>>(text).is_ok() {
        assert_eq!(members(text, ["a"]), None);
    }
}

#[test]
fn random_strings_are_unescaped_as_the_oracle_does() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut surrogates = 0;
    for round in 0..20_000 {
        let mut raw = String::new();
        random.json_string(&mut raw);
        match serde_json::from_str::<String>(&raw) {
            Ok(expected) => {
                assert_eq!(
                    unescape_string(&raw).as_deref(),
                    Ok(&*expected),
                    "seed {seed}, round {round}: {raw}"
                );
                assert_eq!(
                    unescape_string_lossy(&raw).as_deref(),
                    Ok(&*expected),
                    "seed {seed}, round {round}: {raw}"
                );
                let again = string(&expected);
                assert_eq!(again.len(), string_len(&expected));
                assert_eq!(serde_json::from_str::<String>(&again).expect("JSON"), expected);
            }
            Err(_) => {
                surrogates += 1;
                assert_eq!(
                    unescape_string(&raw),
                    Err(JsonError::Surrogate),
                    "seed {seed}, round {round}: {raw}"
                );
                assert!(
                    unescape_string_lossy(&raw).expect("lossy").contains('\u{fffd}'),
                    "{raw}"
                );
            }
        }
    }
    assert!(surrogates > 100, "{surrogates}");
}

#[test]
fn a_lone_surrogate_has_no_text_but_a_pair_has() {
    for (raw, expected) in [
        (r#""\ud83d\ude00""#, Ok("😀")),
        (r#""\uD83D\uDE00x""#, Ok("😀x")),
        (r#""\ud83d""#, Err(JsonError::Surrogate)),
        (r#""\ude00""#, Err(JsonError::Surrogate)),
        (r#""\ude00\ud83d""#, Err(JsonError::Surrogate)),
        (r#""\ud83d\ud83d\ude00""#, Err(JsonError::Surrogate)),
        (r#""\ud83dx\ude00""#, Err(JsonError::Surrogate)),
        (r#""\ud83d\n""#, Err(JsonError::Surrogate)),
        (r#""\ud83d\u0041""#, Err(JsonError::Surrogate)),
        ("5", Err(JsonError::Syntax)),
        ("\"", Err(JsonError::Syntax)),
        (r#""\uZZZZ""#, Err(JsonError::Escape { at: 1 })),
    ] {
        assert_eq!(unescape_string(raw).as_deref(), expected.as_ref().copied(), "{raw}");
    }
    assert_eq!(
        unescape_string_lossy(r#""a\ud83d\ud83d\ude00\ude00b""#).as_deref(),
        Ok("a\u{fffd}😀\u{fffd}b")
    );
    assert!(matches!(unescape_string(r#""plain""#), Ok(Cow::Borrowed("plain"))));
}

#[test]
fn nesting_passes_at_the_limit_and_not_one_above() {
    for limit in [1, 2, 5, 128, DEPTH_MAX] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"[\":", "}]")] {
            let levels = open.matches(['[', '{']).count() - usize::from(open.contains("\"["));
            if limit % levels > 0 {
                continue;
            }
            let nested = |count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
            assert_eq!(check_text(&nested(limit / levels), limit), Ok(()), "{limit} of {open}");
            let deep = nested(limit / levels + 1);
            let error = check_value(deep.as_bytes(), limit).expect_err("too deep");
            assert!(
                matches!(error, JsonError::TooDeep { limit: reported, .. } if reported == limit),
                "{error:?}"
            );
        }
    }
    let beyond = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
    assert!(
        check_value(beyond.as_bytes(), usize::MAX).is_err(),
        "a limit in the config cannot overflow the stack"
    );
    // Siblings are not levels, brackets in strings neither.
    let wide = format!("[{}[]]", "[],".repeat(10_000));
    assert_eq!(check_text(&wide, 2), Ok(()));
    assert_eq!(check_text(&format!("[\"{}\"]", "[\\\"".repeat(10_000)), 1), Ok(()));
}

#[test]
fn a_million_brackets_do_not_hurt() {
    for open in ["[", "{\"a\":", "[{\"\":", "[[[["] {
        let text = open.repeat(1_000_000 / open.len());
        assert!(matches!(
            check_value(text.as_bytes(), DEPTH),
            Err(JsonError::TooDeep { .. })
        ));
        let inside = format!("[{text}");
        assert!(matches!(
            split_array(&inside, DEPTH).end,
            Err(JsonError::TooDeep { .. })
        ));
        let behind = format!("[2,\"id\",\"A\",{text}");
        let split = split_array(&behind, DEPTH);
        assert_eq!(split.as_slice(), ["2", "\"id\"", "\"A\""]);
        assert!(matches!(split.end, Err(JsonError::TooDeep { .. })));
    }
    assert!(check_value("]".repeat(1_000_000).as_bytes(), DEPTH).is_err());
    assert!(check_value("\\".repeat(1_000_000).as_bytes(), DEPTH).is_err());
    assert!(check_value("\"".repeat(999_999).as_bytes(), DEPTH).is_err());
}

#[test]
fn the_elements_before_an_error_are_handed_out() {
    for (text, elements, end) in [
        (r#"[2,"id","A","#, &["2", "\"id\"", "\"A\""][..], Err(JsonError::Syntax)),
        (r#"[2,"id" "A"]"#, &["2", "\"id\""], Err(JsonError::Syntax)),
        (r#"[2,"id"#, &["2"], Err(JsonError::Syntax)),
        (r#"[2,"i\d"]"#, &["2"], Err(JsonError::Escape { at: 5 })),
        (r#"[2,"id"]]"#, &["2", "\"id\""], Err(JsonError::Trailing { at: 8 })),
        (r#"[2] "\q"#, &["2"], Err(JsonError::Trailing { at: 4 })),
        ("[]", &[], Ok(())),
        (" [ ] ", &[], Ok(())),
        ("[ ] x", &[], Err(JsonError::Trailing { at: 4 })),
        ("{}", &[], Err(JsonError::Syntax)),
        ("[1,2,3,4,5,6,7,8]", &["1", "2", "3", "4", "5", "6"], Ok(())),
        (
            "[1,2,3,4,5,6,7,x]",
            &["1", "2", "3", "4", "5", "6"],
            Err(JsonError::Syntax),
        ),
    ] {
        let split = split_array(text, DEPTH);
        assert_eq!((split.as_slice(), split.end), (elements, end), "{text}");
    }
}

#[test]
fn members_are_found_behind_odd_names_and_the_last_of_equals_wins() {
    let text = " { \"\\ud800\" : [ \"}\" , {\"code\":1} ] ,\"c\\u006fde\":\"x\" , \"code\" : { \"a\" : \"\\\"\" } , \"n\":1e9}";
    assert_eq!(check_text(text, DEPTH), Ok(()));
    assert_eq!(
        members(text, ["code", "n", "absent"]),
        Some([Some("{ \"a\" : \"\\\"\" }"), Some("1e9"), None])
    );
    assert_eq!(members("{}", ["a"]), Some([None]));
    assert_eq!(members("{\"a\":1}", ["a"]), Some([Some("1")]));
    assert_eq!(members("[]", ["a"]), None);
    assert_eq!(members("null", ["a"]), None);
}

#[test]
fn white_space_is_trimmed_and_only_that_of_json() {
    assert_eq!(trim(" \t\r\n {} \n"), "{}");
    assert_eq!(trim("\x0b1\x0c"), "\x0b1\x0c");
    assert_eq!(trim(" \n"), "");
    assert_eq!(trim(""), "");
}

#[test]
fn one_mebibyte_passes_in_one_piece() {
    let payload = format!("{{\"data\":\"{}\"}}", "0123456789abcdef".repeat(65_536));
    let text = format!("[2,\"1\",\"A\",{payload}]");
    let split = split_array(&text, DEPTH);
    assert_eq!(split.as_slice()[3], payload);
    assert_eq!(split.end, Ok(()));
}
