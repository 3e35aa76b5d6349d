//! Selects what the trail records of a request head that could not be parsed.

use http::Method;

/// The maximum number of recorded bytes of the target.
const MAX_TARGET: usize = 256;
/// The maximum number of recorded bytes if the first line is no request line.
const MAX_UNKNOWN: usize = 16;

/// Extracts from an unparsable head what the trail may record: method and target of a request line, else the first
/// bytes. Other bytes may be a displaced header field, or secrets from a body.
pub(crate) fn audit_excerpt(inbox: &[u8]) -> (Option<Method>, &[u8]) {
    let line = inbox.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let words: Vec<&[u8]> = line.splitn(3, |byte| *byte == b' ').collect();
    let cut = |text: &'_ [u8], most: usize| text.len().min(most);
    match words.as_slice() {
        [method, target, rest] if rest.starts_with(b"HTTP/") && method.len() <= 16 => {
            let target = target.get(..cut(target, MAX_TARGET)).unwrap_or_default();
            (Method::from_bytes(method).ok(), target)
        }
        _ => {
            // Of text that looks like a name with a value, only the name is recorded.
            let name = line.split(|byte| matches!(byte, b':' | b'=' | b'"' | b'\'' | b' ')).next();
            let name = name.unwrap_or_default();
            (None, name.get(..cut(name, MAX_UNKNOWN)).unwrap_or_default())
        }
    }
}
