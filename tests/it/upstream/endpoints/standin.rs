//! An upstream that can die, come back at its old address, hang, or close without an answer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::support::port::Port;
use crate::support::process::PATIENCE;
use crate::support::wait::comes_within;

/// Its reaction to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Answers,
    /// Reads the request, and answers only after its mood changes.
    Hangs,
    /// Reads the request, and closes the connection.
    Closes,
    /// Answers, but with `503` to a health check.
    Ill,
}

/// A request as received: head and body.
pub type Request = (String, Vec<u8>);

pub struct Standin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    _port: Port,
}

struct Shared {
    mood: Mutex<Mood>,
    requests: Mutex<Vec<Request>>,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Standin {
    pub fn start() -> Self {
        let shared =
            Shared { mood: Mutex::new(Mood::Answers), requests: Mutex::default(), sockets: Mutex::default() };
        let port = Port::claim();
        let address = port.address;
        let listener = TcpListener::bind(address).unwrap();
        let mut standin = Self { address, _port: port, shared: Arc::new(shared), accepting: None };
        standin.accept(listener);
        standin
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Kills it: from now on it does not listen, and has no open connection.
    pub fn kill(&mut self) {
        let Some((over, thread)) = self.accepting.take() else { return };
        over.store(true, Ordering::SeqCst);
        // Only wakes the thread that accepts, which then drops the listener.
        let _woken = TcpStream::connect(self.address);
        thread.join().unwrap();
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            // The connection may have ended by itself.
            let _ended = socket.shutdown(Shutdown::Both);
        }
    }

    /// Listens at its old address again.
    pub fn revive(&mut self) {
        self.accept(TcpListener::bind(self.address).unwrap());
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The number of requests with `text` in their head.
    pub fn count(&self, text: &str) -> usize {
        self.requests().iter().filter(|(head, _)| head.contains(text)).count()
    }

    fn accept(&mut self, listener: TcpListener) {
        let over = Arc::new(AtomicBool::new(false));
        let (told, shared) = (Arc::clone(&over), Arc::clone(&self.shared));
        let thread = thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(own) = socket.try_clone() else { return };
                shared.sockets.lock().unwrap().push(own);
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(&socket));
            }
        });
        self.accepting = Some((over, thread));
    }
}

impl Shared {
    fn serve(&self, socket: &TcpStream) {
        let mut reader = BufReader::new(socket);
        let mut writer = socket;
        while let Some(request) = read(&mut reader) {
            let asked = request.0.contains("/api/health/");
            self.requests.lock().unwrap().push(request);
            let mood = *self.mood.lock().unwrap();
            // Waits until the gateway gives up the connection, or the test ends.
            comes_within(PATIENCE, || *self.mood.lock().unwrap() != Mood::Hangs);
            let status = match mood {
                Mood::Closes => {
                    let _closed = socket.shutdown(Shutdown::Both);
                    return;
                }
                Mood::Ill if asked => "503 Ill",
                Mood::Ill | Mood::Answers | Mood::Hangs => "200 OK",
            };
            if write!(writer, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(told) = line.strip_prefix("content-length: ") {
            length = told.trim().parse().unwrap();
        }
        head.push_str(&line);
        if line == "\r\n" {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            return Some((head, body));
        }
    }
}
