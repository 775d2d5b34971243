//! Holds every command and every flag once: how each is written, and one sentence on what it does.

/// A flag of the command line, as the parser and the help need it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flag {
    /// The long name, without its dashes.
    pub name: &'static str,
    /// Its short form, a single letter without the dash.
    pub short: Option<char>,
    /// What its value is called; `None`: it has none.
    pub value: Option<&'static str>,
    /// Whether it may be given again to add to the first.
    pub repeats: bool,
    /// The commands that have it; empty: whatever reads a configuration.
    pub of: &'static [&'static str],
    /// One sentence for the help text and the man page.
    pub help: &'static str,
}

/// A command beside plain serving.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The first word.
    pub name: &'static str,
    /// What may follow it, as the help shows it; what is in brackets may be left out.
    pub words: &'static str,
    /// One sentence for the help text and the man page.
    pub what: &'static str,
}

impl Entry {
    /// How it is called, without the program's name.
    #[must_use]
    pub fn usage(&self) -> String {
        format!("{} {}", self.name, self.words).trim_end().to_owned()
    }

    /// How many words it needs.
    #[must_use]
    pub fn words_min(&self) -> usize {
        let words = self.words.split_whitespace();
        words.filter(|word| !word.starts_with('[')).count()
    }

    /// How many words it takes.
    #[must_use]
    pub fn words_max(&self) -> usize {
        self.words.split_whitespace().count()
    }
}

/// Every command, in the order of the help text. Those behind `completions` ask a running process.
pub const COMMANDS: &[Entry] = &[
    Entry {
        name: "check",
        words: "FILE",
        what: "Check a configuration, print it resolved, warn where the machine does not carry it.",
    },
    Entry {
        name: "demo",
        words: "",
        what: "Run the proxy with a built-in backend on free ports, and print what to try.",
    },
    Entry {
        name: "man",
        words: "",
        what: "Print the man page: ws2api man | man -l -",
    },
    Entry {
        name: "completions",
        words: "SHELL",
        what: "Print the completions for bash, zsh or fish.",
    },
    Entry {
        name: "status",
        words: "",
        what: "How a running process is: what is wrong, its shards, its backends.",
    },
    Entry {
        name: "clients",
        words: "[ID]",
        what: "Who is connected, or how one client is.",
    },
    Entry {
        name: "push",
        words: "ID ACTION [JSON]",
        what: "Send a Call to a client, as a backend would; payload: {}, JSON, @FILE, or - for stdin.",
    },
    Entry {
        name: "kick",
        words: "ID",
        what: "Close a client's connection.",
    },
    Entry {
        name: "tap",
        words: "",
        what: "Show the clients' frames as they come.",
    },
    Entry {
        name: "replay",
        words: "FILE",
        what: "Play the clients of a recorded tap against a server, and say what it answers otherwise.",
    },
    Entry {
        name: "load",
        words: "[URL]",
        what: "Play many chargers to a central system, ws[s]://[:PASSWORD@]host/, say how it answers.",
    },
    Entry {
        name: "reload",
        words: "",
        what: "Read the configuration and the tokens again, as SIGHUP does, and say what has changed.",
    },
    Entry {
        name: "upgrade",
        words: "",
        what: "Start the program that is at its path now, which takes over; or say why it does not.",
    },
];

