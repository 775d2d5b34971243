//! Writes the man page and the shells' completions, from the same tables as the parser and the help.

use std::fmt::Write as _;

use crate::cli::table::{COMMANDS, Entry, FLAGS, Flag};
use crate::config::{Key, When};

/// Shells that [`completions`] knows.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The man page, in roff: `ws2api man | man -l -`.
#[must_use]
pub fn man() -> String {
    let mut page = String::from(
        ".TH WS2API 8 \"\" \"ws2api\" \"System administration\"\n.SH NAME\n\
         ws2api \\- very many WebSocket clients, served by a plain HTTP backend\n.SH SYNOPSIS\n\
         .B ws2api\n[\\fIFLAGS\\fR]\n",
    );
    for entry in COMMANDS {
        let _ = writeln!(page, ".br\n.B ws2api {}", escape(&entry.usage()));
    }
    page.push_str(DESCRIPTION);
    page.push_str(".SH COMMANDS\n");
    for entry in COMMANDS {
        let _ = writeln!(page, ".TP\n.B {}\n{}", escape(&entry.usage()), escape(entry.what));
    }
    page.push_str(OPERATING);
    page.push_str(".SH FLAGS\nWith one dash or two, the value after = or a space. Flags win over the file.\n");
    for flag in FLAGS {
        let value = flag
            .value
            .map_or_else(String::new, |value| format!(" \\fI{}\\fR", escape(value)));
        let short = flag.short.map_or_else(String::new, |short| format!("\\-{short}, "));
        let _ = writeln!(
            page,
            ".TP\n.B {short}\\-\\-{}\\fR{value}\n{}",
            escape(flag.name),
            escape(flag.help)
        );
        if flag.repeats {
            page.push_str("May be given again.\n");
        }
    }
    page.push_str(
        ".SH CONFIGURATION\nA TOML file; each key can be set with \\fB\\-\\-set\\fR \\fIkey\\fR=\\fIvalue\\fR too. \
         What SIGHUP changes is marked * (at once) or + (for clients that connect from then on).\n",
    );
    for key in Key::all() {
        let mark = match key.when {
            When::Now => " *",
            When::NewClients => " +",
            When::Restart => "",
        };
        let default = escape(&key.default_literal());
        let _ = writeln!(page, ".TP\n.B {}\\fR = {default}{mark}", escape(key.name));
        for line in key.why() {
            let _ = writeln!(page, "{}", escape(line));
        }
        let _ = writeln!(page, "Allowed: {}.", escape(&key.kind.to_string()));
    }
    page.push_str(SIGNALS);
    page
}

/// The completion script of one of [`SHELLS`].
#[must_use]
pub fn completions(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

fn bash() -> String {
    let flags: Vec<String> = FLAGS.iter().map(|flag| format!("--{}", flag.name)).collect();
    let with_file: Vec<String> = flag_names(is_file);
    let with_value: Vec<String> = flag_names(|flag| flag.value.is_some() && !is_file(flag) && choices(flag).is_empty());
    let mut cases = String::new();
    for flag in FLAGS.iter().filter(|flag| !choices(flag).is_empty()) {
        let _ = writeln!(
            cases,
            "    --{0}|-{0}) COMPREPLY=($(compgen -W '{1}' -- \"$word\")); return ;;",
            flag.name,
            choices(flag).join(" ")
        );
    }
    format!(
        "# bash completion of ws2api: ws2api completions bash > /etc/bash_completion.d/ws2api\n\
         _ws2api() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}\n  COMPREPLY=()\n\
         \x20 case $before in\n\
         \x20   {files}|check) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n\
         \x20   completions) COMPREPLY=($(compgen -W '{shells}' -- \"$word\")); return ;;\n\
         {cases}\
         \x20   {values}) return ;;\n\
         \x20 esac\n\
         \x20 case $word in\n\
         \x20   -*) COMPREPLY=($(compgen -W '{flags}' -- \"$word\")) ;;\n\
         \x20   *) [ \"$COMP_CWORD\" -eq 1 ] && COMPREPLY=($(compgen -W '{commands}' -- \"$word\")) ;;\n\
         \x20 esac\n}}\ncomplete -F _ws2api ws2api\n",
        files = with_file.join("|"),
        shells = SHELLS.join(" "),
        values = with_value.join("|"),
        flags = flags.join(" "),
        commands = command_names().join(" "),
    )
}

fn zsh() -> String {
    let mut arguments = String::new();
    for flag in FLAGS {
        let repeats = if flag.repeats { "*" } else { "" };
        let words = choices(flag);
        let value = match flag.value {
            None => String::new(),
            Some(value) if is_file(flag) => format!(":{value}:_files"),
            Some(value) if !words.is_empty() => format!(":{value}:({})", words.join(" ")),
            Some(value) => format!(":{value}: "),
        };
        let help = flag
            .help
            .replace('\'', "'\\''")
            .replace('[', "\\[")
            .replace(']', "\\]")
            .replace(':', "\\:");
        let _ = writeln!(arguments, "  '{repeats}--{}[{help}]{value}' \\", flag.name);
    }
    let commands: Vec<String> = COMMANDS
        .iter()
        .map(|entry| format!("{}\\:'{}'", entry.name, entry.what.replace(['\'', '"'], "")))
        .collect();
    format!(
        "#compdef ws2api\n# zsh completion of ws2api: ws2api completions zsh > \"${{fpath[1]}}/_ws2api\"\n\
         _arguments -s \\\n{arguments}  \"1:command:(({}))\" \\\n  '2: :_files'\n",
        commands.join(" ")
    )
}

fn fish() -> String {
    let mut text =
        String::from("# fish completion of ws2api: ws2api completions fish > ~/.config/fish/completions/ws2api.fish\n");
    let quote = |words: &str| format!("'{}'", words.replace('\\', "\\\\").replace('\'', "\\'"));
    for Entry { name, what, .. } in COMMANDS {
        let what = quote(what);
        let _ = writeln!(text, "complete -c ws2api -n __fish_use_subcommand -a {name} -d {what}");
    }
    for flag in FLAGS {
        let words = choices(flag);
        let value = match flag.value {
            None => String::new(),
            Some(_) if is_file(flag) => " -r -F".to_owned(),
            Some(_) if !words.is_empty() => format!(" -x -a '{}'", words.join(" ")),
            Some(_) => " -x".to_owned(),
        };
        let short = flag.short.map_or_else(String::new, |short| format!(" -s {short}"));
        let _ = writeln!(
            text,
            "complete -c ws2api -l {}{short}{value} -d {}",
            flag.name,
            quote(flag.help)
        );
    }
    let _ = writeln!(
        text,
        "complete -c ws2api -n '__fish_seen_subcommand_from completions' -x -a '{}'",
        SHELLS.join(" ")
    );
    text
}

fn is_file(flag: &Flag) -> bool {
    flag.value == Some("FILE")
}

fn choices(flag: &Flag) -> &'static [&'static str] {
    if flag.name == "log" { &["text", "json"] } else { &[] }
}

