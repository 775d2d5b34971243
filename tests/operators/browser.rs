//! The status page works in headless Chromium, under load, through ChromeDriver (W3C WebDriver). Where that is not
//! installed nothing is checked; scripts/test says so.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use support::{Backend, Client, Proxy, Response, Until, Value, eventually, json};

#[test]
fn the_page_lives_finds_clients_and_says_what_is_wrong() {
    let Some(browser) = Browser::start() else { return };
    let mut backend = Backend::start();
    let proxy = Proxy::demo().backend(&backend).shards(2).start();
    let until = Until::default();
    std::thread::scope(|scope| {
        let _end = until.end();
        scope.spawn(|| talk(&proxy, &until));
        browser.open(&format!("http://{}/", proxy.admin));

        browser.wait(
            "all is well",
            "return document.querySelector('#pill.good')?.textContent === 'all well'",
        );
        browser.wait(
            "clients",
            "return document.querySelector('#tiles b').textContent === '8'",
        );
        browser.wait(
            "rates",
            "return Number(document.querySelectorAll('#tiles b')[1].textContent.split(' ')[0]) > 0",
        );
        // The numbers move and the curves are drawn anew.
        for what in [
            "document.getElementById('totals').textContent",
            "document.querySelector('#shards path:nth-of-type(3)').getAttribute('d')",
        ] {
            let before = browser.run(&format!("return {what}"));
            eventually(what, || {
                (browser.run(&format!("return {what}")) != before).then_some(())
            });
        }
        assert_eq!(
            browser.run("return document.querySelectorAll('#shards .shard').length"),
            2
        );

        browser.text("#handshakes", "no client has come with TLS");
        browser.text("#certificates", "no listen_tls");

        let search = |id: &str| {
            browser.run(&format!(
                "document.getElementById('id').value = '{id}'; document.getElementById('search').requestSubmit()"
            ));
        };
        search("CP3");
        let client = browser.text("#client", "ocpp2.0.1");
        assert!(client.contains("CP3") && client.contains("127.0.0.1"), "{client}");
        browser.run("document.querySelector('#client button').click()");
        browser.text("#client [role=status]", "the log shows it");
        proxy.wait_log("Heartbeat");
        // Its frames, live, until another client is looked for.
        browser.run("document.querySelectorAll('#client button')[2].click()");
        let frames = browser.text("#client .frames", "callresult Heartbeat");
        assert!(frames.contains("call Heartbeat"), "{frames}");
        let newest = "return document.querySelector('#client .frames li').textContent";
        let before = browser.run(newest);
        eventually("a newer frame", || (browser.run(newest) != before).then_some(()));
        assert_eq!(proxy.metric("taps"), [1.0, 1.0]);
        search("nobody");
        eventually("the tap's end", || (proxy.metric("taps") == [0.0, 0.0]).then_some(()));
        browser.text("#client", "nobody is not connected. Its home is shard ");
        support::Http::connect(proxy.listen).get("/").expect(400);
        browser.text("#refused", "the header Upgrade: websocket is missing");
        assert_eq!(browser.complaints(), [""; 0], "of the browser itself");

        backend.stop();
        let words = browser.text("#alerts", "is down: it can't be connected to");
        assert!(words.contains("Calls get InternalError"), "{words}");
        browser.wait("the pill", "return document.querySelector('#pill').className === 'bad'");
        backend.restart();
        browser.wait(
            "all is well again",
            "return document.querySelector('#pill.good') !== null",
        );
    });
}

