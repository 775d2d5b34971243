//! The Kubernetes sample says of the program what is true: ports, probes, drain, user, and that it writes nothing.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_yaml_ng::{Deserializer, Value};
use support::{Backend, Http, Proxy, Value as Json, eventually, open_to_all, parse};
use ws2api::config::{self, Config, Overrides};

const SAMPLE: &str = include_str!("../../config/kubernetes.yaml");

#[test]
fn every_value_of_the_sample_is_explained() {
    let mut count = 0;
    let mut unexplained = Vec::new();
    let mut last = "";
    for line in SAMPLE.lines() {
        let own = line.trim();
        let is_comment = own.starts_with('#');
        if !is_comment && !own.is_empty() && !names_itself(own) {
            count += 1;
            if !last.starts_with('#') {
                unexplained.push(line);
            }
        }
        last = own;
    }
    assert!(count >= 40, "the values were found: {count}");
    assert!(unexplained.is_empty(), "{unexplained:#?}");
}

/// What stands in every manifest, opens a level whose values are explained, or is a line of ws2api's own file.
fn names_itself(line: &str) -> bool {
    let opens = line.ends_with(':') || line.ends_with(": |") || line == "---";
    let stands_everywhere = ["apiVersion: ", "kind: ", "name: ", "- name: "];
    let of_the_file = line.contains(" = ") || line == "[defaults]";
    // The other half of a pair that is explained together.
    let second = line.starts_with("from: ");
    opens || of_the_file || second || stands_everywhere.iter().any(|start| line.starts_with(start))
}

#[test]
fn its_configuration_is_right_and_wise() {
    let config = configuration();
    assert_eq!(config::warnings(&config), Vec::<config::Warning>::new());
}