fn flag_names(is: impl Fn(&Flag) -> bool) -> Vec<String> {
    let flags = FLAGS.iter().filter(|flag| is(flag));
    flags
        .flat_map(|flag| [format!("--{}", flag.name), format!("-{}", flag.name)])
        .collect()
}

fn command_names() -> Vec<&'static str> {
    COMMANDS.iter().map(|entry| entry.name).collect()
}

/// roff: a dash is a hyphen unless it is escaped, and a line must not begin with a dot or a quote.
fn escape(text: &str) -> String {
    // A bare quotation mark begins an argument of a macro.
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

const DESCRIPTION: &str = "\
.SH DESCRIPTION
ws2api holds very many WebSocket clients on one machine, turns their Calls into HTTP requests to a backend, and the
backend's HTTP requests into Calls to a client. One shard (a thread with everything it owns) runs on each CPU named.
.PP
Operators look at the admin address: / is a status page, /metrics is for Prometheus, /healthz and /readyz for load
balancers, /debug/pprof/ for profiles. POST /trace?client=ID logs the frames of one client until DELETE /trace.
";
const OPERATING: &str = "\
.PP
Those from status on ask a running process: at the addresses of \\-\\-config, of \\-\\-ingress and \\-\\-admin (host:port), or at the
defaults, with the tokens that the configuration names. What they print is aligned for people, in colours on a terminal
unless NO_COLOR is set; with \\-\\-json it is one object per line. replay and load play clients, to any server.
";
const SIGNALS: &str = "\
.SH SIGNALS
.TP
.B SIGTERM, SIGINT
No new clients; what is under way is finished within drain_timeout, clients leave within drain_spread. A second one ends
at once.
.TP
.B SIGHUP
Read the configuration and the tokens again. What changes is logged, and what would need a restart. A configuration that
is wrong changes nothing.
.TP
.B SIGUSR1
Write the profiles that \\-\\-cpuprofile and \\-\\-memprofile name.
.TP
.B SIGUSR2
Start the program at its own path anew, with the same arguments: it gets the listeners and takes over, and the clients move to
it. If it does not serve within upgrade_timeout, nothing has changed. ws2api upgrade does the same and says how it went.
.SH ENVIRONMENT
.TP
.B RUST_LOG
What is logged, such as \\fIwarn\\fR or \\fIdebug\\fR.
.TP
.B NOTIFY_SOCKET
Where the service manager listens (sd_notify).
.TP
.B NO_COLOR
Commands print without colours.
.TP
.B STATE_DIRECTORY
Where a mark lies while it runs (StateDirectory= of systemd): the next start says it when the end before was none.
.SH EXIT STATUS
0 after a drain, 1 when it could not start or broke, 2 for a wrong command line, 130 after a second signal.
.PP
Of commands for a running process: 0, 1 when it, or the client, refuses, 2 for a wrong command line or configuration, 3 when nobody
answers there or the client is not connected.
";

#[cfg(test)]
mod tests {
    use super::*;

    /// groff takes quotation marks for its own at the beginning of a macro's argument.
    #[test]
    fn quotation_marks_of_defaults_are_shown() {
        let page = man();
        let macros = page.lines().filter(|line| line.starts_with(".B "));
        assert!(macros.clone().count() > 40);
        assert!(macros.clone().all(|line| !line.contains('"')), "a bare quotation mark");
        let line = macros
            .clone()
            .find(|line| line.starts_with(".B subprotocols"))
            .expect("a key");
        assert!(line.contains(r"[\(dqocpp2.1\(dq, \(dqocpp2.0.1\(dq, "), "{line}");
    }

    #[test]
    fn every_flag_command_and_key_is_in_the_page_and_every_flag_and_command_in_the_completions() {
        let page = man();
        for flag in FLAGS {
            assert!(page.contains(&format!("\\-\\-{}", escape(flag.name))), "{}", flag.name);
        }
        for key in Key::all() {
            assert!(page.contains(&format!(".B {}\\fR", escape(key.name))), "{}", key.name);
        }
        for shell in SHELLS {
            let script = completions(shell).unwrap();
            for name in FLAGS.iter().map(|flag| flag.name).chain(command_names()) {
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
        assert_eq!(completions("tcsh"), None);
    }
}
