//! Shows what the command line takes, refuses and says.

use super::*;

fn try_parse(line: &str) -> Result<Command, CliError> {
    parse(line.split_whitespace().map(OsString::from))
}

fn serve(line: &str) -> ServeArgs {
    match try_parse(line) {
        Ok(Command::Serve(args)) => args,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn profile_flags_take_one_or_two_dashes_and_an_equals_sign_or_a_space() {
    for line in [
        "-cpuprofile=a -memprofile=b",
        "--cpuprofile=a --memprofile=b",
        "-cpuprofile a -memprofile b",
    ] {
        let args = serve(line);
        assert_eq!(
            (args.cpuprofile, args.memprofile),
            (Some("a".into()), Some("b".into())),
            "{line}"
        );
    }
    assert_eq!(serve("--cpuprofile a").cpuprofile, Some("a".into()));
    assert_eq!(serve("-cpuprofile=a=b").cpuprofile, Some("a=b".into()));
}

#[test]
fn every_flag_with_a_value_is_taken_and_needs_one() {
    for flag in FLAGS.iter().filter(|flag| flag.value.is_some() && flag.of.is_empty()) {
        let value = match flag.name {
            "cores" => "0",
            "log" => "json",
            _ => "listen=x",
        };
        assert_ne!(
            serve(&format!("--{} {value}", flag.name)),
            ServeArgs::default(),
            "{}",
            flag.name
        );
        let words = format!("--{0} needs a value: --{0} {1}", flag.name, flag.value.unwrap());
        assert_eq!(try_parse(&format!("--{}", flag.name)).unwrap_err().to_string(), words);
    }
}

#[test]
fn flags_become_overrides_in_their_order() {
    let args = serve("--set a=1 --backend http://a --listen 0:1 --backend http://b --set a=2 --config f");
    let set = |flag: &str, key: &str, values: &[&str]| Override {
        flag: flag.into(),
        key: key.into(),
        values: values.iter().map(|value| (*value).into()).collect(),
    };
    let expected = [
        set("--set", "a", &["1"]),
        set("--backend", "backend", &["http://a", "http://b"]),
        set("--listen", "listen", &["0:1"]),
        set("--set", "a", &["2"]),
    ];
    assert_eq!(args.overrides.set, expected);
    assert_eq!(args.config, Some("f".into()));
}

#[test]
fn cores_are_numbers_and_ranges_in_the_order_given() {
    assert_eq!(cores("0,1,4-7"), Some(vec![0, 1, 4, 5, 6, 7]));
    assert_eq!(cores("3,0,3"), Some(vec![3, 0, 3]), "one may be named twice");
    assert_eq!(cores("0-255").map(|cpus| cpus.len()), Some(SHARDS_MAX));
    for bad in [
        "",
        ",",
        "0,",
        "a",
        "-1",
        "1-",
        "4-1",
        "+1",
        "0 1",
        "0-256",
        "0-255,0",
        "0-18446744073709551615",
    ] {
        assert_eq!(cores(bad), None, "{bad:?}");
    }
}

#[test]
fn commands_are_words() {
    let args = ServeArgs {
        config: Some("f".into()),
        ..ServeArgs::default()
    };
    assert_eq!(try_parse("check f"), Ok(Command::Check(args.clone())));
    assert_eq!(try_parse("check --config f"), Ok(Command::Check(args)));
    assert_eq!(try_parse("demo"), Ok(Command::Demo(ServeArgs::default())));
    assert_eq!(try_parse(""), Ok(Command::Serve(ServeArgs::default())));
    for (line, command) in [
        ("--help", Command::Help),
        ("-h", Command::Help),
        ("-V", Command::Version),
    ] {
        assert_eq!(try_parse(line), Ok(command));
    }
}

#[test]
fn commands_for_a_running_process_take_their_words_and_flags() {
    let Ok(Command::Operate(args)) = try_parse("push --json CP1 Reset --wait 10s --config f --wait=20s {}") else {
        panic!("a command");
    };
    assert_eq!(
        (args.entry.name, args.words),
        ("push", ["CP1", "Reset", "{}"].map(String::from).to_vec())
    );
    assert_eq!(args.serve.config, Some("f".into()));
    let Ok(Command::Operate(args)) = try_parse("push A B --wait 10s --wait=20s") else {
        panic!("a command");
    };
    assert_eq!((args.flag("wait"), args.flag("json")), (Some("20s"), None));
    for entry in COMMANDS {
        let few = vec!["x"; entry.words_min()].join(" ");
        let many = vec!["x"; entry.words_max() + 1].join(" ");
        assert!(entry.words_min() <= entry.words_max(), "{}", entry.name);
        if entry.name != "completions" {
            assert!(try_parse(&format!("{} {few}", entry.name)).is_ok(), "{}", entry.name);
        }
        assert!(try_parse(&format!("{} {many}", entry.name)).is_err(), "{}", entry.name);
    }
    // Each flag of a command is of one that there is.
    for name in FLAGS.iter().flat_map(|flag| flag.of) {
        assert!(COMMANDS.iter().any(|entry| entry.name == *name), "{name}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let cases = [
        (
            "--lisen x",
            "unknown flag --lisen; did you mean --listen?; see ws2api --help",
        ),
        (
            "--clients-max 5",
            "unknown flag --clients-max; did you mean --set clients_max=…?; see ws2api --help",
        ),
        ("--workers 5", "unknown flag --workers; see ws2api --help"),
        ("-x", "unknown flag -x; see ws2api --help"),
        ("--help=x", "--help has no value"),
        (
            "--set clients_max",
            "--set clients_max: written as --set KEY=VALUE, such as --set call_timeout=25s",
        ),
        ("--log xml", "--log xml: text or json"),
        (
            "--cores 4-1",
            "--cores 4-1: written as a list of CPUs and ranges, such as 0,1,4-7, of at most 256 CPUs",
        ),
        ("check", "check needs a file: ws2api check FILE"),
        ("completions", "completions needs a shell: bash, zsh or fish"),
        ("completions tcsh", "completions needs a shell: bash, zsh or fish"),
        ("check a b", "\"b\" is neither a flag nor a command; see ws2api --help"),
        (
            "chekc a",
            "\"chekc\" is neither a flag nor a command; did you mean check?; see ws2api --help",
        ),
        ("push CP1", "push needs ID ACTION [JSON]: ws2api push ID ACTION [JSON]"),
        ("kick", "kick needs ID: ws2api kick ID"),
        (
            "kick CP1 --wait 10s",
            "--wait belongs to push: ws2api push ID ACTION [JSON] --wait",
        ),
        ("--strict", "--strict belongs to check: ws2api check FILE --strict"),
        ("demo a", "\"a\" is neither a flag nor a command; see ws2api --help"),
        (
            "-- --listen",
            "\"--listen\" is neither a flag nor a command; see ws2api --help",
        ),
    ];
    for (line, words) in cases {
        assert_eq!(try_parse(line).expect_err(line).to_string(), words);
    }
}

#[test]
fn no_words_panic() {
    use std::os::unix::ffi::OsStringExt as _;
    let odd: &[&[u8]] = &[
        b"",
        b"-",
        b"--",
        b"---",
        b"-=",
        b"--=",
        b"=",
        b"-h=",
        b"-hV",
        b"-Vx",
        b"--version=",
        b"--listen=",
        b"-listen",
        b"--set==",
        b"-set",
        b"--cores=-",
        b"check",
        b"demo",
        b"\xff",
        b"-\xff",
        b"--\xff",
        b"--listen=\xff",
        b"-\xc3\xa9",
    ];
    let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    for first in odd {
        for second in odd {
            if let Err(error) = parse([word(first), word(second)]) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
    let error = parse([word(b"--listen"), word(b"\xff")]).unwrap_err();
    assert_eq!(error.to_string(), "--listen has a value that is not UTF-8");
}

#[test]
fn the_help_names_every_flag_and_command() {
    let help = help();
    for flag in FLAGS {
        assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
        assert!(help.contains(flag.help), "{}", flag.name);
    }
    assert!(
        COMMANDS
            .iter()
            .all(|entry| help.contains(&entry.usage()) && help.contains(entry.what))
    );
    assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
}
