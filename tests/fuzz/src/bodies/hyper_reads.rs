//! A real hyper connection, to ask what it makes of bytes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

/// Comes after a whole message: where hyper sees another request than this, it ended the message elsewhere.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nhost: next\r\n\r\n";

/// What hyper made of one request.
struct Read {
    method: String,
    target: String,
    lines: usize,
    length: Option<u64>,
    whole: bool,
}

/// Checks that hyper takes `passed` for a request of this method, number of header lines and length of body; and where
/// the body is `whole`, that it ends for hyper where it ends for us.
pub(super) fn check(passed: &[u8], (method, lines, length): (&str, usize, Option<u64>), whole: bool) {
    let bytes = if whole { [passed, NEXT].concat() } else { passed.to_vec() };
    let read = read(&bytes);
    let first = read.first().expect("hyper takes what we take");
    assert_eq!((first.method.as_str(), first.target.as_str(), first.lines), (method, "/", lines));
    assert_eq!(first.length, length);
    if whole {
        assert!(first.whole, "hyper reads to the end");
        assert!(read.len() <= 2);
        if let Some(next) = read.get(1) {
            assert_eq!((next.method.as_str(), next.target.as_str(), next.lines), ("GET", "/next", 1));
        }
    }
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
}

fn read(bytes: &[u8]) -> Vec<Read> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let noted = Rc::clone(&noted);
        let (head, body) = request.into_parts();
        let (length, lines) = (body.size_hint().exact(), head.headers.len());
        let (method, target) = (head.method.to_string(), head.uri.to_string());
        let at = noted.borrow().len();
        noted.borrow_mut().push(Read { method, target, lines, length, whole: false });
        async move {
            // Where the body is found wrong first, hyper never comes here.
            let whole = body.collect().await.is_ok();
            noted.borrow_mut()[at].whole = whole;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut ours, theirs) = tokio::io::duplex(bytes.len() + 4096);
            ours.write_all(bytes).await.unwrap();
            ours.shutdown().await.unwrap();
            // That a message is cut short is an error of hyper's as well.
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(theirs), service).await;
        });
    });
    Rc::into_inner(seen).map(RefCell::into_inner).unwrap_or_default()
}
