//! Each alert rule has a place in the runbook and a test, and asks for metrics that exist.

use std::collections::BTreeSet;

use support::Proxy;

const RULES: &str = include_str!("../../config/ws2api.rules.yml");

#[test]
fn every_alert_has_its_section_in_the_runbook_and_a_test() {
    let runbook = include_str!("../../docs/runbook.md");
    let tests = include_str!("../../config/ws2api.rules.test.yml");
    let mut alerts = BTreeSet::new();
    for rule in RULES.split("- alert: ").skip(1) {
        let alert = rule.lines().next().unwrap();
        let url = rule.lines().find_map(|line| line.trim().strip_prefix("runbook_url: "));
        let anchor = format!("docs/runbook.md#{}", alert.to_lowercase());
        assert_eq!(url, Some(anchor.as_str()), "the runbook_url of {alert}");
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
        assert!(alerts.insert(alert), "{alert} is there twice");
    }
    assert!(alerts.len() > 20, "{alerts:?}");
    let mut sections = BTreeSet::new();
    for section in runbook.split("\n## ").skip(1) {
        let (name, text) = section.split_once('\n').unwrap();
        assert!(text.contains("**Look.**") && text.contains("**Do.**"), "{name}");
        sections.insert(name);
    }
    assert_eq!(sections, alerts);
}

#[test]
fn alerts_and_runbook_ask_for_metrics_that_exist() {
    let metrics = Proxy::demo().shards(2).start().get("/metrics").body;
    let runbook = include_str!("../../docs/runbook.md");
    let mut asked = BTreeSet::new();
    for text in [RULES, runbook] {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        asked.extend(words.filter(|word| word.starts_with("ws2api_") || word.starts_with("process_")));
    }
    assert!(asked.len() > 15, "{asked:?}");
    let exists = |name: &str| {
        let starts = [format!("{name}{{"), format!("{name} "), format!("# TYPE {name} ")];
        metrics
            .lines()
            .any(|line| starts.iter().any(|start| line.starts_with(start)))
    };
    let unknown: Vec<_> = asked.into_iter().filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