#[test]
fn ports_probes_and_policy_name_the_listeners() {
    let config = configuration();
    let node = &config.node;
    let addresses = [node.listen.expect("it has one"), node.ingress, node.admin];
    let [listen, ingress, admin] = addresses.map(|at| u64::from(at.port()));
    let container = container();
    let ports: Vec<_> = list(&container["ports"])
        .iter()
        .map(|port| (text(&port["name"]), number(&port["containerPort"])))
        .collect();
    assert_eq!(ports, [("clients", listen), ("ingress", ingress), ("admin", admin)]);
    for probe in ["readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "admin");
    }
    let headless = named("Service", "ws2api");
    let named_ports: Vec<_> = list(&headless["spec"]["ports"])
        .iter()
        .map(|port| (text(&port["name"]), number(&port["port"])))
        .collect();
    assert_eq!(named_ports, [("ingress", ingress), ("admin", admin)]);
    let clients = named("Service", "ws2api-clients");
    assert_eq!(number(&clients["spec"]["ports"][0]["targetPort"]), listen);
    assert_eq!(clients["spec"]["externalTrafficPolicy"], "Local");
    let open: Vec<_> = list(&named("NetworkPolicy", "ws2api")["spec"]["ingress"])
        .iter()
        .map(|rule| (number(&rule["ports"][0]["port"]), rule.get("from").is_some()))
        .collect();
    assert_eq!(open, [(listen, false), (ingress, true), (admin, true)]);
    let labels = &named("StatefulSet", "ws2api")["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &headless["spec"]["selector"],
        &clients["spec"]["selector"],
        &named("PodDisruptionBudget", "ws2api")["spec"]["selector"]["matchLabels"],
        &named("NetworkPolicy", "ws2api")["spec"]["podSelector"]["matchLabels"],
        &named("StatefulSet", "ws2api")["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
}

#[test]
fn a_drain_ends_before_the_kubelet_kills() {
    let grace = number(&pod()["terminationGracePeriodSeconds"]);
    let before = container()["lifecycle"]["preStop"]["exec"]["command"][1]
        .as_str()
        .unwrap()
        .parse::<u64>()
        .unwrap();
    let drain = configuration().node.drain_timeout.as_secs();
    assert!(before + drain + 10 <= grace, "{before} + {drain} + 10 > {grace}");
}

#[test]
fn it_asks_for_no_privilege_and_for_whole_cpus() {
    let (pod, container) = (pod(), container());
    let image = include_str!("../../config/Dockerfile");
    let user = number(&pod["securityContext"]["runAsUser"]);
    assert!(
        image.contains(&format!(
            "\nUSER {user}:{}\n",
            number(&pod["securityContext"]["runAsGroup"])
        )),
        "as the image"
    );
    assert!(image.contains("\nENTRYPOINT [\"/usr/bin/ws2api\"]\n"));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let own = &container["securityContext"];
    assert_eq!(
        (&own["allowPrivilegeEscalation"], &own["readOnlyRootFilesystem"]),
        (&Value::Bool(false), &Value::Bool(true))
    );
    assert_eq!(own["capabilities"]["drop"][0], "ALL");
    let resources = &container["resources"];
    assert_eq!(resources["requests"], resources["limits"]);
    assert!(text(&resources["limits"]["cpu"]).parse::<u64>().is_ok(), "whole CPUs");
}

/// With the pod's own arguments and file, confined as a pod is, where nothing can be written.
#[test]
fn it_starts_answers_its_probes_and_drains_where_nothing_can_be_written() {
    let Some(under) = read_only() else { return };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-pod", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    open_to_all(&folder);
    for token in ["ingress", "admin"] {
        std::fs::write(folder.join(token), format!("the-token-of-{token}-0123456789\n")).unwrap();
    }
    let file = folder.join("ws2api.toml");
    std::fs::write(
        &file,
        file_of_the_pod().replace("/run/secrets/ws2api", folder.to_str().unwrap()),
    )
    .unwrap();
    let backend = Backend::start();
    let under: Vec<&str> = under.iter().map(String::as_str).collect();
    let mut builder = Proxy::with(&backend).under(&under);
    for argument in list(&container()["args"]).iter().map(text) {
        builder = builder.arg(&argument.replace("/etc/ws2api/ws2api.toml", file.to_str().unwrap()));
    }
    let mut proxy = builder.set("drain_timeout", "60s").set("drain_spread", "0s").start();
    for probe in ["readinessProbe", "livenessProbe"] {
        proxy.get(text(&container()[probe]["httpGet"]["path"])).expect(200);
    }
    proxy.get("/metrics").expect(401);
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    client.call(1);
    // While a Call keeps it, the drain is seen by one probe and not by the other.
    backend.on("/call", |_| support::Response::never());
    client.send_call("m1", "Heartbeat", "{}");
    backend.take_where("the Call", |request| request.target.ends_with("/m1"));
    proxy.signal(Signal::TERM);
    eventually("the readiness to end", || {
        (Http::connect(proxy.admin).get("/readyz").status == 503).then_some(())
    });
    proxy.get("/healthz").expect(200);
    proxy.signal(Signal::TERM);
    proxy.wait();
    for line in proxy.stderr().lines().filter(|line| line.starts_with('{')) {
        let line: Json = parse(line);
        assert_ne!(line["level"], "ERROR", "{line}");
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// The words that start a program confined, in a mount namespace without a file that it could write; `None` where that can't be had.
fn read_only() -> Option<Vec<String>> {
    let script = concat!(
        "set -e; mount --make-rprivate /; cut -d' ' -f5 /proc/self/mountinfo | while read -r at; do ",
        "mount -o remount,bind,ro \"$at\" 2>/dev/null || true; done; ",
        "for at in / /tmp /var/tmp /dev/shm /run \"$PWD\"; do if touch \"$at/written-by-a-test\" 2>/dev/null; then exit 9; fi; done; ",
        "cd /; exec \"$0\" \"$@\""
    );
    let confined = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/confined");
    let words = ["unshare", "--mount", "--", "sh", "-c", script, confined].map(str::to_owned);
    let tried = std::process::Command::new(&words[0])
        .args(&words[1..])
        .arg("true")
        .output();
    let is_possible = tried.as_ref().is_ok_and(|output| output.status.success());
    if !is_possible {
        eprintln!("not checked: {tried:?}");
    }
    is_possible.then(|| words.to_vec())
}

fn documents() -> Vec<Value> {
    use serde::Deserialize;
    Deserializer::from_str(SAMPLE)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

#[track_caller]
fn named(kind: &str, name: &str) -> Value {
    let found = documents()
        .into_iter()
        .find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn pod() -> Value {
    named("StatefulSet", "ws2api")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    pod()["containers"][0].clone()
}

fn file_of_the_pod() -> String {
    text(&named("ConfigMap", "ws2api")["data"]["ws2api.toml"]).to_owned()
}

fn configuration() -> Config {
    config::resolve(
        Some(("ws2api.toml", &file_of_the_pod())),
        &Overrides::default(),
        &[0, 1],
    )
    .unwrap()
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[track_caller]
fn list(value: &Value) -> &Vec<Value> {
    value.as_sequence().unwrap()
}
