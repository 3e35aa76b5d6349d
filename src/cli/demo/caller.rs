//! A minimal consumer: it makes one call on one connection, and can show it as a curl command.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::message::{Lines, parse_head, values};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A call that the demo makes.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    /// The path and query of the call.
    pub(super) target: &'a str,
    /// An additional header line.
    pub(super) line: Option<&'a str>,
    /// The JSON body, if any.
    pub(super) body: Option<&'a str>,
}

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) lines: Lines,
    pub(super) body: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(super) fn get(target: &'a str) -> Self {
        Self { method: "GET", target, line: None, body: None }
    }

    /// The call as a shell command. No call of the demo contains a single quote.
    pub(super) fn curl(&self, address: SocketAddr, token: &str) -> String {
        let mut line = String::from("curl -sS");
        if self.method != "GET" {
            write!(line, " -X {}", self.method).unwrap_or_default();
        }
        let mut add = |option: &str, value: &str| write!(line, " {option} '{value}'").unwrap_or_default();
        add("-H", &format!("Authorization: Bearer {token}"));
        if let Some(header) = self.line {
            add("-H", header);
        }
        if let Some(body) = self.body {
            add("-H", "Content-Type: application/json");
            add("-d", body);
        }
        format!("{line} 'http://{address}{}'", self.target)
    }

    /// Makes the call and reads the answer.
    pub(super) fn make(&self, address: SocketAddr, token: &str) -> io::Result<Reply> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", self.method, self.target);
        let mut add = |name: &str, value: &str| write!(head, "{name}: {value}\r\n").unwrap_or_default();
        add("Authorization", &format!("Bearer {token}"));
        add("User-Agent", "claviger-demo");
        add("Accept", "*/*");
        add("Connection", "close");
        if let Some(body) = self.body {
            add("Content-Type", "application/json");
            add("Content-Length", &body.len().to_string());
        }
        if let Some((name, value)) = self.line.and_then(|line| line.split_once(": ")) {
            add(name, value);
        }
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(format!("{head}\r\n{}", self.body.unwrap_or_default()).as_bytes())?;
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes)?;
        Reply::parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a whole answer"))
    }
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        let (head, body) = bytes.split_at_checked(end)?;
        let (first, lines) = parse_head(std::str::from_utf8(head).ok()?)?;
        let status = first.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let reply = Self { status, lines, body: body.get(4..)?.to_vec() };
        let is_whole = match (reply.header("content-length"), reply.header("transfer-encoding")) {
            (Some(length), None) => length.parse() == Ok(reply.body.len()),
            (None, None) => reply.body.is_empty(),
            (_, Some(_)) => false, // nothing here is so long that its length is not known
        };
        is_whole.then_some(reply)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        values(&self.lines, name).first().copied()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether any part of the answer contains `text`.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.lines.iter().any(|(_, value)| value.contains(text))
            || memchr::memmem::find(&self.body, text.as_bytes()).is_some()
    }

    /// The answer in short: status and body.
    pub(super) fn summary(&self) -> String {
        let known = http::StatusCode::from_u16(self.status).ok();
        let reason = known.and_then(|status| status.canonical_reason()).unwrap_or_default();
        format!("HTTP/1.1 {} {reason}\n{}", self.status, String::from_utf8_lossy(&self.body))
    }
}
