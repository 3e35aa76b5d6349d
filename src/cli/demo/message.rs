//! The heads of HTTP messages, as the demo's consumer and its stand-in read them.

/// The header lines of a message, as received.
pub(super) type Lines = Vec<(String, String)>;

/// Splits a head into its first line and its header lines; `None` if a line has no colon.
pub(super) fn parse_head(head: &str) -> Option<(&str, Lines)> {
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    Some((first, lines.filter(|line| !line.is_empty()).map(pair).collect::<Option<_>>()?))
}

/// The values of a header, in order.
pub(super) fn values<'m>(lines: &'m [(String, String)], name: &str) -> Vec<&'m str> {
    let same = lines.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    same.map(|(_, value)| value.as_str()).collect()
}
