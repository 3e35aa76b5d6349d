//! What the trail is shown of a head that could not be read.

use http::Method;

/// How much of an unreadable head the trail is shown.
const SHOWN: usize = 256;
/// The same where even its first line is none.
const SHOWN_OF_UNKNOWN: usize = 16;

/// What the trail may show of an unreadable head: method and target where its first line has them,
/// else its first bytes. What stands there may be a lost header line, or a body's secrets.
pub(in crate::server) fn audit_excerpt(inbox: &[u8]) -> (Option<Method>, &[u8]) {
    let line = inbox.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let words: Vec<&[u8]> = line.splitn(3, |byte| *byte == b' ').collect();
    let cut = |text: &'_ [u8], most: usize| text.len().min(most);
    match words.as_slice() {
        [method, target, rest] if rest.starts_with(b"HTTP/") && method.len() <= 16 => {
            let target = target.get(..cut(target, SHOWN)).unwrap_or_default();
            (Method::from_bytes(method).ok(), target)
        }
        _ => {
            // Of what looks like a name with a value, the name alone.
            let name = line.split(|byte| matches!(byte, b':' | b'=' | b'"' | b'\'' | b' ')).next();
            let name = name.unwrap_or_default();
            (None, name.get(..cut(name, SHOWN_OF_UNKNOWN)).unwrap_or_default())
        }
    }
}
