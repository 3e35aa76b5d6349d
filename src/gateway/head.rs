//! The head of a request, as received and as the decision sees it.

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderMap, Method};

use crate::code::Fault;
use crate::signature::Message;

/// The request head as it was received from the socket. hyper sees only heads that passed the strict framer.
#[derive(Debug)]
pub struct RawHead {
    /// The request method; `None` if the head could not be parsed.
    pub method: Option<Method>,
    /// The request target in bytes; of a head that could not be parsed, its first bytes.
    pub target: Rc<[u8]>,
    /// The framing fault for which the head was rejected.
    pub fault: Option<Fault>,
}

impl RawHead {
    /// Returns the head for the decision. `bodied` means that a body follows or may follow.
    pub(super) fn head<'a>(&'a self, head: &'a Parts, bodied: bool) -> Head<'a> {
        Head { method: &head.method, target: &self.target, headers: &head.headers, bodied }
    }
}

/// The head of a request, as the consumer sent it.
#[derive(Clone, Copy)]
pub struct Head<'h> {
    /// The request method.
    pub method: &'h Method,
    /// The request target in bytes, as received.
    pub target: &'h [u8],
    /// The header fields.
    pub headers: &'h HeaderMap,
    /// Whether a body follows or may follow.
    pub bodied: bool,
}

impl<'h> Head<'h> {
    /// Returns the parts of the request that a consumer's signature covers.
    #[must_use]
    pub fn message(self) -> Message<'h> {
        Message { method: self.method.as_str(), target: self.target, headers: self.headers }
    }
}
