//! Runs `ws2api demo`: the proxy with a small charging backend built in, so that there is something to try at once.

use std::fs::DirBuilder;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use crate::config::CertificateFiles;
use crate::server::Addresses;
use protocol::http::{BodyDecoder, parse_request, write_response};

/// Starts the backend on a free port of this machine; it prints every request and what it answered.
///
/// # Errors
/// When there is no port or thread for it.
pub fn start_backend() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("demo".into()).spawn(move || {
        for (number, stream) in (1_u32..).zip(listener.incoming().flatten()) {
            // Without a thread for it the connection closes, which the proxy knows how to take.
            let _ = std::thread::Builder::new()
                .name(format!("demo-{number}"))
                .spawn(move || serve(stream));
        }
    })?;
    Ok(address)
}

/// Makes a certificate for this machine, which whoever wants to may trust. Its files stay.
///
/// # Errors
/// When there is no room for them.
pub fn make_certificate() -> io::Result<CertificateFiles> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.map_err(io::Error::other)?;
    let folder = std::env::temp_dir().join(format!("ws2api-demo-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let files = CertificateFiles {
        chain: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
    };
    std::fs::write(&files.chain, made.cert.pem())?;
    std::fs::write(&files.key, made.signing_key.serialize_pem())?;
    Ok(files)
}

/// What to try, as text for a terminal.
#[must_use]
pub fn guide(addresses: &Addresses, certificate: Option<&CertificateFiles>) -> String {
    let Addresses { ingress, admin, .. } = addresses;
    let listen = addresses
        .listen
        .map_or_else(|| "-".to_owned(), |address| address.to_string());
    let tls = addresses.listen_tls.zip(certificate);
    let tls = tls.map_or_else(String::new, |(address, files)| guide_to_tls(address, files));
    format!(
        "ws2api demo: clients connect to ws://{listen}/<ClientId>; the built-in backend prints what reaches it.\n\n\
         1. Connect a charge point, in another terminal (Node.js):\n\n    \
         npx wscat -c ws://{listen}/CP1 -s ocpp1.6\n\n\
         2. Type a Call; the backend's answer comes back as a CallResult:\n\n    \
         [2,\"1\",\"Heartbeat\",{{}}]\n\n\
         3. Push a Call to it from a third terminal, as a backend would:\n\n    \
         curl -i -H 'Content-Type: application/json' -d '{{\"type\":\"Soft\"}}' http://{ingress}/call/Reset/CP1/p1\n\n\
         4. Answer it in the first: the backend gets POST /result/Reset/CP1/p1.\n\n    \
         [3,\"p1\",{{\"status\":\"Accepted\"}}]\n\n\
         {tls}\
         Who is connected:  curl http://{ingress}/clients\n\
         Metrics:           curl http://{admin}/metrics\n\n\
         Ctrl-C ends it.\n"
    )
}

fn guide_to_tls(address: SocketAddr, files: &CertificateFiles) -> String {
    let (port, chain) = (address.port(), files.chain.display());
    format!(
        "With TLS (security profile 2), by one of these:\n\n    \
         npx wscat -c wss://localhost:{port}/CP1 -s ocpp1.6 --ca {chain}\n    \
         openssl s_client -connect localhost:{port} -CAfile {chain} -verify_return_error\n    \
         python3 -c 'import ssl, websockets.sync.client as w; tls = ssl.create_default_context(cafile=\"{chain}\"); \
         c = w.connect(\"wss://localhost:{port}/CP1\", subprotocols=[\"ocpp1.6\"], ssl=tls); \
         c.send(\"[2,\\\"1\\\",\\\"Heartbeat\\\",{{}}]\"); print(c.recv())'\n\n"
    )
}

fn serve(mut stream: TcpStream) {
    let mut buffer = Vec::new();
    while let Ok(Some((method, target, body, len))) = read_request(&mut stream, &mut buffer) {
        buffer.drain(..len);
        let body = String::from_utf8_lossy(&body);
        let (status, answer) = answer(&target, &body);
        // Whoever reads it may have seen enough.
        let _ = writeln!(io::stdout(), "{method} {target} {body} -> {status} {answer}");
        let mut bytes = Vec::new();
        write_response(&mut bytes, status, &[], answer.as_bytes(), true);
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

type Request = (String, String, Vec<u8>, usize);

fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        if let Some(head) = parse_request(buffer, 65_535).map_err(io::Error::other)? {
            let mut decoder = BodyDecoder::new(head.framing, usize::MAX >> 1).map_err(io::Error::other)?;
            let mut body = Vec::new();
            let decoded = decoder
                .decode(&buffer[head.len..], &mut body)
                .map_err(io::Error::other)?;
            if decoded.done {
                let len = head.len + decoded.consumed;
                return Ok(Some((head.method.to_owned(), head.target.to_owned(), body, len)));
            }
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(&piece[..count]);
    }
}

/// As the schemas of OCPP 1.6 and 2.0.1 want it; 404 for an Action that it does not have.
fn answer(target: &str, payload: &str) -> (u16, String) {
    let mut segments = target.split('/').skip(1);
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    match (segments.next(), segments.next()) {
        (Some("connect"), _) => (200, "\"ok\"".to_owned()),
        (Some("call"), Some("BootNotification")) => (
            200,
            format!(r#"{{"currentTime":"{now}","interval":300,"status":"Accepted"}}"#),
        ),
        (Some("call"), Some("Heartbeat")) => (200, format!(r#"{{"currentTime":"{now}"}}"#)),
        (Some("call"), Some("Authorize")) => {
            let member = if payload.contains("\"idTag\"") {
                "idTagInfo"
            } else {
                "idTokenInfo"
            };
            (200, format!(r#"{{"{member}":{{"status":"Accepted"}}}}"#))
        }
        (Some("call"), Some("StartTransaction")) => {
            let number = TRANSACTIONS.fetch_add(1, Ordering::Relaxed);
            (
                200,
                format!(r#"{{"transactionId":{number},"idTagInfo":{{"status":"Accepted"}}}}"#),
            )
        }
        (Some("call"), Some("DataTransfer" | "SignCertificate" | "NotifyEVChargingSchedule")) => {
            (200, r#"{"status":"Accepted"}"#.to_owned())
        }
        (Some("call"), Some(action)) if NOTED.contains(&action) => (200, "{}".to_owned()),
        (Some("call"), _) => (404, String::new()),
        _ => (204, String::new()),
    }
}

static TRANSACTIONS: AtomicU32 = AtomicU32::new(1);
/// What a charge point tells, and no more than "noted" is the answer.
const NOTED: &[&str] = &[
    "ClearedChargingLimit",
    "DiagnosticsStatusNotification",
    "FirmwareStatusNotification",
    "LogStatusNotification",
    "MeterValues",
    "NotifyChargingLimit",
    "NotifyCustomerInformation",
    "NotifyDisplayMessages",
    "NotifyEvent",
    "NotifyMonitoringReport",
    "NotifyReport",
    "PublishFirmwareStatusNotification",
    "ReportChargingProfiles",
    "ReservationStatusUpdate",
    "SecurityEventNotification",
    "SignedFirmwareStatusNotification",
    "StatusNotification",
    "StopTransaction",
    "TransactionEvent",
];
