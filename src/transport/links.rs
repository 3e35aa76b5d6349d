//! Links in answers: an absolute link to the upstream would lead a script, and its token, past
//! the gateway. Top-level members of JSON (`next`, `previous`), `Location` and `Link` are led back to it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LINK, LOCATION};

use super::Answer;
use crate::audit::Broken;
use crate::origin::Origin;

/// How much of a body is held back until its links are seen.
const HELD: usize = 64 * 1024;

/// Which links lead to this upstream, and where in an answer they are.
#[derive(Debug, Clone)]
pub struct Links {
    /// Top-level JSON members that carry a link; none: bodies are not touched.
    pub members: Vec<String>,
    /// The origins of its endpoints.
    pub origins: Vec<Origin>,
    /// Its base path, without a slash at the end.
    pub base: String,
}

/// How the consumer sees the gateway.
#[derive(Debug, Clone, Copy)]
pub struct Face<'a> {
    /// Whether it came by TLS.
    pub tls: bool,
    /// Its `Host`.
    pub host: &'a str,
    /// The route's prefix, without a slash at the end.
    pub prefix: &'a str,
}

impl Links {
    /// The link as the consumer must see it, or `None` where it does not lead to this upstream.
    #[must_use]
    pub fn rewritten(&self, link: &str, face: Face<'_>) -> Option<String> {
        // `//host/path` takes the scheme of the page it stands on; the scheme does not matter here.
        let absolute = link.starts_with("//").then(|| format!("http:{link}"));
        let (origin, rest) = Origin::split(absolute.as_deref().unwrap_or(link))?;
        if !self.is_here(&origin) {
            return None;
        }
        let below = self.below_base(rest)?;
        let scheme = if face.tls { "https" } else { "http" };
        Some(format!("{scheme}://{}{}{below}", face.host, face.prefix))
    }

    /// Rewrites the links in `Location` and `Link` (RFC 8288), absolute or of a path alone.
    pub fn rewrite_headers(&self, headers: &mut HeaderMap, face: Face<'_>) {
        let location = headers.get(LOCATION).and_then(|value| self.led_back(value.to_str().ok()?, face));
        if let Some(Ok(value)) = location.map(HeaderValue::try_from) {
            headers.insert(LOCATION, value);
        }
        // Asked first, since looking for an entry makes room for one.
        if headers.contains_key(LINK)
            && let http::header::Entry::Occupied(mut lines) = headers.entry(LINK)
        {
            for value in lines.iter_mut() {
                if let Some(Ok(rewritten)) = self.each_led_back(value, face).map(HeaderValue::try_from) {
                    *value = rewritten;
                }
            }
        }
    }

    /// Whether `location` is this same target but for a slash at the end of its path. Clients follow
    /// such a redirect with a GET, whatever they sent, and take its answer for theirs.
    #[must_use]
    pub fn only_adds_slash(&self, location: &HeaderValue, target: &str) -> bool {
        let Ok(location) = location.to_str() else { return false };
        let absolute = location.starts_with("//").then(|| format!("http:{location}"));
        let rest = match Origin::split(absolute.as_deref().unwrap_or(location)) {
            Some((origin, rest)) if self.is_here(&origin) => rest,
            Some(_) => return false,
            None => location,
        };
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        rest.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')) == Some(query)
    }

    fn led_back(&self, link: &str, face: Face<'_>) -> Option<String> {
        if link.starts_with('/') && !link.starts_with("//") {
            return self.below_base(link).map(|below| format!("{}{below}", face.prefix));
        }
        self.rewritten(link, face)
    }

    /// The value with every link between `<` and `>` led back.
    fn each_led_back(&self, value: &HeaderValue, face: Face<'_>) -> Option<String> {
        let mut rest = value.to_str().ok()?;
        let mut out = String::with_capacity(rest.len());
        while let Some((before, after)) = rest.split_once('<') {
            let Some((link, left)) = after.split_once('>') else { break };
            let new = self.led_back(link, face);
            out.extend([before, "<", new.as_deref().unwrap_or(link), ">"]);
            rest = left;
        }
        out.push_str(rest);
        Some(out)
    }

    /// Whether a body with these headers has links to look for.
    #[must_use]
    pub fn concerns(&self, headers: &HeaderMap) -> bool {
        if self.members.is_empty() {
            return false;
        }
        is_plain_json(headers)
    }