#[test]
fn the_page_follows_an_upgrade_and_says_from_when_its_numbers_count() {
    let Some(browser) = Browser::start() else { return };
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let mut proxy = Proxy::with(&backend).shards(2).set("drain_timeout", "20s").start();
    let mut client = proxy.client("CP1");
    client.send_call("1", "Heartbeat", "{}");
    backend.take("/call");
    browser.open(&format!("http://{}/", proxy.admin));
    let about = browser.text("#about", "2 shards");
    assert!(!about.contains("counting since"), "{about}");
    let new = proxy.upgrade();
    browser.text("#under-way", "the one before it still has clients");
    let about = browser.text("#about", "when a new process took over");
    assert!(about.contains("counting since "), "{about}");
    gate.open();
    client.expect("[3,\"1\",{}]");
    assert_eq!(proxy.wait().code(), Some(0));
    browser.wait(
        "the upgrade's end",
        "return document.getElementById('under-way').hidden",
    );
    browser.text("#about", "when a new process took over");
    new.terminate();
}

#[test]
fn the_page_is_used_with_the_keyboard_and_heard_by_screen_readers() {
    let Some(browser) = Browser::start() else { return };
    let proxy = Proxy::demo().shards(2).start();
    let mut client = proxy.client("CP1");
    client.call(1);
    support::Http::connect(proxy.listen).get("/").expect(400);
    browser.open(&format!("http://{}/", proxy.admin));
    browser.wait(
        "a reason",
        "return document.querySelectorAll('#reasons .measure').length > 0",
    );
    browser.wait(
        "the shards",
        "return document.querySelectorAll('#shards dd').length > 0",
    );

    // The curves: from two minutes to an hour.
    browser.tab_to("return document.activeElement.name === 'range'");
    let label = "return document.querySelector('#node svg').getAttribute('aria-label')";
    assert!(browser.run(label).as_str().unwrap().contains("the last two minutes"));
    browser.key("ArrowRight", 39, "");
    browser.wait(
        "the hour",
        "return document.querySelector('#node svg').getAttribute('aria-label').includes('the last hour')",
    );
    // Who talks most, and from there to that client.
    browser.tab_to("return document.activeElement.parentElement.id === 'talkers'");
    browser.key("Enter", 13, "\r");
    browser.text("#top", "CP1");
    browser.tab_to("return document.activeElement.textContent === 'CP1'");
    browser.key("Enter", 13, "\r");
    browser.text("#client", "127.0.0.1");

    // What a screen reader is told: every control and picture has a name, headings skip no level.
    let nodes = browser.devtools("Accessibility.getFullAXTree", &json!({}));
    let mut seen = std::collections::BTreeMap::new();
    for node in nodes["nodes"].as_array().unwrap() {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let name = node["name"]["value"].as_str().unwrap_or_default();
        *seen.entry(role).or_insert(0) += usize::from(node["ignored"] == false);
        let is_named = [
            "image",
            "img",
            "button",
            "textbox",
            "radio",
            "combobox",
            "link",
            "region",
            "heading",
            "radiogroup",
            "columnheader",
        ];
        if node["ignored"] == false && is_named.contains(&role) {
            assert!(!name.trim().is_empty(), "{node}");
        }
    }
    let headings =
        browser.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map(one => Number(one.tagName[1]))");
    let headings: Vec<u64> = headings.as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert!(headings.len() > 5 && headings[0] == 1, "{headings:?}");
    assert!(headings.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{headings:?}");
    for role in [
        "main",
        "heading",
        "radio",
        "textbox",
        "button",
        "columnheader",
        "status",
        "list",
    ] {
        assert!(seen.get(role).is_some_and(|count| *count > 0), "{role}: {seen:?}");
    }
    assert!(["image", "img"].iter().any(|role| seen.contains_key(role)), "{seen:?}");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_page_is_readable_light_and_dark_and_fits_a_phone() {
    let Some(browser) = Browser::start() else { return };
    let proxy = Proxy::demo().shards(2).start();
    let _client = proxy.client("CP1");
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        browser.open(&format!("http://{}/", proxy.admin));
        browser.wait(
            "the shards",
            "return document.querySelectorAll('#shards dd').length > 0",
        );
        backgrounds.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
        // WCAG 2.1, 1.4.3 "Contrast (Minimum)", of every text on what lies behind it.
        let faint = browser.run(CONTRAST);
        assert_eq!(faint, json!([]), "{scheme}");
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    for width in [360, 390, 768] {
        browser.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": true }),
        );
        let wide = browser.run("return document.documentElement.scrollWidth");
        assert_eq!(wide, width, "nothing to scroll sideways");
    }
}

#[test]
fn a_page_of_a_stranger_reaches_nobody_through_the_browser() {
    let Some(browser) = Browser::start() else { return };
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).start();
    let mut client = proxy.client("CP1");
    let (ingress, admin) = (proxy.ingress, proxy.admin);
    // A page from anywhere, which a browser asks no questions about.
    browser.open("data:text/html,<title>page</title>");
    for script in [
        format!(
            "fetch('http://{ingress}/call/Reset/CP1/m1', {{method: 'POST', mode: 'no-cors', body: new Blob(['{{}}'])}})"
        ),
        format!("navigator.sendBeacon('http://{ingress}/call/Reset/CP1/m2', new Uint8Array([123, 125]))"),
        format!("new WebSocket('ws://{ingress}/clients/CP1')"),
        format!("fetch('http://{admin}/trace?client=CP1', {{method: 'POST', mode: 'no-cors'}})"),
        format!("new Image().src = 'http://{admin}/debug/pprof/profile?seconds=300'"),
    ] {
        browser.run(&script);
    }
    // A page whose name points here all of a sudden: what it asks is of the same origin then.
    for (port, key) in [(ingress.port(), "ingress_hosts"), (admin.port(), "admin_hosts")] {
        browser.open(&format!("http://attacker.example:{port}/clients/CP1"));
        browser.text("body", key);
        browser.run("fetch('/clients/CP1', {method: 'DELETE'})");
        browser.run("fetch('/call/Reset/CP1/m3', {method: 'POST', body: new Blob(['{}'])})");
        browser.run("fetch('/trace?client=CP1', {method: 'POST'})");
    }
    eventually("all to be refused", || (proxy.count("ingress_bad") >= 6).then_some(()));
    proxy.push("CP1", "Reset", "fence", "{}").expect(202);
    client.expect("[2,\"fence\",\"Reset\",{}]");
    assert!(!proxy.stderr().contains("trace"), "{}", proxy.stderr());
    // Nobody has the profiler.
    support::Http::connect(admin).download("/debug/pprof/profile?seconds=1");
}

