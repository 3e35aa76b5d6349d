//! Finds possible secrets in the text of the file, so that no message shows them.
//!
//! It masks generously: a masked name costs a look at the file, a secret in a build log costs its rotation.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::span::Span;

/// Hides, in a parsed document, every value that stands where a secret could.
pub(in crate::config) fn document(root: &DeTable<'_>, hide: &mut dyn FnMut(Span)) {
    table(root, "", false, hide);
}

/// Hides every scalar within a value.
pub(in crate::config) fn leaves(value: &Spanned<DeValue<'_>>, hide: &mut dyn FnMut(Span)) {
    match value.get_ref() {
        DeValue::Table(table) => table.values().for_each(|value| leaves(value, hide)),
        DeValue::Array(list) => list.iter().for_each(|value| leaves(value, hide)),
        DeValue::Boolean(_) => {}
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
            hide(value.span().into());
        }
    }
}

/// Hides every comment that mentions a secret: it is often one that was commented out.
pub(in crate::config) fn comments(text: &str, hide: &mut dyn FnMut(Span)) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let comment = line.split_once('#').map(|(_, comment)| comment);
        if let Some(comment) = comment.filter(|comment| hints(comment) || gives_away(comment)) {
            hide(Span { start: end - comment.len(), end });
        }
        start = end;
    }
}

/// Hides the rest of every line that could contain a secret, in a text that cannot be parsed as TOML.
pub(in crate::config) fn lines(text: &str, hide: &mut dyn FnMut(Span)) {
    let mut fragile = false;
    let mut fence: Option<&str> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if let Some(open) = fence {
            hide(Span { start, end });
            fence = open_after(line, Some(open));
        } else {
            let key = line.trim_start();
            if key.starts_with('[') && !key.contains(['=', ',', '"', '\'']) {
                fragile = is_fragile(key.trim_start_matches(['[', ' ', '\t']));
            } else if fragile || is_fragile(key) || hints(key) || gives_away(key) || key.contains('@') {
                let value = line.find('=').map_or(0, |equals| equals + 1);
                hide(Span { start: start + value, end });
            }
            fence = open_after(line, None);
        }
        start = end;
    }
}

fn table(table: &DeTable<'_>, parent: &str, vault: bool, hide: &mut dyn FnMut(Span)) {
    for (key, value) in table {
        let key = key.get_ref().as_ref();
        let vault = vault || (parent.is_empty() && is_vault(key)) || hints(key);
        hide_secrets(value, (parent, key), vault, hide);
    }
}

fn hide_secrets(
    value: &Spanned<DeValue<'_>>,
    (parent, key): (&str, &str),
    vault: bool,
    hide: &mut dyn FnMut(Span),
) {
    match value.get_ref() {
        DeValue::Table(inner) => table(inner, key, vault, hide),
        DeValue::Array(list) => list.iter().for_each(|value| hide_secrets(value, (parent, key), vault, hide)),
        DeValue::String(text) => {
            let named = matches!(key, "key" | "value") && parent != "tls"
                || key.starts_with("endpoint") && text.contains('@');
            let hidden = vault && (!PLAIN.contains(&key) || key == "env" && !is_variable(text));
            if named || hidden || gives_away(text) {
                hide(value.span().into());
            }
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
            if vault && !PLAIN.contains(&key) {
                hide(value.span().into());
            }
        }
        DeValue::Boolean(_) => {}
    }
}

/// Keys within a credential whose values are references or names, not secrets.
const PLAIN: [&str; 5] = ["file", "env", "id", "username", "name"];

/// Whether a top-level key, or a line that starts with one, contains secrets.
fn is_vault(key: &str) -> bool {
    key.starts_with("credentials") || key.starts_with("custody")
}

/// Whether a text can be the name of an environment variable. A secret that was pasted there often cannot.
pub(in crate::config) fn is_variable(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Whether a line of an invalid text may contain secrets or tokens, whose key may be the invalid part.
fn is_fragile(line: &str) -> bool {
    is_vault(line) || line.starts_with("consumers")
}

/// Whether the name of a key, or a line, suggests a secret.
pub(in crate::config) fn hints(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "passw", "passphrase", "token", "private", "apikey", "api_key", "api-key", "master_key"]
        .iter()
        .any(|word| key.contains(word))
}

/// Whether a text looks like a secret: a claviger token, a PEM block, or a URL with a password, even a truncated one.
fn gives_away(text: &str) -> bool {
    let userinfo = || {
        let (_, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?', '#', '"']).next()?;
        let port = authority.split_once(':').map(|(_, port)| port.trim_end()).unwrap_or_default();
        let password = !authority.starts_with('[') && port.bytes().any(|byte| !byte.is_ascii_digit());
        (authority.contains('@') || password).then_some(())
    };
    text.contains("clv_") || text.contains("-----BEGIN") || userinfo().is_some()
}

/// The delimiter of a multi-line string that is still open after this line.
fn open_after<'a>(line: &str, mut open: Option<&'a str>) -> Option<&'a str> {
    let mut rest = line;
    loop {
        let next = match open {
            Some(fence) => rest.find(fence).map(|at| (at, fence)),
            None => FENCES.into_iter().filter_map(|fence| rest.find(fence).map(|at| (at, fence))).min(),
        };
        let Some((at, fence)) = next else { return open };
        rest = rest.get(at + fence.len()..).unwrap_or_default();
        open = if open.is_some() { None } else { Some(fence) };
    }
}

const FENCES: [&str; 2] = ["\"\"\"", "'''"];

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(text: &str, find: fn(&str, &mut dyn FnMut(Span))) -> String {
        let mut bytes = text.as_bytes().to_vec();
        find(text, &mut |span| {
            bytes
                .iter_mut()
                .take(span.end)
                .skip(span.start)
                .filter(|byte| **byte != b'\n')
                .for_each(|byte| *byte = b'*');
        });
        String::from_utf8(bytes).unwrap_or_default()
    }

    #[test]
    fn a_document_shows_no_literal_secret() {
        let text = r#"
[credentials.a]
access-key = { id = "AKID", secret = "hunter2", sekret = "hunter2", more = ["hunter2", 7] }
[credentials.b]
value = { file = "b.secret" }
[custody]
master_key = "hunter2"
[listeners.tls]
key = "server.key"
[upstreams.a]
endpoint = "https://me:hunter2@a"
api_key = "hunter2"
note = "clv_hunter2"
[consumers.a]
token_sha256 = ["hunter2"]
"#;
        let shown = redact(text, |text, hide| document(DeTable::parse_recoverable(text).0.get_ref(), hide));
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in ["AKID", "b.secret", "server.key"] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
    }

    #[test]
    fn a_broken_text_shows_no_literal_secret() {
        let text = "a = 1\n[credentials.a]\nvalue = \"hunter2\nhunter2\n[limits]\nmax = 1\nsecret : hunter2\nnote = '''\nhunter2\n''' # b\nc = 2\nx = { token = hunter2\ny = https://me:hunter2@x\ncredentials.b.value = hunter2\n";
        let shown = redact(text, lines);
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in ["a = 1", "[limits]\nmax = 1", "c = 2", "[credentials.a]\nvalue ="] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
    }
}
