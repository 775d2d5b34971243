//! A backend that lets everybody in and answers `{}`, and that can be stopped and started.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Ends, with its connections, when dropped.
pub struct Backend {
    pub address: SocketAddr,
    listener: TcpListener,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// At `address`; port 0 is a free one.
    pub fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (own, kept) = (listener.try_clone().unwrap(), connections.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = own.accept() {
                kept.lock().unwrap().push(stream.try_clone().unwrap());
                std::thread::spawn(move || serve(&stream));
            }
        });
        Self {
            address: listener.local_addr().unwrap(),
            listener,
            connections,
            thread: Some(thread),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Ends the accept, too.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.thread.take().unwrap().join().unwrap();
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn serve(stream: &TcpStream) -> Option<()> {
    let mut input = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let len = input.read_line(&mut head).ok()?;
            (len > 0).then_some(())?;
        }
        let lower = head.to_ascii_lowercase();
        let len = lower.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
        let mut body = vec![0; len];
        input.read_exact(&mut body).ok()?;
        let answer = if head.starts_with("POST /connect ") {
            "\"ok\""
        } else {
            "{}"
        };
        let len = answer.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n");
        (&mut &*stream).write_all((head + answer).as_bytes()).ok()?;
    }
}
