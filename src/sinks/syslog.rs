//! RFC 5424 over TCP or TLS, each message with its length before it (RFC 6587 §3.4.1, RFC 5425 §4.3).
//!
//! Syslog has no acknowledgement. An event counts as delivered once its connection has stayed open for a while after
//! it. After a broken connection, later events are sent again, since the receiver may not have read or stored them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::remote::{Remote, Stream};
use super::trail_reader::Line;
use crate::audit::trail::event::{Event, EventKind, Severity};

/// How long a connection must stay open after an event until the event counts as delivered.
const SETTLED: Duration = Duration::from_secs(10);
/// Time-out for connecting and writing one batch.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the peer's system may leave bytes unacknowledged, or accept none. Must be shorter than `SETTLED`.
const UNACKNOWLEDGED: Duration = Duration::from_secs(6);
/// The syslog facility `log audit` (RFC 5424 §6.2.1).
const FACILITY: u8 = 13;

pub(super) struct Syslog {
    remote: Remote,
    /// The text `hostname claviger pid`, which each message contains.
    from: String,
    stream: Option<Box<dyn Stream>>,
    /// The batches that do not count as delivered yet: the time of sending, and the `seq` after the last event.
    sent: VecDeque<(Instant, u64)>,
}

impl Syslog {
    pub(super) fn new(remote: Remote) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        let is_valid =
            !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
        let from = format!("{} claviger {}", if is_valid { name } else { "-" }, std::process::id());
        Self { remote, from, stream: None, sent: VecDeque::new() }
    }

    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<Option<u64>, String> {
        let mut bytes = Vec::new();
        for line in lines {
            let message = self.message(&line.text);
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(&message);
        }
        let writing = async {
            let stream = self.connect_if_needed().await?;
            stream.write_all(&bytes).await.map_err(|error| error.to_string())?;
            stream.flush().await.map_err(|error| error.to_string())
        };
        let written = timeout(PATIENCE, writing).await;
        written
            .unwrap_or_else(|_| Err(format!("the receiver accepted nothing within {PATIENCE:?}")))
            .inspect_err(|_| self.lost())?;
        self.sent.extend(lines.last().map(|last| (Instant::now(), last.seq + 1)));
        self.idle().await
    }

    /// Checks that the connection is open. Returns the `seq` before which every event counts as delivered.
    pub(super) async fn idle(&mut self) -> Result<Option<u64>, String> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let mut ignored = [0; 256];
        let read = timeout(Duration::ZERO, stream.read(&mut ignored)).await;
        if let Ok(Ok(0) | Err(_)) = read {
            self.lost();
            return Err("the receiver has closed the connection".into());
        }
        let mut delivered = None;
        while let Some((_, next)) = self.sent.pop_front_if(|(at, _)| at.elapsed() >= SETTLED) {
            delivered = Some(next);
        }
        Ok(delivered)
    }

    /// Closes the sending side, and waits until the receiver has read everything and closes, too.
    pub(super) async fn end(&mut self) -> Result<Option<u64>, String> {
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        stream.shutdown().await.map_err(|error| error.to_string())?;
        let mut ignored = [0; 256];
        while stream.read(&mut ignored).await.map_err(|error| error.to_string())? > 0 {}
        Ok(self.sent.pop_back().map(|(_, next)| next))
    }

    fn lost(&mut self) {
        self.stream = None;
        self.sent.clear();
    }

    async fn connect_if_needed(&mut self) -> Result<&mut Box<dyn Stream>, String> {
        if self.stream.is_none() {
            let prepare = |tcp: &TcpStream| SockRef::from(tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
            self.stream = Some(self.remote.connect(prepare).await?);
        }
        self.stream.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    /// Formats one message (RFC 5424 §6). The line is ASCII and complete, so there is no structured data.
    fn message(&self, line: &[u8]) -> Vec<u8> {
        let event = Event::parse(line);
        let time = event.as_ref().and_then(|event| event.time.as_deref()).unwrap_or("-");
        let kind = event.as_ref().map_or(EventKind::Unknown, |event| event.event).as_str();
        let priority = FACILITY * 8 + event.as_ref().map_or(Severity::Info, Event::severity) as u8;
        let mut message = format!("<{priority}>1 {time} {} {kind} - ", self.from).into_bytes();
        message.extend_from_slice(line);
        message
    }
}