#[test]
fn the_page_asks_for_the_token_and_works_with_it() {
    let Some(browser) = Browser::start() else { return };
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-page-token", std::process::id()));
    std::fs::write(&file, "s3cret\n").unwrap();
    let proxy = Proxy::demo().set("admin_token_file", file.to_str().unwrap()).start();
    let _client = proxy.client("CP1");
    browser.open(&format!("http://{}/", proxy.admin));
    assert_eq!(
        browser.run("return document.querySelector('#pill')"),
        Value::Null,
        "nothing without it"
    );
    // As if it had been typed in.
    browser.open(&format!("http://anyone:s3cret@{}/", proxy.admin));
    browser.open(&format!("http://{}/", proxy.admin));
    browser.wait(
        "all is well",
        "return document.querySelector('#pill.good')?.textContent === 'all well'",
    );
    browser.run("document.getElementById('id').value = 'CP1'; document.getElementById('search').requestSubmit()");
    browser.text("#client", "127.0.0.1");
    browser.run("document.querySelector('#client button').click()");
    browser.text("#client [role=status]", "the log shows it");
}

/// Texts with less than 4.5 : 1, and the ratio.
const CONTRAST: &str = "
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(part => part / 255)
        .map(part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
        .reduce((sum, part, i) => sum + part * [.2126, .7152, .0722][i], 0);
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
    };
    const faint = [], seen = [];
    for (const element of document.querySelectorAll('body *')) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
        if (['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        seen.push(ratio);
        if (ratio < 4.5) faint.push(`${element.textContent.trim()}: ${ratio.toFixed(2)}`);
    }
    return seen.length > 30 ? faint : ['too few texts were seen'];
";

fn talk(proxy: &Proxy, until: &Until) {
    let mut clients: Vec<Client> = (0..8)
        .map(|number| proxy.client_of("ocpp2.0.1", &format!("CP{number}")))
        .collect();
    let mut number = 0;
    while !until.is_over() {
        for client in &mut clients {
            number += 1;
            client.send_call(&number.to_string(), "Heartbeat", "{}");
            // CallErrors while there is no backend.
            client.text();
        }
    }
}

struct Browser {
    driver: Child,
    address: String,
    session: String,
}

impl Browser {
    fn start() -> Option<Self> {
        let spawned = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = spawned else {
            eprintln!("chromedriver is not installed: not checked");
            return None;
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.to_owned())
        });
        // It may have more to say.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self {
            driver,
            address: format!("127.0.0.1:{}", port.expect("its port").trim_end_matches('.')),
            session: String::new(),
        };
        // Nothing that it would do on the network by itself.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--window-size=1280,1000",
            // Other browsers have nothing of the kind.
            "--disable-features=LocalNetworkAccessChecks",
            // What the attacker's own name server would say.
            "--host-resolver-rules=MAP attacker.example 127.0.0.1",
        ];
        let session = browser.ask(
            "/session",
            &json!({ "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": { "args": arguments },
                "goog:loggingPrefs": { "browser": "ALL" },
            } } }),
        );
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn ask(&self, target: &str, body: &Value) -> Value {
        let body = body.to_string();
        let target = format!("{}{target}", self.session);
        let (status, text) = self.request("POST", &target, &body);
        assert_eq!(status, 200, "{target} {body}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }

    /// Status and body of an answer. ChromeDriver writes its headers without spaces, which a strict reader refuses.
    fn request(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let (address, len) = (&self.address, body.len());
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut input = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(input.read_line(&mut head).unwrap(), 0, "a head: {head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // It does not close when asked to.
        let lower = head.to_ascii_lowercase();
        let (_, rest) = lower.split_once("content-length:").expect("a length");
        let mut body = vec![0; rest.lines().next().unwrap().trim().parse().unwrap()];
        input.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.ask("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// A key is pressed and let go; `text` is what it types.
    fn key(&self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut parameters = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                parameters["text"] = text.into();
            }
            self.devtools("Input.dispatchKeyEvent", &parameters);
        }
    }

    /// Goes on with the tabulator until `is_there`; the page has not so many stops.
    fn tab_to(&self, is_there: &str) {
        let found = (0..60).any(|_| {
            self.key("Tab", 9, "");
            self.run(is_there) == Value::Bool(true)
        });
        assert!(found, "{is_there}: no stop of the tabulator");
    }

    fn wait(&self, what: &str, script: &str) {
        eventually(what, || (self.run(script) == Value::Bool(true)).then_some(()));
    }

    /// Waits until what `selector` finds says `words`, and gives all of it.
    fn text(&self, selector: &str, words: &str) -> String {
        let script = format!("return document.querySelector('{selector}')?.textContent ?? ''");
        eventually(words, || {
            let text = self.run(&script).as_str().unwrap().to_owned();
            text.contains(words).then_some(text)
        })
    }

    /// Errors on its console.
    fn complaints(&self) -> Vec<String> {
        let log = self.ask("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().unwrap().iter();
        let grave = entries.filter(|entry| entry["level"] == "SEVERE");
        // That a client is not connected is a 404, which it tells, too.
        let other = grave.filter(|entry| !entry["message"].as_str().unwrap().contains("/clients/nobody"));
        other.map(Value::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It takes the browser with it.
        if !self.session.is_empty() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.request("DELETE", &self.session, "");
            }));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
