//! Holds the running server against docs/openapi.yaml and docs/openapi-backend.yaml (`http-12`): every operation with
//! every status that is documented is provoked, and what is said and asked must be what the documents say.

use std::collections::BTreeSet;

use support::{Backend, Client, Handshake, Http, Proxy, Reply, Request, Response, Value, json, proxy_protocol};

#[test]
fn the_ingress_answers_as_its_document_says_and_with_every_status_in_it() {
    let mut contract = Contract::read("docs/openapi.yaml");
    let backend = Backend::start();
    backend.on("/call/Defer", |_| {
        Response::with_headers(202, &[("X-Deferred", "1")], "")
    });
    let proxy = Proxy::with(&backend)
        .shards(2)
        .set("pushes_queued", "1")
        .set("message_max", "4KiB")
        .start();

    pushes(&mut contract, &proxy);
    deferred(&mut contract, &proxy);
    clients(&mut contract, &proxy);
    refusals_of_every_operation(&mut contract, &proxy);

    let impatient = Proxy::with(&backend).set("handshake_timeout", "200ms").start();
    for (template, method, target) in OPERATIONS {
        let mut http = Http::connect(impatient.ingress);
        http.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n{{"
        ));
        contract.check(template, method, &http.reply().expect(408));
    }

    let full = Proxy::with(&backend).set("ingress_connections_max", "1").start();
    let mut client = full.client("CP1");
    let mut first = full.http();
    let wait = [("Prefer", "wait=60")];
    first.send_request("POST", "/call/Reset/CP1/w", &wait, "{}");
    client.expect("[2,\"w\",\"Reset\",{}]");
    for (template, method, target) in OPERATIONS {
        let mut second = full.http();
        second.send_request(method, target, &[], "{}");
        contract.check(template, method, &second.reply().expect(503));
    }

    let file = std::env::temp_dir().join(format!("ws2api-openapi-{}", std::process::id()));
    std::fs::write(&file, "s3cret\n").unwrap();
    let guarded = Proxy::with(&backend)
        .set("ingress_token_file", file.to_str().unwrap())
        .start();
    std::fs::remove_file(&file).unwrap();
    for (template, method, target) in OPERATIONS {
        contract.check(
            template,
            method,
            &guarded.http().request(method, target, &[], "{}").expect(401),
        );
    }
    contract.assert_all_seen();
}

