//! A configuration is resolved as its file, flags and defaults say, or refused in words that say where and why:
//! `listener-5`, `listener-10` to `listener-12`.

use std::path::Path;
use std::time::Duration;

use ws2api::config::{self, BackendUrl, Config, ConfigError, Key, Kind, Overrides, SHARDS_MAX, Scope};

const CPUS: &[usize] = &[0, 1, 2, 3];

fn resolve(text: &str) -> Result<Config, ConfigError> {
    config::resolve(Some(("ws2api.toml", text)), &Overrides::default(), CPUS)
}

fn with_flags(text: &str, line: &str) -> Result<Config, ConfigError> {
    let words = line.split_whitespace().map(Into::into);
    let Ok(ws2api::cli::Command::Serve(args)) = ws2api::cli::parse(words) else {
        panic!("{line}")
    };
    config::resolve(Some(("ws2api.toml", text)), &args.overrides, CPUS)
}

fn words(result: Result<Config, ConfigError>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn without_file_and_flags_there_is_a_shard_per_usable_cpu() {
    let config = config::resolve(None, &Overrides::default(), CPUS).unwrap();
    assert_eq!(config.cores.iter().map(|core| core.cpu).collect::<Vec<_>>(), CPUS);
    assert_eq!(config.node, config::Node::default());
    assert_eq!(config.node.listen, Some("0.0.0.0:4000".parse().unwrap()));
    assert_eq!(
        config.node.backends,
        ["http://127.0.0.1:5000".parse::<BackendUrl>().unwrap()]
    );
    assert_eq!(config.node.subprotocols, ["ocpp2.1", "ocpp2.0.1", "ocpp1.6"]);
    assert_eq!(config.cores[0].message_max, 1024 * 1024);
    assert_eq!(config.cores[0].call_timeout, Duration::from_secs(25));
}

#[test]
fn a_core_wins_over_the_defaults_and_a_flag_over_both() {
    let text = "
        [defaults]
        clients_max = 10
        handshakes_max = 7
        [[core]]
        cpu = 2
        clients_max = 20
        [[core]]
        cpu = 2
    ";
    let clients_max = |config: &Config| config.cores.iter().map(|core| core.clients_max).collect::<Vec<_>>();
    let config = resolve(text).unwrap();
    assert_eq!(clients_max(&config), [20, 10]);
    assert_eq!(
        config.cores.iter().map(|core| core.cpu).collect::<Vec<_>>(),
        [2, 2],
        "a CPU may be named twice"
    );
    let config = with_flags(text, "--set clients_max=30").unwrap();
    assert_eq!(clients_max(&config), [30, 30]);
    assert_eq!(config.cores[1].handshakes_max, 7);
}

#[test]
fn cores_named_by_the_flag_keep_what_the_file_says_of_their_cpu() {
    let text = "
        core = [{ cpu = 1, clients_max = 10 }, { cpu = 1, clients_max = 11 }, { cpu = 0, clients_max = 9 }]
        [defaults]
        clients_max = 5
    ";
    let config = with_flags(text, "--cores 3,1,1,1").unwrap();
    let found: Vec<_> = config.cores.iter().map(|core| (core.cpu, core.clients_max)).collect();
    assert_eq!(found, [(3, 5), (1, 10), (1, 11), (1, 5)]);
    let elsewhere = "[[core]]\ncpu = 9";
    assert!(
        with_flags(elsewhere, "--cores 0").is_ok(),
        "a [[core]] that --cores leaves out need not be usable"
    );
}

#[test]
fn flags_set_lists_and_single_values() {
    let line = "--listen [::1]:1 --backend http://a:1 --backend unix:/b --set subprotocols=x,y --set origins=";
    let node = with_flags("backend = \"http://c\"\norigins = [\"https://a\"]", line)
        .unwrap()
        .node;
    assert_eq!(node.listen, Some("[::1]:1".parse().unwrap()));
    assert_eq!(
        node.backends.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["http://a:1", "unix:/b"]
    );
    assert_eq!(node.subprotocols, ["x", "y"]);
    assert!(node.origins.is_empty());
    let node = with_flags(
        "",
        "--set subprotocols=[\"a\",\"b\"] --set ingress_token_file=\"/t\" --listen 0.0.0.0:1 --listen 0.0.0.0:2",
    );
    let node = node.unwrap().node;
    assert_eq!(node.subprotocols, ["a", "b"]);
    assert_eq!(node.ingress_token_file.as_deref(), Some(Path::new("/t")));
    assert_eq!(node.listen.unwrap().port(), 2, "the last one wins");
}

/// Every number at its least and most, and one beyond, written in the file and after `--set`.
#[test]
fn bounds_are_inclusive_and_one_beyond_is_refused() {
    let mut tried = 0;
    for key in Key::all() {
        let (least, most, below, above) = match key.kind {
            Kind::Count { min, max } | Kind::Size { min, max } => (
                min.to_string(),
                max.to_string(),
                (i128::from(min) - 1).to_string(),
                (max + 1).to_string(),
            ),
            Kind::Time { min, max } => {
                let text = |millis: i128| format!("\"{millis}ms\"");
                let (min, max) = (min.as_millis() as i128, max.as_millis() as i128);
                (text(min), text(max), text(min - 1), text(max + 1))
            }
            _ => continue,
        };
        tried += 1;
        let table = if key.scope == Scope::Core { "[defaults]\n" } else { "" };
        // The pair that must stay in order gets room.
        let room = match key.name {
            "ping_after" => "dead_after = \"24h\"\n",
            "dead_after" => "ping_after = \"10ms\"\n",
            _ => "",
        };
        let at = |value: &str| resolve(&format!("{table}{room}{} = {value}", key.name));
        for (value, conflicts) in [(&least, key.name == "dead_after"), (&most, key.name == "ping_after")] {
            match at(value) {
                Ok(_) => assert!(!conflicts),
                Err(error) => assert!(conflicts && matches!(error, ConfigError::Conflict { .. }), "{error}"),
            }
        }
        for value in [&below, &above] {
            let error = words(at(value));
            assert!(error.contains(&format!("{} = {value}: ", key.name)), "{error}");
            assert!(error.contains(&key.kind.to_string()), "{error}");
            let flag = words(with_flags(
                "",
                &format!("--set {}={}", key.name, value.trim_matches('"')),
            ));
            assert!(
                flag.starts_with("--set: ") && flag.contains(&key.kind.to_string()),
                "{flag}"
            );
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn durations_and_sizes_have_units() {
    let core = |line: &str| resolve(&format!("[defaults]\n{line}")).map(|config| config.cores[0].clone());
    for (text, millis) in [
        ("25s", 25_000),
        ("500ms", 500),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("3 s", 3000),
    ] {
        let found = core(&format!("call_timeout = \"{text}\"")).unwrap().call_timeout;
        assert_eq!(found, Duration::from_millis(millis), "{text}");
    }
    for (text, bytes) in [
        ("\"256KiB\"", 262_144),
        ("\"1MiB\"", 1_048_576),
        ("\"2000B\"", 2000),
        ("1024", 1024),
        ("0x400", 1024),
    ] {
        assert_eq!(
            core(&format!("message_max = {text}")).unwrap().message_max,
            bytes,
            "{text}"
        );
    }
}

#[test]
fn what_the_file_says_wrong_is_refused_with_its_line() {
    let cases = [
        // Keys and tables.
        (
            "\n[defaults]\nclient_max = 5",
            "ws2api.toml:3: unknown key \"client_max\"; did you mean \"clients_max\"?",
        ),
        ("workers = 5", "ws2api.toml:1: unknown key \"workers\""),
        (
            "[defualts]",
            "ws2api.toml:1: unknown key \"defualts\"; did you mean \"defaults\"?",
        ),
        (
            "[[cores]]\ncpu = 1",
            "ws2api.toml:1: unknown key \"cores\"; did you mean \"core\"?",
        ),
        (
            "[[core]]\ncup = 1",
            "ws2api.toml:2: unknown key \"cup\"; did you mean \"cpu\"?",
        ),
        (
            "clients_max = 5",
            "ws2api.toml:1: \"clients_max\" holds per shard; write it in [defaults], or in a [[core]] for one shard",
        ),
        (
            "[defaults]\nlisten = \"0.0.0.0:1\"",
            "ws2api.toml:2: \"listen\" holds for the whole node; write it above the first [table]",
        ),
        (
            "[core]\ncpu = 1",
            "ws2api.toml:1: \"core\" is written as [[core]], once per shard",
        ),
        ("defaults = 5", "ws2api.toml:1: \"defaults\" is written as [defaults]"),
        (
            "listen = \"0.0.0.0:1\"\nlisten = \"0.0.0.0:1\"",
            "ws2api.toml:2: duplicate key",
        ),
        // CPUs.
        (
            "cpu = 1",
            "ws2api.toml:1: \"cpu\" belongs to one shard; write it in [[core]], or name CPUs with --cores",
        ),
        (
            "[defaults]\ncpu = 1",
            "ws2api.toml:2: \"cpu\" belongs to one shard; write it in [[core]], or name CPUs with --cores",
        ),
        (
            "[[core]]\ncpu = 0\n[[core]]",
            "ws2api.toml:3: this [[core]] needs a \"cpu\"; usable are 0-3",
        ),
        (
            "[[core]]\n\ncpu = 4",
            "ws2api.toml:3: CPU 4 is not usable by this process; usable are 0-3",
        ),
        (
            "[[core]]\ncpu = -1",
            "ws2api.toml:2: cpu = -1: not the number of a CPU; usable are 0-3",
        ),
        (
            "[[core]]\ncpu = \"0-3\"",
            "ws2api.toml:2: cpu = \"0-3\": not the number of a CPU; usable are 0-3",
        ),
        // Types and units.
        (
            "[defaults]\nclients_max = \"many\"",
            "ws2api.toml:2: clients_max = \"many\": allowed is a whole number from 1 to 10000000",
        ),
        (
            "[defaults]\nclients_max = 1.5",
            "ws2api.toml:2: clients_max = 1.5: allowed is a whole number from 1 to 10000000",
        ),
        (
            "[defaults]\nclients_max = 99999999999999999999",
            "ws2api.toml:2: clients_max = 99999999999999999999: allowed is a whole number from 1 to 10000000",
        ),
        (
            "[defaults]\ncall_timeout = 25",
            "ws2api.toml:2: call_timeout = 25: a duration needs a unit: ms, s, m or h; \
             allowed is a duration from 10ms to 1h",
        ),
        (
            "[defaults]\ncall_timeout = \"25sec\"",
            "ws2api.toml:2: call_timeout = \"25sec\": \"sec\" is not a unit; \
             allowed is a duration from 10ms to 1h in ms, s, m or h",
        ),
        (
            "[defaults]\ncall_timeout = \"soon\"",
            "ws2api.toml:2: call_timeout = \"soon\": allowed is a duration from 10ms to 1h, such as \"25s\"",
        ),
        (
            "[defaults]\ncall_timeout = \"99999999999999999h\"",
            "ws2api.toml:2: call_timeout = \"99999999999999999h\": out of range; allowed is a duration from 10ms to 1h",
        ),
        (
            "[defaults]\nmessage_max = \"1MB\"",
            "ws2api.toml:2: message_max = \"1MB\": \"MB\" is not a unit; \
             allowed is a size from 1KiB to 64MiB in B, KiB, MiB or GiB",
        ),
        (
            "[defaults]\nmessage_max = \"99999999999999999GiB\"",
            "ws2api.toml:2: message_max = \"99999999999999999GiB\": out of range; allowed is a size from 1KiB to 64MiB",
        ),
        (
            "proxy_protocol = \"true\"",
            "ws2api.toml:1: proxy_protocol = \"true\": allowed is true or false",
        ),
        (
            "listen = \"localhost:4000\"",
            "ws2api.toml:1: listen = \"localhost:4000\": allowed is an IP address and a port, \
             such as \"127.0.0.1:4000\" or \"[::1]:4000\"; or \"\"",
        ),
        // Lists.
        (
            "subprotocols = [\"a\", 5]",
            "ws2api.toml:1: subprotocols = 5: allowed is a list of subprotocol names such as \"ocpp1.6\"",
        ),
        (
            "subprotocols = [\"a b\"]",
            "ws2api.toml:1: subprotocols = \"a b\": not a name; \
             one or more of letters, digits and !#$%&'*+-.^_`|~ are allowed",
        ),
        (
            "subprotocols = [\"a\", \"b\", \"a\"]",
            "ws2api.toml:1: subprotocols = \"a\": listed twice",
        ),
        (
            "forward_headers = [\"X-Client-Id\"]",
            "ws2api.toml:1: forward_headers = \"X-Client-Id\": \
             ws2api writes this header itself and does not pass the client's",
        ),
        (
            "backend = []",
            "ws2api.toml:1: backend = []: at least one is needed; \
             allowed is one or several of http[s]://host:port[/prefix] and unix:/path[:/prefix]",
        ),
        (
            "backend = \"ftp://a\"",
            "ws2api.toml:1: backend = \"ftp://a\": not a backend; \
             write it as http[s]://host:port[/prefix] or unix:/path",
        ),
        (
            "trusted_proxies = \"10.0.0.1/8\"",
            "ws2api.toml:1: trusted_proxies = \"10.0.0.1/8\": bits after the prefix are set; the network is 10.0.0.0/8",
        ),
        (
            "path_prefix = \"ocpp\"",
            "ws2api.toml:1: path_prefix = \"ocpp\": a path begins with / and holds letters, digits and \
             -._~!$&'()*+,;=:@ without . or .. segments",
        ),
        (
            "origins = [\"https://a,https://b\"]",
            "ws2api.toml:1: origins = \"https://a,https://b\": the value of an Origin header is visible ASCII without commas; \
             leave the list empty for any",
        ),
        // Two keys together.
        (
            "[defaults]\ndead_after = \"60s\"",
            "ws2api.toml:2: dead_after = \"60s\": ping_after (60s) must be less than dead_after (60s), \
             so that a pong can arrive in between",
        ),
        (
            "[[core]]\ncpu = 0\nping_after = \"3m\"",
            "ws2api.toml:3: ping_after = \"3m\": ping_after (3m) must be less than dead_after (120s), \
             so that a pong can arrive in between",
        ),
        (
            "\ningress = \"127.0.0.1:4000\"",
            "ws2api.toml:2: ingress = \"127.0.0.1:4000\": this port is taken by listen = \"0.0.0.0:4000\"",
        ),
        (
            "listen = \"[::]:4002\"",
            "ws2api.toml:1: listen = \"[::]:4002\": this port is taken by admin = \"127.0.0.1:4002\"",
        ),
        (
            "listen = \"\"",
            "ws2api.toml:1: listen = \"\": with listen_tls empty, too, no client could connect",
        ),
        (
            "listen_tls = \"0.0.0.0:443\"",
            "ws2api.toml:1: listen_tls = \"0.0.0.0:443\": set tls_certificates, too: without a certificate there is no TLS",
        ),
        (
            "tls_versions = []",
            "ws2api.toml:1: tls_versions = []: with no version listed, every client would be refused",
        ),
        (
            "tls_client_auth = \"required\"",
            "ws2api.toml:1: tls_client_auth = \"required\": set tls_client_ca, too: it says whose certificates are good",
        ),
        (
            "tls_certificates = [{ chain = \"/c.pem\" }]",
            "ws2api.toml:1: tls_certificates = { chain = \"/c.pem\" }: allowed is a list of \
             { chain = \"….pem\", key = \"….pem\" }",
        ),
        (
            "subprotocols = []\nsubprotocol_required = true",
            "ws2api.toml:2: subprotocol_required = true: with no subprotocols listed, every client would be refused",
        ),
        (
            "trusted_proxies = \"::1\"\ntrusted_headers = \"origin\"",
            "ws2api.toml:2: trusted_headers = [\"origin\"]: origin is in forward_headers too, so anybody could send it",
        ),
        (
            "trusted_headers = \"x-cn\"",
            "ws2api.toml:1: trusted_headers = [\"x-cn\"]: nobody is trusted to send them; \
             set trusted_proxies",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(words(resolve(text)), expected, "{text}");
    }
    let error = words(resolve("listen = \"0.0.0.0:1\"\nadmin = @"));
    assert!(
        error.starts_with("ws2api.toml:2: "),
        "the TOML parser's words follow: {error}"
    );
}

#[test]
fn the_topmost_error_is_the_one_reported() {
    let text = "zzz = 1\nlisten = 5\naaa = 1\n[defaults]\nbbb = 1";
    assert_eq!(words(resolve(text)), "ws2api.toml:1: unknown key \"zzz\"");
}

#[test]
fn what_a_flag_says_wrong_is_refused_with_the_flag() {
    let cases = [
        (
            "--set client_max=5",
            "--set: unknown key \"client_max\"; did you mean \"clients_max\"?",
        ),
        (
            "--set lisen=x",
            "--set: unknown key \"lisen\"; did you mean \"listen\"?",
        ),
        (
            "--set cpu=1",
            "--set: \"cpu\" belongs to one shard; write it in [[core]], or name CPUs with --cores",
        ),
        (
            "--listen 4000",
            "--listen: listen = 4000: allowed is an IP address and a port, such as \"127.0.0.1:4000\" or \"[::1]:4000\"; or \"\"",
        ),
        (
            "--backend http://a --backend a",
            "--backend: backend = \"a\": not a backend; write it as http[s]://host:port[/prefix] or unix:/path",
        ),
        (
            "--set call_timeout=25",
            "--set: call_timeout = 25: a duration needs a unit: ms, s, m or h; allowed is a duration from 10ms to 1h",
        ),
        (
            "--set proxy_protocol=yes",
            "--set: proxy_protocol = yes: allowed is true or false",
        ),
        (
            "--cores 2-4",
            "--cores: CPU 4 is not usable by this process; usable are 0-3",
        ),
        (
            "--set dead_after=60s",
            "--set: dead_after = \"60s\": ping_after (60s) must be less than dead_after (60s), \
             so that a pong can arrive in between",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(words(with_flags("", line)), expected, "{line}");
    }
}

#[test]
fn shards_are_bounded() {
    let file = |count: usize| "[[core]]\ncpu = 0\n".repeat(count);
    assert_eq!(resolve(&file(SHARDS_MAX)).unwrap().cores.len(), SHARDS_MAX);
    assert_eq!(
        words(resolve(&file(SHARDS_MAX + 1))),
        "ws2api.toml:513: 257 shards; allowed are 1 to 256"
    );
    let none = config::resolve(None, &Overrides::default(), &[]);
    assert_eq!(words(none), "defaults: 0 shards; allowed are 1 to 256");
}

#[test]
fn listeners_share_a_port_only_where_they_do_not_compete() {
    let cases = [
        ("--listen 127.0.0.1:0 --ingress 127.0.0.1:0 --admin 127.0.0.1:0", true),
        ("--listen 10.0.0.1:1 --ingress 10.0.0.2:1", true),
        ("--listen 0.0.0.0:1 --ingress [::1]:1", true),
        ("--listen [::]:1 --ingress 10.0.0.1:1", false),
        ("--listen [::]:1 --ingress [::1]:1", false),
        ("--listen 10.0.0.1:1 --ingress 0.0.0.0:1", false),
        ("--listen 10.0.0.1:1 --ingress [::ffff:10.0.0.1]:1", false),
    ];
    for (line, allowed) in cases {
        assert_eq!(with_flags("", line).is_ok(), allowed, "{line}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let load = |path: &Path| words(config::load(Some(path), &Overrides::default(), CPUS));
    let missing = folder.join("no-such.toml");
    assert_eq!(
        load(&missing),
        format!("{}: No such file or directory (os error 2)", missing.display())
    );
    let binary = folder.join("binary.toml");
    std::fs::write(&binary, b"# one\n\n\xff").unwrap();
    assert_eq!(load(&binary), format!("{}:3: not UTF-8", binary.display()));
    assert_eq!(
        load(Path::new("/dev/zero")),
        "/dev/zero: a configuration has at most 1048576 bytes"
    );
}

/// A full configuration with some bytes changed: whatever comes out, nothing panics, and errors name a line.
#[test]
fn no_text_panics() {
    let settings = uncommented() + "[[core]]\ncpu = 0\nclients_max = 5\n";
    let text: String = settings
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(resolve(&text).is_ok(), "{text}");
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let spare = b"\0\n\"'=[]{}#.,-_0159abzKiBms \\/:@\x7f";
    let mut refused = 0;
    for round in 0..3000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = spare[random(spare.len())],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, spare[random(spare.len())]),
            }
        }
        if let Err(error) = resolve(std::str::from_utf8(&bytes).expect("only ASCII was put in")) {
            let words = error.to_string();
            assert!(words.starts_with("ws2api.toml:"), "round {round}: {words}");
            refused += 1;
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn every_default_is_what_its_key_allows() {
    for key in Key::all() {
        let mut overrides = Overrides::default();
        overrides.set(key.name, key.default);
        let set = config::resolve(None, &overrides, CPUS).unwrap_or_else(|error| panic!("{error}"));
        let defaults = config::resolve(None, &Overrides::default(), CPUS).unwrap();
        assert_eq!((set.node, set.cores), (defaults.node, defaults.cores), "{}", key.name);
        assert_eq!(set.keys_set.iter().collect::<Vec<_>>(), [&key.name]);
        assert!(defaults.keys_set.is_empty());
    }
}

// The samples.

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_sample_documents_every_key_with_its_default() {
    let text = sample("ws2api.toml");
    for key in Key::all() {
        let line = format!("#{} = {}", key.name, key.default_literal());
        assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line}");
    }
    assert_eq!(text, config::sample(), "cargo test --lib write_the_pages -- --ignored");
    assert!(text.lines().all(|line| line.chars().count() <= 120));
}

#[test]
fn the_page_for_operators_says_when_each_key_takes_effect() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let text = std::fs::read_to_string(page).unwrap();
    let effects = config::effects();
    assert!(Key::all().all(|key| effects.contains(&format!("`{}`", key.name))));
    assert!(text.contains(&effects), "cargo test --lib write_the_pages -- --ignored");
}

/// A line of the sample that sets a key once its `#` is removed.
fn is_key(line: &str) -> bool {
    line.strip_prefix('#')
        .is_some_and(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// The sample with every default set in words.
fn uncommented() -> String {
    let line = |line: &str| format!("{}\n", if is_key(line) { &line[1..] } else { line });
    sample("ws2api.toml").lines().map(line).collect()
}

#[test]
fn the_samples_commented_lines_are_the_defaults() {
    let defaults = resolve("").unwrap();
    let text = sample("ws2api.toml");
    assert_eq!(resolve(&text).unwrap(), defaults);
    assert_eq!(text.lines().filter(|line| is_key(line)).count(), Key::all().count());
    let set = resolve(&uncommented()).unwrap();
    assert_eq!((set.node, set.cores), (defaults.node, defaults.cores));
}

#[test]
fn every_sample_parses() {
    let cpus: Vec<usize> = (0..64).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut shards = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let config =
                config::load(Some(&path), &Overrides::default(), &cpus).unwrap_or_else(|error| panic!("{error}"));
            shards.push((
                path.file_name().unwrap().to_string_lossy().into_owned(),
                config.cores.len(),
            ));
        }
    }
    shards.sort();
    let expected = [
        ("16-cores.toml", 14),
        ("2-cores.toml", 2),
        ("64-cores.toml", 56),
        ("haproxy-one.toml", 64),
        ("node-200000.toml", 6),
        ("node.toml", 64),
        ("ws2api.toml", 64),
    ];
    assert_eq!(shards, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn what_check_prints_names_every_key_and_what_differs() {
    let text = "
        drain_spread = \"5s\"
        [[core]]
        cpu = 3
        clients_max = 20
        [[core]]
        cpu = 1
        message_max = \"2MiB\"
    ";
    let config = resolve(text).unwrap();
    let shown = config.render();
    for key in Key::all() {
        assert!(shown.contains(key.name), "{}", key.name);
    }
    assert!(
        shown.contains("\ndrain_spread = \"5s\"  # default: \"10s\"\n"),
        "{shown}"
    );
    assert!(shown.contains("\ncall_timeout = \"25s\"\n"), "{shown}");
    let table = "\
# The shards: 2
shard  cpu  clients_max  message_max
    0    3           20         1MiB
    1    1       100000         2MiB
";
    assert!(shown.ends_with(table), "{shown}");
}
