//! Explains why a signature does not verify: it finds the first line that the consumer signed differently.
//!
//! A request does not carry the signed text. But the usual mistakes are few: a prefix that was signed or not, a path
//! that was encoded differently, a header that a library or proxy added or changed. The diagnosis replaces one line
//! with each of these, and checks whether the signature then verifies.

use super::Part;
use super::params::Presented;
use super::verify::{Message, VerifyingKey};
use crate::query::mask_secrets;
use crate::target::Target;

/// How many bytes of signing strings are tried: hundreds of typical requests.
const MOST_TRIED: usize = 256 * 1024;

/// The first line of the signing string that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The number of the line, from 1.
    pub line: usize,
    /// The part on the line: `(request-target)` or a header's name.
    pub part: String,
    /// The value that was signed; `None` if no usual mistake explains it.
    pub signed: Option<String>,
    /// The value that was received; `None` if there was none.
    pub received: Option<String>,
}

impl Diagnosis {
    /// Finds the first line where the signed and the received value differ. `None` if no usual mistake in one line
    /// explains it: then the secret is wrong, or several lines differ.
    #[must_use]
    pub fn find(key: &VerifyingKey, presented: &Presented, message: Message<'_>) -> Option<Self> {
        let absent = presented.parts.iter().position(|part| message.value(part).is_none());
        let mut left = MOST_TRIED;
        for (at, part) in presented.parts.iter().enumerate() {
            if absent.is_some_and(|absent| absent != at) {
                continue;
            }
            for signed in variants(part, message) {
                let Ok(string) = message.signing_string(&presented.parts, Some((at, &signed))) else {
                    continue;
                };
                // The budget is limited, because any unauthenticated caller can cause this work.
                left = left.checked_sub(string.len())?;
                if key.verify(presented.algorithm, &string, presented.signature()) {
                    return Some(Self::of((at, part), Some(&signed), message));
                }
            }
        }
        let at = absent?;
        Some(Self::of((at, presented.parts.get(at)?), None, message))
    }

    fn of((at, part): (usize, &Part), signed: Option<&[u8]>, message: Message<'_>) -> Self {
        Self {
            line: at + 1,
            part: part.as_str().to_owned(),
            signed: signed.map(|signed| format_value(part, signed)),
            received: message.value(part).map(|received| format_value(part, &received)),
        }
    }
}

impl std::fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} differs: ", self.line)?;
        match &self.signed {
            Some(signed) => write!(f, "signed was `{}: {signed}`, ", self.part)?,
            None => write!(f, "`{}` was signed, ", self.part)?,
        }
        match &self.received {
            Some(received) => write!(f, "received `{}: {received}`", self.part),
            None => f.write_str("and there is no such header"),
        }
    }
}

/// Formats a value for people; nothing in it can be secret.
fn format_value(part: &Part, value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match part {
        Part::RequestTarget => mask_secrets(&text).into_owned(),
        Part::Header(name) if SHOWN.contains(&name.as_str()) => text.into_owned(),
        Part::Header(_) => "…".into(),
    }
}

/// The headers whose values are shown.
const SHOWN: [&str; 8] =
    ["accept", "content-length", "content-type", "date", "digest", "host", "x-jms-org", "x-org-id"];

/// The values that may have been signed on this line instead.
fn variants(part: &Part, message: Message<'_>) -> Vec<Vec<u8>> {
    match part {
        Part::RequestTarget => targets(message),
        Part::Header(name) => {
            let line = |name: &str| message.headers.get(name).map(|value| value.as_bytes().to_vec());
            let joined = message.headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
            let joined: Vec<&[u8]> = joined.collect();
            let mut values = vec![Vec::new(), joined.join(&b","[..])];
            values.extend(joined.iter().map(|value| value.to_vec()));
            match name.as_str() {
                "accept" => values.extend([b"*/*".to_vec(), b"application/json".to_vec()]),
                "date" => values.extend([line("x-date"), line("x-jms-date")].into_iter().flatten()),
                "host" => {
                    values.extend(line("x-forwarded-host"));
                    let host = line("host").unwrap_or_default();
                    values.extend(host.split(|byte| *byte == b':').next().map(<[u8]>::to_vec));
                }
                "content-type" => values.push(b"application/json".to_vec()),
                "content-length" => values.push(b"0".to_vec()),
                _ => {}
            }
            values
        }
    }
}

/// The greatest number of leading segments that are tried as a prefix.
const DEEPEST: usize = 4;