#[test]
fn the_backend_is_asked_as_its_document_says_and_everything_in_it() {
    let contract = Contract::read("docs/openapi-backend.yaml");
    let backend = Backend::start();
    let proxy = Proxy::with(&backend).set("proxy_protocol", "true").start();
    let handshake = Handshake::new("CP 1:é")
        .subprotocols("ocpp2.1")
        .basic("CP 1:é", "secret")
        .header("Origin", "https://example.org")
        .header("User-Agent", "charger/1");
    let words = [(0x21, "TLSv1.3"), (0x22, "CP 1:é"), (0x23, "TLS_AES_256_GCM_SHA384")];
    let words = words.map(|(kind, word)| proxy_protocol::value(kind, word.as_bytes()));
    let tls = proxy_protocol::ssl(0x07, 0, &words);
    let mut http = Http::connect(proxy.listen);
    http.send([proxy_protocol::header([192, 0, 2, 7], &tls), handshake.bytes()].concat());
    let mut client = Client::upgrade(http);
    client.send_call("c1", "Heartbeat", "{}");
    client.text();
    client.send(r#"[5,"c1","InternalError","",{}]"#);
    client.send(r#"[6,"s1","NotifyPeriodicEventStream",{"a":1}]"#);
    for (id, answer) in [
        ("p1", r#"[3,"p1",{"a":1}]"#),
        ("p2", r#"[4,"p2","NotSupported","no",{}]"#),
    ] {
        proxy.push("CP 1:é", "Reset", id, "{}").expect(202);
        client.text();
        client.send(answer);
    }
    proxy.push("CP 1:é", "Reset", "p3", "{}").expect(202);
    client.text();
    client.vanish();
    backend.wait_seen("/disconnect", 1);
    backend.wait_seen("/error", 2);
    backend.wait_seen("/result", 1);
    backend.wait_seen("/send", 1);
    backend.wait_seen("/resulterror", 1);
    let mut asked = BTreeSet::new();
    for request in backend.seen("/") {
        asked.insert(contract.check_request(&request));
    }
    let documented: BTreeSet<String> = contract.document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(asked, documented);
}

/// Path, method, and a target that fits it.
const OPERATIONS: [(&str, &str, &str); 7] = [
    ("/call/{action}/{clientId}/{messageId}", "POST", "/call/A/CP/m"),
    ("/result/{action}/{clientId}/{messageId}", "POST", "/result/A/CP/m"),
    ("/error/{action}/{clientId}/{messageId}", "POST", "/error/A/CP/m"),
    ("/clients", "GET", "/clients"),
    ("/nodes", "GET", "/nodes"),
    ("/clients/{clientId}", "GET", "/clients/CP"),
    ("/clients/{clientId}", "DELETE", "/clients/CP"),
];
const PUSH: (&str, &str) = ("/call/{action}/{clientId}/{messageId}", "POST");

fn pushes(contract: &mut Contract, proxy: &Proxy) {
    let mut client = proxy.client_of("ocpp1.6", "CP1");
    let mut check = |reply: &Reply| contract.check(PUSH.0, PUSH.1, reply);
    let wait = |id: &str, seconds: &str| {
        let mut http = proxy.http();
        let wait = format!("wait={seconds}");
        http.send_request("POST", &format!("/call/Reset/CP1/{id}"), &[("Prefer", &wait)], "{}");
        http
    };
    let mut first = wait("w1", "30");
    client.text();
    check(&proxy.push("CP1", "Reset", "w1", "{}").expect(409));
    check(&proxy.push("CP1", "Reset", "q1", "{}").expect(202));
    check(&proxy.push("CP1", "Reset", "q2", "{}").expect(429));
    client.send_result("w1", "{}");
    check(&first.reply().expect(200));
    client.text();
    client.send_result("q1", "{}");
    let mut second = wait("w2", "30");
    client.text();
    client.send(r#"[4,"w2","NotSupported","no such reset",{}]"#);
    check(&second.reply().expect(422));
    check(&wait("w3", "1").reply().expect(504));
    client.text();
    client.send_result("w3", "{}");
    let mut last = wait("w4", "30");
    client.text();
    client.vanish();
    check(&last.reply().expect(502));
    check(&proxy.push("nobody", "Reset", "m", "{}").expect(404));
    check(&proxy.push("nobody", "Reset", "m", "{").expect(400));
}

fn deferred(contract: &mut Contract, proxy: &Proxy) {
    let mut client = proxy.client_of("ocpp1.6", "CP2");
    for (kind, id, body) in [("result", "d1", "{}"), ("error", "d2", r#"{"code":"SecurityError"}"#)] {
        let template = format!("/{kind}/{{action}}/{{clientId}}/{{messageId}}");
        let target = format!("/{kind}/Defer/CP2/{id}");
        client.send_call(id, "Defer", "{}");
        support::eventually("the Call to be deferred", || {
            let described = proxy.http().get("/clients/CP2").json();
            (described["pending"]["callsDeferred"] == json!(1)).then_some(())
        });
        contract.check(&template, "POST", &proxy.http().post(&target, "<html>").expect(400));
        contract.check(&template, "POST", &proxy.http().post(&target, body).expect(204));
        client.text();
        contract.check(&template, "POST", &proxy.http().post(&target, body).expect(409));
        let other = format!("/{kind}/Defer/CP2/other");
        contract.check(&template, "POST", &proxy.http().post(&other, body).expect(404));
    }
}

fn clients(contract: &mut Contract, proxy: &Proxy) {
    let _clients: Vec<_> = (0..3).map(|number| proxy.client(&format!("L{number}"))).collect();
    let mut http = proxy.http();
    let page = http.get("/clients?limit=2").expect(200);
    contract.check("/clients", "GET", &page);
    let next = page.json()["next"].as_str().unwrap().to_owned();
    contract.check(
        "/clients",
        "GET",
        &http.get(&format!("/clients?limit=1000&after={next}")).expect(200),
    );
    contract.check("/clients", "GET", &http.get("/clients?limit=1001").expect(400));
    let nodes = http.get("/nodes").expect(200);
    contract.check("/nodes", "GET", &nodes);
    assert!(nodes.json()["nodes"][0]["clients"].as_u64() >= Some(3), "{nodes:?}");
    let one = "/clients/{clientId}";
    contract.check(one, "GET", &http.get("/clients/L1").expect(200));
    contract.check(one, "GET", &http.get("/clients/nobody").expect(404));
    contract.check(one, "GET", &http.get("/clients/..").expect(400));
    contract.check(
        one,
        "DELETE",
        &http.request("DELETE", "/clients/L1?code=1005", &[], "").expect(400),
    );
    contract.check(
        one,
        "DELETE",
        &http.request("DELETE", "/clients/L1?code=4000", &[], "").expect(204),
    );
    contract.check(
        one,
        "DELETE",
        &http.request("DELETE", "/clients/L1", &[], "").expect(404),
    );
}

/// What any request may come to, whatever it asks for.
fn refusals_of_every_operation(contract: &mut Contract, proxy: &Proxy) {
    for (template, method, target) in OPERATIONS {
        let line = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n");
        let raw = |bytes: String| {
            let mut http = Http::connect(proxy.ingress);
            http.send(bytes);
            http.reply()
        };
        let mut check = |reply: &Reply| contract.check(template, method, reply);
        let page = [("Origin", "http://attacker.example")];
        check(&proxy.http().request(method, target, &page, "{}").expect(403));
        check(&raw(format!("{line}Content-Length: 5000\r\n\r\n")).expect(413));
        check(&raw(format!("{line}X: {}\r\n\r\n", "x".repeat(9000))).expect(431));
        check(&raw(format!("{line}Transfer-Encoding: gzip\r\n\r\n")).expect(501));
        check(&raw(format!("{method} {target} HTTP/1.2\r\nHost: h\r\n\r\n")).expect(505));
        if method == "POST" {
            check(
                &raw(format!(
                    "{line}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"
                ))
                .expect(415),
            );
        }
        contract.check(
            template,
            "PUT",
            &proxy.http().request("PUT", target, &[], "{}").expect(405),
        );
    }
    contract.check("/elsewhere", "GET", &proxy.http().get("/elsewhere").expect(404));
}

/// A document, and what of it was seen.
struct Contract {
    document: Value,
    seen: BTreeSet<String>,
}

impl Contract {
    fn read(file: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let document = serde_yaml_ng::from_str(&text).unwrap();
        Self {
            document,
            seen: BTreeSet::new(),
        }
    }

    /// Follows one reference, if it is one.
    fn resolve<'d>(&'d self, value: &'d Value) -> &'d Value {
        match value["$ref"].as_str() {
            Some(reference) => self
                .document
                .pointer(reference.trim_start_matches('#'))
                .expect(reference),
            None => value,
        }
    }

    /// Where a documented answer stands, as a JSON pointer's parts.
    fn answers(&self, template: &str, method: &str) -> Option<(String, &Value)> {
        let Some(path) = self.document["paths"].get(template) else {
            return Some(("x-other-paths".to_owned(), &self.document["x-other-paths"]));
        };
        match path.get(method.to_lowercase()) {
            Some(operation) => Some((format!("{method} {template}"), &operation["responses"])),
            None => Some((format!("other {template}"), path.get("x-other-methods")?)),
        }
    }

    #[track_caller]
    fn check(&mut self, template: &str, method: &str, reply: &Reply) {
        let (place, answers) = self.answers(template, method).expect("a documented operation");
        let answer = answers.get(reply.status.to_string());
        let answer = self.resolve(answer.unwrap_or_else(|| panic!("{place}: {} is not documented", reply.status)));
        if let Some(headers) = answer["headers"].as_object() {
            for (name, header) in headers {
                let header = self.resolve(header);
                let value = reply.header(name);
                assert!(
                    value.is_some() || header["required"] != json!(true),
                    "{place}: {name} is missing"
                );
                if let Some(value) = value {
                    self.check_text(value, &header["schema"]);
                }
            }
        }
        match answer.pointer("/content/application~1json/schema") {
            Some(schema) => {
                assert_eq!(reply.header("content-type"), Some("application/json"), "{place}");
                self.check_value(&reply.json(), schema);
            }
            None => assert_eq!(reply.body, "", "{place}: no body is documented"),
        }
        let seen = format!("{place} {}", reply.status);
        self.seen.insert(seen);
    }

    /// Every documented status of every operation was seen.
    fn assert_all_seen(&self) {
        let mut documented = BTreeSet::from(["x-other-paths 404".to_owned()]);
        for (template, path) in self.document["paths"].as_object().unwrap() {
            for (name, value) in path.as_object().unwrap() {
                let (place, answers) = match name.as_str() {
                    "parameters" => continue,
                    "x-other-methods" => (format!("other {template}"), value),
                    method => (format!("{} {template}", method.to_uppercase()), &value["responses"]),
                };
                documented.extend(
                    answers
                        .as_object()
                        .unwrap()
                        .keys()
                        .map(|status| format!("{place} {status}")),
                );
            }
        }
        assert!(documented.len() > 60, "the document was read");
        let unseen: Vec<_> = documented.difference(&self.seen).collect();
        assert!(unseen.is_empty(), "documented, but not seen: {unseen:#?}");
    }

    /// Checks a request to the backend; gives the path that it is documented under.
    #[track_caller]
    fn check_request(&self, request: &Request) -> String {
        let segments: Vec<&str> = request.target.split('/').skip(1).collect();
        let paths = self.document["paths"].as_object().unwrap();
        let fits = |template: &&String| {
            let parts: Vec<&str> = template.split('/').skip(1).collect();
            parts.len() == segments.len()
                && parts
                    .iter()
                    .zip(&segments)
                    .all(|(part, segment)| part.starts_with('{') || part == segment)
        };
        let template = paths
            .keys()
            .find(fits)
            .unwrap_or_else(|| panic!("{} is not documented", request.target));
        let operation = &paths[template]["post"];
        assert!(
            request.head.start.starts_with("POST "),
            "{template}: {}",
            request.head.start
        );
        let shared = paths[template]["parameters"].as_array().into_iter().flatten();
        let parameters = shared.chain(operation["parameters"].as_array().into_iter().flatten());
        for parameter in parameters.map(|parameter| self.resolve(parameter)) {
            let name = parameter["name"].as_str().unwrap();
            let value = match parameter["in"].as_str() {
                Some("path") => {
                    let part = format!("{{{name}}}");
                    template
                        .split('/')
                        .skip(1)
                        .position(|own| own == part)
                        .map(|index| request.segment(index))
                }
                _ => request.header(name).map(str::to_owned),
            };
            match value {
                Some(value) => self.check_text(&value, &parameter["schema"]),
                None => assert!(parameter["required"] != json!(true), "{template}: {name} is missing"),
            }
        }
        let body = self.resolve(&operation["requestBody"]);
        let schema = body
            .pointer("/content/application~1json/schema")
            .expect("a JSON body is documented");
        self.check_value(&request.json(), schema);
        template.clone()
    }

    /// A header's or a path's text: a number where the schema wants one.
    #[track_caller]
    fn check_text(&self, text: &str, schema: &Value) {
        let wants_number = self.resolve(schema)["type"] == json!("integer");
        let value = if wants_number {
            support::parse(text)
        } else {
            json!(text)
        };
        self.check_value(&value, schema);
    }

    #[track_caller]
    fn check_value(&self, value: &Value, schema: &Value) {
        let rooted = json!({ "allOf": [schema], "components": self.document["components"] });
        let validator = jsonschema::draft202012::new(&rooted).expect("a schema");
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{value} against {schema}: {errors:?}");
    }
}
