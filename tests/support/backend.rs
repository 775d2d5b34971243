//! Plays the backend: records every request, and answers as the test says.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::http::{Connection, Head, Stream};
use super::{DEADLINE, Gate, Value, parse};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which connection brought it, counted from 0 in the order of accepting.
    pub connection: usize,
    /// The path as it stands in the request line.
    pub target: String,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body, which has to be UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        parse(self.text())
    }

    /// One segment of the path, percent-decoded.
    #[track_caller]
    pub fn segment(&self, index: usize) -> String {
        let segment = self.target.split('/').nth(index + 1).unwrap();
        percent_encoding::percent_decode_str(segment)
            .decode_utf8()
            .unwrap()
            .into_owned()
    }

    /// Whether its target begins with these segments: `/result` is no beginning of `/resulterror/…`.
    fn is_under(&self, path: &str) -> bool {
        let rest = self.target.strip_prefix(path);
        rest.is_some_and(|rest| path.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']))
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub struct Response {
    bytes: Vec<u8>,
    end: End,
    gate: Option<Gate>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    KeepAlive,
    Close,
    Reset,
    Silence,
}

impl Response {
    /// Any status with any body, its length announced.
    pub fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self::with_headers(status, &[], body)
    }

    pub fn with_headers(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
        if !matches!(status, 204 | 304) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Self::raw([head.as_bytes(), body].concat())
    }

    /// 200 with a JSON body.
    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::with_headers(200, &[("Content-Type", "application/json")], body)
    }

    /// 200, the body in chunks.
    pub fn chunked(chunks: &[&str]) -> Self {
        let mut text = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in chunks {
            text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        text.push_str("0\r\n\r\n");
        Self::raw(text)
    }

    /// 200, the body ends with the connection.
    pub fn until_close(body: &str) -> Self {
        Self::raw(format!("HTTP/1.1 200 OK\r\n\r\n{body}")).then_close()
    }

    /// Bytes as they are.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Response {
            bytes: bytes.as_ref().to_vec(),
            end: End::KeepAlive,
            gate: None,
        }
    }

    /// Nothing, for ever.
    pub fn never() -> Self {
        Response {
            end: End::Silence,
            ..Self::raw("")
        }
    }

    /// The connection closes afterwards.
    pub fn then_close(self) -> Self {
        Response {
            end: End::Close,
            ..self
        }
    }

    /// The connection is reset afterwards.
    pub fn then_reset(self) -> Self {
        Response {
            end: End::Reset,
            ..self
        }
    }

    /// Not before the gate lets it through.
    pub fn after(self, gate: &Gate) -> Self {
        Response {
            gate: Some(gate.clone()),
            ..self
        }
    }
}

type Answer = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

#[derive(Default)]
struct State {
    /// The latest route first.
    routes: Vec<(String, Answer)>,
    seen: Vec<Request>,
    /// Of `seen`, what no test has taken yet.
    fresh: VecDeque<Request>,
    complaints: Vec<String>,
    streams: HashMap<usize, Stream>,
    connections: usize,
    ended: usize,
    stopping: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Place {
    /// The socket holds the port while nobody listens: connecting is refused then, and nobody else gets the port.
    Tcp {
        address: SocketAddr,
        _reserve: OwnedFd,
    },
    Unix(PathBuf),
}

/// A backend that says `"ok"` to `/connect`, echoes the payload of `/call`, and 204 to everything else, unless
/// [`Backend::on`] says otherwise. It insists on the form of a request that the contract promises.
pub struct Backend {
    shared: Arc<Shared>,
    place: Place,
    accepting: Option<(Arc<Listener>, JoinHandle<()>)>,
}

impl Backend {
    pub fn start() -> Self {
        let reserve = bound(0);
        let address = rustix::net::getsockname(&reserve).unwrap().try_into().unwrap();
        Self::start_at(Place::Tcp {
            address,
            _reserve: reserve,
        })
    }

    /// Its address is taken, but nobody listens: connecting is refused until [`Backend::restart`].
    pub fn dead() -> Self {
        let mut backend = Self::start();
        backend.stop();
        backend
    }

    /// On a Unix socket.
    pub fn start_unix() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ws2api-test-{}-{number}.sock", std::process::id());
        Self::start_at(Place::Unix(std::env::temp_dir().join(name)))
    }

