//! A request that the stand-in received, and its answer.

use http::StatusCode;

use crate::cli::demo::message::{Lines, values};

/// One request as it arrived, and its answer.
#[derive(Debug, Clone, Default)]
pub(in crate::cli::demo) struct Received {
    pub(in crate::cli::demo) method: String,
    pub(in crate::cli::demo) target: String,
    pub(in crate::cli::demo) lines: Lines,
    pub(in crate::cli::demo) body: Vec<u8>,
    /// The bytes of the head.
    pub(in crate::cli::demo) head: Vec<u8>,
    /// The reason why the request is not correctly signed.
    pub(in crate::cli::demo) unsigned: Option<String>,
    /// The number of intents on the trail when the request arrived.
    pub(in crate::cli::demo) intents: usize,
    /// The body of the answer.
    pub(in crate::cli::demo) answer: String,
}

impl Received {
    /// The values of a header, in order.
    pub(in crate::cli::demo) fn all(&self, name: &str) -> Vec<&str> {
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
