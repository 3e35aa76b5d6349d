//! Link rewriting. An absolute link to the upstream would make a script send its token past the gateway. claviger
//! rewrites top-level JSON members (`next`, `previous`), `Location`, `Link` and similar headers so that they point to
//! the gateway. A link that cannot be rewritten is kept, and the trail records this.

mod scan;
mod spans;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LOCATION, HeaderValue, LINK, LOCATION, REFRESH};
use http::{HeaderMap, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::UpstreamBody;
use crate::code::Failure;
use crate::headers::{is_identity, is_json};
use crate::origin::Origin;
use scan::scan;
use spans::{after_url, all_of, in_angles};

/// The maximum number of body bytes that are buffered to find links.
const MAX_BUFFERED: usize = 64 * 1024;

/// The rewriting rules of one upstream: which links point to it, and which parts of a response contain links.
#[derive(Debug, Clone)]
pub struct LinkRewriter {
    /// The top-level JSON members that carry a link. If empty, bodies are not rewritten.
    pub members: Vec<String>,
    /// The origins of the upstream's endpoints.
    pub origins: Vec<Origin>,
    /// The upstream's base path, without a trailing slash.
    pub base: String,
}

/// The URL under which the consumer reaches the gateway.
#[derive(Debug, Clone, Copy)]
pub struct PublicUrl<'a> {
    /// Whether the request arrived over TLS.
    pub tls: bool,
    /// The request's `Host`.
    pub host: &'a str,
    /// The route's prefix, without a trailing slash.
    pub prefix: &'a str,
}

/// The kind of redirect loop: the redirect leads to the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectLoop {
    /// From http to https, on any port.
    Https,
    /// From https to http, on any port.
    Http,
    /// To the same scheme, host, port, path and query.
    Itself,
}

/// The result of rewriting one link.
#[derive(Debug, PartialEq, Eq)]
enum Rewrite {
    /// The link points to the gateway; the text may be unchanged.
    ToGateway(String),
    /// The link points, or may point, to the upstream past the gateway and is kept, for this reason.
    Bypass(&'static str),
    /// The link is relative, or does not point to this upstream.
    Elsewhere,
}

/// The result of rewriting the links of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Whether the body differs from the upstream's.
    pub changed: bool,
    /// Why a link that may lead past the gateway was kept.
    pub bypass: Option<&'static str>,
}

impl LinkRewriter {
    /// Rewrites one link for the consumer. Returns `None` if it stays unchanged.
    #[must_use]
    pub fn rewrite_link(&self, link: &str, url: PublicUrl<'_>) -> Option<String> {
        match self.to_public_url(link, url) {
            Rewrite::ToGateway(new) => (new != link).then_some(new),
            Rewrite::Bypass(_) | Rewrite::Elsewhere => None,
        }
    }

    fn to_public_url(&self, link: &str, url: PublicUrl<'_>) -> Rewrite {
        // Clients ignore surrounding spaces, and keep the fragment to themselves.
        let link = link.trim_matches(|letter: char| letter <= ' ');
        let at = link.find('#').unwrap_or(link.len());
        let (link, fragment) = link.split_at_checked(at).unwrap_or((link, ""));
        let is_path = link.starts_with('/') && !link.starts_with("//") && !link.starts_with("/\\");
        if is_path {
            return match self.below_base(link) {
                Some(below) if has_dot_segments(below) => Rewrite::Bypass(DOTS),
                Some(below) => Rewrite::ToGateway(format!("{}{below}{fragment}", url.prefix)),
                None => Rewrite::Bypass(OUTSIDE),
            };
        }
        // `//host/path` inherits the scheme of its page; the scheme does not matter here.
        let absolute = link.starts_with("//").then(|| format!("http:{link}"));
        let split = Origin::split(absolute.as_deref().unwrap_or(link)).map(|(mut origin, rest)| {
            if origin.host.ends_with('.') {
                origin.host.pop();
            }
            (origin, rest)
        });
        let Some((_, rest)) = split.as_ref().filter(|(origin, _)| self.is_here(origin)) else {
            let same_host =
                |(origin, _): (Origin, &str)| self.origins.iter().any(|known| known.host == origin.host);
            return if split.is_some_and(same_host) {
                Rewrite::Bypass("a link to another port of the upstream")
            } else if self.names_host(link) {
                Rewrite::Bypass("a link that names its host oddly")
            } else {
                Rewrite::Elsewhere
            };
        };
        let scheme = if url.tls { "https" } else { "http" };
        match self.below_base(rest) {
            Some(below) if has_dot_segments(below) => Rewrite::Bypass(DOTS),
            Some(below) => {
                Rewrite::ToGateway(format!("{scheme}://{}{}{below}{fragment}", url.host, url.prefix))
            }
            None => Rewrite::Bypass(OUTSIDE),
        }
    }