    fn start_at(place: Place) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut backend = Backend {
            shared,
            place,
            accepting: None,
        };
        backend.restart();
        backend
    }

    /// As `--backend` takes it.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Tcp { address, .. } => format!("http://{address}"),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp { address, .. } => *address,
            Place::Unix(_) => panic!("a Unix socket has no such address"),
        }
    }

    /// Requests whose path begins so are answered so, from now on; the latest such rule wins.
    pub fn on(&self, path: &str, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> &Self {
        let mut state = self.shared.state.lock().unwrap();
        state.routes.insert(0, (path.to_owned(), Arc::new(answer)));
        self
    }

    /// As [`Backend::on`], but the answers wait for the gate.
    pub fn hold(&self, path: &str, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Gate {
        let gate = Gate::new();
        let held = gate.clone();
        self.on(path, move |request| answer(request).after(&held));
        gate
    }

    /// Closes the listener and every connection.
    pub fn stop(&mut self) {
        if self.stop_listening() {
            self.drop_connections();
        }
    }

    /// Closes the listener: connecting is refused, the connections that there are go on. False: nobody listened.
    pub fn stop_listening(&mut self) -> bool {
        let Some((listener, thread)) = self.accepting.take() else {
            return false;
        };
        self.shared.state.lock().unwrap().stopping = true;
        let _ = match &*listener {
            Listener::Tcp(listener) => rustix::net::shutdown(listener, rustix::net::Shutdown::Both),
            Listener::Unix(listener) => rustix::net::shutdown(listener, rustix::net::Shutdown::Both),
        };
        thread.join().unwrap();
        drop(listener);
        if let Place::Unix(path) = &self.place {
            let _ = std::fs::remove_file(path);
        }
        true
    }

    /// Closes every connection, the listener stays.
    fn drop_connections(&self) {
        for stream in self.shared.state.lock().unwrap().streams.values() {
            stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again where it listened before.
    pub fn restart(&mut self) {
        assert!(self.accepting.is_none(), "it runs");
        let listener = match &self.place {
            Place::Tcp { address, .. } => {
                let socket = bound(address.port());
                rustix::net::listen(&socket, 1024).unwrap();
                Listener::Tcp(socket.into())
            }
            Place::Unix(path) => {
                let listener = UnixListener::bind(path).unwrap();
                super::open_to_all(path);
                Listener::Unix(listener)
            }
        };
        self.shared.state.lock().unwrap().stopping = false;
        let listener = Arc::new(listener);
        let (accepting, shared) = (listener.clone(), self.shared.clone());
        let thread = thread::spawn(move || accept(&accepting, &shared));
        self.accepting = Some((listener, thread));
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.state.lock().unwrap().connections
    }

    /// Waits until so many connections have ended, whoever ended them.
    #[track_caller]
    pub fn wait_ended(&self, count: usize) {
        self.wait(&format!("{count} ended connections"), |state| {
            (state.ended >= count).then_some(())
        });
    }

    /// The oldest request whose path begins so and that was not taken before; waits for it.
    #[track_caller]
    pub fn take(&self, path: &str) -> Request {
        self.take_where(path, |request| request.is_under(path))
    }

    /// The oldest request of that kind that was not taken before; waits for it.
    #[track_caller]
    pub fn take_where(&self, what: &str, which: impl Fn(&Request) -> bool) -> Request {
        self.wait(what, |state| {
            let index = state.fresh.iter().position(&which)?;
            state.fresh.remove(index)
        })
    }

    /// Every request whose path begins so, taken or not, in the order of arrival.
    pub fn seen(&self, path: &str) -> Vec<Request> {
        let state = self.shared.state.lock().unwrap();
        state
            .seen
            .iter()
            .filter(|request| request.is_under(path))
            .cloned()
            .collect()
    }

    /// Waits until so many requests with that path have come, and gives them all.
    #[track_caller]
    pub fn wait_seen(&self, path: &str, count: usize) -> Vec<Request> {
        self.wait(&format!("{count} of {path}"), |state| {
            let of_path = state.seen.iter().filter(|request| request.is_under(path));
            let found: Vec<_> = of_path.cloned().collect();
            (found.len() >= count).then_some(found)
        })
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, mut find: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut found = None;
        let state = self.shared.state.lock().unwrap();
        let missing = |state: &mut State| {
            found = find(state);
            found.is_none()
        };
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, DEADLINE, missing)
            .unwrap();
        let targets: Vec<_> = state.seen.iter().map(|request| &request.target).collect();
        found.unwrap_or_else(|| panic!("waited for {what}; requests so far: {targets:?}"))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.stop();
        let complaints = std::mem::take(&mut self.shared.state.lock().unwrap().complaints);
        assert!(
            complaints.is_empty(),
            "requests that break the contract: {complaints:#?}"
        );
    }
}

/// A TCP socket bound to a port of loopback, not listening.
fn bound(port: u16) -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new([127, 0, 0, 1].into(), port)).unwrap();
    socket
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    loop {
        let stream = match listener {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        let mut state = shared.state.lock().unwrap();
        if state.stopping {
            return;
        }
        let Ok(stream) = stream.and_then(Stream::prepared) else {
            continue;
        };
        let number = state.connections;
        state.connections += 1;
        state.streams.insert(number, stream.try_clone().unwrap());
        drop(state);
        let shared = shared.clone();
        thread::spawn(move || {
            let mut connection = Connection::new(stream);
            let _ = serve(&mut connection, number, &shared);
            // No copy may be left when the socket closes, or it would not.
            shared.state.lock().unwrap().streams.remove(&number);
            drop(connection);
            shared.state.lock().unwrap().ended += 1;
            shared.changed.notify_all();
        });
    }
}

/// Ends with the connection.
fn serve(connection: &mut Connection, number: usize, shared: &Shared) -> io::Result<()> {
    // An idle pooled connection stays for as long as the test.
    match &connection.stream {
        Stream::Tcp(stream) => stream.set_read_timeout(None)?,
        Stream::Unix(stream) => stream.set_read_timeout(None)?,
        Stream::Tls(stream) => stream.socket.set_read_timeout(None)?,
    }
    loop {
        let (request, complaint) = match read_request(connection, number) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) => {
                let mut state = shared.state.lock().unwrap();
                if !state.stopping && error.kind() == io::ErrorKind::InvalidData {
                    state.complaints.push(error.to_string());
                }
                return Err(error);
            }
        };
        let answer = {
            let mut state = shared.state.lock().unwrap();
            state.complaints.extend(complaint);
            state.seen.push(request.clone());
            state.fresh.push_back(request.clone());
            let route = state.routes.iter().find(|(path, _)| request.is_under(path));
            route.map(|(_, answer)| answer.clone())
        };
        shared.changed.notify_all();
        let response = match answer {
            Some(answer) => answer(&request),
            None => default_answer(&request),
        };
        if let Some(gate) = &response.gate {
            gate.wait();
        }
        connection.stream.write_all(&response.bytes)?;
        match response.end {
            End::KeepAlive => {}
            End::Silence => {
                while connection.fill()? {}
                return Ok(());
            }
            End::Close => return Ok(()),
            End::Reset => {
                connection.stream.reset_on_close();
                return Ok(());
            }
        }
    }
}

