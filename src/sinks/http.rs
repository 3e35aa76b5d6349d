//! The HTTP sink: it posts events as a JSON array, as OpenTelemetry logs (OTLP/HTTP in JSON), or the latest head.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::remote::Remote;
use super::trail_reader::Line;
use super::witness::latest_checkpoint;
use crate::audit::trail::event::{Event, EventKind, Severity};

/// Time-out of a post, including the connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest number of bytes that are read of a response.
const ANSWER: usize = 64 * 1024;

/// The format of a post's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadFormat {
    /// A JSON array of events.
    Json,
    /// `ExportLogsServiceRequest` (OTLP 1.x).
    Otlp,
    /// The latest head, a signed note.
    Head,
}

pub(super) struct Http {
    remote: Remote,
    format: PayloadFormat,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    pub(super) fn new(remote: Remote, format: PayloadFormat) -> Self {
        Self { remote, format, connection: None }
    }

    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<(), String> {
        let body = match self.format {
            PayloadFormat::Json => Some(json_array(lines)),
            PayloadFormat::Otlp => Some(logs(lines)),
            PayloadFormat::Head => latest_checkpoint(lines).map(String::into_bytes),
        };
        if let Some(body) = body {
            let posted = timeout(PATIENCE, self.post(body)).await;
            let posted = posted.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            posted.inspect_err(|_| self.connection = None)?;
        }
        Ok(())
    }

    async fn post(&mut self, body: Vec<u8>) -> Result<(), String> {
        let ready = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.connection = Some(self.connect().await?);
        }
        let request = self.request(body)?;
        let Some(connection) = &mut self.connection else { return Err("no connection".into()) };
        let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let read =
            Limited::new(answer.into_body(), ANSWER).collect().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("answered with {status}"));
        }
        if self.format == PayloadFormat::Otlp {
            log_rejected(status, &read.to_bytes());
        }
        Ok(())
    }

    fn request(&self, body: Vec<u8>) -> Result<Request<Full<Bytes>>, String> {
        let kind =
            if self.format == PayloadFormat::Head { "text/plain; charset=utf-8" } else { "application/json" };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.remote.path)
            .header(HOST, self.remote.origin.authority())
            .header(USER_AGENT, concat!("claviger/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, kind)
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.remote.token {
            let value = Zeroizing::new([b"Bearer ", token.expose()].concat());
            let mut value = HeaderValue::from_bytes(&value).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = self.remote.connect(|tcp| tcp.set_nodelay(true)).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // The sender returns the connection's errors to the code that awaits the response.
        tokio::task::spawn_local(async move { connection.await.unwrap_or_default() });
        Ok(sender)
    }
}

/// Formats the lines, unchanged, as a JSON array.
fn json_array(lines: &[Line]) -> Vec<u8> {
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.text.as_slice()).collect();
    [b"[", lines.join(&b',').as_slice(), b"]"].concat()
}

/// Formats the lines as log records. The line is the body, and its members are attributes.
fn logs(lines: &[Line]) -> Vec<u8> {
    let records: Vec<Value> = lines.iter().map(record).collect();
    let scope = json!({"name": "claviger.audit", "version": env!("CARGO_PKG_VERSION")});
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "claviger"}}]});
    let logs = json!({"resourceLogs": [{
        "resource": resource, "scopeLogs": [{"scope": scope, "logRecords": records}]
    }]});
    logs.to_string().into_bytes()
}

fn record(line: &Line) -> Value {
    let event = Event::parse(&line.text);
    let at = event.as_ref().and_then(Event::timestamp).map_or(0, Timestamp::as_nanosecond);
    let kind = event.as_ref().map_or(EventKind::Unknown, |event| event.event);
    let (number, severity) = match event.as_ref().map_or(Severity::Info, Event::severity) {
        Severity::Error => (17, "ERROR"),
        Severity::Warning => (13, "WARN"),
        Severity::Notice | Severity::Info => (9, "INFO"),
    };
    let members: Value = serde_json::from_slice(&line.text).unwrap_or_default();
    let attributes = members.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let value = match value {
            Value::String(text) => json!({"stringValue": text}),
            // The JSON format of Protocol Buffers encodes 64-bit integers as strings.
            Value::Number(number) => json!({"intValue": number.to_string()}),
            Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(json!({"key": format!("claviger.{name}"), "value": value}))
    });
    json!({
        "timeUnixNano": at.to_string(), "observedTimeUnixNano": at.to_string(),
        "severityNumber": number, "severityText": severity,
        "eventName": format!("claviger.{}", kind.as_str()),
        "body": {"stringValue": String::from_utf8_lossy(&line.text)},
        "attributes": attributes.collect::<Vec<_>>(),
    })
}

/// Logs how many events a collector rejected. A partly accepted batch must not be sent again (OTLP, "Partial Success").
fn log_rejected(status: StatusCode, answer: &[u8]) {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = answer.pointer("/partialSuccess/rejectedLogRecords");
    let rejected =
        count.and_then(|count| count.as_str().and_then(|text| text.parse().ok()).or(count.as_i64()));
    if let Some(rejected) = rejected.filter(|rejected| *rejected > 0) {
        let why = answer.pointer("/partialSuccess/errorMessage").and_then(Value::as_str).unwrap_or_default();
        tracing::error!(%status, rejected, why, "the collector has rejected events; they are not sent again");
    }
}