/// Every flag, in the order of the help text.
pub const FLAGS: &[Flag] = &[
    flag("listen", "ADDR", "Where clients connect."),
    flag("ingress", "ADDR", "Where the backend posts its pushes."),
    flag("admin", "ADDR", "Health, metrics, status page and profiles."),
    Flag {
        repeats: true,
        ..flag(
            "backend",
            "URL",
            "Where requests go: http[s]://host:port[/prefix] or unix:/path.",
        )
    },
    flag(
        "cores",
        "LIST",
        "One shard per CPU named, such as 0,1,4-7 [every usable one]; one may be named twice.",
    ),
    flag("config", "FILE", "Read the configuration from FILE; flags win over it."),
    Flag {
        repeats: true,
        ..flag("set", "KEY=VALUE", "Set any key of the configuration, for every shard.")
    },
    flag(
        "cpuprofile",
        "FILE",
        "Write a CPU profile (pprof) to FILE at exit and on SIGUSR1.",
    ),
    flag(
        "memprofile",
        "FILE",
        "Write a heap profile (pprof) to FILE at exit and on SIGUSR1.",
    ),
    flag(
        "log",
        "FORMAT",
        "How the log on standard error looks: text or json. [text]",
    ),
    flag(
        "trace-client",
        "ID",
        "Log every frame of the client with this ClientId.",
    ),
    Flag {
        of: &["check"],
        ..switch("strict", "Of check: a warning makes its exit code 1.")
    },
    Flag {
        of: &["check"],
        ..switch(
            "elsewhere",
            "Of check: FILE is for another machine; leave alone what is to be found here.",
        )
    },
    Flag {
        of: &["demo"],
        ..switch(
            "tls",
            "Of demo: clients may come with TLS, too (wss); it makes a certificate.",
        )
    },
    Flag {
        of: OPERATE,
        ..switch("json", "Of commands for a running process: one JSON object per line.")
    },
    Flag {
        of: &["push"],
        ..flag(
            "wait",
            "TIME",
            "Of push: wait so long for the client's answer, such as 10s, and print it.",
        )
    },
    Flag {
        of: &["kick"],
        ..flag(
            "code",
            "NUMBER",
            "Of kick: the close code, 1000 or 3000 to 4999. [1000]",
        )
    },
    Flag {
        of: &["kick"],
        ..flag("reason", "TEXT", "Of kick: the close reason, at most 123 bytes.")
    },
    Flag {
        of: &["tap"],
        ..flag("client", "ID", "Of tap: the frames of this client alone.")
    },
    Flag {
        of: &["tap"],
        ..flag("action", "ACTION", "Of tap: these Calls and their answers alone.")
    },
    Flag {
        of: &["tap"],
        ..flag("direction", "WAY", "Of tap: in (from clients) or out (to them) alone.")
    },
    Flag {
        of: &["replay"],
        ..flag(
            "to",
            "URL",
            "Of replay: where to, ws://[:PASSWORD@]host:port[/prefix/]. [listen of the configuration]",
        )
    },
    Flag {
        of: &["replay"],
        ..flag("speed", "NUMBER", "Of replay: so many times as fast as it was. [1]")
    },
    Flag {
        of: &["replay"],
        ..switch("fast", "Of replay: as fast as the server answers.")
    },
    Flag {
        of: LOAD,
        ..flag("chargers", "N", "Of load: how many. [1]")
    },
    Flag {
        of: LOAD,
        ..flag(
            "ocpp",
            "VERSION",
            "Of load: what they speak: 1.6, 2.0.1, or 1.6,2.0.1. [1.6]",
        )
    },
    Flag {
        of: LOAD,
        ..flag(
            "id",
            "PATTERN",
            "Of load: their ids; {} is the number, {:06} with six digits. [LOAD{}]",
        )
    },
    Flag {
        of: LOAD,
        ..flag(
            "ramp",
            "TIME",
            "Of load: in this time they connect; 0: all at once. [10s]",
        )
    },
    Flag {
        of: LOAD,
        ..flag("duration", "TIME", "Of load: how long it goes on then. [60s]")
    },
    Flag {
        of: LOAD,
        ..flag(
            "interval",
            "TIME",
            "Of load: between two steps of a charger's transaction; 0: when it is answered. [10s]",
        )
    },
    Flag {
        of: LOAD,
        ..flag(
            "rate",
            "N",
            "Of load: the same, as Calls a second of all chargers together.",
        )
    },
    Flag {
        of: LOAD,
        ..flag(
            "storm",
            "TIME",
            "Of load: so often all lose their connections, and come back at once.",
        )
    },
    Flag {
        of: LOAD,
        ..flag(
            "timeout",
            "TIME",
            "Of load: a Call or a handshake is not waited for any longer. [30s]",
        )
    },
    Flag {
        of: LOAD,
        ..flag(
            "threads",
            "N",
            "Of load: how many play them. [as the limit of open files needs]",
        )
    },
    Flag {
        of: LOAD,
        ..flag(
            "ca",
            "FILE",
            "Of load, with wss: whose certificates are believed, in PEM. [the system's]",
        )
    },
    Flag {
        short: Some('h'),
        ..switch("help", "Print this help.")
    },
    Flag {
        short: Some('V'),
        ..switch("version", "Print the version.")
    },
];

/// The commands that ask a running process.
const OPERATE: &[&str] = &[
    "status", "clients", "push", "kick", "tap", "replay", "load", "reload", "upgrade",
];

const LOAD: &[&str] = &["load"];

const fn flag(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        value: Some(value),
        repeats: false,
        of: &[],
        help,
    }
}

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        value: None,
        ..flag(name, "", help)
    }
}
