//! The canonical target: one form, which no reader takes for another path than the one received.

use claviger::target::Target;

pub fn body(input: &[u8]) {
    let Ok(target) = Target::canonical(input) else { return };
    assert_eq!(Target::canonical(target.as_str().as_bytes()), Ok(target.clone()), "twice is once");
    assert!(target.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\'));

    let (path, query) = (target.path(), target.query());
    let whole = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    assert_eq!(whole, target.as_str());
    assert!(path.starts_with('/') && !path.contains("//"));
    let meant = decoded(path.as_bytes());
    assert!(!meant.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\'));
    assert_eq!(segments(&meant).count(), segments(path.as_bytes()).count(), "no slash was hidden");
    for segment in segments(&meant) {
        let plain = segment.split(|byte| *byte == b';').next().unwrap();
        assert!(plain != b"." && plain != b"..", "{target}");
    }

    let end = input.iter().position(|byte| *byte == b'?').unwrap_or(input.len());
    assert_eq!(meant, decoded(&input[..end]), "the path means what was received");
    let asked = input.get(end + 1..).unwrap_or_default();
    assert_eq!(decoded(query.as_bytes()), decoded(asked), "and so does the query");

    assert_eq!(target.with_base("/jms").strip_prefix("/jms").as_ref(), Some(&target));
    let slashed = target.clone().with_trailing_slash();
    assert_eq!(Target::canonical(slashed.as_str().as_bytes()), Ok(slashed.clone()));
    assert_eq!(slashed.query(), query);
    assert!(target.query_members().all(|(name, value)| !name.contains(['&', '=']) && !value.contains('&')));
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// The bytes with every `%xx` decoded once.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, digit(at + 1), digit(at + 2)) {
            out.push(u8::try_from(high * 16 + low).unwrap());
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    out
}