    /// Reads the body until its links are seen, 64 KiB at most, and rewrites them; the rest streams.
    ///
    /// # Errors
    /// [`Broken`] where the upstream breaks off meanwhile.
    pub async fn rewrite_body(&self, answer: &mut Answer, face: Face<'_>) -> Result<(), Broken> {
        let mut held = BytesMut::new();
        let mut look_at = 0;
        let found = loop {
            let end = answer.is_read();
            if held.len() >= look_at || end || held.len() >= HELD {
                let scan = scan(&held, &self.members);
                if scan.done || end || held.len() >= HELD {
                    break scan.found;
                }
                // Looking only after the text has doubled keeps the work in proportion to it.
                look_at = held.len() * 2;
            }
            if let Some(more) = answer.next().await {
                held.extend_from_slice(&more?);
            }
        };
        let taken = held.len();
        answer.put_front(self.replaced(held.freeze(), &found, face), taken);
        Ok(())
    }

    /// The text of a whole body, or of its beginning, with the links that are seen in it rewritten.
    #[must_use]
    pub fn rewritten_text(&self, text: Bytes, face: Face<'_>) -> Bytes {
        let found = scan(&text, &self.members).found;
        self.replaced(text, &found, face)
    }

    fn replaced(&self, text: Bytes, found: &[Range<usize>], face: Face<'_>) -> Bytes {
        let mut out = BytesMut::new();
        let mut done = 0;
        for range in found {
            let link = text.get(range.clone()).and_then(|json| serde_json::from_slice::<String>(json).ok());
            let Some(new) = link.and_then(|link| self.rewritten(&link, face)) else { continue };
            let Ok(json) = serde_json::to_vec(&new) else { continue };
            out.extend_from_slice(text.get(done..range.start).unwrap_or_default());
            out.extend_from_slice(&json);
            done = range.end;
        }
        if done == 0 {
            return text;
        }
        out.extend_from_slice(text.get(done..).unwrap_or_default());
        out.freeze()
    }

    fn is_here(&self, origin: &Origin) -> bool {
        self.origins.iter().any(|own| origin.same_place(own))
    }

    fn below_base<'t>(&self, path: &'t str) -> Option<&'t str> {
        let below = path.strip_prefix(&self.base)?;
        // Two slashes would lead to whom the next segment names.
        let elsewhere = below.starts_with("//") || below.starts_with("/\\");
        (!elsewhere && (below.is_empty() || below.starts_with(['/', '?']))).then_some(below)
    }
}

/// Whether a body with these headers is JSON that can be read as it is.
#[must_use]
pub fn is_plain_json(headers: &HeaderMap) -> bool {
    let json = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    });
    let coding = headers.get(CONTENT_ENCODING);
    json && coding.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Where string values of the wanted top-level members stand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Scan {
    found: Vec<Range<usize>>,
    /// Nothing more can be found: all are there, the object has ended, or it is none.
    done: bool,
}

