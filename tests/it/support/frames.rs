//! A consumer that writes and reads HTTP/2 frames by itself (RFC 9113), with literal fields (RFC 7541).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use crate::support::tls::{Authority, Encrypted, speaking};
use crate::support::world::World;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A consumer that writes frames.
pub struct Consumer {
    pub stream: Encrypted,
    inbox: Vec<u8>,
}

impl Consumer {
    /// Connects, and sends the preface and default settings.
    pub fn new(world: &World, authority: &Authority) -> Self {
        Self::to(world.address(), authority, b"")
    }

    /// Connects to any address with the given settings.
    pub fn to(address: SocketAddr, authority: &Authority, settings: &[u8]) -> Self {
        let mut consumer = Self::unsaid(address, authority);
        consumer.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        consumer.send(SETTINGS, 0, 0, settings);
        consumer
    }

    pub fn silent(world: &World, authority: &Authority) -> Self {
        Self::unsaid(world.address(), authority)
    }

    fn unsaid(address: SocketAddr, authority: &Authority) -> Self {
        let stream = speaking(b"h2", address, authority, None);
        // Without this, small frames would wait for each other for seconds.
        stream.sock.set_nodelay(true).unwrap();
        Self { stream, inbox: Vec::new() }
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // The gateway may have closed the connection: the test reads what it sent before.
        let _gone = self.stream.write_all(&frame(kind, flags, stream, payload));
    }

    /// Opens a stream with these fields; `end` means that it has no body.
    pub fn ask(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        self.send(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block(fields));
    }

    /// The next frame; `None` at the end of the connection, or if no frame arrives in time.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut room = [0; 16384];
        loop {
            if self.inbox.len() >= 9 {
                let len = usize::from(self.inbox[0]) << 16
                    | usize::from(self.inbox[1]) << 8
                    | usize::from(self.inbox[2]);
                if self.inbox.len() >= 9 + len {
                    let whole: Vec<u8> = self.inbox.drain(..9 + len).collect();
                    let stream = u32::from_be_bytes(whole[5..9].try_into().unwrap());
                    return Some(Frame {
                        kind: whole[3],
                        flags: whole[4],
                        stream,
                        payload: whole[9..].to_vec(),
                    });
                }
            }
            match self.stream.read(&mut room) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.inbox.extend_from_slice(&room[..read]),
            }
        }
    }

    /// All frames up to and including the first for which `wanted` is true.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame() {
            let last = wanted(&frame);
            frames.push(frame);
            if last {
                return frames;
            }
        }
        let kinds: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.stream)).collect();
        panic!("the connection ended after {kinds:?}");
    }

    /// The first byte of the head on a stream, an indexed `:status`, and the body of its answer.
    pub fn answer(&mut self, stream: u32) -> (u8, String) {
        let frames = self.until(|frame| frame.stream == stream && frame.flags & END_STREAM != 0);
        let of = |kind: u8| {
            let frames = frames.iter().filter(move |frame| frame.stream == stream && frame.kind == kind);
            frames.flat_map(|frame| frame.payload.clone()).collect::<Vec<u8>>()
        };
        (of(HEADERS)[0], String::from_utf8(of(DATA)).unwrap())
    }

    /// Whether the connection ends, whatever the gateway sends before.
    pub fn ends(&mut self) -> bool {
        while self.frame().is_some() {}
        // `None` may also mean that the time-out has passed.
        let ended = self.stream.read(&mut [0]);
        !ended.is_err_and(|error| [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals without an index or a Huffman code (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [length(text.len()), text.as_bytes().to_vec()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(len: usize) -> Vec<u8> {
    let Some(mut rest) = len.checked_sub(127) else { return vec![u8::try_from(len).unwrap()] };
    let mut bytes = vec![127];
    while rest > 127 {
        bytes.push(u8::try_from(rest & 127).unwrap() | 128);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// The fields of a GET.
pub fn read<'a>(path: &'a str, token: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gw.test"),
        (":path", path),
        ("authorization", token),
    ];
    [&fields, more].concat()
}
