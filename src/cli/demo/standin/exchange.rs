//! A request that the stand-in received, and its answer.

use http::StatusCode;

use crate::cli::demo::message::{Lines, values};

/// One request as it arrived, and its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) lines: Lines,
    pub(crate) body: Vec<u8>,
    /// The bytes of the head.
    pub(crate) head: Vec<u8>,
    /// The reason why the request is not correctly signed.
    pub(crate) unsigned: Option<String>,
    /// The number of intents on the trail when the request arrived.
    pub(crate) intents: usize,
    /// The body of the answer.
    pub(crate) answer: String,
}

impl Received {
    /// The values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        values(&self.lines, name)
    }
}

/// The answer of the stand-in to a request.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self { status, location: None, body: body.to_string() }
    }
}