/// Walks the text of a JSON object as far as it goes.
fn scan(text: &[u8], members: &[String]) -> Scan {
    let mut scan = Scan::default();
    let mut seen = 0;
    let mut cursor = Cursor { text, at: 0 };
    match cursor.next_token() {
        Some(b'{') => cursor.at += 1,
        Some(_) => {
            scan.done = true;
            return scan;
        }
        None => return scan,
    }
    loop {
        match cursor.next_token() {
            Some(b',') => cursor.at += 1,
            Some(b'"') => {
                let Some(name) = cursor.string() else { return scan };
                if cursor.next_token() != Some(b':') {
                    return scan;
                }
                cursor.at += 1;
                let Some(start) = cursor.next_token() else { return scan };
                let Some(value) = cursor.value() else { return scan };
                let name = text.get(name).and_then(|json| serde_json::from_slice::<String>(json).ok());
                if name.is_some_and(|name| members.contains(&name)) {
                    seen += 1;
                    if start == b'"' {
                        scan.found.push(value);
                    }
                    if seen == members.len() {
                        scan.done = true;
                        return scan;
                    }
                }
            }
            Some(_) => {
                scan.done = true;
                return scan;
            }
            None => return scan,
        }
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn next_token(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// The string that begins here, with its quotes; `None` where the text ends before it.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..)?;
            let stop = memchr::memchr2(b'"', b'\\', rest)?;
            let quote = rest.get(stop) == Some(&b'"');
            self.at += stop + if quote { 1 } else { 2 };
            if quote {
                return Some(start..self.at);
            }
        }
    }

    /// The value that begins here; `None` where the text ends before it.
    fn value(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut depth = 0_u32;
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.string()?;
                    if depth == 0 {
                        return Some(start..self.at);
                    }
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b',' | b'}' | b']' if depth == 0 => return Some(start..self.at),
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        return Some(start..self.at);
                    }
                }
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn links() -> Links {
        let (origin, _) = Origin::split("https://jms.example.com").unwrap();
        let (other, _) = Origin::split("https://jms-2.example.com").unwrap();
        let members = vec!["next".into(), "previous".into()];
        Links { members, origins: vec![origin, other], base: "/jms".into() }
    }

    const FACE: Face<'static> = Face { tls: false, host: "gw:7070", prefix: "/p" };

    #[test]
    fn leads_links_of_the_upstream_back_and_leaves_others() {
        let rewritten = |link: &str| links().rewritten(link, FACE);
        assert_eq!(
            rewritten("http://jms.example.com/jms/api/?offset=2").unwrap(),
            "http://gw:7070/p/api/?offset=2"
        );
        assert_eq!(rewritten("https://JMS.example.com/jms?x").unwrap(), "http://gw:7070/p?x");
        assert_eq!(rewritten("https://jms-2.example.com/jms/a").unwrap(), "http://gw:7070/p/a");
        assert_eq!(rewritten("https://jms.example.com/other/"), None);
        assert_eq!(rewritten("https://jms.example.com/jmsx/"), None);
        assert_eq!(rewritten("https://elsewhere.example.com/jms/"), None);
        assert_eq!(rewritten("/jms/api/"), None);
    }

    #[test]
    fn rewrites_locations() {
        for (location, wanted) in [
            ("https://jms.example.com/jms/a/", "http://gw:7070/p/a/"),
            ("/jms/a/", "/p/a/"),
            ("//jms.example.com/jms/a", "http://gw:7070/p/a"),
            ("//elsewhere/a", "//elsewhere/a"),
            ("https://elsewhere.example.com/", "https://elsewhere.example.com/"),
            ("b/", "b/"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(location));
            links().rewrite_headers(&mut headers, FACE);
            assert_eq!(headers.get(LOCATION).unwrap(), wanted, "{location}");
        }
    }

    #[test]
    fn leads_nobody_to_whom_a_second_slash_would_name() {
        let links = links();
        for location in ["/jms//evil.example/x", "/jms/\\evil.example/x"] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(location));
            links.rewrite_headers(&mut headers, FACE);
            assert_eq!(headers.get(LOCATION).unwrap(), location);
        }
    }

    #[test]
    fn knows_a_redirect_that_only_adds_a_slash() {
        let adds = |location, target| links().only_adds_slash(&HeaderValue::from_static(location), target);
        assert!(adds("/jms/a/", "/jms/a") && adds("/jms/a/?x=1", "/jms/a?x=1"));
        assert!(adds("http://jms.example.com/jms/a/", "/jms/a") && adds("//jms.example.com/a/", "/a"));
        assert!(
            !adds("/jms/a/?x=2", "/jms/a?x=1") && !adds("/jms/b/", "/jms/a") && !adds("/jms/a/", "/jms/a/")
        );
        assert!(!adds("https://elsewhere.example.com/a/", "/a") && !adds("a/", "/a") && !adds("/a//", "/a"));
    }

    #[test]
    fn finds_members_of_the_top_level_alone() {
        let members = links().members;
        let found = |text: &str| {
            let scan = scan(text.as_bytes(), &members);
            (
                scan.found.into_iter().map(|range| text.get(range).unwrap().to_owned()).collect::<Vec<_>>(),
                scan.done,
            )
        };
        assert_eq!(
            found(r#" {"count": 2, "next": "a\"b", "previous":null, "results":[{"next":"x"}]}"#),
            (vec![r#""a\"b""#.into()], true)
        );
        assert_eq!(found(r#"{"results":[{"next":"x"}],"n\u0065xt":"y"}"#), (vec![r#""y""#.into()], true));
        assert_eq!(found(r#"[{"next":"x"}]"#), (vec![], true));
        assert_eq!(found(r#"{"next":"x","prev"#), (vec![r#""x""#.into()], false));
        assert_eq!(found(""), (vec![], false));
        assert_eq!(found(r#"{"a":"\"#), (vec![], false));
    }

    #[test]
    fn replaces_within_the_text() {
        let text = r#"{"next":"http://jms.example.com/jms/u/?a=\u00e9","previous":null}"#;
        let out = links().rewritten_text(Bytes::from_static(text.as_bytes()), FACE);
        assert_eq!(out, r#"{"next":"http://gw:7070/p/u/?a=é","previous":null}"#.as_bytes());
    }
}