/// Forms of `(request-target)` that clients sign by mistake: another spelling of the path or the query, no gateway
/// prefix, a whole URL, or the method as written.
fn targets(message: Message<'_>) -> Vec<Vec<u8>> {
    let Ok(target) = std::str::from_utf8(message.target) else { return Vec::new() };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let with = |path: &str, query: Option<&str>| match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let mut forms = vec![with(&decoded, query), with(path, None), format!("{path}?")];
    forms.extend(Target::canonical(message.target).ok().map(|target| target.as_str().to_owned()));
    match path.strip_suffix('/') {
        Some(without) => forms.push(with(without, query)),
        None => forms.push(with(&format!("{path}/"), query)),
    }
    if let Some(query) = query {
        let plain = percent_encoding::percent_decode_str(query).decode_utf8_lossy();
        for query in [query.replace('+', "%20"), query.replace("%20", "+"), plain.into_owned()] {
            forms.push(with(path, Some(&query)));
        }
    }
    let mut below = target;
    for _segment in 0..DEEPEST {
        let Some(rest) =
            below.strip_prefix('/').and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)))
        else {
            break;
        };
        forms.push(rest.to_owned());
        below = rest;
    }
    if let Some(host) = message.headers.get("host").and_then(|host| host.to_str().ok()) {
        forms.extend(["http", "https"].map(|scheme| format!("{scheme}://{host}{target}")));
    }
    let method = message.method.to_ascii_lowercase();
    let mut values: Vec<Vec<u8>> = forms.iter().map(|form| format!("{method} {form}").into_bytes()).collect();
    values.push(format!("{} {target}", message.method.to_ascii_uppercase()).into_bytes());
    values
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::secret::Secret;
    use crate::signature::HmacKey;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    /// The diagnosis if `signed` was signed and this request was received.
    fn found(signed: &str, target: &str, lines: &[(&'static str, &'static str)]) -> Option<String> {
        let secret = b"fake-secret";
        let names: Vec<&str> =
            signed.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
        let signature = HmacKey::new(secret).sign(signed.as_bytes());
        assert!(STANDARD.decode(&signature).is_ok());
        let text = format!("keyId=\"k\",headers=\"{}\",signature=\"{signature}\"", names.join(" "));
        let presented = Presented::parse(&text).unwrap();
        let headers = headers(lines);
        let message = Message { method: "GET", target: target.as_bytes(), headers: &headers };
        let key = VerifyingKey::new(Secret::new(secret.to_vec()));
        Diagnosis::find(&key, &presented, message).map(|difference| difference.to_string())
    }

    #[test]
    fn the_usual_mistakes_are_named_by_their_line() {
        let date = ("date", "today");
        for (signed, target, lines, diagnosis) in [
            (
                "(request-target): get /api/users/\ndate: today",
                "/jumpserver/api/users/",
                &[date][..],
                "line 1 differs: signed was `(request-target): get /api/users/`, received \
                 `(request-target): get /jumpserver/api/users/`",
            ),
            (
                "date: today\n(request-target): get /u/a@b/?token=x",
                "/u/a%40b/?token=x",
                &[date],
                "line 2 differs: signed was `(request-target): get /u/a@b/?token=***`, received \
                 `(request-target): get /u/a%40b/?token=***`",
            ),
            (
                "(request-target): get /u\naccept: */*\ndate: today",
                "/u",
                &[("accept", "text/html"), date],
                "line 2 differs: signed was `accept: */*`, received `accept: text/html`",
            ),
            (
                "(request-target): get /u\naccept: text/csv\ndate: today",
                "/u",
                &[date],
                "line 2 differs: `accept` was signed, and there is no such header",
            ),
            (
                "(request-target): get /u\nhost: gw.test\ndate: today",
                "/u",
                &[("host", "gw.test:7070"), date],
                "line 2 differs: signed was `host: gw.test`, received `host: gw.test:7070`",
            ),
            (
                "(request-target): get /u\nx-secret: \ndate: today",
                "/u",
                &[("x-secret", "hunter2"), date],
                "line 2 differs: signed was `x-secret: …`, received `x-secret: …`",
            ),
            (
                "(request-target): GET /u/\ndate: today",
                "/u/",
                &[date],
                "line 1 differs: signed was `(request-target): GET /u/`, received `(request-target): get /u/`",
            ),
        ] {
            assert_eq!(found(signed, target, lines).as_deref(), Some(diagnosis), "{signed}");
        }
    }

    #[test]
    fn what_no_usual_mistake_explains_is_not_made_up() {
        assert_eq!(found("(request-target): get /other\ndate: today", "/u", &[("date", "today")]), None);
        assert_eq!(found("(request-target): get /u\ndate: then", "/u", &[("date", "today")]), None);
    }
}
