//! Members of a query: how servers read them, and how the trail shows them.

use std::borrow::Cow;

/// Decodes `%xx` and `+` in a query member, as Django and most others do.
#[must_use]
pub fn decode_query(member: &str) -> Cow<'_, str> {
    if is_encoded(member) {
        let spaced = member.replace('+', " ");
        return Cow::Owned(percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    Cow::Borrowed(member)
}

/// Whether two query names are the same to a reader that decodes them.
#[must_use]
pub fn same_query_name(written: &str, name: &str) -> bool {
    written == name || decode_query(written) == name
}

/// Whether a text contains an escape. It checks every byte, which the compiler can vectorise.
fn is_encoded(text: &str) -> bool {
    text.bytes().fold(false, |any, byte| any | matches!(byte, b'%' | b'+'))
}

/// The text of a target for the trail, canonical or as received. It masks the values of query members whose names
/// suggest secrets. Some readers split members at `;` too, and a refused target may have a fragment: a name after such
/// a delimiter counts as well.
#[must_use]
pub fn mask_secrets(text: &str) -> Cow<'_, str> {
    let begins = memchr::memchr2(b'?', b'#', text.as_bytes());
    let Some((path, query)) = begins.and_then(|at| text.split_at_checked(at + 1)) else {
        return Cow::Borrowed(text);
    };
    if (!is_encoded(query) && !is_sensitive_name(query))
        || query.split('&').all(|part| until_secret(part).is_none())
    {
        return Cow::Borrowed(text);
    }
    let mut masked = String::from(path);
    for (at, member) in query.split('&').enumerate() {
        if at > 0 {
            masked.push('&');
        }
        match until_secret(member) {
            Some(name) => masked.extend([name, "=***"]),
            None => masked.push_str(member),
        }
    }
    Cow::Owned(masked)
}

/// The part of a member before a value that must not be shown.
fn until_secret(member: &str) -> Option<&str> {
    let mut begin = 0;
    for part in member.split_inclusive([';', '?', '#']) {
        if let Some((name, _)) = part.split_once('=')
            && is_sensitive_name(&decode_query(name))
        {
            return member.get(..begin + name.len());
        }
        begin += part.len();
    }
    None
}

/// Whether the trail masks the value of a query member of this name.
#[must_use]
pub fn is_sensitive_name(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let others: &[&[u8]] = match first | 0x20 {
            b't' => &[b"oken"],
            b'p' => &[b"assw"],
            b's' => &[b"ecret", b"ign"],
            b'k' => &[b"ey"],
            b'c' => &[b"redential"],
            _ => continue,
        };
        let begins =
            |word: &&[u8]| after.get(..word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word));
        if others.iter().any(begins) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_values_of_speaking_names() {
        assert_eq!(
            mask_secrets("/a?user=x&api_ke%79=abc&Token=t&flag;secret=s&sign="),
            "/a?user=x&api_ke%79=***&Token=***&flag;secret=***&sign=***"
        );
        assert_eq!(mask_secrets("/a?token=a=b?c;d&x=1;key=abc;y&z=2"), "/a?token=***&x=1;key=***&z=2");
        assert_eq!(mask_secrets("/a#token=abc"), "/a#token=***");
        assert_eq!(mask_secrets("/a?x=1#token=abc"), "/a?x=1#token=***");
        assert_eq!(mask_secrets("/a;x=1?token"), "/a;x=1?token");
    }
}