    /// Returns whether a link that is no strict URL names a host of the upstream for lenient clients (WHATWG URL). Such
    /// clients accept backslashes, any number of slashes, a user name, and escapes in the host.
    fn names_host(&self, link: &str) -> bool {
        let link: String = link.chars().filter(|letter| !letter.is_ascii_control()).collect();
        let is_http =
            |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let rest = match link.split_once(':') {
            Some((scheme, rest)) if is_http(scheme) => rest,
            Some(_) | None if link.starts_with(['/', '\\']) => link.as_str(),
            Some(_) | None => return false,
        };
        let authority = rest.trim_start_matches(['/', '\\']).split(['/', '\\', '?', '#']).next();
        let place = authority.and_then(|authority| authority.rsplit('@').next()).unwrap_or_default();
        let place = percent_decode_str(place).decode_utf8_lossy().to_ascii_lowercase();
        let host = match place.strip_prefix('[') {
            Some(v6) => v6.split(']').next(),
            None => place.split(':').next(),
        };
        let host = host.unwrap_or_default().trim_end_matches('.');
        self.origins.iter().any(|known| known.host == host)
    }

    /// Rewrites the links in `Location`, `Content-Location`, `Link` (RFC 8288) and `Refresh`, absolute or with a path
    /// only. Returns why a link that may lead past the gateway was kept.
    pub fn rewrite_headers(&self, headers: &mut HeaderMap, url: PublicUrl<'_>) -> Option<&'static str> {
        let mut bypass = None;
        for name in [LOCATION, CONTENT_LOCATION, LINK, REFRESH] {
            // Checked first, since `entry` reserves room in the map.
            if !headers.contains_key(&name) {
                continue;
            }
            let spans = if name == LINK {
                in_angles
            } else if name == REFRESH {
                after_url
            } else {
                all_of
            };
            let http::header::Entry::Occupied(mut lines) = headers.entry(name) else { continue };
            for value in lines.iter_mut() {
                let Ok(text) = value.to_str() else {
                    let text = String::from_utf8_lossy(value.as_bytes());
                    let ours = self.origins.iter().any(|known| text.contains(known.host.as_str()));
                    bypass = bypass.or(ours.then_some("a link beyond ASCII"));
                    continue;
                };
                let mut new = Vec::new();
                for span in spans(text) {
                    let link = text.get(span.clone()).unwrap_or_default();
                    match self.to_public_url(link, url) {
                        Rewrite::ToGateway(url) if url != link => new.push((span, url)),
                        Rewrite::Bypass(why) => bypass = bypass.or(Some(why)),
                        Rewrite::ToGateway(_) | Rewrite::Elsewhere => {}
                    }
                }
                if let Some(new) =
                    splice(text.as_bytes(), &new).and_then(|new| HeaderValue::try_from(new).ok())
                {
                    *value = new;
                }
            }
        }
        bypass
    }

    /// Returns whether `location` is the same target with a slash added to its path. Clients follow such a redirect
    /// with a GET, whatever the method was, and take its response for theirs.
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

    /// Classifies a redirect to `location` that repeats the `target` sent to `here`. Returns `None` if it is no loop.
    #[must_use]
    pub fn redirect_loop(&self, location: &HeaderValue, target: &str, here: &Origin) -> Option<RedirectLoop> {
        let location = location.to_str().ok()?;
        let location = location.split_once('#').map_or(location, |(location, _)| location);
        let scheme = if here.tls { "https:" } else { "http:" };
        let absolute = location.starts_with("//").then(|| format!("{scheme}{location}"));
        let Some((origin, rest)) = Origin::split(absolute.as_deref().unwrap_or(location)) else {
            return (location == target).then_some(RedirectLoop::Itself);
        };
        let path = |target: &str| {
            let path = target.split_once('?').map_or(target, |(path, _)| path);
            percent_decode_str(if path.is_empty() { "/" } else { path }).collect::<Vec<u8>>()
        };
        let is_here = origin.host == here.host || self.origins.iter().any(|known| known.host == origin.host);
        if !is_here || path(rest) != path(target) {
            return None;
        }
        match (here.tls, origin.tls) {
            (false, true) => Some(RedirectLoop::Https),
            (true, false) => Some(RedirectLoop::Http),
            (true, true) | (false, false) => {
                (rest == target && origin.same_authority(here)).then_some(RedirectLoop::Itself)
            }
        }
    }

    /// Returns whether a body with these headers may contain links.
    #[must_use]
    pub fn applies_to(&self, headers: &HeaderMap) -> bool {
        !self.members.is_empty() && is_json(headers)
    }

    /// Rewrites the links in the first 64 KiB of a body to which the rules [apply](Self::applies_to); the rest streams.
    /// An encoded or partial body stays unchanged, and the result records this.
    ///
    /// # Errors
    /// [`Failure`] if the upstream breaks off while the links are searched.
    pub async fn rewrite_body(
        &self,
        response: &mut Response<UpstreamBody>,
        url: PublicUrl<'_>,
    ) -> Result<Page, Failure> {
        let unread = |why| Ok(Page { changed: false, bypass: Some(why) });
        // The length of a partial body is fixed by `Content-Range`.
        if response.status() == StatusCode::PARTIAL_CONTENT {
            return unread("links in a partial body");
        }
        if !is_identity(response.headers()) {
            return unread("links in an encoded body");
        }
        let answer = response.body_mut();
        let mut text = BytesMut::new();
        let mut look_at = 0;
        let scan = loop {
            let end = answer.is_exhausted();
            if text.len() >= look_at || end || text.len() >= MAX_BUFFERED {
                let mut scan = scan(&text, &self.members);
                scan.unseen = !scan.done && !end;
                if scan.done || end || text.len() >= MAX_BUFFERED {
                    break scan;
                }
                // Scanning again only after the text has doubled keeps the total work linear.
                look_at = text.len() * 2;
            }
            if let Some(more) = answer.next().await {
                text.extend_from_slice(&more?);
            }
        };
        let length = text.len();
        let (text, mut page) = self.rewrite(text.freeze(), &scan.found, url);
        answer.prepend(text, length);
        if scan.unseen {
            page.bypass = page.bypass.or(Some("links beyond 64 KiB of a body"));
        }
        Ok(page)
    }

    /// Rewrites the links in the text of a whole body, or of its beginning.
    #[must_use]
    pub fn rewrite_text(&self, text: Bytes, url: PublicUrl<'_>) -> Bytes {
        let found = scan(&text, &self.members).found;
        self.rewrite(text, &found, url).0
    }

    fn rewrite(&self, text: Bytes, found: &[Range<usize>], url: PublicUrl<'_>) -> (Bytes, Page) {
        let (mut new, mut bypass) = (Vec::new(), None);
        for range in found {
            let json = text.get(range.clone()).unwrap_or_default();
            let Ok(link) = serde_json::from_slice::<String>(json) else {
                let names_own = |known: &Origin| memchr::memmem::find(json, known.host.as_bytes()).is_some();
                let why = self.origins.iter().any(names_own).then_some("a link that is no text");
                bypass = bypass.or(why);
                continue;
            };
            match self.to_public_url(&link, url) {
                Rewrite::ToGateway(url) if url != link => {
                    new.push((range.clone(), Value::from(url).to_string()));
                }
                Rewrite::Bypass(why) => bypass = bypass.or(Some(why)),
                Rewrite::ToGateway(_) | Rewrite::Elsewhere => {}
            }
        }
        match splice(&text, &new) {
            Some(new) => (new.into(), Page { changed: true, bypass }),
            None => (text, Page { changed: false, bypass }),
        }
    }

    fn is_here(&self, origin: &Origin) -> bool {
        self.origins.iter().any(|known| origin.same_authority(known))
    }

    fn below_base<'t>(&self, path: &'t str) -> Option<&'t str> {
        let below = path.strip_prefix(&self.base)?;
        // After two slashes, the next segment would name another host.
        let elsewhere = below.starts_with("//") || below.starts_with("/\\");
        (!elsewhere && (below.is_empty() || below.starts_with(['/', '?']))).then_some(below)
    }
}

