//! An upstream that a test scripts byte by byte; it records the bytes of each connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::process::PATIENCE;
use crate::support::upstream::Upstream;
use crate::support::wait::{comes_within, until, until_read};
use crate::support::world::{CONFIG, World};

/// The bytes that one connection received so far, and whether the gateway closed it.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub bytes: Vec<u8>,
    pub closed: bool,
    /// Whether the script has closed it.
    pub left: bool,
}

/// The scripted upstream.
pub struct Script {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// One of its connections, as the script sees it.
pub struct Line {
    socket: TcpStream,
    /// Which connection this is, from 0.
    pub number: usize,
    heard: Arc<Mutex<Vec<Heard>>>,
    taken: usize,
}

impl Script {
    /// Runs `play` on every connection, which closes when `play` returns.
    pub fn start(play: impl Fn(&mut Line) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (record, play) = (Arc::clone(&heard), Arc::new(play));
        thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                let Ok(socket) = socket else { return };
                record.lock().unwrap().push(Heard::default());
                let (heard, play) = (Arc::clone(&record), Arc::clone(&play));
                thread::spawn(move || {
                    let record = Arc::clone(&heard);
                    play(&mut Line { socket, number, heard, taken: 0 });
                    record.lock().unwrap()[number].left = true;
                });
            }
        });
        Self { address, heard }
    }

    /// A gateway for it.
    pub fn world(&self) -> World {
        self.world_with(CONFIG)
    }

    /// A gateway for it with another configuration.
    pub fn world_with(&self, config: &str) -> World {
        World::with(Upstream::ok(), &config.replace("@UPSTREAM@", &self.address.to_string()))
    }

    /// The bytes that each connection received so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// How often `text` arrived, over all connections.
    pub fn count(&self, text: &str) -> usize {
        self.heard().iter().map(|heard| String::from_utf8_lossy(&heard.bytes).matches(text).count()).sum()
    }

    /// Waits until the gateway has closed connection `number`; returns whether it did.
    pub fn ended(&self, number: usize) -> bool {
        comes_within(PATIENCE, || self.heard().get(number).is_some_and(|heard| heard.closed))
    }

    /// Waits until the script has closed connection `number`.
    pub fn left(&self, number: usize) {
        until("the script has come to its end", || self.heard().get(number).is_some_and(|heard| heard.left));
    }
}

impl Line {
    /// Reads one request head; empty if the gateway closed the connection instead.
    pub fn head(&mut self) -> String {
        loop {
            let so_far = self.heard.lock().unwrap()[self.number].bytes[self.taken..].to_vec();
            if let Some(at) = so_far.windows(4).position(|window| window == b"\r\n\r\n") {
                self.taken += at + 4;
                return String::from_utf8(so_far[..at + 4].to_vec()).unwrap();
            }
            if !self.more() {
                return String::new();
            }
        }
    }

    /// Reads `size` bytes of a body; returns whether they arrived.
    pub fn body(&mut self, size: usize) -> bool {
        while self.heard.lock().unwrap()[self.number].bytes.len() < self.taken + size {
            if !self.more() {
                return false;
            }
        }
        self.taken += size;
        true
    }

    /// Writes as much as the gateway accepts.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // The gateway may have closed the connection: the test checks what it received before.
        let _sent = self.socket.write_all(bytes.as_ref());
    }

    /// Sends a complete answer with the body `text`.
    pub fn answer(&mut self, text: &str) {
        self.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ));
    }

    /// Waits until the gateway has read everything that was sent.
    pub fn until_read(&self) {
        until_read(&self.socket);
    }

    /// From now on, the connection ends with a reset.
    pub fn resets(&self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Makes the receive buffer small.
    pub fn has_little_room(&self) {
        socket2::SockRef::from(&self.socket).set_recv_buffer_size(4096).unwrap();
    }

    /// Reads until the gateway closes the connection.
    pub fn until_closed(&mut self) {
        while self.more() {}
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 16384];
        let read = self.socket.read(&mut buffer).unwrap_or(0);
        let mut heard = self.heard.lock().unwrap();
        heard[self.number].bytes.extend_from_slice(&buffer[..read]);
        heard[self.number].closed = read == 0;
        read > 0
    }
}