fn default_answer(request: &Request) -> Response {
    match request.target.split('/').nth(1) {
        Some("connect") => Response::json("\"ok\""),
        Some("call") => Response::json(&request.body),
        _ => Response::new(204, ""),
    }
}

/// What every request has to have (docs/contract.md, "Headers for the backend"). What is not as promised comes back as a complaint.
fn read_request(connection: &mut Connection, number: usize) -> io::Result<Option<(Request, Option<String>)>> {
    let Some(head) = connection.head()? else {
        return Ok(None);
    };
    let wrong = |what: &str| super::http::invalid(&format!("{what}: {head:?}"));
    let target = head
        .start
        .strip_prefix("POST ")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let target = target.ok_or_else(|| wrong("not a POST"))?.to_owned();
    let length = head
        .header("content-length")
        .ok_or_else(|| wrong("no Content-Length"))?;
    let len = length.parse().map_err(|_| wrong("odd Content-Length"))?;
    let body = connection.exactly(len)?;
    let required = [
        "Host",
        "Content-Type",
        "X-Client-Id",
        "X-Connection-Id",
        "X-Forwarded-For",
    ];
    let missing: Vec<_> = required.into_iter().filter(|name| head.count(name) != 1).collect();
    let complaint = if head.count("transfer-encoding") > 0 || head.header("content-type") != Some("application/json") {
        Some(wrong("odd framing or type").to_string())
    } else if !missing.is_empty() {
        Some(wrong(&format!("no {missing:?}")).to_string())
    } else {
        None
    };
    let request = Request {
        connection: number,
        target,
        head,
        body,
    };
    Ok(Some((request, complaint)))
}