/// Replaces byte ranges of `text`, which are in order. Returns `None` if there are none.
fn splice(text: &[u8], new: &[(Range<usize>, String)]) -> Option<Vec<u8>> {
    let (mut out, mut done) = (Vec::new(), 0);
    for (range, replacement) in new {
        out.extend_from_slice(text.get(done..range.start).unwrap_or_default());
        out.extend_from_slice(replacement.as_bytes());
        done = range.end;
    }
    out.extend_from_slice(text.get(done..).unwrap_or_default());
    (!new.is_empty()).then_some(out)
}

/// The reason recorded for a link to the upstream's host, outside the path that the gateway serves.
const OUTSIDE: &str = "a link outside the endpoint's path";

/// The reason recorded for a link that clients resolve to another path.
const DOTS: &str = "a link with dot segments";

/// Returns whether clients may read a path segment as `.` or `..`, in any spelling (WHATWG URL).
fn has_dot_segments(target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let path: Vec<u8> = percent_decode_str(path).filter(|byte| !byte.is_ascii_control()).collect();
    path.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| matches!(segment, b"." | b".."))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn links() -> LinkRewriter {
        let (origin, _) = Origin::split("https://jms.example.com").unwrap();
        let (other, _) = Origin::split("https://jms-2.example.com").unwrap();
        let members = vec!["next".into(), "previous".into()];
        LinkRewriter { members, origins: vec![origin, other], base: "/jms".into() }
    }

    const FACE: PublicUrl<'static> = PublicUrl { tls: false, host: "gw:7070", prefix: "/p" };

    #[test]
    fn leads_links_of_the_upstream_back_and_leaves_others() {
        let rewritten = |link: &str| links().rewrite_link(link, FACE);
        assert_eq!(
            rewritten("http://jms.example.com/jms/api/?offset=2").unwrap(),
            "http://gw:7070/p/api/?offset=2"
        );
        assert_eq!(rewritten("https://JMS.example.com/jms?x").unwrap(), "http://gw:7070/p?x");
        assert_eq!(rewritten("https://jms-2.example.com/jms/a").unwrap(), "http://gw:7070/p/a");
        assert_eq!(rewritten("https://jms.example.com/other/"), None);
        assert_eq!(rewritten("https://jms.example.com/jmsx/"), None);
        assert_eq!(rewritten("https://elsewhere.example.com/jms/"), None);
        assert_eq!(rewritten("/jms/api/?a=b#c").unwrap(), "/p/api/?a=b#c");
        assert_eq!(rewritten(" https://jms.example.com:/jms/a#f\n").unwrap(), "http://gw:7070/p/a#f");
        assert_eq!(rewritten("https://jms.example.com.:443/jms/a").unwrap(), "http://gw:7070/p/a");
        assert_eq!(rewritten("//JMS.EXAMPLE.COM/jms/a").unwrap(), "http://gw:7070/p/a");
        for relative in ["?offset=2", "page/2", "../x", "", "#f"] {
            assert_eq!(links().to_public_url(relative, FACE), Rewrite::Elsewhere, "{relative}");
        }
    }

    #[test]
    fn rewrites_locations() {
        for (location, expected) in [
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
            assert_eq!(headers.get(LOCATION).unwrap(), expected, "{location}");
        }
    }

    #[test]
    fn knows_what_may_lead_past_the_gateway() {
        for link in [
            "https://jms.example.com/other/",
            "/other/",
            "https://jms.example.com/jms//evil.example/x",
            "https://jms.example.com:8443/jms/a",
            "https://user@jms.example.com/jms/a",
            "https:/jms.example.com/jms/a",
            "https:jms.example.com/jms/a",
            "https:\\\\jms.example.com\\jms\\a",
            "\\\\jms.example.com/jms/a",
            "/\\jms.example.com/jms/a",
            "///jms.example.com/jms/a",
            "https://jms.example.co%6d/jms/a",
            "ht\ttps://jms-2.example.com./jms/a",
        ] {
            assert!(matches!(links().to_public_url(link, FACE), Rewrite::Bypass(_)), "{link:?}");
        }
        for link in [
            "https://elsewhere.example.com/?next=https://jms.example.com/",
            "https://jms.example.com.evil.example/",
            "https://jms.example.com@evil.example/",
            "mailto:a@jms.example.com",
            "jms.example.com/x",
        ] {
            assert_eq!(links().to_public_url(link, FACE), Rewrite::Elsewhere, "{link}");
        }
    }

    #[test]
    fn leads_no_dot_segments_back() {
        for path in [
            "/jms/../x",
            "/jms/a/../../x",
            "/jms/..",
            "/jms/./a",
            "/jms/%2e%2E/x",
            "/jms/.%2e/x?y",
            "/jms/a\\..\\..\\x",
            "/jms/.\t./x",
            "/jms/..%2fx",
            "/jms/..#f",
        ] {
            for link in [path.to_owned(), format!("https://jms.example.com{path}")] {
                assert_eq!(links().to_public_url(&link, FACE), Rewrite::Bypass(DOTS), "{link:?}");
            }
        }
        for (link, expected) in
            [("/jms/v1.0/.a/..b/...", "/p/v1.0/.a/..b/..."), ("/jms/a?x=/../", "/p/a?x=/../")]
        {
            assert_eq!(links().to_public_url(link, FACE), Rewrite::ToGateway(expected.into()), "{link}");
        }
    }

    #[test]
    fn rewrites_every_header_that_leads_somewhere() {
        for (name, value, expected) in [
            ("content-location", "https://jms.example.com/jms/a/", "http://gw:7070/p/a/"),
            ("refresh", "5; url=https://jms.example.com/jms/a/", "5; url=http://gw:7070/p/a/"),
            ("refresh", "0;URL='/jms/a/'", "0;URL='/p/a/'"),
            ("refresh", "0;https://jms.example.com/jms/a/", "0;http://gw:7070/p/a/"),
            ("refresh", " 0.5 , \"/jms/a/\" ", " 0.5 , \"/p/a/\" "),
            ("refresh", "0 /jms/a/", "0 /p/a/"),
            ("refresh", "0; URL = /jms/a/", "0; URL = /p/a/"),
            ("refresh", "x;url=/jms/a/", "x;url=/p/a/"),
            ("refresh", "url=/jms/a/", "url=/p/a/"),
            ("refresh", "0;/jms/?url=/b/", "0;/p/?url=/b/"),
            ("refresh", "5", "5"),
            (
                "link",
                "<https://jms.example.com/jms/?p=2>; rel=\"next\", </jms/x>; rel=up, <https://else.example/>",
                "<http://gw:7070/p/?p=2>; rel=\"next\", </p/x>; rel=up, <https://else.example/>",
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(links().rewrite_headers(&mut headers, FACE), None, "{value}");
            assert_eq!(headers.get(name).unwrap(), expected);
            headers.insert(name, HeaderValue::from_str(&value.replace("/jms/", "/other/")).unwrap());
            assert_eq!(links().rewrite_headers(&mut headers, FACE).is_some(), value != "5", "{value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(b"https://jms.example.com/jms/\xe9").unwrap());
        assert!(links().rewrite_headers(&mut headers, FACE).is_some());
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
    fn knows_a_redirect_that_leads_round() {
        let round = |location, here| {
            let (here, _) = Origin::split(here).unwrap();
            links().redirect_loop(&HeaderValue::from_static(location), "/jms/a%20b/?x=1", &here)
        };
        let (http, https) = ("http://jms.example.com:8080", "https://jms.example.com");
        for location in [
            "https://jms.example.com/jms/a%20b/?x=1",
            "HTTPS://JMS.example.com:8443/jms/a%20b/?x=1",
            "https://jms.example.com/jms/a%20b/",
            "https://jms.example.com/jms/%61%20b/?x=1#f",
            "https://jms-2.example.com/jms/a%20b/?x=1",
        ] {
            assert_eq!(round(location, http), Some(RedirectLoop::Https), "{location}");
        }
        assert_eq!(round("http://jms.example.com/jms/a%20b/?x=1", https), Some(RedirectLoop::Http));
        for location in
            ["https://jms.example.com/jms/a%20b/?x=1", "//jms.example.com/jms/a%20b/?x=1", "/jms/a%20b/?x=1"]
        {
            assert_eq!(round(location, https), Some(RedirectLoop::Itself), "{location}");
        }
        for location in [
            "https://elsewhere.example.com/jms/a%20b/?x=1",
            "https://jms.example.com/jms/b/",
            "/jms/a%20b/?x=2",
            "/jms/a%20b/",
            "?x=1",
            "https://user@jms.example.com/jms/a%20b/?x=1",
        ] {
            assert_eq!(round(location, https), None, "{location}");
        }
        assert_eq!(round("http://jms.example.com/jms/a%20b/?x=1", http), None, "another port");
    }

    #[test]
    fn says_what_stays_as_it_is() {
        let page = |text: &str| {
            let text = Bytes::copy_from_slice(text.as_bytes());
            let found = scan(&text, &links().members).found;
            links().rewrite(text, &found, FACE).1
        };
        let rewritten = page(r#"{"next":"https://jms.example.com/jms/a","previous":null}"#);
        assert_eq!(rewritten, Page { changed: true, bypass: None });
        assert_eq!(page(r#"{"next":"?p=2","previous":"https://else.example/"}"#), Page::default());
        for bypass in [
            r#"{"next":"https://jms.example.com/other/"}"#,
            r#"{"next":"https:\/\/jms.example.com:8\/jms\/"}"#,
            r#"{"next":{"href":"https://jms.example.com/jms/a"}}"#,
            r#"{"next":"\ud800 https://jms.example.com/jms/a"}"#,
        ] {
            let Page { changed, bypass: why } = page(bypass);
            assert!(!changed && why.is_some(), "{bypass}");
        }
    }

    #[test]
    fn replaces_within_the_text() {
        let text = r#"{"next":"http://jms.example.com/jms/u/?a=\u00e9","previous":null}"#;
        let out = links().rewrite_text(Bytes::from_static(text.as_bytes()), FACE);
        assert_eq!(out, r#"{"next":"http://gw:7070/p/u/?a=é","previous":null}"#.as_bytes());
    }
}
